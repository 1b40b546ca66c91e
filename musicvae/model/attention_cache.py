"""Keys and values of the steps so far, for attention that goes on by one step at a time.

One query for each item and head leaves nothing to a matrix product but its overhead: on a CPU a batch of them takes
about four times as long as reading what they multiply. Both halves of attention are weighted sums of rows, though, and
`embedding_bag` reads rows as fast as memory gives them: the output is the sum of the values, weighted by the softmax;
the scores are the sum of the rows of the keys' transpose (one row a dimension), weighted by the query.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

FIRST_PLACES = 16
"""Places for steps at the start; all are read at every step, so their number doubles as steps come."""


class AttentionCache:
    """Attention to the steps so far. Writes in place, so that no gradient can go through it."""

    keys: Float[Tensor, "key_row places"]
    values: Float[Tensor, "value_row size"]
    key_rows: Int32[Tensor, "batch_head size"]
    value_rows: Int32[Tensor, "batch_head places"]

    def __init__(self) -> None:
        self.steps = self.places = 0

    def attend(
        self,
        queries: Float[Tensor, "batch head size"],
        keys: Float[Tensor, "batch head size"],
        values: Float[Tensor, "batch head size"],
        bias: Float[Tensor, "head num_steps"],
    ) -> Float[Tensor, "batch head size"]:
        """What the next step attends to among those before it and itself, whose keys and values are added.

        Args:
            bias: of this step's attention to every step of the window, -inf for those after it.
        """
        batch, heads, size = queries.shape
        if self.steps == self.places:
            self._widen(keys, bias.shape[1])
        self.keys[:, self.steps] = keys.reshape(-1)
        self.values.view(batch, heads, self.places, size)[:, :, self.steps] = values
        self.steps += 1
        scores = _sums(self.keys, self.key_rows, (queries * size**-0.5).reshape(-1, size)).view(batch, heads, -1)
        full = torch.promote_types(scores.dtype, torch.float32)
        weights = (scores.to(full) + bias[:, : self.places]).softmax(dim=-1)
        weights = weights.to(scores.dtype).view(-1, self.places)
        return _sums(self.values, self.value_rows, weights).view(batch, heads, size)

    def _widen(self, like: Float[Tensor, "batch head size"], most: int) -> None:
        """Doubles the places; those of later steps hold zeros, which the bias takes out."""
        rows, size = like.shape[0] * like.shape[1], like.shape[2]
        places = min(max(2 * self.places, FIRST_PLACES), most)
        keys, values = like.new_zeros(rows * size, places), like.new_zeros(rows, places, size)
        if self.places:
            keys[:, : self.places] = self.keys
            values[:, : self.places] = self.values.view(rows, self.places, size)
        self.keys, self.values, self.places = keys, values.view(-1, size), places
        numbers = torch.arange(rows * max(size, places), dtype=torch.int32, device=like.device)
        self.key_rows = numbers[: rows * size].view(rows, size)
        self.value_rows = numbers[: rows * places].view(rows, places)


def _sums(
    table: Float[Tensor, "row width"], rows: Int32[Tensor, "sum part"], weights: Float[Tensor, "sum part"]
) -> Float[Tensor, "sum width"]:
    """Weighted sums of rows of a table."""
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
