"""What a performance model is worth on a split: nats per hit, from sums that ranks can add.

Velocity over its 127 values, offset over 120 values a step, each hit given the score and how the hits before it were
played. Lower is better.
"""

from dataclasses import astuple, dataclass

import numpy as np
import torch
from jaxtyping import Float64

from musicvae.data.windows import PlayedWindows
from musicvae.groove.played import MANNER
from musicvae.performance.model import HitNats, PerformanceModel

WINDOWS_AT_ONCE = 64


@torch.no_grad()
def nats_of_hits(model: PerformanceModel, windows: PlayedWindows) -> HitNats:
    """Nats of each hit of some windows, where nothing of their manner is given.

    Args:
        model: in evaluation mode, on the CPU.
    """
    parts = []
    for first in range(0, len(windows), WINDOWS_AT_ONCE):
        rows = slice(first, first + WINDOWS_AT_ONCE)
        part = PlayedWindows(windows.velocity[rows], windows.offset[rows], windows.tempo[rows])
        played = part.hits()
        velocity, ticks, tempo = map(torch.from_numpy, (played.midi_velocity(), played.ticks(), part.tempo))
        nats = model(velocity, ticks, tempo, torch.full((len(part), len(MANNER)), torch.nan))
        parts.append((nats.window + first, nats.velocity, nats.offset))
    window, velocity, offset = map(torch.cat, zip(*parts, strict=True))
    return HitNats(window, velocity, offset)


@dataclass(frozen=True, slots=True)
class PlayingSums:
    """Sums over hits. Additive over disjoint sets of windows.

    Attributes:
        windows, hits: how many.
        velocity, offset: nats, where nothing of the window's manner is given.
        given_hits: hits that were also measured with the window's manner given.
        velocity_given, offset_given: nats of these.
    """

    windows: float = 0.0
    hits: float = 0.0
    velocity: float = 0.0
    offset: float = 0.0
    given_hits: float = 0.0
    velocity_given: float = 0.0
    offset_given: float = 0.0

    def to_vector(self) -> Float64[np.ndarray, " sums"]:
        """All sums in a row."""
        return np.array(astuple(self))

    @classmethod
    def from_vector(cls, vector: Float64[np.ndarray, " sums"]) -> "PlayingSums":
        """Exact inverse of `to_vector`."""
        return cls(*vector.tolist())


@dataclass(frozen=True, slots=True)
class PlayingReport:
    """The figures of an evaluation, nats per hit. A figure that was not measured is NaN.

    Attributes:
        velocity, offset: where nothing of the window's manner is given.
        velocity_given, offset_given: where the window's own level, spread, lean, looseness and swing are given.
    """

    windows: int
    hits: int
    velocity: float
    offset: float
    velocity_given: float
    offset_given: float

    @property
    def nats(self) -> float:
        """Of velocity and offset together."""
        return self.velocity + self.offset

    @classmethod
    def from_sums(cls, sums: PlayingSums) -> "PlayingReport":
        hits, given = sums.hits or np.nan, sums.given_hits or np.nan
        return cls(
            int(sums.windows),
            int(sums.hits),
            sums.velocity / hits,
            sums.offset / hits,
            sums.velocity_given / given,
            sums.offset_given / given,
        )


@torch.no_grad()
def evaluate_playing(
    model: PerformanceModel, windows: PlayedWindows, *, device: torch.device, given: bool = False
) -> PlayingSums:
    """The sums over some windows of a split, possibly none; the model's training mode is left as it was.

    Args:
        given: also measure with the manner of each window given.
    """
    if not len(windows):
        return PlayingSums()
    played, was_training = windows.hits(), model.training
    model.eval()
    try:
        velocity, ticks, tempo, manner = (
            torch.from_numpy(values).to(device)
            for values in (played.midi_velocity(), played.ticks(), windows.tempo, played.manner())
        )
        free = model(velocity, ticks, tempo, torch.full_like(manner, torch.nan)).total()
        shown = model(velocity, ticks, tempo, manner).total() if given else (0.0, 0.0)
    finally:
        model.train(was_training)
    hits = float(played.hits.sum())
    return PlayingSums(float(len(windows)), hits, free[0], free[1], hits if given else 0.0, shown[0], shown[1])
