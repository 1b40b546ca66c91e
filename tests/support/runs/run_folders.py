"""Run folders without a training: what a page or a tracker reads, written by hand."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from musicvae.data.feel import measure_feel
from musicvae.model.layers import token_bits
from musicvae.model.model import MusicVAE
from musicvae.settings import apply_overrides, parse_settings
from musicvae.training.best_weights import save_best
from musicvae.training.examples import Examples
from musicvae.training.run_folder import RunFolder, RunIdentity
from musicvae.training.settings import FitConfig
from tests.support.commands import TINY
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID, patterned_windows

LATENT = 12
PROVENANCE = {
    "tracking_id": "0123456789ab",
    "command": "jobs/train.py --preset demo",
    "commit": "c0ffee" * 6,
    "dirty": True,
    "python": "3.11.9",
    "packages": {"torch": "2.13.0", "wandb": None},
}


def begun_run(path: Path, *overrides: str) -> RunFolder:
    """A run folder that was made a moment ago."""
    settings = parse_settings(FitConfig, apply_overrides({}, overrides))
    run = RunFolder(path)
    identity = RunIdentity(settings.result_settings(), "f" * 16, GRID, DRUM_MAP)
    run.open(identity, settings.model_dump(mode="json"), PROVENANCE)
    return run


def trained_run(path: Path, *overrides: str, steps: int = 100, every: int = 20, floor: float = 70.0) -> RunFolder:
    """A run that has trained for some steps, evaluated now and then, and lives on.

    Args:
        floor: where the validation -ELBO goes to; the smaller, the better the run.
    """
    run = begun_run(path, *overrides)
    measure_feel([patterned_windows(50, seed=3)], GRID).save(run.feel)
    for step in range(1, steps + 1):
        figures = training_line(step)
        if step % every == 0:
            figures |= validation_line(step, floor)
            some_examples(seed=step).save(run.examples, step)
        run.log({"step": step, **figures})
    run.write_status("running", steps, 2 * steps, restarts=2, windows_per_second=500.0)
    return run


TINY_MODEL = tuple(setting for setting in TINY if setting.startswith("model."))


def run_with_weights(path: Path, *, seed: int = 0, step: int = 40, sparse: bool = False) -> RunFolder:
    """A run of a tiny model with weights that nobody trained.

    Args:
        sparse: whether all drums but the first are rare, as in the grooves of people; else half of all cells are hits.
    """
    run = begun_run(path, *TINY_MODEL)
    settings = parse_settings(FitConfig, apply_overrides({}, TINY_MODEL))
    torch.manual_seed(seed)
    model = MusicVAE(settings.model, GRID, DRUM_MAP.num_drums)
    if sparse:
        with torch.no_grad():
            bits = token_bits(DRUM_MAP.num_drums)
            model.get_parameter("decoder.scores.own.bias").add_(bits[:, 0] - 2 * bits[:, 1:].sum(dim=1))
    save_best(run.best, model.state_dict(), step, validation_line(step, 70.0))
    measure_feel([patterned_windows(50, seed=3)], GRID).save(run.feel)
    return run


def training_line(step: int) -> dict[str, float]:
    """Figures of a training step."""
    return {
        "loss": 60 + 300 / step,
        "reconstruction": 50 + 300 / step,
        "kl_bits": 40.0,
        "beta": 0.2,
        "learning_rate": 1e-3 / step,
        "gradient_norm": 20 + 10 * math.sin(step),
        "windows_per_second": 500.0 + step % 7,
    }


def validation_line(step: int, floor: float) -> dict[str, float]:
    """Figures of an evaluation."""
    return {
        "validation.negative_elbo": floor + 100 / step,
        "validation.reconstruction": 50 + 100 / step,
        "validation.kl_bits": 41.0,
        "validation.active_units": 9.0,
        "validation.token_accuracy_teacher_forced": 1 - 10 / (step + 20),
    }


def some_examples(*, seed: int, ids: Sequence[int] = (0, 5, 10)) -> Examples:
    """Examples of nobody's model; the windows themselves are the same for every seed."""
    reconstructions, samples = patterned_windows(3, seed=seed + 50).tokens, patterned_windows(4, seed=seed).tokens
    return Examples(
        window_ids=np.array(ids, dtype=np.int64),
        windows=patterned_windows(3, seed=1).tokens,
        reconstructions=reconstructions,
        samples=samples,
        kl=np.linspace(0.001, 2, LATENT).astype(np.float32),
        mu_variance=np.linspace(0, 0.5, LATENT).astype(np.float32),
    )
