"""How fast training is on this machine's CPUs, beside what its matrix units can do, as tables.

    python -m tests.benchmarks.train [--preset demo small paper] [--repeats 2] [--quick] [--against COMMIT]

Short runs of `jobs.train` on synthetic shards, in float32 and, where the CPU multiplies it, bfloat16, by one rank
with all threads and by two ranks with half of them each; `paper` with batch 16. Matrix peaks are measured between the
runs: a product of two 2048 x 2048 matrices through torch, and for float32 also through oneDNN with packed weights,
since torch's own float32 product uses MKL, which on some processors is much slower than the oneDNN kernels of the
LSTMs. Wants a quiet machine, and tells the load that it found before each run. In full about ten minutes on two
cores; `--quick` shows that it runs, no more.

What was tried to make training faster, with figures, is in docs/structure.md.
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils import mkldnn

from jobs.command.command_line import compose_settings
from jobs.training.settings import TrainConfig
from musicvae.model.model import MusicVAE
from musicvae.model.precision import multiplies_bfloat16
from musicvae.training.checkpoints import CheckpointWriter, TrainingState
from musicvae.training.profiling import SQUARE, matrix_peak, training_flops
from musicvae.training.run_folder import RunFolder
from musicvae.training.step import new_optimizer
from tests.benchmarks.against import checkout_of, compare_cpu_seconds, print_ratio
from tests.benchmarks.training_runs import RunFigures, train_and_measure, write_synthetic_shards
from tests.support.commands import CHECKOUT
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID

STEPS = {"demo": 200, "small": 50, "paper": 6}
OVERRIDES = {"demo": (), "small": (), "paper": ("train.global_batch=16", "train.evaluation_batch=16")}
MAGENTA = 97 / 139
"""Windows/s per GFLOP/s of float32 peak: Magenta's float32, batch 512, on a machine of 139 GFLOP/s."""
PRECISIONS = ("float32", "bfloat16") if multiplies_bfloat16(torch.device("cpu")) else ("float32",)
RANKS = (1, 2)


@dataclass(slots=True)
class Peaks:
    """Matrix peaks in operations per second, by dtype and threads; the float32 one through oneDNN."""

    of_torch: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    onednn: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Takes one more measurement of each."""
        threads = torch.get_num_threads()
        for count in {1, threads}:
            torch.set_num_threads(count)
            for precision in PRECISIONS:
                dtype = getattr(torch, precision)
                self.of_torch[precision, count].append(matrix_peak(dtype, torch.device("cpu"), seconds=0.2))
        self.onednn.append(_onednn_peak(seconds=0.2))

    def usual(self, precision: str) -> float:
        """What torch's product reaches with all threads."""
        return statistics.median(self.of_torch[precision, torch.get_num_threads()])

    def best(self, precision: str) -> float:
        """The faster of the two ways."""
        onednn = statistics.median(self.onednn) if precision == "float32" else 0.0
        return max(self.usual(precision), onednn)


Configuration = tuple[str, str, int]
"""Preset, precision, ranks."""


def main() -> None:
    arguments = _arguments()
    if arguments.against:
        _compare(arguments.against, arguments.preset, arguments.repeats)
        return
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peaks, loads = Peaks(), []
    figures: dict[Configuration, list[RunFigures]] = defaultdict(list)
    configurations = [(p, precision, ranks) for p in arguments.preset for precision in PRECISIONS for ranks in RANKS]
    with tempfile.TemporaryDirectory() as folder:
        shards = write_synthetic_shards(Path(folder) / "shards")
        for repeat in range(arguments.repeats):
            for configuration in configurations:
                preset, precision, ranks = configuration
                if preset == "paper" and repeat:
                    continue  # one takes as long as several of the others
                loads.append(os.getloadavg()[0])
                peaks.measure()
                steps = max(5, STEPS[preset] // (10 if arguments.quick else 1))
                overrides = [*OVERRIDES[preset], f"train.precision={precision}"]
                found = train_and_measure(shards, preset, overrides, steps=steps, ranks=ranks)
                figures[configuration].append(found)
                rate = f"{found.windows_per_second:.1f} windows/s"
                print(f"{preset}, {precision}, {ranks} rank(s): {rate}", file=sys.stderr, flush=True)
        _print_peaks(peaks, loads)
        _print_runs(figures, peaks)
        _print_checkpoints(arguments.preset, Path(folder))


def _compare(commit: str, presets: list[str], repeats: int) -> None:
    """Windows a second of this checkout and of another commit, and CPU seconds of a start; prints ratios of medians."""
    with tempfile.TemporaryDirectory() as folder, checkout_of(commit) as before:
        shards, run = write_synthetic_shards(Path(folder) / "shards"), Path(folder) / "run"
        for preset, precision, ranks in itertools.product(presets, PRECISIONS, RANKS):
            overrides = [*OVERRIDES[preset], f"train.precision={precision}"]
            rates: dict[Path, list[float]] = {CHECKOUT: [], before: []}
            for _ in range(repeats):
                for checkout, found in rates.items():
                    how = {"steps": STEPS[preset], "ranks": ranks, "checkout": checkout}
                    found.append(train_and_measure(shards, preset, overrides, **how).windows_per_second)
            print_ratio(f"{preset}, {precision}, {ranks} rank(s)", "windows/s", *rates.values())
        for ranks in RANKS:
            arguments = ["--preset", "demo", "--shards", shards, "--run", run, "train.steps=2"]
            title = f"start and 2 steps, demo, {ranks} rank(s)"
            how = {"repeats": max(3, repeats), "ranks": 0 if ranks == 1 else ranks}
            compare_cpu_seconds(title, before, "train", arguments, run, **how)


def _print_peaks(peaks: Peaks, loads: list[float]) -> None:
    print(
        f"{torch.get_num_threads()} cores, torch {torch.__version__}; load before the runs {min(loads):.1f} to "
        f"{max(loads):.1f}, median {statistics.median(loads):.1f} (its own runs count)"
    )
    if "bfloat16" not in PRECISIONS:
        print("bfloat16 is left out, which this CPU does not multiply")
    print("matrix peak, GFLOP/s, median (lowest, highest)")
    for (precision, threads), values in sorted(peaks.of_torch.items()):
        _print_peak(f"{precision}, {threads} thread(s)", values)
    _print_peak("float32 through oneDNN, all threads", peaks.onednn)


def _print_peak(name: str, values: list[float]) -> None:
    low, usual, high = (value / 1e9 for value in (min(values), statistics.median(values), max(values)))
    print(f"  {name:<36} {usual:7.0f} ({low:.0f}, {high:.0f})")


def _print_runs(figures: dict[Configuration, list[RunFigures]], peaks: Peaks) -> None:
    for preset in dict.fromkeys(preset for preset, _, _ in figures):
        config = compose_settings(TrainConfig, preset=preset, config=None, overrides=OVERRIDES[preset])
        flops = training_flops(config.model, GRID, DRUM_MAP.num_drums)
        print(f"\n{preset}: batch {config.train.global_batch}, {flops / 1e9:.2f} GFLOP per window")
        print(
            "precision  ranks  windows/s  (range)        step ms  of torch's peak  "
            "of oneDNN's  step / products  data wait"
        )
        for precision in PRECISIONS:
            alone, two = (figures[preset, precision, ranks] for ranks in RANKS)
            rates = [_print_run(runs, precision, ranks, peaks) for ranks, runs in zip(RANKS, (alone, two), strict=True)]
            reached = rates[0] / (peaks.usual("float32") / 1e9)
            print(
                f"  two ranks lose {1 - rates[1] / rates[0]:.1%}; one rank: {reached:.3f} windows/s per GFLOP/s of "
                f"torch's float32 peak, {reached / MAGENTA:.2f} times Magenta's float32 ({MAGENTA:.3f})"
            )


def _print_run(runs: list[RunFigures], precision: str, ranks: int, peaks: Peaks) -> float:
    rates = [run.windows_per_second for run in runs]
    step = statistics.median(run.step_seconds for run in runs)
    wait = statistics.median(run.data_wait for run in runs)
    usual, best = (runs[0].step_flops / peak / step for peak in (peaks.usual(precision), peaks.best(precision)))
    middle = statistics.median(rates)
    spread = f"({min(rates):.1f} to {max(rates):.1f})"
    print(
        f"{precision:<9}  {ranks:5}  {middle:9.1f}  {spread:<17} {1e3 * step:7.1f}  {usual:15.0%}  {best:11.0%}  "
        f"{1 / usual:6.2f} ({1 / best:.2f})  {wait:9.2%}"
    )
    return middle


def _print_checkpoints(presets: list[str], folder: Path) -> None:
    print("\ncheckpoint  weights  training stands still  written after")
    for preset in presets:
        config = compose_settings(TrainConfig, preset=preset, config=None, overrides=())
        model = MusicVAE(config.model, GRID, DRUM_MAP.num_drums)
        optimizer = new_optimizer(model, config.optimizer)
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        run = RunFolder(folder / preset)
        run.checkpoints.mkdir(parents=True)
        writer = CheckpointWriter(run, keep=1, keep_every=0)
        delays, writes = [], []
        for step in range(1, 4):
            started = time.perf_counter()
            writer.save(model, optimizer, TrainingState(step))
            delays.append(time.perf_counter() - started)
            writer.wait()
            writes.append(time.perf_counter() - started)
        writer.close()
        weights = sum(weight.numel() for weight in model.parameters())
        delay, written = statistics.median(delays), statistics.median(writes)
        print(f"{preset:<10}  {weights / 1e6:6.1f}M  {1e3 * delay:18.1f} ms  {written:11.2f} s")


def _onednn_peak(*, seconds: float) -> float:
    side = SQUARE["cpu"]
    layer = mkldnn.to_mkldnn(nn.Linear(side, side, bias=False).eval())
    rows = torch.randn(side, side).to_mkldnn()
    taken = []
    until = time.perf_counter() + seconds
    with torch.no_grad():
        while len(taken) < 5 or time.perf_counter() < until:
            started = time.perf_counter()
            layer(rows)
            taken.append(time.perf_counter() - started)
    return 2 * side**3 / statistics.median(taken)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--against", metavar="COMMIT", help="only compare, in turns, with the code of another commit")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, once: whether it runs, no figures")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats = 1
    return arguments


if __name__ == "__main__":
    main()
