"""How fast we read and write MIDI beside pretty_midi and symusic, on the same files, in turns within one run.

    GROOVE_DIR=... python -m tests.benchmarks.compare [--repeats 5]

One core. `read`: notes and tempo of the files, from the disk. `files to shards`: a whole build, beside what another
library needs for the reading alone. `written`: the bytes of files, from the arrays of grooves of `generation`.
The rows are those of a table in Markdown: files a second (medians), and our rate divided by the other's, with the range
over the turns. Wants a quiet machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import symusic

from cluster.tasks import task_runner
from musicvae import DrumGroove
from musicvae.groove.drum_map import DrumMap
from musicvae.midi.performance import Performance, read_performance
from musicvae.midi.writer import MidiLayout, grooves_to_midi
from musicvae.pretrained.load import load
from preprocess.build import build
from preprocess.settings import BuildSettings

READ, WRITTEN = 100, 256
"""Files that pretty_midi, which takes 10 ms for one, reads in a turn, spread through the dataset; grooves written."""
Way = tuple[int, Callable[[], object]]
"""How many files a call handles, and the call."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"pretty_midi {pretty_midi.__version__}, symusic {symusic.__version__}; one core, medians of {repeats} turns")
    print("| one core | ours, files/s | alternative, files/s | ratio (range) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        groove = Path(os.environ["GROOVE_DIR"])
        reading = _reading(groove)
        _compare("MIDI files read", reading, repeats)
        _compare("MIDI files to shards", {"ours": _building(groove, Path(folder))} | _others(reading), repeats)
        _compare("MIDI files written", _writing(), repeats)


def _others(ways: dict[str, Way]) -> dict[str, Way]:
    return {f"{name}, read alone": way for name, way in ways.items() if name != "ours"}


def _compare(what: str, ways: dict[str, Way], repeats: int) -> None:
    """Prints a row for each alternative; the first turn, which loads and fills caches, does not count."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, (count, call) in ways.items():
            began = time.perf_counter()
            call()
            rates[name].append(count / (time.perf_counter() - began))
    ours = rates.pop("ours")[1:]
    for name, (_, *own) in rates.items():
        ratios = [mine / other for mine, other in zip(ours, own, strict=True)]
        print(
            f"| {what} | {statistics.median(ours):,.0f} | {name}: {statistics.median(own):,.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def _reading(groove: Path) -> dict[str, Way]:
    paths = sorted(groove.rglob("*.mid"))
    few = paths[:: max(1, len(paths) // READ)]
    return {
        "ours": (len(paths), lambda: [read_performance(path.read_bytes()) for path in paths]),
        "symusic": (len(paths), lambda: [symusic.Score(path) for path in paths]),
        "pretty_midi": (len(few), lambda: [pretty_midi.PrettyMIDI(str(path)) for path in few]),
    }


def _building(groove: Path, folder: Path) -> Way:
    def call() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out, task_runner("here", 0, code={}) as run:
            build(str(groove), Path(out) / "shards", BuildSettings(), run)

    return len([*groove.rglob("*.mid")]), call


def _writing() -> dict[str, Way]:
    model = load("generation")
    grooves = model.sample(WRITTEN, seed=0)
    layout = MidiLayout(tuple(model.drum_map.written_pitch.tolist()))
    names = [f"groove-{number}" for number in range(WRITTEN)]

    def ours() -> list[bytes]:
        hits, velocity, offset = (
            np.stack([getattr(groove, field) for groove in grooves]) for field in ("hits", "velocity", "offset")
        )
        return grooves_to_midi(hits, velocity, offset, [g.tempo for g in grooves], names, model.grid, layout)

    played = [read_performance(data) for data in ours()]
    writers: dict[str, Callable[[], object]] = {
        "ours": ours,
        "symusic": lambda: [_by_symusic(performance) for performance in played],
        "pretty_midi": lambda: [_by_pretty_midi(groove, model.drum_map).write(BytesIO()) for groove in grooves],
    }
    return {name: (WRITTEN, call) for name, call in writers.items()}


def _by_symusic(performance: Performance) -> bytes:
    score: Any = symusic.Score(performance.ticks_per_quarter)
    score.tempos.append(symusic.Tempo(0, performance.tempos[0][1]))
    track: Any = symusic.Track("drums", 0, True)
    length = np.full(len(performance.tick), performance.ticks_per_quarter // 8, dtype=np.int32)
    pitch, velocity = performance.pitch.astype(np.int8), performance.velocity.astype(np.int8)
    track.notes = symusic.Note.from_numpy(performance.tick.astype(np.int32), length, pitch, velocity)
    score.tracks.append(track)
    return score.dumps_midi()


def _by_pretty_midi(groove: DrumGroove, drum_map: DrumMap) -> "pretty_midi.PrettyMIDI":
    seconds_a_step = 60 / groove.tempo / groove.grid.steps_per_beat
    drums = pretty_midi.Instrument(0, is_drum=True, name="drums")
    for step, drum in np.argwhere(groove.hits).tolist():
        start = max(0.0, (step + float(groove.offset[step, drum])) * seconds_a_step)
        velocity = max(1, round(float(groove.velocity[step, drum]) * 127))
        pitch = int(drum_map.written_pitch[drum])
        drums.notes.append(pretty_midi.Note(velocity, pitch, start, start + seconds_a_step / 2))
    midi = pretty_midi.PrettyMIDI(initial_tempo=groove.tempo)
    midi.instruments.append(drums)
    return midi


if __name__ == "__main__":
    main()
