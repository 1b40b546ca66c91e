"""How fast jobs.sample is, step by step and as a whole command, beside pretty_midi's writing in the same run.

    python -m tests.benchmarks.sample [--model generation] [--count 10000] [--repeats 3] [--quick] [--against COMMIT]

`decoded`: batches alone with log p(x | z), one thread, in each precision, and by two processes at once. `MIDI`: the
bytes of files, by our writer, by symusic and by pretty_midi, whose files are written to the disk too. `files`,
`packed`: whole commands from their start to their end, by 1 and 2 workers, manifest, figures and report with them,
played by the performance model but for `files, mean`; `further files`: the second half of a command that makes twice as
many, which start-up has no part in. Medians over repeats that take turns (fastest, slowest). The plan for a million is
what `--count` took, multiplied. Wants a quiet machine. Run by its path this file would hide the package of the same
name, hence `-m`.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import Queue, get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import symusic

from jobs.sampler.job import SampleJob, job_of
from jobs.sampler.parts import Rows
from jobs.sampler.settings import PRECISIONS, SampleSettings
from jobs.sampler.work import WORK
from musicvae.generation.generate import decode_batch, generate_batch
from musicvae.generation.settings import BATCH
from musicvae.groove.groove import DrumGroove
from musicvae.midi.performance import Performance, read_performance
from musicvae.pretrained.model import TrainedModel
from musicvae.training.profiling import decoding_flops
from tests.benchmarks.against import checkout_of, compare_cpu_seconds
from tests.support.commands import ok, run_job

WRITTEN = 256
"""Grooves that are written as MIDI, one batch."""
PROCESSES, BATCHES = 2, 8
"""That decode at once, and the batches of each in a round."""
MILLION = 10**6
PLAYED, MEAN = "files", "files, mean"
"""Commands that write files: as they are by default, and with --feel mean."""


def main() -> None:
    arguments = _arguments()
    repeats, count = (1, 300) if arguments.quick else (arguments.repeats, arguments.count)
    if arguments.against:
        _compare(arguments.against, arguments.model, count, repeats)
        return
    options = SampleSettings(count=count, seed=5, preset=arguments.model, feel="mean", unchosen=True)
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(options, Path(folder) / "out")
        trained = job.trained()
        weights = sum(weight.numel() for weight in trained.model.parameters())
        flops = decoding_flops(trained.settings, trained.grid, trained.drum_map.num_drums)
        print(f"{arguments.model}: {weights:,} weights, {flops / 1e6:.1f} MFLOP to decode a groove")
        _decoding(job, trained, repeats)
        _writing(job, trained, Path(folder) / "midi", repeats)
        _commands(arguments.model, count, Path(folder), repeats)


def _compare(commit: str, model: str, count: int, repeats: int) -> None:
    """CPU seconds of whole commands of this checkout and of another commit, which take turns; prints ratios."""
    with tempfile.TemporaryDirectory() as folder, checkout_of(commit) as before:
        for grooves, workers in ((count, 2), (16, 1)):
            for form, how in ((PLAYED, []), (MEAN, ["--feel", "mean"])):
                out = Path(folder) / "out"
                arguments = ["--preset", model, "--count", grooves, "--seed", 5, "--all", "--workers", workers, *how]
                title = f"{grooves:,} grooves, {form}, {workers} worker{'s' * (workers > 1)}"
                compare_cpu_seconds(title, before, "sample", [*arguments, "--out", out], out, repeats=repeats)


def _decoding(job: SampleJob, trained: TrainedModel, repeats: int) -> None:
    decode_batch(trained.model, job.made.recipe, 0)
    for precision in PRECISIONS:
        recipe = replace(job.made.recipe, precision=precision)
        batches = [partial(decode_batch, trained.model, recipe, number) for number in range(1, repeats + 1)]
        _row(f"decoded, {precision}", "grooves/s", BATCH, [_timed(batch) for batch in batches])
    processes = get_context("spawn")
    together, seconds = processes.Barrier(PROCESSES), processes.Queue()
    decoders = [processes.Process(target=_decode, args=(job, together, repeats, seconds)) for _ in range(PROCESSES)]
    for decoder in decoders:
        decoder.start()
    rounds = [max(seconds.get() for _ in decoders) for _ in range(repeats)]
    for decoder in decoders:
        decoder.join()
    _row(f"decoded, {PROCESSES} processes", "grooves/s", PROCESSES * BATCHES * BATCH, rounds)


def _decode(job: SampleJob, together: Barrier, repeats: int, seconds: Queue) -> None:
    """One of the processes that decode at once, each of which puts the time of every round."""
    model, recipe = job.trained().model, job.made.recipe
    decode_batch(model, recipe, 0)
    for _ in range(repeats):
        together.wait()
        taken = _timed(lambda: [decode_batch(model, recipe, number) for number in range(BATCHES)])
        # So that no process begins its next round before all have ended this one.
        together.wait()
        seconds.put(taken)


def _writing(job: SampleJob, trained: TrainedModel, folder: Path, repeats: int) -> None:
    folder.mkdir()
    tokens = generate_batch(trained.model, job.made.recipe, 0)[:WRITTEN]
    count = len(tokens)
    rows = Rows(np.arange(count), tokens, np.zeros((count, 0), np.float32), np.zeros(count), np.zeros(0, np.int64))
    grooves = job.grooves(trained, rows)
    played = [read_performance(data) for data in job.midi(trained, rows)]
    ways: dict[str, Callable[[], object]] = {
        "MIDI, bytes of a batch": lambda: job.midi(trained, rows),
        "MIDI, symusic": lambda: [_write_with_symusic(performance) for performance in played],
        "MIDI, pretty_midi": lambda: _write_with_pretty_midi(grooves, trained, folder),
        "MIDI, our files": lambda: [
            (folder / f"{item}.mid").write_bytes(data) for item, data in enumerate(job.midi(trained, rows))
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, write in ways.items():
            seconds[name].append(_timed(write))
    for name, own in seconds.items():
        _row(name, "files/s", len(tokens), own)
    print(f"  symusic {symusic.__version__}, pretty_midi {pretty_midi.__version__}")


def _write_with_symusic(performance: Performance) -> bytes:
    score: Any = symusic.Score(performance.ticks_per_quarter)
    score.tempos.append(symusic.Tempo(0, performance.tempos[0][1]))
    track: Any = symusic.Track("drums", 0, True)
    length = np.full(len(performance.tick), performance.ticks_per_quarter // 8, dtype=np.int32)
    pitch, velocity = performance.pitch.astype(np.int8), performance.velocity.astype(np.int8)
    track.notes = symusic.Note.from_numpy(performance.tick.astype(np.int32), length, pitch, velocity)
    score.tracks.append(track)
    return score.dumps_midi()


def _write_with_pretty_midi(grooves: Sequence[DrumGroove], trained: TrainedModel, folder: Path) -> None:
    for number, groove in enumerate(grooves):
        seconds_a_step = 60 / groove.tempo / groove.grid.steps_per_beat
        drums = pretty_midi.Instrument(0, is_drum=True, name="drums")
        for step, drum in np.argwhere(groove.hits).tolist():
            start = max(0.0, (step + float(groove.offset[step, drum])) * seconds_a_step)
            velocity = max(1, round(float(groove.velocity[step, drum]) * 127))
            pitch = int(trained.drum_map.written_pitch[drum])
            drums.notes.append(pretty_midi.Note(velocity, pitch, start, start + seconds_a_step / 2))
        midi = pretty_midi.PrettyMIDI(initial_tempo=groove.tempo)
        midi.instruments.append(drums)
        midi.write(str(folder / f"pretty-{number}.mid"))


def _commands(model: str, count: int, folder: Path, repeats: int) -> None:
    common = ["--preset", model, "--count", count, "--seed", 5, "--all", "--out", folder / "out"]
    forms = {PLAYED: [], MEAN: ["--feel", "mean"], "packed in tars": ["--pack", "tar"]}
    forms["packed in a zip"] = ["--pack", "zip"]
    forms["manifest alone"] = ["--no-files"]
    seconds: dict[tuple[str, int], list[float]] = {(form, workers): [] for form in forms for workers in (1, 2)}
    plans, further = [], []
    for _ in range(repeats):
        for (form, workers), own in seconds.items():
            command = [*common, *forms[form], "--workers", workers]
            own.append(_timed(partial(_run, command)))
            plan = (form, *_taken(folder / "out"))
            if plan not in plans:
                plans.append(plan)
            shutil.rmtree(folder / "out")
        double = _timed(partial(_run, [*common, "--count", 2 * count, "--workers", 2]))
        further.append(double - seconds[PLAYED, 2][-1])
        shutil.rmtree(folder / "out")
    print(f"{count:,} grooves in one command, start to end")
    for (form, workers), own in seconds.items():
        _row(f"{form}, {workers} worker{'s' * (workers > 1)}", "grooves/s", count, own)
    _row("further files, 2 workers", "grooves/s", count, further)
    for workers in (1, 2):
        ratios = [played / mean for played, mean in zip(seconds[PLAYED, workers], seconds[MEAN, workers], strict=True)]
        print(f"  {PLAYED} / {MEAN}, {workers} worker{'s' * (workers > 1)}: {statistics.median(ratios):.2f} times")
    print(f"a million of them, from these {count:,}")
    for form, inodes, size in plans:
        hours = MILLION / count * statistics.median(seconds[form, 2]) / 3600
        files, gigabytes = inodes * MILLION // count, size * MILLION / count / 1e9
        print(f"  {form:<26} {files:>10,} files  {gigabytes:6.2f} GB  {hours:.2f} h with 2 workers")


def _run(command: Sequence[object]) -> None:
    ok(run_job("sample", *command, timeout=3600))


def _taken(out: Path) -> tuple[int, int]:
    """Files and bytes of an output."""
    files = [path.stat().st_size for path in out.rglob("*") if path.is_file() and path.name != "lock"]
    assert (out / WORK).is_dir(), "the work area counts"
    return len(files), sum(files)


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _row(name: str, unit: str, count: int, seconds: Sequence[float]) -> None:
    rates = [count / own for own in seconds]
    taken = f"{statistics.median(seconds):7.2f} s"
    print(f"  {name:<26} {statistics.median(rates):9.1f} {unit:<10} ({max(rates):.1f}, {min(rates):.1f})  {taken}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="generation", help="A shipped model, or an export's folder.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", metavar="COMMIT", help="only compare, in turns, with the code of another commit")
    parser.add_argument("--quick", action="store_true", help="Once, a few hundred grooves: to see that it runs.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
