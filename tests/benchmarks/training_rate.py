"""How fast a command trains, by the CPU time that it takes: other work on the machine does not stretch that."""

import subprocess
import time
from pathlib import Path

from musicvae.durable import read_lines
from tests.benchmarks.parallel_jobs import Job, start_job

FIRST_STEPS = 4
"""Of a training, which take longer than those after them."""
POLL_SECONDS = 0.02


def steps_per_cpu_second(job: Job, metrics: Path, *, steps: int) -> float | None:
    """Starts a training that logs every step, watches it for a while and kills it; None where it ends before that.

    Args:
        metrics: what the training logs to.
        steps: to be watched, after the first ones.
    """
    process = start_job(job)
    try:
        begin = _at_step(process, metrics, FIRST_STEPS)
        end = begin and _at_step(process, metrics, begin[0] + steps)
    finally:
        process.kill()
        process.wait()
    if begin is None or end is None:
        return None
    return (end[0] - begin[0]) / (end[1] - begin[1])


def _at_step(process: "subprocess.Popen[bytes]", metrics: Path, step: int) -> tuple[int, float] | None:
    """The steps that were made once there are so many, and the CPU seconds until then."""
    while process.poll() is None:
        made = len(read_lines(metrics)) if metrics.exists() else 0
        if made >= step:
            return made, _cpu_seconds(process.pid)
        time.sleep(POLL_SECONDS)
    return None


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, by its own clock, as clock_getcpuclockid(3) names it: ticks are too coarse."""
    return time.clock_gettime(~pid << 3 | 2)
