"""The performance model: p(velocity and offset of each hit | the score, what was played before it), hit by hit.

A causal transformer over the hits of a window in order of step and drum. Of each hit the velocity is predicted first,
then the offset given that velocity, each as a distribution over all its values. How far two hits lie apart, and whether
they are of one drum, enters attention as a learnt bias of each head, as the distance of two steps does in
`musicvae.model.layers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.groove.played import TICKS_PER_STEP
from musicvae.model.layers import BlockLayers, KeyedDropout, draw_masks
from musicvae.model.settings import PerformanceSettings
from musicvae.performance.hits import HitFeatures, HitGroup, HitSequence, offset_table, velocity_table

SCORE_BUMPS = 25
"""Bumps over the values of velocity or offset whose scores neighbouring values share."""


@dataclass(frozen=True, slots=True, eq=False)
class HitNats:
    """How unlikely the model finds each hit as it was played.

    Attributes:
        window: of each hit.
        velocity: -log p(velocity | what was played before), nats.
        offset: -log p(offset | what was played before and this velocity), nats.
    """

    window: Int64[Tensor, " hit"]
    velocity: Float[Tensor, " hit"]
    offset: Float[Tensor, " hit"]

    def total(self) -> tuple[float, float]:
        """Nats of velocity and of offset, summed over all hits."""
        return float(self.velocity.double().sum()), float(self.offset.double().sum())


class PerformanceModel(nn.Module):
    """Velocity and timing of given hits."""

    def __init__(self, settings: PerformanceSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        hidden, dropout = settings.hidden, settings.dropout
        self.grid, self.num_drums = grid, num_drums
        self.features = HitFeatures(grid, num_drums)
        self.enter = nn.Linear(self.features.size, hidden)
        self.blocks = nn.ModuleList(
            HitBlock(hidden, heads=settings.heads, dropout=dropout) for _ in range(settings.layers)
        )
        self.relation_bias = nn.Embedding(2 * grid.num_steps, settings.layers * settings.heads)
        nn.init.zeros_(self.relation_bias.weight)
        self.norm = nn.LayerNorm(hidden)
        self.leave_dropout = KeyedDropout(dropout, hidden)
        self.velocity = ValueScores(hidden, velocity_table(SCORE_BUMPS))
        self.of_velocity = nn.Linear(self.features.velocities.shape[1], hidden)
        self.given_velocity = nn.Linear(hidden, hidden)
        self.offset = ValueScores(hidden, offset_table(SCORE_BUMPS))
        self.dropouts = [module for module in self.modules() if isinstance(module, KeyedDropout) and module.dropped]

    def draw_masks(self, keys: Int64[Tensor, " batch"]) -> None:
        """Draws the dropout masks of the next forward pass in training mode; those of a window follow from its key."""
        if self.dropouts:
            draw_masks(self.dropouts, keys)

    def forward(
        self,
        velocity: Int64[Tensor, "batch step drum"],
        ticks: Int64[Tensor, "batch step drum"],
        tempo: Float[Tensor, " batch"],
        manner: Float[Tensor, "batch figure"],
    ) -> HitNats:
        """How likely all hits of some windows are as they were played, in one pass.

        Args:
            velocity: 1 to 127, 0 is no hit.
            ticks: offsets, -60 to 59.
            tempo: quarter notes per minute.
            manner: figures of `MANNER`, NaN where they are not given.
        """
        sequence = HitSequence.of(velocity > 0, self.grid)
        loudness, timing = velocity[sequence.cells], ticks[sequence.cells]
        values = self.hidden(sequence, loudness, timing, tempo, manner)
        return HitNats(
            sequence.window,
            _nats(self.velocity(values), loudness - 1),
            _nats(self.offset_scores(values, loudness), timing + TICKS_PER_STEP // 2),
        )

    def hidden(
        self,
        sequence: HitSequence,
        velocity: Int64[Tensor, " hit"],
        ticks: Int64[Tensor, " hit"],
        tempo: Float[Tensor, " batch"],
        manner: Float[Tensor, "batch figure"],
    ) -> Float[Tensor, "hit hidden"]:
        """What velocity and offset of each hit are predicted from: the score, and those of the hits before it."""
        values = self.enter(self.features(sequence, tempo, manner, velocity, ticks))
        groups = sequence.groups()
        order = torch.cat([group.number for group in groups]).argsort()
        biases = [self._bias(group.relation(sequence)) for group in groups]
        for number, block in enumerate(self.blocks):
            values = block(
                values, sequence.window, list(zip(groups, (bias[number] for bias in biases), strict=True)), order
            )
        return self.leave_dropout(self.norm(values), sequence.window)

    def _bias(self, relation: Int64[Tensor, "row place place"]) -> Float[Tensor, "block row head place place"]:
        """What is added to the scores of attention in each block: by how two hits stand to each other."""
        bias = self.relation_bias(relation).unflatten(-1, (len(self.blocks), -1)).permute(3, 0, 4, 1, 2)
        later = torch.ones(relation.shape[1:], dtype=torch.bool, device=relation.device).triu(1)
        return bias.masked_fill(later, -torch.inf)

    def relation_table(self) -> Float[Tensor, "relation bias"]:
        """What the scores of attention get, of all blocks and heads, for each relation; -inf in a last row."""
        weight = self.relation_bias.weight
        return torch.cat([weight, torch.full_like(weight[:1], -torch.inf)])

    def offset_scores(
        self, values: Float[Tensor, "hit hidden"], velocity: Int64[Tensor, " hit"]
    ) -> Float[Tensor, "hit tick"]:
        """Unnormalised log-probabilities of all offsets, given the velocity."""
        loudness = self.of_velocity(self.features.velocities[velocity - 1])
        return self.offset(values + self.given_velocity(F.gelu(values + loudness)))


def _nats(scores: Float[Tensor, "hit value"], values: Int64[Tensor, " hit"]) -> Float[Tensor, " hit"]:
    full = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return F.cross_entropy(full, values, reduction="none")


class ValueScores(nn.Module):
    """Hidden states -> unnormalised log-probabilities of the values of velocity or offset.

    A value's score is the sum of a part of its own and of one part for each feature of the value, so that neighbouring
    values, which seldom occur both, share what is learnt.

    Args:
        table: the features of each value.
    """

    table: Tensor

    def __init__(self, hidden: int, table: Float[Tensor, "value feature"]) -> None:
        super().__init__()
        self.own = nn.Linear(hidden, len(table))
        self.of_features = nn.Linear(hidden, table.shape[1])
        self.register_buffer("table", table, persistent=False)

    def weight_and_bias(self) -> tuple[Float[Tensor, "value hidden"], Float[Tensor, " value"]]:
        """The one linear layer that both parts together are."""
        with torch.autocast(self.table.device.type, enabled=False):
            weight = self.own.weight + self.table @ self.of_features.weight
            return weight, self.own.bias + self.table @ self.of_features.bias

    def forward(self, hidden: Float[Tensor, "hit hidden"]) -> Float[Tensor, "hit value"]:
        return F.linear(hidden, *self.weight_and_bias())


class HitBlock(BlockLayers):
    """A causal transformer block over hits; everything but attention works on the hits of all windows together."""

    def forward(
        self,
        values: Float[Tensor, "hit hidden"],
        window: Int64[Tensor, " hit"],
        groups: Sequence[tuple[HitGroup, Float[Tensor, "..."]]],
        order: Int64[Tensor, " hit"],
    ) -> Float[Tensor, "hit hidden"]:
        """Each hit attends to those before it in its window and to itself.

        Args:
            window: of each hit.
            groups: of windows, each with what is added to the scores of its hits: (row, head, place, place).
            order: where each hit is among those of all groups.
        """
        joined = self.queries_keys_values(self.attention_norm(values)).unflatten(1, (3, self.heads, -1))
        of_groups = []
        for group, bias in groups:
            queries, keys, entries = group.by_window(joined).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(queries, keys, entries, bias.to(queries.dtype))
            of_groups.append(group.by_hit(attended.transpose(1, 2)).flatten(1))
        values = values + self.attention_dropout(self.attended(torch.cat(of_groups)[order]), window)
        return values + self._fed_forward(values, window)

    def _fed_forward(self, values: Tensor, window: Tensor | None) -> Tensor:
        return self.narrow(self.feed_forward_dropout(F.gelu(self.widen(self.feed_forward_norm(values))), window))
