"""How long `jobs.status` takes over many runs and submissions, at the first look and at later ones.

python -m tests.benchmarks.status [--runs 10000] [--submissions 2000]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster.attempts import Record
from cluster.job import Job
from cluster.site import Site
from cluster.submission import Submission
from tests.support.commands import CHECKOUT, job_command

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


def run_command(*arguments: str, **environment: str) -> tuple[float, float, str]:
    """Seconds from start to end, CPU seconds, and what was printed."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environ = {**os.environ, **environment}
    printed = subprocess.run(arguments, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu, printed


def looks_at(*folders: Path, cache: Path) -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds of a look that finds nothing kept, and of one that finds what an earlier one kept.

    Medians of a few whole commands, their start included.

    Args:
        cache: an empty folder to keep things in.
    """
    command = job_command("status", *folders)
    firsts = [run_command(*command, XDG_CACHE_HOME=str(cache / str(trial)))[:2] for trial in range(TRIALS)]
    laters = [run_command(*command, XDG_CACHE_HOME=str(cache / str(trial)))[:2] for trial in range(TRIALS)]
    return {
        name: (statistics.median(wall for wall, _ in trials), statistics.median(cpu for _, cpu in trials))
        for name, trials in (("first look", firsts), ("later look", laters))
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
        rows = json.loads(run_command(*job_command("status", runs, "--json"), XDG_CACHE_HOME=folder)[2])
        looks = {"runs": looks_at(runs, cache=cache / "runs")}
        if options.submissions:
            looks["runs and submissions"] = looks_at(runs, submissions, cache=cache / "both")
    start = statistics.median(run_command(sys.executable, "-c", "import jobs.status")[1] for _ in range(TRIALS))
    torn = sum("status.json is damaged" in row["why"] for row in rows)
    print(
        f"{len(rows):,} runs, {torn} of them torn; {options.submissions:,} submissions; {start:.2f} s of CPU to start"
    )
    for what, figures in looks.items():
        for look, (wall, cpu) in figures.items():
            print(f"{what}, {look}: {wall:.2f} s, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
