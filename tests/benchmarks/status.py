"""How long `jobs.status` takes over many run folders: python -m tests.benchmarks.status [--runs 1000]"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.commands import CHECKOUT, job_command

TRIALS = 3
HEADER = {"__metadata__": {"best": json.dumps({"step": 900, "figures": {"validation.negative_elbo": 101.5}})}}


def write_runs(folder: Path, count: int) -> None:
    """Run folders as trainings leave them, as far as the status reads them; each fiftieth is torn."""
    for number in range(count):
        run = folder / f"run-{number:05d}"
        (run / "ranks").mkdir(parents=True)
        (run / "config.yaml").write_text("run_id: 0123456789ab\n")
        status = {
            "state": ("running", "finished", "preempted")[number % 3],
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


def run_command(*arguments: str) -> tuple[float, float, str]:
    """Seconds from start to end, CPU seconds, and what was printed."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = subprocess.run(arguments, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu, printed


def main() -> None:
    """Prints the median of a few whole commands, their start included."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), runs)
        trials = [run_command(*job_command("status", folder)) for _ in range(TRIALS)]
        rows = json.loads(run_command(*job_command("status", folder, "--json"))[2])
    wall, cpu = (statistics.median(trial[n] for trial in trials) for n in (0, 1))
    start, _, _ = run_command(sys.executable, "-c", "import jobs.status")
    torn = sum("status.json is damaged" in row["why"] for row in rows)
    print(f"{len(rows)} runs, {torn} of them torn: {wall:.2f} s, of it {start:.2f} s to start; {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
