"""`gallery.html`: grooves to look through, to hear and to choose from, in one page that opens from disk.

Style and scripts are files of their own in `jobs/sampler/gallery/`; they are put into the page as they are, so that it
loads nothing from elsewhere and needs no server. Its Content-Security-Policy forbids that as well.

The page carries a description, and arrays as base64. Hits are packed without the empty cells between them, so that ten
thousand grooves fit a page that opens at once:

    tokens    int16 (groove, step)      bit i is set where drum i is hit
    velocity  uint8 (hit,)              MIDI velocity 1 to 127, by groove, step and drum
    offset    int16 (hit,)              distance from the grid in 1/65536 of a step, in the same order
    kept      uint8 (hit / 8,)          bit i of byte b: hit 8 b + i is kept from a source as it was played
    figures   float64 (column, groove)  column 0 is the tempo; NaN where a groove has no such figure; a flag is 1 or 0
    sources   int16 (groove, source)    the windows that a groove was made from

The first `MOST_SOURCES` windows have hits, in `sourceTokens`, `sourceVelocity` and `sourceOffset`, packed like those of
the grooves. All are little-endian. `jobs/sampler/gallery/grooves.js` reads them.

The list of grooves that a gallery saves, and that `jobs.sample --pick LIST` reads, has one id a line.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int16, UInt8

from musicvae.data.feel import GrooveFeel
from musicvae.data.windows import OFFSET_UNITS, WindowBlock
from musicvae.durable import write_whole
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove, hits_from_tokens
from musicvae.groove.sound import voices
from musicvae.midi.settings import TICKS_PER_QUARTER
from preprocess.pages.page import page_environment, style

MOST_SHOWN = 10_000
"""Grooves on a page; more would open slowly and be looked at by nobody."""
MOST_SOURCES = 2_000
"""Windows whose hits are on a page; of others only the names, so that a large collection does not double the page."""
HITS, SOURCE_HITS = ("tokens", "velocity", "offset"), ("sourceTokens", "sourceVelocity", "sourceOffset")
AS_WRITTEN, PLAYED, MEAN, PLAIN = "as written", "played", "mean", "plain"
"""How the hits of a page are played, as it calls it; mean and plain it can give them itself."""
ID = re.compile(r"\w[\w.-]*", re.ASCII)
"""Ids name files and stand on a line of their own in lists."""
PARTS = Path(__file__).with_name("gallery")
TEMPLATE = "gallery.html.jinja"
STYLE = "gallery.css"
SCRIPTS = (
    "grooves.js",
    "favourites.js",
    "edits.js",
    "hearing.js",
    "kit.js",
    "player.js",
    "pad.js",
    "drawing.js",
    "choice.js",
    "filters.js",
    "wall.js",
    "stage.js",
    "editor.js",
    "midi_file.js",
    "zip_file.js",
    "saving.js",
    "keyboard.js",
    "page.js",
    "controls.js",
)
"""In the order in which they run; `page.js` brings the others together, `controls.js` waits for a visitor."""
HELP = (
    (("←", "→", "↑", "↓"), "choose another groove; during playback, the new one plays"),
    (("Home", "End", "PgUp", "PgDn"), "first, last, next screen"),
    (("space", "Enter"), "play in a loop, stop"),
    (("f",), "mark or unmark as a favourite"),
    (("m",), "save the groove as MIDI"),
    (("s",), "hear the source, and the groove again"),
    (("e", "u"), "edit hits in the large grid; undo. In the grid: arrows, Enter, + and - for the velocity"),
    (("l",), "more like this: sort by the number of hits that differ"),
    (("v",), "compact list; cards"),
    (("/",), "search and filter; Esc returns to the grooves"),
    (("?",), "this help"),
)


@dataclass(frozen=True, slots=True, eq=False)
class GalleryGroove:
    """A groove as a gallery takes it.

    Attributes:
        id: what the manifest calls it.
        tokens: bit i is set where drum i is hit.
        velocity: MIDI velocity 1 to 127, 0 where there is no hit.
        offset: distance from the grid in 1/65536 of a step, early is negative, 0 where there is no hit.
        tempo: quarter notes per minute.
        figures: numbers and flags by the name of their column; one may be missing or None.
        sources: the windows that it was made from, as rows of the sources of the page.
        kept: hits that it has from a source as they were played there; None if there are none.
        place: the point of an interpolation that it is, row by row.

    Raises:
        ValueError: an id that cannot name a file, shapes that do not match, velocity, offset or `kept` without a hit,
            hits without a velocity, a tempo that is not positive.
    """

    id: str
    tokens: Int16[np.ndarray, " step"]
    velocity: UInt8[np.ndarray, "step drum"]
    offset: Int16[np.ndarray, "step drum"]
    tempo: float
    figures: Mapping[str, float | bool | None]
    sources: tuple[int, ...] = ()
    kept: Bool[np.ndarray, "step drum"] | None = None
    place: int | None = None

    def __post_init__(self) -> None:
        if not ID.fullmatch(self.id):
            raise ValueError(f"an id must consist of letters, digits, '.', '-' and '_', found {self.id!r}")
        if self.velocity.shape != self.offset.shape or len(self.velocity) != len(self.tokens):
            shapes = f"tokens {self.tokens.shape}, velocity {self.velocity.shape}, offset {self.offset.shape}"
            raise ValueError(f"{self.id}: shapes that do not match: {shapes}")
        if ((self.velocity > 0) != self.hits).any() or self.velocity.max(initial=0) > MAX_VELOCITY:
            raise ValueError(f"{self.id}: velocity must be 1 to {MAX_VELOCITY} where the tokens have a hit, else 0")
        if self.offset[~self.hits].any():
            raise ValueError(f"{self.id}: offset must be 0 where there is no hit")
        if self.kept is not None and (self.kept.shape != self.hits.shape or (self.kept & ~self.hits).any()):
            raise ValueError(f"{self.id}: only hits can be kept")
        if not self.tempo > 0:
            raise ValueError(f"{self.id}: tempo must be positive, found {self.tempo}")

    @property
    def hits(self) -> Bool[np.ndarray, "step drum"]:
        return hits_from_tokens(self.tokens, self.velocity.shape[1])

    @classmethod
    def of(
        cls,
        name: str,
        groove: DrumGroove,
        figures: Mapping[str, float | bool | None],
        *,
        sources: tuple[int, ...] = (),
        kept: Bool[np.ndarray, "step drum"] | None = None,
        place: int | None = None,
    ) -> "GalleryGroove":
        """A groove under an id, its velocity and offset to the nearest unit.

        Args:
            kept: hits that are kept wherever the groove has them.
        """
        velocity, offset = _stored(groove.velocity, groove.offset)
        kept = None if kept is None else kept & groove.hits
        return cls(name, groove.tokens, velocity * groove.hits, offset, groove.tempo, figures, sources, kept, place)


def _stored(
    velocity: Float32[np.ndarray, "step drum"], offset: Float32[np.ndarray, "step drum"]
) -> tuple[UInt8[np.ndarray, "step drum"], Int16[np.ndarray, "step drum"]]:
    """In the units of a page; a velocity is at least 1."""
    limit = OFFSET_UNITS // 2
    loudness = np.rint(velocity * MAX_VELOCITY).clip(1, MAX_VELOCITY).astype(np.uint8)
    return loudness, np.rint(offset * OFFSET_UNITS).clip(-limit, limit - 1).astype(np.int16)


@dataclass(frozen=True, slots=True)
class FigureColumn:
    """A figure that grooves are filtered and sorted by.

    Attributes:
        name: its key in `GalleryGroove.figures`.
        label: what the page calls it.
        about: what it means and in which unit, in a few words.
        kind: a number; a flag that a groove carries or not; or a name, given as its place in `names`.
        decimals: digits behind the point of a number.
        names: that a name is one of.
    """

    name: str
    label: str
    about: str = ""
    kind: Literal["number", "flag", "name"] = "number"
    decimals: int = 2
    names: tuple[str, ...] = ()


TEMPO = FigureColumn("tempo", "tempo", "quarter notes per minute", decimals=0)


@dataclass(frozen=True, slots=True)
class GalleryData:
    """What the page carries.

    Attributes:
        about: figures, ids and names of sources, ready for JSON.
        arrays: name -> base64.
        count: grooves in it.
        whole: whether it holds all that were given.
    """

    about: Mapping[str, Any]
    arrays: Mapping[str, str]
    count: int
    whole: bool


def pack(
    grooves: Iterable[GalleryGroove],
    *,
    grid: GridSpec,
    drum_map: DrumMap,
    figures: Sequence[FigureColumn],
    sources: WindowBlock | None = None,
) -> GalleryData:
    """The first `MOST_SHOWN` grooves; no more than one further groove is taken from the iterable.

    Raises:
        ValueError: no grooves, one whose shape does not match the grid and the drum map, one with more or fewer sources
            than the others, or an id that occurs twice.
    """
    ids: dict[str, int | None] = {}
    arrays = {name: bytearray() for name in (*HITS, *SOURCE_HITS, "sources")}
    rows: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    used: dict[int, int] = {}
    each: int | None = None
    coming = iter(grooves)
    for groove in islice(coming, MOST_SHOWN):
        if groove.velocity.shape != (grid.num_steps, drum_map.num_drums):
            expected = (grid.num_steps, drum_map.num_drums)
            raise ValueError(f"{groove.id}: velocity must have shape {expected}, found {groove.velocity.shape}")
        if groove.id in ids:
            raise ValueError(f"two grooves have the id {groove.id!r}")
        each = len(groove.sources) if each is None else each
        if len(groove.sources) != each:
            raise ValueError(f"{groove.id}: expected {each} sources as of the other grooves, found {groove.sources}")
        ids[groove.id] = groove.place
        _add_hits(arrays, HITS, groove.tokens, groove.velocity, groove.offset)
        arrays["sources"] += np.array([used.setdefault(row, len(used)) for row in groove.sources], "<i2").tobytes()
        if each:
            kept.append((np.zeros_like(groove.hits) if groove.kept is None else groove.kept)[groove.hits])
        rows.append(np.array([groove.tempo, *(groove.figures.get(c.name) for c in figures)], dtype="<f8"))  # None: NaN
    if not ids:
        raise ValueError("a gallery needs at least one groove")
    about: dict[str, Any] = {"columns": list(map(asdict, (TEMPO, *figures))), "ids": list(ids), "sources": []}
    about["places"] = [place for place in ids.values() if place is not None]
    arrays["kept"] = bytearray(np.packbits(np.concatenate([np.zeros(0, bool), *kept]), bitorder="little").tobytes())
    arrays["figures"] = bytearray(np.stack(rows, axis=1).tobytes())
    if sources is not None:
        about["sources"] = [f"{meta.source}, bar {meta.bar + 1}" for meta in (sources.meta[row] for row in used)]
        shown = sources.take(np.array([*used][:MOST_SOURCES], dtype=np.int64))
        for window in zip(shown.tokens, shown.velocity, shown.offset, strict=True):
            _add_hits(arrays, SOURCE_HITS, *window)
    encoded = {name: base64.b64encode(data).decode() for name, data in arrays.items()}
    return GalleryData(about, encoded, len(ids), whole=next(coming, None) is None)


def _add_hits(
    arrays: dict[str, bytearray],
    names: tuple[str, str, str],
    tokens: Int16[np.ndarray, " step"],
    velocity: UInt8[np.ndarray, "step drum"],
    offset: Int16[np.ndarray, "step drum"],
) -> None:
    hits = hits_from_tokens(tokens, velocity.shape[1])
    of_hits = (tokens.astype("<i2"), velocity[hits], offset[hits].astype("<i2"))
    for name, values in zip(names, of_hits, strict=True):
        arrays[name] += values.tobytes()


def _drums(drum_map: DrumMap) -> list[dict[str, Any]]:
    """Name, written pitch and sound of each class, in bit order."""
    described = zip(drum_map.classes, drum_map.written_pitch.tolist(), voices(drum_map), strict=True)
    return [{"label": name.replace("_", " "), "pitch": pitch, "voice": voice} for name, pitch, voice in described]


def write_gallery(
    path: Path,
    grooves: Iterable[GalleryGroove],
    *,
    title: str,
    grid: GridSpec,
    drum_map: DrumMap,
    figures: Sequence[FigureColumn],
    sorted_by: str | None = None,
    ticks_per_quarter: int = TICKS_PER_QUARTER,
    lead_in: bool = False,
    sources: WindowBlock | None = None,
    pad: tuple[int, int] | None = None,
    written: str = AS_WRITTEN,
    mean: GrooveFeel | None = None,
) -> None:
    """Writes the page whole or not at all.

    Grooves are taken one by one and kept packed, so the page itself is the most that is held in memory.

    Args:
        grooves: at least one; the page holds the first `MOST_SHOWN` and says so if there are more.
        drum_map: names the drums, and gives the pitch and the sound of each.
        figures: what the page filters and sorts by, beside the tempo.
        sorted_by: the figure of which the largest come first; None is the order of the grooves.
        ticks_per_quarter: division of the MIDI files that the page makes.
        lead_in: whether they begin with a silent bar.
        sources: the windows that `GalleryGroove.sources` names.
        pad: rows and columns of an interpolation, to play it by moving a finger over its points.
        written: what the page calls the velocity and timing that the grooves have.
        mean: another velocity and timing that their hits can have on the page, but for those that are kept.

    Raises:
        ValueError: no grooves, an id that occurs twice, or shapes that do not match the grid and the drum map.
        OSError: the page cannot be written.
    """
    data = pack(grooves, grid=grid, drum_map=drum_map, figures=figures, sources=sources)
    description = {
        **data.about,
        "grid": {"bars": grid.bars, "beatsPerBar": grid.beats_per_bar, "stepsPerBeat": grid.steps_per_beat},
        "drums": _drums(drum_map),
        "sortedBy": sorted_by,
        "ticksPerQuarter": ticks_per_quarter,
        "leadIn": lead_in,
        "pad": pad,
        "writtenAs": written,
        "mean": None if mean is None else [values.ravel().tolist() for values in _stored(mean.velocity, mean.offset)],
    }
    page = (
        page_environment(PARTS)
        .get_template(TEMPLATE)
        .render(
            title=title,
            about=_about(data, grid, drum_map),
            css=style(PARTS / STYLE),
            description=description,
            arrays=data.arrays,
            help=HELP,
            scripts=[(PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS],
        )
    )
    # A title may hold what UTF-8 cannot, if it comes from the name of a file.
    write_whole(path, page.encode(errors="backslashreplace"))


def _about(data: GalleryData, grid: GridSpec, drum_map: DrumMap) -> str:
    grooves = f"{data.count:,} grooves" if data.whole else f"the first {data.count:,} grooves; the manifest lists all"
    return f"{grooves} · {grid.bars} bars of {grid.beats_per_bar}/4, {grid.num_steps} steps · drum map {drum_map.name}"
