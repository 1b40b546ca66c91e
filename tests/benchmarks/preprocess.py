"""How fast preprocessing is, and how much memory its driver takes, as tables.

    GROOVE_DIR=... python -m tests.benchmarks.preprocess speed [--repeats 5]
    GROOVE_DIR=... python -m tests.benchmarks.preprocess against [--commit 20aa091] [--repeats 5]
    GROOVE_DIR=... python -m tests.benchmarks.preprocess workers [--files 50000] [--repeats 3]
    GROOVE_DIR=... python -m tests.benchmarks.preprocess memory [--files 1000 10000 100000]

`speed`: GMD's files to shards (parse, quantize, window, pack) in a warm process that is bound to one core; medians.
`tests.benchmarks.compare` has the same beside other libraries. `against`: the same
build by an older commit and by this checkout, in two warm processes that take turns. `workers`: the whole
work of a corpus of distinct files, GMD's notes with seeded jitter, by 0, 1 and 2 workers. `memory`: the driver's peak
resident memory for corpora of growing size, each in a process of its own. Wants a quiet machine. Run by its path this
file would hide the package of the same name, hence `-m`.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from cluster.tasks import task_runner
from preprocess.build import build
from preprocess.report import BuildReport
from preprocess.settings import BuildSettings
from tests.benchmarks.jittered_corpus import write_corpus

Result = TypeVar("Result")
CHECKOUT = Path(__file__).resolve().parents[2]
BUILDER = """
import sys, tempfile
from pathlib import Path
from tests.benchmarks.preprocess import _timed_build

for _ in sys.stdin:
    with tempfile.TemporaryDirectory() as folder:
        report, seconds = _timed_build(Path(sys.argv[1]), Path(folder) / "out", workers=0)
    print(seconds, report.fingerprint, flush=True)
"""
"""A program that builds once for each line that it reads. In an older checkout it uses that one's `_timed_build`."""


def main() -> None:
    arguments = _arguments()
    groove = Path(os.environ["GROOVE_DIR"])
    with tempfile.TemporaryDirectory() as folder:
        match arguments.what:
            case "speed":
                _speed(groove, Path(folder), arguments.repeats)
            case "against":
                _against(groove, Path(folder), arguments.commit, arguments.repeats)
            case "workers":
                _workers(groove, Path(folder), arguments.files[0], arguments.repeats)
            case "memory":
                _memory(groove, Path(folder), arguments.files)


def _speed(groove: Path, folder: Path, repeats: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report, _ = _timed_build(groove, folder / "warm", workers=0)
    seconds = [_timed_build(groove, folder / str(repeat), workers=0)[1] for repeat in range(repeats)]
    windows = sum(report.windows.values())
    print(f"one core, median of {repeats} (fastest, slowest)")
    _row("files to shards", "files/s", [report.seen / own for own in seconds])
    _row("", "windows/s", [windows / own for own in seconds])


def _against(groove: Path, folder: Path, commit: str, repeats: int) -> None:
    before = folder / "before"
    worktree = ["git", "-C", str(CHECKOUT), "worktree"]
    subprocess.run([*worktree, "add", "--quiet", "--detach", before, commit], check=True)
    with ExitStack() as ends:
        ends.callback(subprocess.run, [*worktree, "remove", "--force", before], check=True)
        builders = [ends.enter_context(_builder(checkout, groove)) for checkout in (before, CHECKOUT)]
        measured: list[list[tuple[float, float]]] = [[], []]
        fingerprints = set()
        for repeat in range(repeats + 1):
            for place in (0, 1) if repeat % 2 else (1, 0):
                seconds, fingerprint = _build_by(builders[place])
                measured[place].append(seconds)
                fingerprints.add(fingerprint)
    print(f"GMD by {commit} and by this checkout, median of {repeats}; their ratio (that of each turn)")
    for column, name in enumerate(["seconds by the clock", "CPU seconds"]):
        old, new = ([seconds[column] for seconds in builds[1:]] for builds in measured)
        turns = [after / first for first, after in zip(old, new, strict=True)]
        medians = statistics.median(old), statistics.median(new)
        print(
            f"  {name:<26} {medians[0]:.3f} {medians[1]:.3f}   {medians[1] / medians[0]:.3f} "
            f"({min(turns):.2f} to {max(turns):.2f}, median {statistics.median(turns):.3f}); "
            f"fastest {min(old):.3f} {min(new):.3f}, {min(new) / min(old):.3f}"
        )
    print(f"  fingerprints {' '.join(sorted(fingerprints))}")


def _builder(checkout: Path, groove: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", BUILDER, str(groove)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True)


def _build_by(builder: "subprocess.Popen[str]") -> tuple[tuple[float, float], str]:
    """Seconds of a build by the clock and of CPU time, the process that converts included; and its fingerprint."""
    assert builder.stdin is not None, "a pipe"
    assert builder.stdout is not None, "a pipe"
    before = _cpu_seconds(builder.pid)
    print(file=builder.stdin, flush=True)
    seconds, fingerprint = builder.stdout.readline().split()
    return (float(seconds), _cpu_seconds(builder.pid) - before), fingerprint


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far, by the clocks that Linux keeps of processes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return sum(time.clock_gettime(~process << 3 | 2) for process in [pid, *map(int, children)])


def _workers(groove: Path, folder: Path, files: int, repeats: int) -> None:
    write_corpus(groove, folder / "midi", files)
    seconds: dict[int, list[float]] = {0: [], 1: [], 2: []}
    report = None
    for repeat in range(repeats):
        for workers, own in seconds.items():
            report, taken = _timed_build(folder / "midi", folder / f"{workers}-{repeat}", workers=workers)
            own.append(taken)
    assert report is not None, "at least one repeat"
    print(f"{files} distinct files, {report.windows_cut} windows; median of {repeats} (fastest, slowest)")
    for workers, own in seconds.items():
        _row(f"{workers} workers", "files/s", [files / taken for taken in own])
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    _row("two workers over one", "times", ratios)


def _memory(groove: Path, folder: Path, sizes: list[int]) -> None:
    print("peak resident memory of the driver, two workers")
    for size in sizes:
        # A process begins with the peak of the one that starts it, so that one has to stay small.
        _in_own_process(write_corpus, groove, folder / str(size), size)
        peak, seconds, windows = _in_own_process(_peak, folder / str(size), folder / f"out{size}")
        rate = f"{seconds:7.1f} s {size / seconds:6.0f} files/s"
        print(f"  {size:>9,} files  {windows:>9,} windows  {peak:7.1f} MB  {rate}")


def _in_own_process(function: Callable[..., Result], *arguments: object) -> Result:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _peak(midi: Path, out: Path) -> tuple[float, float, int]:
    report, seconds = _timed_build(midi, out, workers=2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, seconds, report.windows_cut


def _timed_build(source: Path, out: Path, *, workers: int) -> tuple[BuildReport, float]:
    """A build and its seconds, the start of the workers not among them."""
    with task_runner("ray" if workers else "here", workers, code={}) as run:
        started = time.perf_counter()
        report = build(str(source), out, BuildSettings(), run)
        return report, time.perf_counter() - started


def _row(name: str, unit: str, values: list[float]) -> None:
    median = statistics.median(values)
    print(f"  {name:<26} {median:8.2f} {unit:<10} ({max(values):.2f}, {min(values):.2f})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "against", "workers", "memory"])
    parser.add_argument("--commit", default="20aa091")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=int, nargs="+", default=None)
    arguments = parser.parse_args()
    arguments.files = arguments.files or ([1000, 10_000, 100_000] if arguments.what == "memory" else [50_000])
    return arguments


if __name__ == "__main__":
    main()
