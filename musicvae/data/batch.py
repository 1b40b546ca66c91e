"""What one rank needs for one global batch."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """What one rank needs for global batch `number`: its windows and its random numbers.

    Attributes:
        first_place: place of the first window in the global batch.
        latent_noise: N(0, I) noise of the reparametrisation.
        coins, choices: uniform numbers of scheduled sampling, None where it is off.
        blanked: steps whose shown token is blanked by word dropout, None where it is off.
    """

    number: int
    first_place: int
    window_ids: Int64[np.ndarray, " batch"]
    tokens: Int64[Tensor, "batch step"]
    latent_noise: Float32[Tensor, "batch latent"]
    coins: Float32[Tensor, "batch step"] | None = None
    choices: Float32[Tensor, "batch step"] | None = None
    blanked: Bool[Tensor, "batch step"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def pinned(self) -> "Batch":
        """The same batch in memory that a CUDA device can read by itself, so that `to` need not wait."""
        return self._changed(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; from pinned memory without waiting for it."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pieces(self, count: int) -> list["Batch"]:
        """The batch cut in at most `count` consecutive, nearly equal, non-empty pieces."""
        bounds = [len(self) * i // count for i in range(count + 1)]
        return [self._rows(slice(a, b)) for a, b in pairwise(bounds) if b > a]

    def first(self, count: int) -> "Batch":
        """Its first windows alone."""
        return self._rows(slice(0, count))

    def _rows(self, rows: slice) -> "Batch":
        place = self.first_place + rows.start
        return self._changed(lambda tensor: tensor[rows], first_place=place, window_ids=self.window_ids[rows])

    def _changed(self, change: Callable[[Tensor], Tensor], **others: Any) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors, **others)
