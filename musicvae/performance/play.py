"""Plays grooves: draws velocity and offset hit by hit, each given what was played before it.

Many grooves are played at a time. Those with the most hits come first, so that a groove that has no more hits costs
nothing. How a groove is played is a function of the weights, the settings, the seed and its number alone: all sums are
made row by row, in an order that does not depend on the grooves beside it (`RowwiseLinear`). The uniform numbers of a
hit are keyed by (seed, number of the groove, step, drum).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor, nn

from musicvae.generation.generate import one_thread
from musicvae.generation.settings import BATCH
from musicvae.groove.groove import MAX_VELOCITY
from musicvae.groove.played import TICKS_PER_STEP, PlayedHits
from musicvae.model.layers import AttentionCache
from musicvae.model.precision import ROWS, RowwiseLinear
from musicvae.model.settings import DecodingPrecision
from musicvae.performance.hits import HitSequence
from musicvae.performance.model import HitBlock, PerformanceModel
from musicvae.randomness import Purpose, uniforms

FIRST_TICK = TICKS_PER_STEP // 2
"""How early the earliest offset is, in ticks."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What is to be played.

    Attributes:
        numbers: of the grooves; with the seed they decide the random numbers.
        tempo: quarter notes per minute.
        manner: the figures of `MANNER`, NaN where the model is free.
        kept: hits of these grooves that stand as they are, and that later hits are played after.
    """

    numbers: Sequence[int]
    hits: Bool[np.ndarray, "groove step drum"]
    tempo: Float32[np.ndarray, " groove"]
    manner: Float32[np.ndarray, "groove figure"]
    kept: PlayedHits | None = None

    def take(self, rows: Int64[np.ndarray, " row"]) -> "Score":
        """Some of the grooves, in the order of `rows`."""
        kept = self.kept and PlayedHits(self.kept.hits[rows], self.kept.velocity[rows], self.kept.offset[rows])
        numbers = [self.numbers[row] for row in rows.tolist()]
        return Score(numbers, self.hits[rows], self.tempo[rows], self.manner[rows], kept)

    def filled(self) -> "Score":
        """The same with grooves without hits behind them, so that their number is a multiple of `ROWS`."""
        count = len(self.hits)
        filled = self.take(np.arange(count + -count % ROWS) % count)
        filled.hits[count:] = False
        return filled


@torch.no_grad()
def play(
    model: PerformanceModel,
    score: Score,
    *,
    seed: int,
    temperature: float = 1.0,
    together: int = BATCH,
    precision: DecodingPrecision = "float32",
) -> PlayedHits:
    """How the hits of some grooves are played; kept hits are as they were given.

    Args:
        model: in evaluation mode, on the CPU.
        temperature: divides the logits; below 1 likely velocities and offsets are likelier.
        together: grooves that are played at a time.
        precision: of the layers, as in `musicvae.model.precision`.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"a temperature must be positive, found {temperature}")
    played = PlayedHits(score.hits, *(np.zeros(score.hits.shape, dtype=np.float32) for _ in range(2)))
    with one_thread():
        # Those with the most hits first: at any place the grooves that have a hit there are the first ones.
        order = np.argsort(-score.hits.sum(axis=(1, 2)), kind="stable")
        for rows in np.split(order, range(together, len(order), together)):
            velocity, offset = _play_batch(model, score.take(rows).filled(), seed, temperature, precision)
            played.velocity[rows], played.offset[rows] = velocity[: len(rows)], offset[: len(rows)]
    if score.kept is None:
        return played
    return PlayedHits(score.kept.hits & score.hits, score.kept.velocity, score.kept.offset).otherwise(played)


def _numbers_of(seed: int, score: Score) -> Float64[np.ndarray, "groove step drum 2"]:
    _, steps, drums = score.hits.shape
    drawn = [uniforms(seed, Purpose.PLAYING, number, 0, steps * drums, 2) for number in score.numbers]
    return np.stack(drawn).reshape(len(drawn), steps, drums, 2)


def _play_batch(
    model: PerformanceModel, score: Score, seed: int, temperature: float, precision: DecodingPrecision
) -> tuple[Float32[np.ndarray, "groove step drum"], Float32[np.ndarray, "groove step drum"]]:
    """Velocity and offset of grooves in order of their number of hits, the most first."""
    sequence = HitSequence.of(torch.from_numpy(score.hits), model.grid)

    def by_place(cell_values: np.ndarray) -> Tensor:
        return sequence.by_place(torch.from_numpy(cell_values)[sequence.cells])

    player = _Player(model, sequence, torch.from_numpy(score.tempo), torch.from_numpy(score.manner), precision)
    kept = None if score.kept is None else (score.kept.midi_velocity(), score.kept.ticks())
    given = None if kept is None else [by_place(kept[0] - 1), by_place(kept[1] + FIRST_TICK)]
    draws = by_place(_numbers_of(seed, score))
    played = draws.new_empty(2, *draws.shape[:2], dtype=torch.int64)
    for place, rows in enumerate(sequence.rows_of_places()):
        rows += -rows % ROWS
        hidden = player.hidden(place, rows)
        for part, scores in enumerate((player.velocity_scores, player.offset_scores)):
            chosen = _drawn(scores(hidden, played[0, place, :rows]), draws[place, :rows, part : part + 1], temperature)
            if given is not None:
                chosen = torch.where(given[0][place, :rows] < 0, chosen, given[part][place, :rows])
            played[part, place, :rows] = chosen
        player.add(place, played[:, place, :rows])
    arrays = np.zeros(score.hits.shape, np.float32), np.zeros(score.hits.shape, np.float32)
    where = tuple(part.numpy() for part in sequence.cells)
    of_hits = played[:, sequence.place, sequence.window].numpy()
    arrays[0][where] = (of_hits[0] + 1) / MAX_VELOCITY
    arrays[1][where] = (of_hits[1] - FIRST_TICK) / TICKS_PER_STEP
    return arrays


def _drawn(
    scores: Float[Tensor, "row value"], uniforms: Float64[Tensor, "row 1"], temperature: float
) -> Int64[Tensor, " row"]:
    """A value for each row by the inverse CDF; there are too few values for the steps of `sample_tokens` to pay."""
    scores = scores if temperature == 1 else scores / temperature
    shares = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    cumulative = shares.cumsum(dim=-1).double()
    # Scaled by the last sum, which rounding may leave off 1.
    values = torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)
    return values[:, 0].clamp_(max=scores.shape[-1] - 1)


class _Norm:
    """A layer norm in the precision of what is computed."""

    def __init__(self, norm: nn.LayerNorm, kind: torch.dtype) -> None:
        self._how = tuple(norm.normalized_shape), norm.weight.to(kind), norm.bias.to(kind), norm.eps

    def __call__(self, values: Float[Tensor, "row hidden"]) -> Float[Tensor, "row hidden"]:
        return F.layer_norm(values, *self._how)


class _Block:
    """A block of the model, with the keys and values of the hits so far.

    Attributes:
        so_far: those.
    """

    def __init__(self, block: HitBlock, kind: torch.dtype) -> None:
        self._heads, self.so_far = block.heads, AttentionCache()
        self._attention_norm, self._feed_forward_norm = (
            _Norm(norm, kind) for norm in (block.attention_norm, block.feed_forward_norm)
        )
        self._queries_keys_values, self._attended, self._widen, self._narrow = (
            RowwiseLinear(layer.weight, layer.bias, kind)
            for layer in (block.queries_keys_values, block.attended, block.widen, block.narrow)
        )

    def next_hit(
        self, values: Float[Tensor, "row hidden"], bias: Float[Tensor, "row head place"]
    ) -> Float[Tensor, "row hidden"]:
        """The next hit of each window, after those so far, which it is added to: as `HitBlock.forward`.

        Args:
            bias: of the attention of that hit to those before it and to itself, -inf for what comes later.
        """
        joined = self._queries_keys_values(self._attention_norm(values)).unflatten(1, (3, self._heads, -1))
        query, key, entry = joined.unbind(dim=1)
        values = values + self._attended(self.so_far.attend(query, key, entry, bias).flatten(1))
        return values + self._narrow(F.gelu(self._widen(self._feed_forward_norm(values))))


class _Player:
    """What the model makes of the next hit of each groove, after those that were played.

    What follows from the score alone is computed ahead, for all hits at once. Layers are in the precision that is asked
    for; features, and means over what was played, are always in that of the weights.

    Attributes:
        values: what describes the hit at each place, zeros at a last place that stands for "none".
        sums: what is added up over each group of hits.
    """

    def __init__(
        self,
        model: PerformanceModel,
        sequence: HitSequence,
        tempo: Float32[Tensor, " groove"],
        manner: Float32[Tensor, "groove figure"],
        precision: DecodingPrecision,
    ) -> None:
        features = model.features
        self.kind = kind = torch.bfloat16 if precision == "bfloat16" else model.enter.weight.dtype
        of_score, of_played = model.enter.weight.split([features.of_score, features.size - features.of_score], dim=1)
        self.of_played = RowwiseLinear(of_played, kind=kind)
        entered = RowwiseLinear(of_score, model.enter.bias)(features.score(sequence, tempo, manner))
        self.of_score = sequence.by_place(entered.to(kind))
        self.grooves, none = len(sequence.hits), sequence.longest * len(sequence.hits)

        def numbers(places: Int64[Tensor, "hit relation"]) -> Int64[Tensor, "place groove relation"]:
            numbered = places * self.grooves + sequence.window[:, None]
            return sequence.by_place(torch.where(places < 0, none, numbered))

        last, count = sequence.last_of(features.groups(sequence.step, sequence.drum))
        self.earlier = numbers(sequence.earlier)
        self.last = numbers(last) * last.shape[1] + torch.arange(last.shape[1])
        self.count = sequence.by_place(count).clamp(min=1).to(entered.dtype)[..., None]
        self.known = sequence.by_place(features.known(count)[..., None]).to(kind)
        self.values = entered.new_zeros(none + 1, features.of_value, dtype=kind)
        self.sums = entered.new_zeros(none + 1, last.shape[1], 2)
        self.of_velocity, self.of_offset = (part.to(kind) for part in features.value_tables())
        self.added = features.summed_tables()
        self.blocks = [_Block(block, kind) for block in model.blocks if isinstance(block, HitBlock)]
        self.norm = _Norm(model.norm, kind)
        self.sequence, self.room, self.relations = (
            sequence,
            model.grid.num_steps * model.num_drums,
            model.relation_table(),
        )
        self.loudness = model.of_velocity(features.velocities).to(kind)
        self.given_velocity = RowwiseLinear(model.given_velocity.weight, model.given_velocity.bias, kind)
        self.velocity, self.offset = (
            RowwiseLinear(*scores.weight_and_bias(), kind) for scores in (model.velocity, model.offset)
        )

    def hidden(self, place: int, rows: int) -> Float[Tensor, "row hidden"]:
        """What the hits at a place of the first grooves are predicted from."""
        if place % ROWS == 0:
            room = self.blocks[0].so_far.room(self.room)
            self.relation = self.sequence.relations_of(slice(place, place + ROWS), rows, room, len(self.relations) - 1)
        last = self.last[place, :rows]
        self.so_far = F.embedding(last, self.sums.flatten(0, 1))
        means = self.so_far / self.count[place, :rows]
        inputs = [
            F.embedding(self.earlier[place, :rows], self.values).flatten(1),
            torch.cat([means.to(self.kind), self.known[place, :rows]], dim=2).flatten(1),
        ]
        values = self.of_score[place, :rows] + self.of_played(torch.cat(inputs, dim=1))
        # What is added to the scores of attention.
        biases = F.embedding(self.relation[place % ROWS, :rows], self.relations)
        biases = biases.unflatten(-1, (len(self.blocks), -1)).permute(2, 0, 3, 1)
        for block, bias in zip(self.blocks, biases, strict=True):
            values = block.next_hit(values, bias)
        return self.norm(values)

    def velocity_scores(self, hidden: Float[Tensor, "row hidden"], _: object) -> Float[Tensor, "row value"]:
        """Unnormalised log-probabilities of all velocities."""
        return self.velocity(hidden)

    def offset_scores(
        self, hidden: Float[Tensor, "row hidden"], velocity: Int64[Tensor, " row"]
    ) -> Float[Tensor, "row tick"]:
        """Unnormalised log-probabilities of all offsets, given the velocity, counted from the lowest."""
        return self.offset(hidden + self.given_velocity(F.gelu(hidden + F.embedding(velocity, self.loudness))))

    def add(self, place: int, played: Int64[Tensor, "2 row"]) -> None:
        """Takes in velocity and offset, counted from the lowest, of the hits at a place of the first grooves."""
        numbers = slice(place * self.grooves, place * self.grooves + played.shape[1])
        velocity, offset = played
        values = F.embedding(velocity, self.of_velocity), F.embedding(offset, self.of_offset)
        torch.cat(values, dim=1, out=self.values[numbers])
        added = F.embedding(velocity, self.added[0]), F.embedding(offset, self.added[1])
        torch.add(self.so_far, torch.cat(added, dim=1)[:, None], out=self.sums[numbers])


def perform(
    model: PerformanceModel,
    hits: Bool[np.ndarray, "step drum"],
    tempos: Sequence[float],
    manner: Float32[np.ndarray, " figure"],
    *,
    seed: int,
    temperature: float = 1.0,
    first_bar: int = 0,
) -> PlayedHits:
    """A whole performance of hits of any number of bars.

    The model plays windows of its own length. Each begins a bar after the one before and keeps what that has played,
    and the last bar of a window is played in the next one, with the bar behind it in sight: there is no seam.
    Fewer bars than a window are played as a loop.

    Args:
        tempos: of each bar, quarter notes per minute.
        first_bar: number of the first bar, for the random numbers of performances that follow each other.

    Raises:
        ValueError: a temperature that is not positive.
    """
    steps, bar, window = len(hits), model.grid.steps_per_bar, model.grid.num_steps
    hits = np.tile(hits, (-(-window // steps) if steps < window else 1, 1))
    played = PlayedHits(np.zeros_like(hits), *(np.zeros(hits.shape, dtype=np.float32) for _ in range(2)))
    for number in range((len(hits) - window) // bar + 1):
        part = slice(number * bar, number * bar + window)
        kept = PlayedHits(played.hits[part][None], played.velocity[part][None], played.offset[part][None])
        tempo = np.array([tempos[number % len(tempos)]], dtype=np.float32)
        score = Score([first_bar + number], hits[part][None], tempo, manner[None], kept)
        now = play(model, score, seed=seed, temperature=temperature)
        sure = slice(part.start, part.stop if part.stop == len(hits) else part.stop - bar)
        count = sure.stop - sure.start
        played.hits[sure] = hits[sure]
        played.velocity[sure], played.offset[sure] = now.velocity[0, :count], now.offset[0, :count]
    return PlayedHits(played.hits[:steps], played.velocity[:steps], played.offset[:steps])
