"""What a build of very many files keeps in memory, as a table.

    python -m tests.benchmarks.build_memory [--files 10000 100000 1000000] [--windows 1] [--where processes ray]

A build of a folder of hard links to a few MIDI files. Only the conversion of a batch is a stand-in, which reads no
file: it writes a part as any other, with contents and windows that no other file has. Listing, parts, records, splits,
shards and reports are those of every build.

Each build runs in a process of its own. The table has the peak resident memory of the driver and what each file adds to
that of the next smaller build. On a Ray of the driver's own it has the same of the head (the GCS), and the most bytes
that the object store held, looked at twice a second.
"""

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from cluster.tasks import Where, task_runner
from musicvae.data.windows import WindowBlock
from musicvae.groove.drum_map import DrumMap
from preprocess import build as build_module
from preprocess.outcome import FileOutcome, convert_file
from preprocess.parts import Chunk, PartSummary, writing_part
from preprocess.settings import BuildSettings
from preprocess.sources.demo import write_demo_corpus
from preprocess.sources.listing import SourceFile, split_of
from preprocess.tasks import Batch
from tests.support.processes.process_tree import command_of, descendants

FILES_A_FOLDER = 1000
LINKS_A_FILE = 30_000
"""ext4 allows 65,000."""
WORKERS = 2
LOOK_SECONDS = 0.5


@dataclass(slots=True)
class Memory:
    """Peaks in bytes of a build.

    Attributes:
        driver, head: resident memory; that of the head is 0 without Ray.
        store: in Ray's object store.
    """

    files: int = 0
    driver: int = 0
    head: int = 0
    store: int = 0
    seconds: float = 0.0


def main() -> None:
    """Prints a table for each place where the tasks of a build run."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for where in arguments.where:
            print(f"{where}, {WORKERS} workers, {arguments.windows} windows a file: peaks, and bytes that a file adds")
            before = None
            for files in arguments.files:
                midi = folder / f"midi-{files}"
                if not midi.exists():
                    _write_links(midi, files)
                # A process begins with the peak of the one that starts it, so that one has to stay small.
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    out = folder / f"{where}-{files}"
                    memory = process.submit(_measured, where, midi, out, arguments.windows).result()
                before = before or memory
                print(_row(memory, before), flush=True)
                before = memory


def _write_links(folder: Path, files: int) -> None:
    originals = folder / "originals"
    originals.mkdir(parents=True)
    count = -(-files // LINKS_A_FILE)
    names = sorted(write_demo_corpus(originals, performances=count, seed=0))
    for first in range(0, files - count, FILES_A_FOLDER):
        within = folder / f"drummer-{first // FILES_A_FOLDER:05d}"
        within.mkdir()
        for number in range(first, min(first + FILES_A_FOLDER, files - count)):
            (within / f"session-{number:07d}.mid").hardlink_to(originals / names[number % count])


def _measured(where: Where, midi: Path, out: Path, windows: int) -> Memory:
    """The build of a folder, with a stand-in for its conversions."""
    memory = Memory()
    build_module.convert_batch = partial(convert_nothing, windows_of_file=windows)
    started = time.perf_counter()
    with task_runner(where, WORKERS, code={}) as run, _watching_ray(memory) if where == "ray" else nullcontext():
        report = build_module.build(str(midi), out, BuildSettings(), run)
    memory.seconds = time.perf_counter() - started
    memory.files, memory.driver = report.seen, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert report.windows_cut == windows * report.seen
    return memory


def convert_nothing(
    batch: Batch,
    settings: BuildSettings,
    drum_map: DrumMap,
    landmarks: tuple[str, ...] = (),
    *,
    windows_of_file: int,
) -> PartSummary:
    """Stands for `preprocess.tasks.convert_batch`: the windows of the first file, as if they were each file's own."""
    outcome, block = _first_conversion(batch.files[0], settings, drum_map, windows_of_file)
    random = np.random.default_rng(int(batch.part.stem))
    digests = random.integers(2**63, size=len(batch.files)).tolist()
    outcomes = [
        replace(outcome, name=file.name, digest=digest, split=split_of(file, digest, settings.split))
        for file, digest in zip(batch.files, digests, strict=True)
    ]
    chunk = Chunk.of([(outcome, block) for outcome in outcomes])
    hashes = random.integers(2**63, size=len(chunk.hashes)).astype(np.uint64)
    with writing_part(batch.part) as part:
        part.add(replace(chunk, hashes=hashes))
        return part.finish("a stand-in")


CONVERSIONS: dict[int, tuple[FileOutcome, WindowBlock]] = {}
"""Of this process."""


def _first_conversion(
    file: SourceFile, settings: BuildSettings, drum_map: DrumMap, windows: int
) -> tuple[FileOutcome, WindowBlock]:
    if not CONVERSIONS:
        outcome, block = convert_file(file, settings, drum_map)
        assert block is not None
        first = WindowBlock(
            block.tokens[:windows], block.velocity[:windows], block.offset[:windows], block.meta[:windows]
        )
        CONVERSIONS[windows] = replace(outcome, windows=windows), first
    return CONVERSIONS[windows]


@contextmanager
def _watching_ray(memory: Memory) -> Iterator[None]:
    """Notes the peaks of the head and of the object store while the block runs."""
    import ray

    over = threading.Event()
    (head,) = [pid for pid in descendants(os.getpid()) if Path(command_of(pid).split(" ")[0]).name == "gcs_server"]

    def look() -> None:
        capacity = ray.cluster_resources()["object_store_memory"]
        while not over.wait(LOOK_SECONDS):
            used = capacity - ray.available_resources().get("object_store_memory", 0)
            memory.store = max(memory.store, int(used))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        status = Path(f"/proc/{head}/status").read_text(encoding="ascii")
        memory.head = 1024 * int(status.split("VmHWM:")[1].split()[0])


def _row(memory: Memory, before: Memory) -> str:
    row = f"  {memory.files:>9,} files {memory.seconds:6.1f} s  driver {_peak(memory, before, 'driver')}"
    if memory.head:
        row += f"  head {_peak(memory, before, 'head')}  object store {memory.store:,} bytes"
    return row


def _peak(memory: Memory, before: Memory, whose: str) -> str:
    peak, less = getattr(memory, whose), getattr(before, whose)
    more = memory.files - before.files
    return f"{peak / 2**20:6.1f} MiB {(peak - less) / more if more else 0:+6.0f} B/file"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--windows", type=int, default=1, help="of each file")
    parser.add_argument("--where", choices=["here", "processes", "ray"], nargs="+", default=["ray"])
    parser.add_argument("--folder", type=Path, help="where it works; the folder for temporary files if not given")
    return parser.parse_args()


if __name__ == "__main__":
    from tests.benchmarks import build_memory

    build_memory.main()  # under a name by which workers can import the stand-in
