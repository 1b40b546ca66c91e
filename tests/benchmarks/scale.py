"""What reading costs as things grow: a sweep's ledger, a manifest of shards, a sampling, and `jobs.status`.

    python -m tests.benchmarks.scale [--only ledger,manifest,chunks,selection,sample,status]

Each is measured at three sizes, a factor of ten apart, in CPU seconds of a process of its own. Memory is the most that
the process held beyond what it began with; of `sample`, a whole command, it is all that its driver held.
The slope is the exponent of the size in the seconds, fitted over the three: 1 is linear. What commands need to
start is not in it, but for `sample`.
"""

import hashlib
import json
import math
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import typer

from jobs.command.command_line import PlainConsole, console, run_command
from jobs.sampler.parts import Rows, Span
from jobs.sampler.selection import Selected, select
from jobs.sampler.settings import SampleSettings
from jobs.sampler.work import SampleWork
from jobs.status import table_of
from jobs.submission.rows import rows_of
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import fields_of, read_ledger
from musicvae.data.manifest import ShardEntry, ShardManifest, SplitEntry
from musicvae.errors import ConfigError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from tests.benchmarks.status import LIVE_EVERY, SETTLING_SECONDS, write_runs
from tests.benchmarks.sweep_overhead import SPACE, records_of_trial
from tests.support.commands import CHECKOUT, job_command
from tests.support.runs.run_folders import run_with_weights
from tests.support.sweeps.sweep_ledgers import begun, sweep_settings

GRID, DRUMS = GridSpec(), DrumMap.load("roland")
CHUNK, BLOCK, LATENT = 1_000, 10_000, 32


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds, mebibytes, and what else there is to say."""

    seconds: float
    mebibytes: float
    about: str = ""


def cost_of(work: Callable[[], object]) -> Cost:
    """In a process of its own, which knows all that this one has loaded."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(_cost_here, work).result()


def _cost_here(work: Callable[[], object]) -> Cost:
    held = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
    began = time.process_time()
    work()
    seconds = time.process_time() - began
    return Cost(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held) / 2**20)


def ledger(folder: Path, trials: int) -> Iterator[tuple[str, Cost]]:
    """Of a random search under ASHA: three lines a trial."""
    budget = {"trials": trials, "steps": 90}
    sweep = sweep_settings(space=SPACE, asha={"first_steps": 10, "eta": 3}, budget=budget)
    with SweepFolder(folder).ledger.open("w") as file:
        for record in (begun(sweep), *(r for number in range(trials) for r in records_of_trial(number, sweep.space))):
            file.write(json.dumps(fields_of(record)) + "\n")
    yield "trials of a ledger (goal: 100,000 in 5 s)", cost_of(partial(read_ledger, folder))


def manifest(folder: Path, shards: int) -> Iterator[tuple[str, Cost]]:
    """Of full shards in one split."""
    entries = [
        ShardEntry(f"train-{number:06d}.tar", 8192, 1 << 20, hashlib.sha256(b"%d" % number).hexdigest())
        for number in range(shards)
    ]
    ShardManifest(GRID, DRUMS, {"train": SplitEntry(8192 * shards, shards, tuple(entries))}).write(folder)
    yield "shards of a manifest (goal: 100,000 in 3 s)", cost_of(partial(ShardManifest.read, folder))


def chunks(folder: Path, count: int) -> Iterator[tuple[str, Cost]]:
    """What is left of a sampling of which every other chunk is done."""
    work = SampleWork(folder)
    work.finished.folder.mkdir(parents=True)
    for first in range(0, count * CHUNK, 2 * CHUNK):
        (work.finished.folder / f"{first:08d}-{first + CHUNK:08d}.safetensors").touch()
    yield "chunks of a sampling", cost_of(partial(work.chunks, [Span(0, count * CHUNK)], CHUNK))


def selection(folder: Path, grooves: int) -> Iterator[tuple[str, Cost]]:
    """What the driver holds of each groove while it drops duplicates."""
    yield "grooves that are chosen from", cost_of(partial(_select, grooves))


def _select(grooves: int) -> Selected:
    options = SampleSettings(count=grooves, drop_duplicates=True)
    return select(map(_rows, range(0, grooves, BLOCK), [grooves] * grooves), options, None, None)


def _rows(first: int, count: int) -> Rows:
    items = np.arange(first, min(first + BLOCK, count))
    tokens = np.random.default_rng(first).integers(0, 512, (len(items), 64), dtype=np.int16)
    return Rows(items, tokens, np.zeros((len(items), LATENT), np.float32), np.zeros(len(items)), np.zeros(0, np.int64))


def sample(folder: Path, grooves: int) -> Iterator[tuple[str, Cost]]:
    """The whole command, with a tiny model and two workers."""
    run, out = run_with_weights(folder / "run").path, folder / "out"
    command = job_command("sample", "--run", run, "--count", grooves, "--workers", 2, "--out", out)
    process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"jobs.sample ended with status {os.waitstatus_to_exitcode(status)}")
    files = Counter(path.parent for path in out.rglob("*") if path.is_file())
    about = f"at most {max(files.values()):,} files in a folder, {len(files):,} folders"
    yield "grooves of jobs.sample", Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, about)


def status(folder: Path, runs: int) -> Iterator[tuple[str, Cost]]:
    """A look at runs of which most have ended, and another one."""
    write_runs(folder / "runs", runs, live_every=LIVE_EVERY)
    time.sleep(SETTLING_SECONDS)
    for look in ("first", "later"):
        cost = cost_of(partial(_look, folder / "runs", cache=folder / "cache"))
        yield f"runs, {look} look of jobs.status (goal: 10,000 in {1 if look == 'first' else 0.2} s)", cost


def _look(runs: Path, cache: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(cache)
    with Path(os.devnull).open("w", encoding="utf-8") as file:
        terminal = PlainConsole(file=file)
        terminal.print(table_of(list(rows_of([runs])), terminal.width), crop=False)


PARTS: dict[str, tuple[Callable[[Path, int], Iterator[tuple[str, Cost]]], int]] = {
    "ledger": (ledger, 1_000),
    "manifest": (manifest, 1_000),
    "chunks": (chunks, 1_000),
    "selection": (selection, 10_000),
    "sample": (sample, 100),
    "status": (status, 100),
}
"""With their smallest sizes."""


def main(
    only: str = typer.Option(",".join(PARTS), help="What is measured."),
    quick: bool = typer.Option(False, "--quick", help="Small sizes: whether it runs, no figures."),
) -> None:
    """Measure what reading costs at three sizes."""
    if unknown := set(only.split(",")) - set(PARTS):
        raise ConfigError(f"--only {', '.join(unknown)}", expected=f"some of {','.join(PARTS)}", do="--only ledger")
    for name in only.split(","):
        measure, smallest = PARTS[name]
        costs: dict[str, dict[int, Cost]] = {}
        for size in (smallest // 100, smallest // 10) if quick else (smallest, 10 * smallest, 100 * smallest):
            with tempfile.TemporaryDirectory(prefix="scale-") as folder:
                for what, cost in measure(Path(folder), size):
                    costs.setdefault(what, {})[size] = cost
        for what, by_size in costs.items():
            show(what, by_size)


def show(what: str, by_size: dict[int, Cost]) -> None:
    """Prints a line for each size, and the slope."""
    sizes, seconds = list(by_size), [cost.seconds for cost in by_size.values()]
    slope = statistics.linear_regression([math.log(n) for n in sizes], [math.log(s) for s in seconds]).slope
    console.print(f"{what}: slope {slope:.2f}")
    for size, cost in by_size.items():
        each = f"{1e6 * cost.seconds / size:12,.1f} µs each{cost.mebibytes:9.1f} MiB"
        console.print(f"{size:12,}{cost.seconds:9.3f} s{each}  {cost.about}".rstrip(), soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
