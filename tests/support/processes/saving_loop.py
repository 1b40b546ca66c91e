"""A loop that saves checkpoints all the time, to be killed."""

from pathlib import Path

import torch

from musicvae.training.checkpoints import CheckpointWriter, TrainingState, load_checkpoint, newest_complete
from musicvae.training.run_folder import RunFolder

WEIGHTS = 300_000
"""1.2 MB of weights and as much of moments: a save takes long enough to be hit."""


def marked(step: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model and an optimizer whose every number tells the step."""
    model = torch.nn.Linear(WEIGHTS, 1, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    moments = {"step": torch.tensor(float(step)), "exp_avg": torch.full((1, WEIGHTS), float(step))}
    moments["exp_avg_sq"] = moments["exp_avg"].clone()
    torch.nn.init.constant_(model.weight, float(step))
    optimizer.state[model.weight] = moments
    return model, optimizer


def save_all_the_time(folder: Path) -> None:
    """Goes on from the newest whole checkpoint, until killed."""
    with RunFolder(folder).held("loop") as run:
        writer = CheckpointWriter(run, keep=2, keep_every=0)
        newest, _ = newest_complete(run.checkpoints)
        step = load_checkpoint(newest, *marked(0)).step if newest else 0
        while True:
            step += 1
            writer.save(*marked(step), TrainingState(step))
