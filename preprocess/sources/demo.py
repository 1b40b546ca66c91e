"""Drum performances by rules and a seed, so that everything can be tried without anyone's recordings.

A performance is composed first: a style, a tempo, a few patterns of that style and a plan of four-bar phrases with
fills at their ends. `play` then plays the strokes the way hands do: accents, uneven loudness, and a pocket, drift and
scatter in the timing. Each performance is a function of (seed, its number) alone, so a larger corpus holds the smaller
one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import yaml

from musicvae.midi.performance import Performance
from musicvae.midi.settings import TICKS_PER_QUARTER
from musicvae.midi.writer import performance_to_midi
from musicvae.randomness import Purpose, generator

PITCH = {
    "kick": 36,
    "side_stick": 37,
    "snare": 38,
    "closed_hat": 42,
    "pedal_hat": 44,
    "open_hat": 46,
    "low_tom": 45,
    "mid_tom": 47,
    "high_tom": 50,
    "crash": 49,
    "ride": 51,
    "ride_bell": 53,
}
"""General MIDI pitches of the kit."""
LOUDNESS = {"X": 110.0, "x": 86.0, "o": 40.0}
"""MIDI velocity of an accent, a hit and a ghost note before the hands get at it."""
TOUCH = {"closed_hat": -12.0, "pedal_hat": -22.0, "ride": -14.0, "crash": 6.0, "open_hat": -6.0, "side_stick": -8.0}
"""How much louder or softer than written an instrument is usually played."""
ON_BEAT, OFF_BEAT, BETWEEN = 5.0, 0.0, -6.0
"""Metric accents: on a quarter, halfway, anywhere else."""
BARS, BARS_WEIGHTS = (8, 12, 16, 20, 24), (0.10, 0.15, 0.30, 0.20, 0.25)
PHRASE_BARS = 4
"""Drummers think in four bars: three alike, the fourth leads on."""
FILL_INSTRUMENTS = {
    "s": "snare",
    "h": "high_tom",
    "m": "mid_tom",
    "l": "low_tom",
    "k": "kick",
    "o": "open_hat",
    "c": "crash",
}
Choice = TypeVar("Choice")
Groove = dict[str, str]
"""Instrument to one bar's pattern."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One written stroke.

    Attributes:
        quarter: when, in quarter notes from the start of the performance.
        instrument: a name in `PITCH`.
        loudness: MIDI velocity as written.
    """

    quarter: float
    instrument: str
    loudness: float


def play(strokes: list[Stroke], *, tempo: float, beats_per_bar: int, rng: np.random.Generator) -> Performance:
    """Strokes as one drummer plays them; draws from `rng` who that drummer is.

    Args:
        strokes: what is written, in any order.
        tempo: quarter notes per minute.
        beats_per_bar: quarter notes of a bar.
        rng: the performance's own generator.
    """
    quarter = np.array([stroke.quarter for stroke in strokes])
    pitch = np.array([PITCH[stroke.instrument] for stroke in strokes], dtype=np.int64)
    loudness = np.array([stroke.loudness + TOUCH.get(stroke.instrument, 0.0) for stroke in strokes])

    velocity = loudness + _metric_accents(quarter) + rng.normal(0, 5) + rng.normal(0, rng.uniform(3, 8), len(strokes))
    late = _milliseconds_late(quarter, pitch, rng)
    tick = np.rint((quarter + late / 60_000 * tempo) * TICKS_PER_QUARTER).clip(min=0).astype(np.int64)

    # Two strokes of one drum in the same tick cannot be told apart in MIDI; the louder is what is heard.
    order = np.lexsort((-velocity, pitch, tick))
    heard = order[np.diff(tick[order] * 128 + pitch[order], prepend=-1) != 0]
    return Performance(
        tick=tick[heard],
        pitch=pitch[heard].astype(np.uint8),
        velocity=np.rint(velocity[heard]).clip(1, 127).astype(np.uint8),
        ticks_per_quarter=TICKS_PER_QUARTER,
        tempos=((0, tempo),),
        metres=((0, beats_per_bar, 4),),
    )


def _metric_accents(quarter: np.ndarray) -> np.ndarray:
    within = quarter % 1
    return np.select([within < 0.05, np.abs(within - 0.5) < 0.2], [ON_BEAT, OFF_BEAT], BETWEEN)


def _milliseconds_late(quarter: np.ndarray, pitch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drummer's placement: each drum's own pocket, a slow drift of the whole kit, and each hand's scatter."""
    pocket = rng.normal(-3, 7, 128)[pitch]
    steps = rng.normal(0, 3, int(quarter.max(initial=0)) + 2)
    drift = np.zeros(len(steps))
    for beat in range(1, len(steps)):
        drift[beat] = 0.9 * drift[beat - 1] + steps[beat]
    scatter = rng.normal(0, rng.uniform(4, 11), len(quarter))
    return pocket + np.interp(quarter, np.arange(len(steps)), drift) + scatter


STYLES_FILE = Path(__file__).with_name("demo_styles.yaml")


@dataclass(frozen=True, slots=True)
class Style:
    """The vocabulary of one style; `demo_styles.yaml` explains the patterns.

    Raises:
        ValueError: a pattern that is not one bar long.
    """

    name: str
    weight: float
    tempo: tuple[float, float]
    beats: int
    cells: int
    swing: tuple[float, float]
    kick: tuple[str, ...]
    snare: tuple[str, ...]
    snare_as: str
    time: tuple[Groove, ...]
    fills: tuple[str, ...]

    def __post_init__(self) -> None:
        patterns = [*self.kick, *self.snare, *self.fills, *(row for time in self.time for row in time.values())]
        if odd := [pattern for pattern in patterns if len(pattern) != self.beats * self.cells]:
            raise ValueError(f"style {self.name!r}: no bar of {self.beats} x {self.cells} cells: {', '.join(odd)}")


@cache
def read_styles() -> tuple[Style, ...]:
    """All styles of `demo_styles.yaml`."""
    values = yaml.safe_load(STYLES_FILE.read_text(encoding="utf-8"))
    return tuple(
        Style(
            name=name,
            weight=style["weight"],
            tempo=tuple(style["tempo"]),
            beats=style.get("beats", 4),
            cells=style.get("cells", 4),
            swing=tuple(style.get("swing", (0.0, 0.0))),
            kick=tuple(style["kick"]),
            snare=tuple(style["snare"]),
            snare_as=style.get("snare_as", "snare"),
            time=tuple(style["time"]),
            fills=tuple(values["fills"][style["fills"]]),
        )
        for name, style in values["styles"].items()
    )


def write_demo_corpus(folder: Path, *, performances: int, seed: int) -> dict[str, str]:
    """Composes a corpus into a folder and returns the style of each file by its name.

    Files that hold the right bytes already are left alone, so that a build that goes on finds them unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    styles: dict[str, str] = {}
    for number in range(performances):
        name, style, data = compose(number, seed)
        path = folder / name
        if not (path.is_file() and path.read_bytes() == data):
            path.write_bytes(data)
        styles[name] = style
    return styles


def compose(number: int, seed: int) -> tuple[str, str, bytes]:
    """File name, style and MIDI bytes of one performance of a corpus."""
    rng = generator(seed, Purpose.DEMO_CORPUS, number)
    styles = read_styles()
    weights = np.array([style.weight for style in styles])
    style = styles[rng.choice(len(styles), p=weights / weights.sum())]
    tempo = float(rng.integers(int(style.tempo[0]), int(style.tempo[1]) + 1))
    performance = play(_Composer(style, rng).strokes(), tempo=tempo, beats_per_bar=style.beats, rng=rng)
    name = f"{number:04d}-{style.name.replace(' ', '-')}-{tempo:.0f}.mid"
    return name, style.name, performance_to_midi(performance)


class _Composer:
    """One drummer with one song in mind; every choice comes from the performance's own generator."""

    def __init__(self, style: Style, rng: np.random.Generator) -> None:
        self.style = style
        self.rng = rng
        self.bars = int(rng.choice(BARS, p=BARS_WEIGHTS))
        self.swing = rng.uniform(*style.swing)
        self.odds = {"+": rng.uniform(0.3, 0.8), "-": rng.uniform(0.1, 0.8)}
        snare = self._pick(style.snare)
        self.verse = self._groove(snare)
        self.chorus = self._groove(snare)
        self.section_bars = int(rng.choice((4, 8)))
        self.fill_odds = rng.uniform(0.2, 0.7)
        self.crash_odds = rng.uniform(0.6, 1.0)

    def strokes(self) -> list[Stroke]:
        """The whole song: phrases of verse and chorus, a fill or a turn at a phrase's end, a crash after a fill."""
        strokes: list[Stroke] = []
        crash = self._chance(0.3)
        ends_on_one = self._chance(0.35)
        for first_bar in range(0, self.bars, PHRASE_BARS):
            groove = self.chorus if first_bar // self.section_bars % 2 else self.verse
            settled = self._settle(groove)
            for bar in range(first_bar, first_bar + PHRASE_BARS):
                if ends_on_one and bar == self.bars - 1:
                    return strokes + self._write({"kick": "X", "crash": "X"}, bar)
                turn = bar == first_bar + PHRASE_BARS - 1
                played = settled if bar % 2 == 0 or self._chance(0.6) else self._settle(groove)
                fill_cells = self._fill_cells(bar) if turn else 0
                if turn and not fill_cells and self._chance(0.5):
                    played = {**played, "kick": self._vary(played["kick"], played[self.style.snare_as])}
                strokes += self._write(played, bar, until=self._cells - fill_cells)
                strokes += self._write_fill(bar, fill_cells)
                if crash:
                    strokes += self._write({"crash": "X"}, bar)
                crash = bool(fill_cells) and self._chance(self.crash_odds)
        return strokes

    @property
    def _cells(self) -> int:
        return self.style.beats * self.style.cells

    def _groove(self, snare: str) -> Groove:
        """A pattern for each limb, made this drummer's own."""
        time = dict(self._pick(self.style.time))
        if "closed_hat" in time and "open_hat" not in time and self._chance(0.35):
            time["closed_hat"], time["open_hat"] = self._open_one(time["closed_hat"])
        kick = self._pick(self.style.kick)
        return {"kick": self._vary(kick, snare) if self._chance(0.7) else kick, self.style.snare_as: snare, **time}

    def _vary(self, kick: str, snare: str) -> str:
        """Adds or drops one or two unaccented kicks, away from the first beat and the backbeat."""
        cells = list(kick)
        free = [cell for cell in range(1, len(cells)) if cells[cell] != "X" and snare[cell] != "X"]
        for cell in self.rng.choice(free, size=min(len(free), int(self.rng.integers(1, 3))), replace=False):
            cells[cell] = "." if cells[cell] != "." else "x"
        return "".join(cells)

    def _open_one(self, closed: str) -> tuple[str, str]:
        """Opens the hi-hat at one of its hits off the beat."""
        offbeats = [cell for cell, mark in enumerate(closed) if mark != "." and cell % self.style.cells]
        if not offbeats:
            return closed, "." * len(closed)
        cell = int(self.rng.choice(offbeats))
        return closed[:cell] + "." + closed[cell + 1 :], "." * cell + "x" + "." * (len(closed) - cell - 1)

    def _settle(self, groove: Groove) -> Groove:
        """Decides which ornaments are played."""
        played = {"+": "x", "-": "o"}
        return {
            instrument: "".join(
                mark if mark not in played else played[mark] if self._chance(self.odds[mark]) else "."
                for mark in pattern
            )
            for instrument, pattern in groove.items()
        }

    def _fill_cells(self, bar: int) -> int:
        """Length of the fill that ends a phrase: a beat, two, or the whole bar; 0 for none."""
        ends_eight = (bar + 1) % (2 * PHRASE_BARS) == 0
        if not self._chance(0.9 if ends_eight else self.fill_odds):
            return 0
        return self.style.cells * int(self.rng.choice((1, 2, self.style.beats), p=(0.3, 0.4, 0.3)))

    def _write_fill(self, bar: int, cells: int) -> list[Stroke]:
        """The last cells of one of the style's fills."""
        if not cells:
            return []
        fill = "." * (self._cells - cells) + self._pick(self.style.fills)[-cells:]
        rows = {
            instrument: "".join({letter: "x", letter.upper(): "X"}.get(mark, ".") for mark in fill)
            for letter, instrument in FILL_INSTRUMENTS.items()
        }
        return self._write(rows, bar)

    def _write(self, groove: Groove, bar: int, until: int | None = None) -> list[Stroke]:
        """The strokes of one bar, up to a cell."""
        strokes = []
        for instrument, pattern in groove.items():
            for cell, mark in enumerate(pattern[:until]):
                if mark in LOUDNESS:
                    late = self.swing if self.style.cells % 2 == 0 and cell % 2 else 0.0
                    quarter = bar * self.style.beats + (cell + late) / self.style.cells
                    strokes.append(Stroke(quarter, instrument, LOUDNESS[mark]))
        return strokes

    def _pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.rng.integers(len(choices)))]

    def _chance(self, odds: float) -> bool:
        return bool(self.rng.random() < odds)
