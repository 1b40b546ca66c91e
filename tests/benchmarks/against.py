"""This checkout beside another commit: commands of both take turns, and what counts are ratios of medians."""

import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.commands import CHECKOUT, QUIET, job_command, ok


@contextmanager
def checkout_of(commit: str) -> Iterator[Path]:
    """A checkout of another commit, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        worktree = ["git", "-C", str(CHECKOUT), "worktree"]
        subprocess.run([*worktree, "add", "--quiet", "--detach", str(before), commit], check=True)
        try:
            yield before
        finally:
            subprocess.run([*worktree, "remove", "--force", str(before)], check=True)


def compare_cpu_seconds(
    title: str, before: Path, name: str, arguments: Sequence[object], out: Path, *, repeats: int, ranks: int = 0
) -> None:
    """Prints the CPU seconds of a job and all its processes, from start to end, by this checkout and by another.

    Args:
        out: a folder that the job makes, which is removed after each time.
    """
    seconds: dict[Path, list[float]] = {CHECKOUT: [], before: []}
    for _ in range(repeats):
        for checkout, taken in seconds.items():
            began = _cpu_seconds_of_children()
            variables = {**os.environ, **QUIET, "PYTHONPATH": str(checkout)}
            command = job_command(name, *arguments, ranks=ranks)
            ok(subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, timeout=3600))
            taken.append(_cpu_seconds_of_children() - began)
            shutil.rmtree(out)
    print_ratio(title, "CPU s", seconds[CHECKOUT], seconds[before])


def print_ratio(title: str, unit: str, now: Sequence[float], then: Sequence[float]) -> None:
    """Medians of what took turns, their ratio, and the ratios of the turns."""
    turns = [one / other for one, other in zip(now, then, strict=True)]
    median_now, median_then = statistics.median(now), statistics.median(then)
    print(
        f"{title}: {median_now:.1f} {unit}, before {median_then:.1f}; "
        f"ratio {median_now / median_then:.3f}, in each turn {min(turns):.3f} to {max(turns):.3f}",
        flush=True,
    )


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
