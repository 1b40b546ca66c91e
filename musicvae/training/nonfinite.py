"""What follows a step whose gradient was not finite. The step itself has left everything as it was."""

import math
from typing import Any

import numpy as np
from jaxtyping import Int64
from torch import nn

from musicvae.errors import DivergedError
from musicvae.training.train_step import StepResult

NAMED_WEIGHTS = 8
"""Weight tensors with a gradient that is not finite that a record names; one bad value spreads to most of them."""


def nonfinite_record(
    step: int, result: StepResult, model: nn.Module, window_ids: Int64[np.ndarray, " window"]
) -> dict[str, Any]:
    """A line of nonfinite.jsonl: the step, its windows over all ranks, and where the gradient was not finite."""
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    norms = dict(zip(names, result.weight_norms.tolist(), strict=True))
    return {
        "step": step,
        "loss_finite_on_rank_0": math.isfinite(result.loss),
        "gradient_norm": str(result.gradient_norm),
        "weights_not_finite": [name for name, norm in norms.items() if not math.isfinite(norm)],
        "gradient_norms": {name: norm if math.isfinite(norm) else str(norm) for name, norm in norms.items()},
        "window_ids": window_ids.tolist(),
    }


def diverged(record: dict[str, Any], written_to: object, *, skipped: int | None) -> DivergedError:
    """The error that ends a run.

    Args:
        skipped: how many steps were left out before this one, where leaving out was allowed.
    """
    where = record["weights_not_finite"]
    return DivergedError(
        f"the gradient is not finite at step {record['step']}"
        + (f", after {skipped} such steps that were left out" if skipped is not None else ""),
        expected="a finite gradient" if skipped is None else f"at most train.max_skipped={skipped} of them",
        found=f"norm {record['gradient_norm']}, first in {', '.join(where[:NAMED_WEIGHTS])}"
        + (f" and {len(where) - NAMED_WEIGHTS} more" if len(where) > NAMED_WEIGHTS else "")
        + f"; step, window ids and norms are in {written_to}",
        likely="a learning rate that is too high",
        do="start a new run with a smaller optimizer.learning_rate or more optimizer.warmup_steps, "
        "or let the same run leave such steps out with train.on_nonfinite=skip",
    )
