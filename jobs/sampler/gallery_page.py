"""`gallery.html`: grooves to look through, to hear and to choose from, in one page that opens from disk.

Style and scripts are files of their own in `jobs/sampler/gallery/`; they are put into the page as they are, so that it
loads nothing from elsewhere and needs no server. Its Content-Security-Policy holds that too.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from jobs.sampler.gallery_data import FigureColumn, GalleryData, GalleryGroove, pack
from musicvae.durable import write_whole
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.midi.writer import TICKS_PER_QUARTER
from preprocess.pages.page import page_environment, style

PARTS = Path(__file__).with_name("gallery")
TEMPLATE = "gallery.html.jinja"
STYLE = "gallery.css"
SCRIPTS = (
    "grooves.js",
    "favourites.js",
    "kit.js",
    "player.js",
    "drawing.js",
    "choice.js",
    "filters.js",
    "wall.js",
    "stage.js",
    "midi_file.js",
    "zip_file.js",
    "saving.js",
    "keyboard.js",
    "page.js",
)
"""In the order in which they run; `page.js` brings the others together and comes last."""
HELP = (
    (("←", "→", "↑", "↓"), "another groove; while one plays, the other is heard"),
    (("Home", "End", "PgUp", "PgDn"), "first, last, a screen on"),
    (("space", "Enter"), "play in a loop, stop"),
    (("f",), "favourite, or not any more"),
    (("m",), "save the groove as MIDI"),
    (("/",), "search and filter; Esc goes back to the grooves"),
    (("?",), "this help"),
)


def write_gallery(
    path: Path,
    grooves: Iterable[GalleryGroove],
    *,
    title: str,
    grid: GridSpec,
    drum_map: DrumMap,
    figures: Sequence[FigureColumn],
    ticks_per_quarter: int = TICKS_PER_QUARTER,
) -> None:
    """Writes the page whole or not at all.

    Grooves are taken one by one and kept packed, so the page itself is the most that is held in memory.

    Args:
        grooves: at least one; the page holds the first `MOST_SHOWN` and says so if there are more.
        drum_map: names the drums, and gives the pitch and the sound of each.
        figures: what the page filters and sorts by, beside the tempo.
        ticks_per_quarter: division of the MIDI files that the page makes.

    Raises:
        ValueError: no grooves, an id that occurs twice, or shapes that do not match the grid and the drum map.
        OSError: the page cannot be written.
    """
    data = pack(grooves, grid=grid, drum_map=drum_map, figures=figures, ticks_per_quarter=ticks_per_quarter)
    page = (
        page_environment(PARTS)
        .get_template(TEMPLATE)
        .render(
            title=title,
            about=_about(data, grid, drum_map),
            css=style(PARTS / STYLE),
            data=data,
            help=HELP,
            scripts=[(PARTS / name).read_text() for name in SCRIPTS],
        )
    )
    # A title may hold what UTF-8 cannot, if it comes from the name of a file.
    write_whole(path, page.encode(errors="backslashreplace"))


def _about(data: GalleryData, grid: GridSpec, drum_map: DrumMap) -> str:
    grooves = f"{data.count:,} grooves" if data.whole else f"the first {data.count:,} grooves; the manifest has all"
    bars = f"{grid.bars} bars of {grid.beats_per_bar}/4, {grid.num_steps} steps"
    return f"{grooves} · {bars} · drum map {drum_map.name}"
