"""How fast preprocessing is, and how much memory its driver takes, as tables.

    GROOVE_DIR=... python -m tests.benchmarks.preprocess speed [--repeats 5]
    GROOVE_DIR=... python -m tests.benchmarks.preprocess workers [--files 50000] [--repeats 3]
    GROOVE_DIR=... python -m tests.benchmarks.preprocess memory [--files 1000 10000 100000]

`speed`: GMD's files to shards (parse, quantize, window, pack) in a warm process that is bound to one core, beside
pretty_midi's parse of the same files alone in the same run; medians over repeats that take turns. `workers`: the whole
work of a corpus of distinct files, GMD's notes with seeded jitter, by 0, 1 and 2 workers. `memory`: the driver's peak
resident memory for corpora of growing size, each in a process of its own. Wants a quiet machine. Run by its path this
file would hide the package of the same name, hence `-m`.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pretty_midi

from cluster.tasks import task_runner
from preprocess.build import build
from preprocess.report import BuildReport
from preprocess.settings import BuildSettings
from tests.benchmarks.jittered_corpus import write_corpus

Result = TypeVar("Result")
PRETTY_MIDI_FILES = 100
"""It takes about 20 ms a file, so a spread-out sample has to do."""


def main() -> None:
    arguments = _arguments()
    groove = Path(os.environ["GROOVE_DIR"])
    with tempfile.TemporaryDirectory() as folder:
        match arguments.what:
            case "speed":
                _speed(groove, Path(folder), arguments.repeats)
            case "workers":
                _workers(groove, Path(folder), arguments.files[0], arguments.repeats)
            case "memory":
                _memory(groove, Path(folder), arguments.files)


def _speed(groove: Path, folder: Path, repeats: int) -> None:
    midi = sorted(groove.rglob("*.mid"))
    sample = midi[:: len(midi) // PRETTY_MIDI_FILES]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report, _ = _timed_build(groove, folder / "warm", workers=0)
    ours, theirs = [], []
    for repeat in range(repeats):
        ours.append(_timed_build(groove, folder / str(repeat), workers=0)[1])
        theirs.append(_timed(lambda: [pretty_midi.PrettyMIDI(str(path)) for path in sample]))
    windows = sum(report.windows.values())
    print(f"one core, median of {repeats} (fastest, slowest)")
    _row("files to shards", "files/s", [report.seen / seconds for seconds in ours])
    _row("", "windows/s", [windows / seconds for seconds in ours])
    _row("pretty_midi, parse alone", "files/s", [len(sample) / seconds for seconds in theirs])


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


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _row(name: str, unit: str, values: list[float]) -> None:
    median = statistics.median(values)
    print(f"  {name:<26} {median:8.2f} {unit:<10} ({max(values):.2f}, {min(values):.2f})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "workers", "memory"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=int, nargs="+", default=None)
    arguments = parser.parse_args()
    arguments.files = arguments.files or ([1000, 10_000, 100_000] if arguments.what == "memory" else [50_000])
    return arguments


if __name__ == "__main__":
    main()
