"""A drum groove on a grid, and its exact translation to tokens and back.

Conventions:
    A *step* is one cell of the time grid, a *drum* one drum class in the bit order of the drum map. A *hit* is an
    onset, never a sustained note. A *token* is the set of drums hit at one step: bit i is set when drum i is hit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int16, Int64

from musicvae.errors import ConfigError
from musicvae.groove.grid import GridSpec

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

    from musicvae.groove.drum_map import DrumMap
    from musicvae.midi.groove_file import Short

MAX_VELOCITY = 127
"""The loudest MIDI velocity; 0 means no hit."""
DEFAULT_DRUM_MAP = "roland"
"""The map of the shipped models, whose training data was played on a Roland kit."""


@dataclass(frozen=True, slots=True, eq=False)
class DrumGroove:
    """One window of drums: which drums are hit when, how hard and how far off the grid.

    Attributes:
        hits: whether the drum is hit at the step.
        velocity: loudness in 0..1 (MIDI velocity / 127), zero where there is no hit.
        offset: distance from the grid in steps, in [-0.5, 0.5), early is negative; zero where there is no hit.
        tempo: quarter notes per minute.
        source: where the groove came from.
        reading_report: of a groove from `from_midi`: what was read of the file and what was not, and the bars used.

    Raises:
        ValueError: shapes that do not match the grid, values out of range, velocity or offset without a hit.
    """

    grid: GridSpec
    hits: Bool[np.ndarray, "step drum"]
    velocity: Float32[np.ndarray, "step drum"]
    offset: Float32[np.ndarray, "step drum"]
    tempo: float = 120.0
    source: str = ""
    reading_report: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("hits", "velocity", "offset"):
            shape = getattr(self, name).shape
            if shape != self.hits.shape or shape[0] != self.grid.num_steps:
                raise ValueError(f"{name} must have shape ({self.grid.num_steps}, drums), found {shape}")
        if self.velocity.min(initial=0) < 0 or self.velocity.max(initial=0) > 1:
            raise ValueError("velocity must lie in 0..1")
        if self.offset.min(initial=0) < -0.5 or self.offset.max(initial=0) >= 0.5:
            raise ValueError("offset must lie in [-0.5, 0.5) of a step")
        if self.velocity[~self.hits].any() or self.offset[~self.hits].any():
            raise ValueError("velocity and offset must be zero where there is no hit")
        if not self.tempo > 0:
            raise ValueError(f"tempo must be positive, found {self.tempo}")

    @property
    def tokens(self) -> Int16[np.ndarray, " step"]:
        return tokens_from_hits(self.hits)

    @classmethod
    def from_midi(
        cls,
        path: Path | str,
        *,
        bar: int | None = None,
        short: "Short" = "refuse",
        drum_map: str = DEFAULT_DRUM_MAP,
        grid: GridSpec | None = None,
        reading: Mapping[str, Any] | None = None,
    ) -> "DrumGroove":
        """A window of a MIDI file: the drums on channel 10, each hit on its nearest step.

        The `reading_report` of the groove says which bars are used, and what was read of the file and what was not.

        Args:
            bar: where the window begins, counted from 0; if not given, at the first bar with hits, or as many bars
                earlier as a whole window needs.
            short: what to do where the file's last hit is in an earlier bar than the window's last: refuse it, let
                silence follow, or repeat what is there, as a loop of one or two bars wants it.
            drum_map: a shipped map by name, or the YAML file of one.
            grid: four bars of 4/4 in sixteenths unless told otherwise.
            reading: which notes are hits, such as {"channels": 1}; the keys are those of `--reading` of `jobs.sample`.

        Raises:
            ConfigError: the file cannot be read, or there is no such drum map or setting.
            DataError: it is no MIDI file, or has no drums or too few bars in the grid's metre from that bar on.
        """
        from musicvae.groove.drum_map import DrumMap
        from musicvae.midi.groove_file import read_groove

        return read_groove(Path(path), DrumMap.load(drum_map), grid or GridSpec(), bar, short, reading)

    def to_midi(
        self,
        path: Path | str,
        *,
        drum_map: str = DEFAULT_DRUM_MAP,
        midi_format: Literal[0, 1] = 1,
        ticks: int = 480,
        lead_in: bool = False,
    ) -> None:
        """Writes a MIDI file as `jobs.sample` does; `from_midi` with short="silence" reads the same hits.

        The file is a loop: a hit that comes before the first beat is at the end of it.

        Args:
            drum_map: gives each class the pitch that it is written as; `--pitches` of the job.
            midi_format: 0 is one track, 1 a track of tempo and one of drums.
            ticks: of a quarter note, 24 to 32767.
            lead_in: a silent bar comes first instead, and that hit is in it.

        Raises:
            ConfigError: there is no such drum map, or it has another number of classes.
            ValueError: a division that MIDI does not have.
        """
        from musicvae.midi.writer import groove_to_midi

        pitches = self._written_by(drum_map)
        data = groove_to_midi(self, pitches, midi_format=midi_format, ticks=ticks, lead_in=lead_in)
        Path(path).write_bytes(data)

    @classmethod
    def from_pretty_midi(
        cls,
        midi: "PrettyMIDI",
        *,
        bar: int | None = None,
        short: "Short" = "refuse",
        drum_map: str = DEFAULT_DRUM_MAP,
        grid: GridSpec | None = None,
        reading: Mapping[str, Any] | None = None,
    ) -> "DrumGroove":
        """A window of a `pretty_midi.PrettyMIDI` object, by the rules and with the arguments of `from_midi`.

        Raises:
            ConfigError: there is no such drum map or setting.
            DataError: the object has no drums, or too few bars in the grid's metre from that bar on.
        """
        from musicvae.groove.drum_map import DrumMap
        from musicvae.midi.groove_file import read_groove

        data, name = BytesIO(), Path("a PrettyMIDI object")
        midi.write(data)
        pitches = DrumMap.load(drum_map)
        return read_groove(name, pitches, grid or GridSpec(), bar, short, reading, data=data.getvalue())

    def to_pretty_midi(self, *, drum_map: str = DEFAULT_DRUM_MAP) -> "PrettyMIDI":
        """A `pretty_midi.PrettyMIDI` object with one drum instrument; `from_pretty_midi` reads the same hits.

        Args:
            drum_map: as for `to_midi`.

        Raises:
            ConfigError: pretty_midi is not installed; there is no such drum map, or it has another number of classes.
        """
        from musicvae.midi.groove_file import pretty_midi_of

        return pretty_midi_of(self, self._written_by(drum_map))

    def _written_by(self, drum_map: str) -> "DrumMap":
        from musicvae.groove.drum_map import DrumMap

        pitches = DrumMap.load(drum_map)
        if pitches.num_drums != self.hits.shape[1]:
            raise ConfigError(
                f"drum map {drum_map!r} cannot write this groove",
                expected=f"{self.hits.shape[1]} classes, the number of the groove",
                found=f"{pitches.num_drums} classes",
                do="use the drum map that the groove was made with",
            )
        return pitches


def tokens_from_hits(hits: Bool[np.ndarray, "*batch drum"]) -> Int16[np.ndarray, "*batch"]:
    """The token of each step: bit i is drum i. Exact inverse of `hits_from_tokens`."""
    return hits @ (1 << np.arange(hits.shape[-1], dtype=np.int16))


def hits_from_tokens(tokens: Int16[np.ndarray, "*batch"], num_drums: int) -> Bool[np.ndarray, "*batch drum"]:
    """The drums that each token stands for. Exact inverse of `tokens_from_hits`."""
    return (tokens[..., None] >> np.arange(num_drums, dtype=np.int16)) & 1 != 0


def onset_ticks(
    step: Int64[np.ndarray, "*hit"], offset: Float[np.ndarray, "*hit"], grid: GridSpec, ticks_per_quarter: int
) -> Int64[np.ndarray, "*hit"]:
    """When hits sound, in ticks from the first bar line: MIDI files, sound and galleries all have it from here.

    A hit stays within its own step, whatever it is rounded to: reading gives the same hits, and two hits of a drum
    never fall on one tick. A hit that comes before the first bar line has a negative tick.

    Args:
        step: of each hit, counted from the first bar line.
        offset: in steps, [-0.5, 0.5).
    """
    per_step = ticks_per_quarter / grid.steps_per_beat
    first, last = np.ceil((step - 0.5) * per_step), np.ceil((step + 0.5) * per_step) - 1
    return np.rint((step + offset) * per_step).clip(first, last).astype(np.int64)
