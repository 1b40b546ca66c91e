"""Plays grooves: draws velocity and offset hit by hit, each given what was played before it.

How a groove is played is a function of the weights, the settings, the seed and its number alone: as in
`musicvae.generation.generate`, as many grooves are played at a time whatever the count, on one thread, each in the same
row of its batch. The uniform numbers of a hit are keyed by (seed, number of the groove, step, drum).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from musicvae.generation.generate import one_thread
from musicvae.groove.groove import MAX_VELOCITY
from musicvae.groove.played import TICKS_PER_STEP, PlayedHits
from musicvae.model.token_choice import sample_tokens
from musicvae.performance.hits import HitSequence
from musicvae.performance.model import AttentionSoFar, HitBlock, PerformanceModel
from musicvae.randomness import Purpose, uniforms

TOGETHER = 64
"""Grooves that are played at a time. Part of what each is: another value changes the last bits of the logits."""


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

    def batch(self, first: int, size: int) -> "Score":
        """Some of the grooves, and silent ones up to the size of the batch."""
        rows = slice(first, first + size)
        count = len(self.hits[rows])
        spare = [(0, size - count)]
        kept = self.kept or PlayedHits(np.zeros_like(self.hits), *(np.zeros(self.hits.shape, np.float32),) * 2)
        return Score(
            [*self.numbers[rows], *[0] * (size - count)],
            np.pad(self.hits[rows], [*spare, (0, 0), (0, 0)]),
            np.pad(self.tempo[rows], spare, constant_values=120),
            np.pad(self.manner[rows], [*spare, (0, 0)], constant_values=np.nan),
            PlayedHits(*(np.pad(a[rows], [*spare, (0, 0), (0, 0)]) for a in (kept.hits, kept.velocity, kept.offset))),
        )


@torch.no_grad()
def play(
    model: PerformanceModel, score: Score, *, seed: int, temperature: float = 1.0, together: int = TOGETHER
) -> PlayedHits:
    """How the hits of some grooves are played; kept hits are as they were given.

    Args:
        model: in evaluation mode, on the CPU.
        temperature: divides the logits; below 1 likely velocities and offsets are likelier.
        together: grooves that are played at a time; part of what every groove is, as in `musicvae.generation.generate`.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"a temperature must be positive, found {temperature}")
    velocity, offset = (np.zeros(score.hits.shape, dtype=np.float32) for _ in range(2))
    with one_thread():
        for first in range(0, len(score.hits), together):
            rows = slice(first, first + together)
            batch = score.batch(first, together)
            played = _play_batch(model, batch, _numbers_of(seed, batch), temperature)
            count = len(score.hits[rows])
            velocity[rows], offset[rows] = played.velocity[:count], played.offset[:count]
    played = PlayedHits(score.hits, velocity, offset)
    if score.kept is None:
        return played
    kept = PlayedHits(score.kept.hits & score.hits, score.kept.velocity, score.kept.offset)
    return kept.otherwise(played)


def _numbers_of(seed: int, score: Score) -> Float64[np.ndarray, "groove step drum 2"]:
    _, steps, drums = score.hits.shape
    drawn = [uniforms(seed, Purpose.PLAYING, number, 0, steps * drums, 2) for number in score.numbers]
    return np.stack(drawn).reshape(len(drawn), steps, drums, 2)


def _play_batch(
    model: PerformanceModel,
    score: Score,
    numbers: Float64[np.ndarray, "groove step drum 2"],
    temperature: float,
) -> PlayedHits:
    assert score.kept is not None
    features, hits = model.features, torch.from_numpy(score.hits)
    sequence = HitSequence.of(hits, model.grid)

    def by_window(cell_values: np.ndarray) -> Tensor:
        return sequence.by_window(torch.from_numpy(cell_values)[sequence.cells])

    draws, kept_velocity, kept_ticks = map(by_window, (numbers, score.kept.midi_velocity(), score.kept.ticks()))
    tempo, manner = torch.from_numpy(score.tempo), torch.from_numpy(score.manner)
    of_score = sequence.by_window(features.score(sequence, tempo, manner))
    earlier, relation = sequence.by_window(sequence.earlier), sequence.relation()
    groups = sequence.by_window(features.groups(sequence.step, sequence.drum))
    playing = _Playing(model, len(hits), hits[0].numel(), of_score)
    velocity, ticks = torch.zeros_like(kept_velocity), torch.zeros_like(kept_ticks)
    rows = torch.arange(len(hits))
    for place in range(sequence.longest):
        inputs = [
            of_score[:, place],
            features.earlier(playing.values, rows, earlier[:, place]),
            features.means(playing.sums, groups[:, place]),
        ]
        hidden = playing.hidden(torch.cat(inputs, dim=1), place, relation[:, place, : place + 1])
        is_kept, drawn = kept_velocity[:, place] > 0, draws[:, place]
        chosen = 1 + sample_tokens(model.velocity(hidden) / temperature, drawn[:, 0])
        velocity[:, place] = loudness = torch.where(is_kept, kept_velocity[:, place], chosen)
        chosen = sample_tokens(model.offset_scores(hidden, loudness) / temperature, drawn[:, 1]) - TICKS_PER_STEP // 2
        ticks[:, place] = timing = torch.where(is_kept, kept_ticks[:, place], chosen)
        playing.add(place, loudness, timing, groups[:, place])
    result = PlayedHits(score.hits, *(np.zeros(score.hits.shape, dtype=np.float32) for _ in range(2)))
    where = tuple(part.numpy() for part in sequence.cells)
    result.velocity[where] = sequence.by_hit(velocity).numpy() / MAX_VELOCITY
    result.offset[where] = sequence.by_hit(ticks).numpy() / TICKS_PER_STEP
    return result


class _Playing:
    """What was played so far, as the model sees it; of a row that has no more hits it means nothing.

    Room is made for a hit in each cell: were it as much as the batch needs, the batch would decide how sums are made.

    Attributes:
        values: what describes the hit at each place, zeros at a last place that stands for "none".
        sums: what is added up over each group of hits.
    """

    def __init__(self, model: PerformanceModel, batch: int, places: int, like: Float[Tensor, "..."]) -> None:
        self.model = model
        self.values = like.new_zeros(batch, places + 1, model.features.of_value)
        self.sums = like.new_zeros(batch, model.features.num_groups, 3)
        self.blocks = [block for block in model.blocks if isinstance(block, HitBlock)]
        self.attention = [AttentionSoFar(batch, places, block, like) for block in self.blocks]

    def hidden(self, features: Tensor, place: int, relation: Tensor) -> Float[Tensor, "batch hidden"]:
        """What the model makes of the next hit of each row."""
        values = self.model.enter(features)
        for block, so_far, bias in zip(self.blocks, self.attention, self.model.bias_of_next(relation), strict=True):
            values = block.next_hit(values, so_far, place, bias)
        return self.model.norm(values)

    def add(self, place: int, velocity: Tensor, ticks: Tensor, groups: Tensor) -> None:
        """Takes in how these hits were played."""
        self.values[:, place] = self.model.features.values(velocity, ticks)
        added = self.model.features.summed(velocity, ticks)
        self.sums.scatter_add_(1, groups[:, :, None].expand(-1, -1, 3), added[:, None].expand(-1, groups.shape[1], -1))
