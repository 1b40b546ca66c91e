"""Constraints on generated grooves: hit masks, constraints on the whole groove, and given first bars.

Hit mask:
    Hits and silences that are decided before a groove is made. A step's token is a set of drums, so a decision about
    some drums is a mask over tokens: it keeps those that have all the drums to be hit and none of those to be silent.
    Applied to the logits, the decision is kept exactly.

Groove constraint:
    Drums that have to occur, and a range of hits. A mask at one step cannot know what later steps will bring. So
    grooves are first drawn freely and drawn again where they miss, which gives the model's own distribution among
    grooves that meet the constraint. What still misses after some draws is *steered*: all steps alike get more hits or
    fewer, and a drum that is missing is hit where the model likes it best. The last resort is a *guide*: at each step
    no token is allowed after which the constraint is out of reach.

Continuation:
    The first bars are given to the decoder token by token, so they stay as they are and the rest follows them. z says
    what else the rest is to be like: that of the bars repeated to the window's length, or a variation of it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int16, Int64
from torch import Tensor

from musicvae.groove.grid import GridSpec

EVERY_DRUM = np.int16(-1)
"""All bits."""
Tokens = Int16[np.ndarray, "window step"]


@dataclass(frozen=True, slots=True, eq=False)
class HitMask:
    """What is decided at each step of given grooves, which take turns among items; bit i is drum i.

    Attributes:
        decided: drums that are decided at a step; the model chooses the others.
        hits: those of them that are hit; the others are silent.

    Raises:
        ValueError: no grooves, shapes that differ, or a hit that is not decided.
    """

    decided: Int16[np.ndarray, "groove step"]
    hits: Int16[np.ndarray, "groove step"]

    def __post_init__(self) -> None:
        if self.decided.shape != self.hits.shape or not len(self.hits):
            raise ValueError(f"decisions of shape {self.decided.shape} for hits of shape {self.hits.shape}")
        if (self.hits & ~self.decided).any():
            raise ValueError("a given hit must be decided")

    @classmethod
    def nothing(cls, num_steps: int) -> "HitMask":
        """All is left open."""
        return cls(*np.zeros((2, 1, num_steps), dtype=np.int16))

    @classmethod
    def kept(cls, tokens: Int16[np.ndarray, "groove step"], drums: int, steps: Bool[np.ndarray, " step"]) -> "HitMask":
        """What given grooves have of some drums, and all that they have at some steps.

        Args:
            drums: bits of the drums that are kept at every step.
            steps: where all drums are kept.
        """
        decided = np.broadcast_to(np.where(steps, EVERY_DRUM, np.int16(drums)), tokens.shape)
        return cls(decided, tokens & decided)

    def without(self, drums: int) -> "HitMask":
        """The same, and these drums are never hit.

        Raises:
            ValueError: one of them is hit in what is given.
        """
        if (self.hits & drums).any():
            raise ValueError("a drum is both given and forbidden")
        return HitMask(self.decided | np.int16(drums), self.hits)

    def with_hits(self, placed: Int16[np.ndarray, "item step"], items: range) -> "HitMask":
        """The same for some items, each of which also has hits of its own.

        Args:
            items: as many as are decoded together, from a multiple of their number on.
        """
        rows = self.groove_of(items)
        return HitMask(self.decided[rows] | placed, self.hits[rows] | placed)

    def groove_of(self, items: range) -> list[int]:
        """The groove that each item has its decisions from: they take turns."""
        return [item % len(self.hits) for item in items]

    def allowed(self, step: int, vocab: int) -> Bool[Tensor, "groove vocab"] | None:
        """The tokens that each groove leaves at a step; None where all leave all."""
        decided, hits = self.decided[:, step], self.hits[:, step]
        if not decided.any():
            return None
        return torch.from_numpy((np.arange(vocab) & decided[:, None]) == hits[:, None])


def first_bars(tokens: Tokens, bars: int, grid: GridSpec) -> HitMask:
    """All that windows have in their first bars is given.

    Raises:
        ValueError: no bars, or no fewer than all.
    """
    if not 0 < bars < grid.bars:
        raise ValueError(f"1 to {grid.bars - 1} bars can be continued, found {bars}")
    return HitMask.kept(tokens, 0, np.arange(grid.num_steps) < bars * grid.steps_per_bar)


def looped(tokens: Tokens, bars: int, grid: GridSpec) -> Tokens:
    """The first bars of windows, repeated to their end."""
    return tokens[:, np.arange(grid.num_steps) % (bars * grid.steps_per_bar)]


@dataclass(frozen=True, slots=True)
class GrooveConstraint:
    """What a groove has to have as a whole.

    Attributes:
        must_have: bits of drums that are hit at least once.
        fewest, most: hits of all drums, both included.

    Raises:
        ValueError: a range that holds nothing.
    """

    must_have: int = 0
    fewest: int = 0
    most: int = np.iinfo(np.int16).max

    def __post_init__(self) -> None:
        if self.must_have < 0 or not 0 <= self.fewest <= self.most:
            raise ValueError(f"no groove has {self.fewest} to {self.most} hits of drums {self.must_have:b}")

    def reached(self, tokens: Int16[np.ndarray, "item step"]) -> Bool[np.ndarray, " item"]:
        """Whether each groove has it all."""
        return self.distance(tokens) == 0

    def distance(self, tokens: Int16[np.ndarray, "item step"]) -> Int64[np.ndarray, " item"]:
        """Hits outside the range, and drums that are missing."""
        hits, missing = num_hits(tokens), np.bitwise_count(self.missing(tokens))
        return np.maximum(self.fewest - hits, 0) + np.maximum(hits - self.most, 0) + missing

    def missing(self, tokens: Int16[np.ndarray, "item step"]) -> Int64[np.ndarray, " item"]:
        """Bits of the drums that each groove lacks."""
        return self.must_have & ~np.bitwise_or.reduce(tokens, axis=1).astype(np.int64)


def num_hits(tokens: Int16[np.ndarray, "item step"]) -> Int64[np.ndarray, " item"]:
    """Hits of each groove."""
    return np.bitwise_count(tokens).sum(axis=1, dtype=np.int64)


class ReachabilityGuide:
    """Follows grooves step by step and gives the tokens after which their constraint stays in reach.

    Args:
        items: the numbers of the grooves, which decide the part of the mask that each has.

    Raises:
        ValueError: the mask leaves no groove that meets the constraint.
    """

    def __init__(self, constraint: GrooveConstraint, hit_mask: HitMask, items: range, num_drums: int) -> None:
        self.constraint, self.tokens = constraint, torch.arange(1 << num_drums)
        every = (1 << num_drums) - 1
        rows = hit_mask.groove_of(items)
        certain = hit_mask.hits.astype(np.int64)[rows] & every
        possible = (~hit_mask.decided.astype(np.int64)[rows] & every) | certain
        self.certain, self.possible = (_still_to_come(bits, np.bitwise_or) for bits in (certain, possible))
        self.least, self.greatest = (_still_to_come(_count(bits), np.add) for bits in (certain, possible))
        self.seen = self.hits = torch.zeros(len(items), dtype=torch.int64)
        if not self._in_reach(self.seen[:, None], self.hits[:, None], step=0).all():
            raise ValueError("the given hits and the constraints of the whole groove contradict each other")

    def allowed(self, step: int) -> Bool[Tensor, "item vocab"]:
        """The tokens of a step after which the constraint is in reach; the mask of the step itself is not looked at."""
        seen, hits = self.seen[:, None] | self.tokens, self.hits[:, None] + bits_set(self.tokens)
        return self._in_reach(seen, hits, step=step + 1)

    def add(self, token: Int64[Tensor, " item"]) -> None:
        """What each groove has at the next step."""
        self.seen, self.hits = self.seen | token, self.hits + bits_set(token)

    def _in_reach(self, seen: Tensor, hits: Tensor, *, step: int) -> Bool[Tensor, "item case"]:
        """Whether the steps from `step` on can bring what is missing."""
        certain, possible, least, greatest = (
            later[:, step, None] for later in (self.certain, self.possible, self.least, self.greatest)
        )
        missing = self.constraint.must_have & ~(seen | certain)
        within = (hits + least + bits_set(missing) <= self.constraint.most) & (
            hits + greatest >= self.constraint.fewest
        )
        return within & ((missing & ~possible) == 0)


def _count(bits: np.ndarray) -> np.ndarray:
    return np.bitwise_count(bits).astype(np.int64)


def bits_set(values: Tensor) -> Tensor:
    """How many bits each value has, of numbers that are not negative."""
    return torch.from_numpy(_count(values.numpy()))


def _still_to_come(values: np.ndarray, joined: np.ufunc) -> Int64[Tensor, "item step_or_end"]:
    """Of each step, the values of it and all later ones taken together; nothing at the end."""
    from_here_on = joined.accumulate(values[:, ::-1], axis=1)[:, ::-1]
    return torch.from_numpy(np.pad(from_here_on, ((0, 0), (0, 1))))
