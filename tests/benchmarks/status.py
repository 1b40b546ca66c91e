"""How long `jobs.status` takes over many runs and submissions, at the first look and at later ones.

python -m tests.benchmarks.status [--runs 10000] [--submissions 2000]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from cluster.attempts import Record
from cluster.job import Job
from cluster.site import Site
from cluster.submission import Submission
from tests.support.commands import CHECKOUT, ok, run_job

TRIALS = 3
LIVE_EVERY = 100
SETTLING_SECONDS = 3.0
"""After the last write: what has just changed is not kept for the next look."""
HEADER = {
    "__metadata__": {"best": json.dumps({"step": 900, "figures": {"validation.negative_elbo": 101.5}})},
    **{f"layers.{n}.weight": {"dtype": "F32", "shape": [64, 64], "data_offsets": [n, n + 1]} for n in range(35)},
}
"""As long as that of the preset `small`."""


def write_runs(folder: Path, count: int, *, live_every: int = 3) -> None:
    """Run folders as trainings leave them, as far as the status reads them; each fiftieth is torn.

    Args:
        live_every: one of so many still runs.
    """
    for number in range(count):
        run = folder / f"run-{number:05d}"
        (run / "ranks").mkdir(parents=True)
        (run / "config.yaml").write_text("run_id: 0123456789ab\n")
        status = {
            "state": "running" if number % live_every == 0 else "finished" if number % 3 == 1 else "preempted",
            "step": number,
            "total": 1000,
            "windows_per_second": 391.5,
            "eta_seconds": 5025.0,
            "restarts": number % 4,
            "heartbeat": time.time(),
            "launch": "7.0",
        }
        text = json.dumps(status, indent=1)
        (run / "status.json").write_text(text[: len(text) // 2] if number % 50 == 49 else text)
        header = json.dumps(HEADER).encode()
        (run / "best.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(1000))


def write_submissions(folder: Path, runs: Path, count: int) -> None:
    """Submissions of one job each that has ended well, for every fifth of the runs."""
    for number in range(count):
        job = Job("train", ("true",), status=str(runs / f"run-{5 * number:05d}" / "status.json"))
        submission = Submission(folder / f"train-{number:05d}", "local", folder, Site(), (job,))
        submission.write_plan()
        submission.take_receipt(job, "7", (0,))
        record = Record.of(submission.folder, job.name, 0)
        record.start(launch_id="7", restart=0, pid=1, step=0)
        record.end(code=0, asked=False, verdict="done")


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds from the start to the end of a command, and CPU seconds."""

    wall: float
    cpu: float


def run_python(*arguments: object, **environment: str) -> Figures:
    """Runs Python, and throws away what it prints."""
    start = time.perf_counter()
    environ = {**os.environ, **environment}
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environ, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with status {os.waitstatus_to_exitcode(status)}")
    return Figures(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def looks_at(*folders: Path, cache: Path) -> dict[str, Figures]:
    """A look that finds nothing kept, and one that finds what an earlier one kept: medians of a few commands.

    Args:
        cache: an empty folder to keep things in.
    """
    caches = [str(cache / str(trial)) for trial in range(TRIALS)]
    looks = {
        look: [run_python("-m", "jobs.status", *folders, XDG_CACHE_HOME=folder) for folder in caches]
        for look in ("first look", "later look")
    }
    return {
        look: Figures(*(statistics.median(values) for values in zip(*map(astuple, trials), strict=True)))
        for look, trials in looks.items()
    }


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--submissions", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, submissions, cache = (Path(folder, name) for name in ("runs", "submissions", "cache"))
        write_runs(runs, options.runs, live_every=LIVE_EVERY)
        submissions.mkdir()
        write_submissions(submissions, runs, options.submissions)
        time.sleep(SETTLING_SECONDS)
        looks = {"runs": looks_at(runs, cache=cache / "runs")}
        if options.submissions:
            looks["runs and submissions"] = looks_at(runs, submissions, cache=cache / "both")
        rows = json.loads(ok(run_job("status", runs, "--json", XDG_CACHE_HOME=str(cache))).stdout)
    start = statistics.median(run_python("-c", "import jobs.status").cpu for _ in range(TRIALS))
    torn = sum("status.json is damaged" in row["why"] for row in rows)
    print(
        f"{len(rows):,} runs, {torn} of them torn; {options.submissions:,} submissions; {start:.2f} s of CPU to start"
    )
    for what, by_look in looks.items():
        for look, figures in by_look.items():
            print(f"{what}, {look}: {figures.wall:.2f} s, {figures.cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
