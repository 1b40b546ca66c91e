"""Short training runs by the real command, and what they say of their own speed."""

import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobs.command.command_line import compose_settings
from jobs.training.settings import TrainConfig
from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.shards import write_shard
from musicvae.durable import read_lines
from musicvae.training.profiling import training_flops
from tests.support.commands import CHECKOUT, job_command, ok
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID, patterned_windows

TRAIN_WINDOWS, VALIDATION_WINDOWS = 2048, 32
ONLY_TRAINING = ("train.evaluate_every=1000000", "train.checkpoint_every=1000000", "data.lanes=16")


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What a run reached after its first steps, medians over its reports.

    Attributes:
        step_flops: operations of the matrix products of one step, over all ranks.
        data_wait: share of the time in which rank 0 waited for its next batch.
    """

    windows_per_second: float
    step_seconds: float
    step_flops: int
    data_wait: float


def write_synthetic_shards(folder: Path) -> Path:
    """Shards of patterned windows, in blocks of a size that is usual."""
    folder.mkdir()
    splits = {}
    for seed, (split, windows) in enumerate((("train", TRAIN_WINDOWS), ("validation", VALIDATION_WINDOWS))):
        entry = write_shard(folder / f"{split}-000000.tar", patterned_windows(windows, seed))
        splits[split] = SplitEntry(windows, windows, (entry,))
    ShardManifest(GRID, DRUM_MAP, splits).write(folder)
    return folder


def train_and_measure(
    shards: Path, preset: str, overrides: Iterable[str], *, steps: int, ranks: int, checkout: Path = CHECKOUT
) -> RunFigures:
    """Trains for some steps, a report after each tenth of them; the first two reports are left out.

    Args:
        ranks: 1 trains without torchrun.
        checkout: whose code trains.
    """
    every = max(1, steps // 10)
    overrides = [*ONLY_TRAINING, *overrides, f"train.steps={steps}", f"train.log_every={every}"]
    config = compose_settings(TrainConfig, preset=preset, config=None, overrides=overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        arguments = ["--preset", preset, "--shards", shards, "--run", run, *overrides]
        command = job_command("train", *arguments, ranks=0 if ranks == 1 else ranks)
        variables = {**os.environ, "PYTHONPATH": str(checkout)}
        ok(subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, timeout=1800))
        records = read_lines(run / "metrics.jsonl")[2:]
    rate = statistics.median(record["windows_per_second"] for record in records)
    batch = config.train.global_batch
    return RunFigures(
        windows_per_second=rate,
        step_seconds=batch / rate,
        step_flops=batch * training_flops(config.model, GRID, DRUM_MAP.num_drums),
        data_wait=statistics.median(record["data_wait"] for record in records),
    )
