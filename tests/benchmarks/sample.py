"""How fast jobs.sample is, step by step and as a whole command; `tests.benchmarks.compare` times its writing of MIDI.

    python -m tests.benchmarks.sample [--model generation] [--count 10000] [--repeats 3] [--quick] [--against COMMIT]

`decoded`: batches alone with log p(x | z), one thread, in each precision, and by two processes at once. `files`,
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

from jobs.sampler.job import SampleJob, job_of
from jobs.sampler.settings import PRECISIONS, SampleSettings
from jobs.sampler.work import WORK
from musicvae.generation.generate import decode_batch
from musicvae.generation.settings import BATCH
from musicvae.pretrained.model import TrainedModel
from musicvae.training.profiling import decoding_flops
from tests.benchmarks.against import checkout_of, compare_cpu_seconds
from tests.support.commands import ok, run_job

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
