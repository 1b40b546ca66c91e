"""Windows as sequences of hits, and what the performance model sees of a hit before it is played.

Hits are in order of window, step and drum, all windows one behind the other, so that no work is done on padding; sums
over the hits so far need them window by window (`HitSequence.by_window`), and so does attention, for a few windows with
about as many hits at a time (`HitSequence.groups`).

Of a hit the model sees
    the score: drum, step of the bar, the drums struck around it, how long ago the same drum was struck and how soon it
    will be, the tempo, and the manner of the window as far as it is given;
    what was played: velocity and offset of some earlier hits (`EARLIER`) and the means so far (`MEANS`).

Velocity and offset are given as overlapping bumps, so that neighbouring values share what is learnt of them.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY
from musicvae.groove.played import MANNER, TICKS_PER_STEP

BARS_AGO = (1, 2, 3)
HITS_AGO = (1, 2, 3)
EARLIER = (
    *(f"the same drum and step {bars} bars ago" for bars in BARS_AGO),
    *(f"the last hit but {hits - 1} of the same drum" for hits in HITS_AGO),
    *(f"the last hit but {hits - 1} of any drum" for hits in HITS_AGO),
)
"""The earlier hits whose velocity and offset a hit sees."""
MEANS = ("all hits", "hits on odd or on even steps", "hits on the same step of a beat", "hits of the same drum")
"""Which hits so far a hit sees the mean velocity, the mean offset and the number of."""
AROUND = 8
"""Steps before and after a hit whose drums it sees, beside those a bar before and after."""
LONGEST_GAP = 16
"""Steps to another hit of the same drum that are told apart; more are one."""
VELOCITY_BUMPS, OFFSET_BUMPS, TEMPO_BUMPS = 12, 13, 8
SLOWEST, FASTEST = 50.0, 250.0
"""Tempos of the outermost bumps, in quarter notes per minute."""
WINDOWS_OF_GROUP = 8
"""Windows that attention is computed for together: its cost is the square of the hits of the longest of them."""
OFFSET_SCALE = 4.0
"""Offsets lie within half a step, hardly ever beyond a quarter."""
MANNER_MIDDLE = (0.55, 0.24, -0.08, 0.17, 0.06)
MANNER_SCALE = (0.15, 0.06, 0.08, 0.07, 0.17)
"""Mean and standard deviation over GMD's training windows, to bring the figures of `MANNER` to one scale."""


def bumps(values: Float[Tensor, " value"], lowest: float, highest: float, count: int) -> Float[Tensor, "value bump"]:
    """Each value as bell curves around evenly spaced middles, as wide as these are apart."""
    middles = torch.linspace(lowest, highest, count, device=values.device, dtype=values.dtype)
    width = (highest - lowest) / (count - 1)
    return torch.exp(-(((values[:, None] - middles) / width) ** 2) / 2)


def velocity_table(count: int = VELOCITY_BUMPS) -> Float[Tensor, "class feature"]:
    """Row c describes velocity c + 1; 127, where pads saturate, has a feature of its own."""
    velocity = torch.arange(1, MAX_VELOCITY + 1, dtype=torch.float32) / MAX_VELOCITY
    saturated = (velocity == 1).float()
    return torch.cat([velocity[:, None], saturated[:, None], bumps(velocity, 0.0, 1.0, count)], dim=1)


def offset_table(count: int = OFFSET_BUMPS) -> Float[Tensor, "class feature"]:
    """Row c describes an offset of c - 60 ticks."""
    offset = torch.arange(TICKS_PER_STEP, dtype=torch.float32) / TICKS_PER_STEP - 0.5
    return torch.cat([OFFSET_SCALE * offset[:, None], bumps(offset, -0.5, 0.5, count)], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class HitSequence:
    """The hits of some windows.

    Attributes:
        hits: of the windows.
        window, step, drum: of each hit.
        place: of each hit among those of its window.
        earlier: places in the window of the hits that are named in `EARLIER`; -1 where there is none.
        since, until: steps from the last and to the next hit of the same drum; 0 where there is none.
        longest: hits of the window with the most, at least 1.
    """

    hits: Bool[Tensor, "batch step drum"]
    window: Int64[Tensor, " hit"]
    step: Int64[Tensor, " hit"]
    drum: Int64[Tensor, " hit"]
    place: Int64[Tensor, " hit"]
    earlier: Int64[Tensor, "hit relation"]
    since: Int64[Tensor, " hit"]
    until: Int64[Tensor, " hit"]
    longest: int

    @classmethod
    def of(cls, hits: Bool[Tensor, "batch step drum"], grid: GridSpec) -> "HitSequence":
        """All hits of windows."""
        window, step, drum = hits.nonzero(as_tuple=True)
        per_window = hits.flatten(1).sum(dim=1)
        numbers = torch.arange(len(window), device=hits.device)
        place = numbers - (per_window.cumsum(dim=0) - per_window)[window]
        place_of = torch.full(hits.shape, -1, device=hits.device)
        place_of[hits] = place
        earlier = []
        for bars in BARS_AGO:
            ago = step - bars * grid.steps_per_bar
            earlier.append(torch.where(ago >= 0, place_of[window, ago.clamp(min=0), drum], -1))
        before, after = _same_drum(hits, numbers)
        number = numbers
        for _ in HITS_AGO:
            number = torch.where(number >= 0, before[number], -1)
            earlier.append(torch.where(number >= 0, place[number], -1))
        earlier += [(place - hits_ago).clamp(min=-1) for hits_ago in HITS_AGO]
        return cls(
            hits,
            window,
            step,
            drum,
            place,
            torch.stack(earlier, dim=1),
            torch.where(before >= 0, step - step[before], 0),
            torch.where(after >= 0, step[after] - step, 0),
            max(1, int(per_window.max())),
        )

    @property
    def cells(self) -> tuple[Int64[Tensor, " hit"], Int64[Tensor, " hit"], Int64[Tensor, " hit"]]:
        """Where each hit lies in an array of windows, steps and drums."""
        return self.window, self.step, self.drum

    def by_window(self, values: Shaped[Tensor, "hit *value"]) -> Shaped[Tensor, "batch place *value"]:
        """Values of hits, window by window; zeros behind the last hit of a window."""
        padded = values.new_zeros(len(self.hits), self.longest, *values.shape[1:])
        return padded.index_put((self.window, self.place), values)

    def by_hit(self, values: Shaped[Tensor, "batch place *value"]) -> Shaped[Tensor, "hit *value"]:
        """Exact inverse of `by_window`."""
        return values[self.window, self.place]

    def by_place(self, values: Shaped[Tensor, "hit *value"]) -> Shaped[Tensor, "place batch *value"]:
        """As `by_window`, with the first hit of every window first."""
        padded = values.new_zeros(self.longest, len(self.hits), *values.shape[1:])
        return padded.index_put((self.place, self.window), values)

    def rows_of_places(self) -> list[int]:
        """How many windows have a hit at each place."""
        return torch.bincount(self.place).tolist()

    def last_of(
        self, groups: Int64[Tensor, "hit group"]
    ) -> tuple[Int64[Tensor, "hit group"], Int64[Tensor, "hit group"]]:
        """Of the hits before each, in each of its groups and its window: the place of the last, or -1; and how many."""
        lasts, counts = torch.empty_like(groups), torch.empty_like(groups)
        numbers, most = torch.arange(len(groups)), 1 + int(groups.amax()) if len(groups) else 1
        for number, group in enumerate(groups.unbind(dim=1)):
            key, order = (self.window * most + group).sort(stable=True)
            place = self.place[order]
            follows = F.pad(key[1:] == key[:-1], (1, 0))[: len(key)]
            lasts[order, number] = torch.where(follows, place.roll(1), -1)
            counts[order, number] = numbers - torch.where(follows, 0, numbers).cummax(dim=0).values
        return lasts, counts

    def relations_of(self, places: slice, rows: int, room: int, hidden: int) -> Int64[Tensor, "place row other"]:
        """How the hits at some places of the first windows stand to those at the first `room` places.

        Args:
            hidden: stands for all that come later.
        """
        steps, drums = self.by_place(self.step), self.by_place(self.drum)
        there = F.pad(torch.stack([steps, drums])[:, :room, :rows], (0, 0, 0, max(0, room - self.longest)))
        others, mine = there.transpose(1, 2)[:, None], there[:, places, :, None]
        ago = (mine[0] - others[0]).clamp(min=0)
        relation = 2 * ago + (mine[1] == others[1])
        numbers = torch.arange(room)
        return relation.masked_fill_((numbers > numbers[places, None])[:, None], hidden)

    def groups(self) -> "list[HitGroup]":
        """The windows in groups, those with the fewest hits first."""
        counts = self.hits.flatten(1).sum(dim=1)
        order = counts.argsort(stable=True)
        first = counts.cumsum(dim=0) - counts
        groups = []
        for windows in order.split(WINDOWS_OF_GROUP):
            hits = counts[windows]
            row = torch.arange(len(windows), device=hits.device).repeat_interleave(hits)
            place = torch.arange(len(row), device=hits.device) - (hits.cumsum(dim=0) - hits)[row]
            number = first[windows][row] + place
            groups.append(HitGroup(number, row, place, len(windows), max(1, int(hits[-1]))))
        return groups


@dataclass(frozen=True, slots=True, eq=False)
class HitGroup:
    """The hits of some windows of a sequence, to be laid side by side.

    Attributes:
        number: of each hit in the sequence.
        row, place: of each hit in an array of the group.
        rows, places: the shape of that array.
    """

    number: Int64[Tensor, " hit"]
    row: Int64[Tensor, " hit"]
    place: Int64[Tensor, " hit"]
    rows: int
    places: int

    def by_window(self, values: Shaped[Tensor, "number *value"]) -> Shaped[Tensor, "row place *value"]:
        """Values of all hits of the sequence as an array of the group's; zeros behind the last hit of a window."""
        array = values.new_zeros(self.rows, self.places, *values.shape[1:])
        return array.index_put((self.row, self.place), values[self.number])

    def by_hit(self, array: Shaped[Tensor, "row place *value"]) -> Shaped[Tensor, "hit *value"]:
        """Values of the hits of the group, in the order of `number`."""
        return array[self.row, self.place]

    def relation(self, sequence: HitSequence) -> Int64[Tensor, "row place place"]:
        """How each hit of a window stands to each before it and to itself: see `relations`."""
        return relations(self.by_window(sequence.step), self.by_window(sequence.drum))


def relations(steps: Int64[Tensor, "row place"], drums: Int64[Tensor, "row place"]) -> Int64[Tensor, "row place place"]:
    """How each hit of a row stands to each before it and to itself: 2 * steps between them + whether of one drum."""
    ago = (steps[:, :, None] - steps[:, None, :]).clamp(min=0)
    return 2 * ago + (drums[:, :, None] == drums[:, None, :])


def _same_drum(
    hits: Bool[Tensor, "batch step drum"], numbers: Int64[Tensor, " hit"]
) -> tuple[Int64[Tensor, " hit"], Int64[Tensor, " hit"]]:
    """For each hit the number of the one before, and of the one after, of the same drum and window; -1 without one."""
    number_of = torch.full(hits.shape, -1, device=hits.device)
    number_of[hits] = numbers
    of_drums = hits.transpose(1, 2)
    order = number_of.transpose(1, 2)[of_drums]
    line = of_drums.nonzero()
    follows = (line[1:, :2] == line[:-1, :2]).all(dim=1)
    before, after = torch.full_like(numbers, -1), torch.full_like(numbers, -1)
    before[order[1:]] = torch.where(follows, order[:-1], -1)
    after[order[:-1]] = torch.where(follows, order[1:], -1)
    return before, after


class HitFeatures(nn.Module):
    """What the model sees of each hit before it is played.

    Attributes:
        of_score, of_value: how many numbers describe the score around a hit, and a hit that was played.
        num_groups: groups of hits whose means are kept, over all of `MEANS`.
        size: all numbers of a hit together.
    """

    velocities: Tensor
    offsets: Tensor
    near: Tensor
    middle: Tensor
    scale: Tensor

    def __init__(self, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.grid, self.num_drums = grid, num_drums
        near = [-grid.steps_per_bar, *range(-AROUND, AROUND + 1), grid.steps_per_bar]
        self.register_buffer("near", torch.tensor(near), persistent=False)
        self.register_buffer("velocities", velocity_table(), persistent=False)
        self.register_buffer("offsets", offset_table(), persistent=False)
        self.register_buffer("middle", torch.tensor(MANNER_MIDDLE), persistent=False)
        self.register_buffer("scale", torch.tensor(MANNER_SCALE), persistent=False)
        self.reach = max(AROUND, grid.steps_per_bar)
        self.of_score = num_drums + grid.steps_per_bar + len(near) * (num_drums + 1)
        self.of_score += 2 * (LONGEST_GAP + 2) + TEMPO_BUMPS + 2 * len(MANNER)
        self.of_value = 1 + self.velocities.shape[1] + self.offsets.shape[1]
        self.num_groups = 3 + grid.steps_per_beat + num_drums
        self.size = self.of_score + len(EARLIER) * self.of_value + 3 * len(MEANS)

    def forward(
        self,
        sequence: HitSequence,
        tempo: Float[Tensor, " batch"],
        manner: Float[Tensor, "batch figure"],
        velocity: Int64[Tensor, " hit"],
        ticks: Int64[Tensor, " hit"],
    ) -> Float[Tensor, "hit feature"]:
        """Of all hits at once, each with those before it as they were played."""
        values = self.values(velocity, ticks)
        with_none = F.pad(sequence.by_window(values), (0, 0, 0, 1))
        earlier = self.earlier(with_none, sequence.window, sequence.earlier)
        groups = self.groups(sequence.step, sequence.drum)
        marks = torch.zeros(len(groups), self.num_groups, device=groups.device, dtype=values.dtype)
        added = marks.scatter(1, groups, 1.0)[:, :, None] * self.summed(velocity, ticks)[:, None, :]
        so_far = sequence.by_window(added).cumsum(dim=1)
        before = sequence.by_hit(F.pad(so_far, (0, 0, 0, 0, 1, -1)))
        score = self.score(sequence, tempo, manner)
        return torch.cat([score, earlier, self.means(before, groups)], dim=1)

    def score(
        self,
        sequence: HitSequence,
        tempo: Float[Tensor, " batch"],
        manner: Float[Tensor, "batch figure"],
    ) -> Float[Tensor, "hit feature"]:
        """What is known of each hit before anything is played; `manner` is NaN where it is not given."""
        kind, steps = self.middle.dtype, self.grid.num_steps
        # What lies beyond the window is unknown, which is not the same as silence.
        around = F.pad(sequence.hits.to(kind), (0, 1, self.reach, self.reach))
        around[:, : self.reach, self.num_drums] = around[:, self.reach + steps :, self.num_drums] = 1
        near = around[sequence.window[:, None], sequence.step[:, None] + self.reach + self.near]
        gaps = torch.stack([sequence.since, sequence.until], dim=1).clamp(max=LONGEST_GAP + 1)
        pace = tempo.to(kind).clamp(SLOWEST, FASTEST).log2()
        given = ~manner.isnan()
        figures = torch.where(given, (manner.to(kind) - self.middle) / self.scale, 0)
        of_window = torch.cat(
            [bumps(pace, math.log2(SLOWEST), math.log2(FASTEST), TEMPO_BUMPS), figures, given.to(kind)], dim=1
        )
        parts = (
            F.one_hot(sequence.drum, self.num_drums),
            F.one_hot(sequence.step % self.grid.steps_per_bar, self.grid.steps_per_bar),
            F.one_hot(gaps, LONGEST_GAP + 2).flatten(1),
        )
        return torch.cat([*(part.to(kind) for part in parts), near.flatten(1), of_window[sequence.window]], dim=1)

    def values(self, velocity: Int64[Tensor, " hit"], ticks: Int64[Tensor, " hit"]) -> Float[Tensor, "hit value"]:
        """What describes hits that were played; all zeros stand for "there is none"."""
        of_velocity, of_offset = self.value_tables()
        return torch.cat([of_velocity[velocity - 1], of_offset[ticks + TICKS_PER_STEP // 2]], dim=1)

    def value_tables(self) -> tuple[Float[Tensor, "velocity loudness"], Float[Tensor, "tick timing"]]:
        """What describes hits by their velocity, and by their offset."""
        return F.pad(self.velocities, (1, 0), value=1.0), self.offsets

    def earlier(
        self,
        values: Float[Tensor, "batch place value"],
        window: Int64[Tensor, " hit"],
        places: Int64[Tensor, "hit relation"],
    ) -> Float[Tensor, "hit feature"]:
        """What describes some earlier hits of each hit, by their places in its window.

        Args:
            values: of the hits at each place of a window; zeros at a last place, which -1 stands for.
        """
        return values[window[:, None], places].flatten(1)

    def groups(self, step: Int64[Tensor, " hit"], drum: Int64[Tensor, " hit"]) -> Int64[Tensor, "hit mean"]:
        """The group of hits that each of `MEANS` is over."""
        beat = self.grid.steps_per_beat
        return torch.stack([torch.zeros_like(step), 1 + step % 2, 3 + step % beat, 3 + beat + drum], dim=-1)

    def summed(self, velocity: Int64[Tensor, " hit"], ticks: Int64[Tensor, " hit"]) -> Float[Tensor, "hit 3"]:
        """What is added up over hits: one, velocity, offset."""
        of_velocity, of_offset = self.summed_tables()
        parts = of_velocity[velocity - 1], of_offset[ticks + TICKS_PER_STEP // 2]
        return F.pad(torch.cat(parts, dim=1), (1, 0), value=1.0)

    def summed_tables(self) -> tuple[Float[Tensor, "velocity 1"], Float[Tensor, "tick 1"]]:
        """What is added up over hits by their velocity, and by their offset."""
        velocity, ticks = (
            torch.arange(len(table), device=table.device)[:, None].to(table.dtype)
            for table in (self.velocities, self.offsets)
        )
        return (velocity + 1) / MAX_VELOCITY, OFFSET_SCALE * (ticks - TICKS_PER_STEP // 2) / TICKS_PER_STEP

    def means(
        self, sums: Float[Tensor, "hit group 3"], groups: Int64[Tensor, "hit mean"]
    ) -> Float[Tensor, "hit feature"]:
        """The means over the groups of each hit, and how many hits they are over."""
        mine = sums.gather(1, groups[:, :, None].expand(-1, -1, 3))
        count = mine[:, :, :1]
        return torch.cat([mine[:, :, 1:] / count.clamp(min=1), self.known(count)], dim=2).flatten(1)

    def known(self, count: Shaped[Tensor, "*hit"]) -> Float[Tensor, "*hit"]:
        """What says how many hits a mean is over."""
        return count.to(self.velocities.dtype).log1p() / 4
