"""A groove to look at: as lines of text, and many grooves as a picture.

In both, time runs to the right and the first drum (the kick) is at the bottom. Text has one row for a drum and one
character for a step; it does not show timing. In a picture the left edge of a mark is the onset: on a beat line it is
exactly on the beat, left of it early, right of it late. The stronger its colour, the louder the hit.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

LOUDNESS = "░▒▓█"
"""From the softest quarter of the velocities to the loudest."""
EMPTY, EMPTY_ON_BEAT = "·", "┊"
BAR_MARK = "│"
Colour = tuple[int, int, int]
Pixels = int | float
"""Of the finished picture."""
PAPER: Colour = (255, 255, 255)
PANEL: Colour = (249, 249, 247)
ODD_BEAT: Colour = (240, 240, 237)
ROW_LINE: Colour = (230, 230, 226)
BEAT_LINE: Colour = (218, 218, 213)
BAR_LINE: Colour = (120, 120, 116)
INK: Colour = (38, 38, 36)
FAINT_INK: Colour = (128, 128, 124)
DRUM_COLOURS: tuple[Colour, ...] = (
    (31, 58, 104),  # kick
    (200, 56, 50),  # snare
    (214, 138, 16),  # closed hi-hat
    (152, 92, 8),  # open hi-hat
    (20, 108, 88),  # low tom
    (46, 140, 84),  # mid tom
    (116, 160, 40),  # high tom
    (122, 72, 160),  # crash
    (28, 128, 176),  # ride
)
"""In the order of the shipped drum maps; a map with more classes begins again."""
SOFTEST = 0.22
"""Opacity of a hit of velocity 0: still to be seen."""
# In `Pixels`.
STEP_WIDTH, ROW_HEIGHT = 11, 15
MARK_WIDTH, MARK_HEIGHT, MARK_RADIUS = 8.5, 12, 2
MARGIN, GUTTER, LINE_GAP, TITLE_HEIGHT = 28, 32, 26, 28
TITLE_SIZE, LABEL_SIZE = 17, 14
OVERSAMPLING = 3
"""Drawn this many times larger, then reduced, for smooth edges."""


def drum_grid(groove: DrumGroove, drums: tuple[str, ...]) -> str:
    """The groove as lines of text, the first drum (the kick) at the bottom, bars numbered on top.

    Four bars of sixteenths with the shipped drum classes are 80 columns wide. Timing off the grid is not shown.

    Args:
        drums: name of each drum class.
    """
    label = max(len(drum) for drum in drums)
    rows = [f"{name:>{label}}{_text_row(groove, drum)}" for drum, name in enumerate(drums)]
    return "\n".join([" " * label + _bar_numbers(groove), *reversed(rows)])


def _bar_numbers(groove: DrumGroove) -> str:
    return "".join(f"{BAR_MARK}{bar + 1:<{groove.grid.steps_per_bar}}" for bar in range(groove.grid.bars))


def _text_row(groove: DrumGroove, drum: int) -> str:
    grid = groove.grid
    hits, velocity = groove.hits[:, drum], groove.velocity[:, drum]
    level = np.minimum((velocity * len(LOUDNESS)).astype(int), len(LOUDNESS) - 1)
    cells = np.where(np.arange(grid.num_steps) % grid.steps_per_beat == 0, EMPTY_ON_BEAT, EMPTY)
    cells = np.where(hits, np.array(list(LOUDNESS))[level], cells)
    return "".join(BAR_MARK + "".join(bar) for bar in cells.reshape(grid.bars, grid.steps_per_bar))


def drum_sheet(grooves: Sequence[DrumGroove], drums: Sequence[str], *, columns: int = 2) -> bytes:
    """Grooves of one grid, at least one, as the bytes of a PNG; each stands under its source and tempo.

    Args:
        drums: name of each drum class.
        columns: grooves side by side.
    """
    from PIL import Image, ImageDraw

    sheet = _Sheet(grooves[0].grid, tuple(drums), min(columns, len(grooves)), len(grooves))
    size = (sheet.width * OVERSAMPLING, sheet.height * OVERSAMPLING)
    image = Image.new("RGB", size, PAPER)
    pen = _Pen(ImageDraw.Draw(image))
    for number, groove in enumerate(grooves):
        left, top = sheet.corner(number)
        if number % sheet.columns == 0:
            _draw_labels(pen, sheet, left, top)
        _draw_groove(pen, sheet, groove, left, top)
    buffer = io.BytesIO()
    image.reduce(OVERSAMPLING).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Where everything lies, in pixels of the finished picture."""

    grid: GridSpec
    drums: tuple[str, ...]
    columns: int
    grooves: int

    @property
    def label_width(self) -> int:
        return round(max(len(drum) for drum in self.drums) * LABEL_SIZE * 0.55) + 12

    @property
    def panel_width(self) -> int:
        return self.grid.num_steps * STEP_WIDTH

    @property
    def panel_height(self) -> int:
        return len(self.drums) * ROW_HEIGHT

    @property
    def width(self) -> int:
        return 2 * MARGIN + self.label_width + self.columns * (self.panel_width + GUTTER) - GUTTER

    @property
    def height(self) -> int:
        lines = -(-self.grooves // self.columns)
        return 2 * MARGIN + lines * (TITLE_HEIGHT + self.panel_height + LINE_GAP) - LINE_GAP

    def corner(self, number: int) -> tuple[int, int]:
        """Upper left corner of a groove's grid."""
        line, column = divmod(number, self.columns)
        left = MARGIN + self.label_width + column * (self.panel_width + GUTTER)
        top = MARGIN + TITLE_HEIGHT + line * (TITLE_HEIGHT + self.panel_height + LINE_GAP)
        return left, top

    def row_top(self, drum: int) -> int:
        """Distance of a drum's row from the top of the grid; the first drum is at the bottom."""
        return (len(self.drums) - 1 - drum) * ROW_HEIGHT


class _Pen:
    """Draws in pixels of the finished picture on one that is `OVERSAMPLING` times larger."""

    def __init__(self, draw: "ImageDraw") -> None:
        self._draw = draw

    def box(self, left: Pixels, top: Pixels, width: Pixels, height: Pixels, fill: Colour, radius: Pixels = 0) -> None:
        corners = (left, top, left + width, top + height)
        # Pillow counts the last pixel in.
        x0, y0, x1, y1 = (round(value * OVERSAMPLING) for value in corners)
        self._draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius * OVERSAMPLING, fill=fill)

    def text(self, x: Pixels, y: Pixels, text: str, size: int, fill: Colour, anchor: str) -> None:
        self._draw.text((x * OVERSAMPLING, y * OVERSAMPLING), text, fill, _font(size), anchor=anchor)


def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size * OVERSAMPLING)


def _draw_labels(pen: _Pen, sheet: _Sheet, left: int, top: int) -> None:
    for drum, name in enumerate(sheet.drums):
        middle = top + sheet.row_top(drum) + ROW_HEIGHT / 2
        pen.text(left - 12, middle, name.replace("_", " "), LABEL_SIZE, _colour(drum), "rm")


def _draw_groove(pen: _Pen, sheet: _Sheet, groove: DrumGroove, left: int, top: int) -> None:
    grid = sheet.grid
    right = left + sheet.panel_width
    pen.text(left, top - 9, groove.source, TITLE_SIZE, INK, "ls")
    pen.text(right, top - 9, f"{groove.tempo:.0f} bpm", LABEL_SIZE, FAINT_INK, "rs")

    beat_width = grid.steps_per_beat * STEP_WIDTH
    for beat in range(grid.bars * grid.beats_per_bar):
        x = left + beat * beat_width
        pen.box(x, top, beat_width, sheet.panel_height, ODD_BEAT if beat % 2 else PANEL)
        pen.box(x, top, 1, sheet.panel_height, BEAT_LINE)
    for row in range(len(sheet.drums) + 1):
        pen.box(left, top + row * ROW_HEIGHT, sheet.panel_width, 0.67, ROW_LINE)
    for bar in range(grid.bars + 1):
        x = left + bar * grid.steps_per_bar * STEP_WIDTH
        pen.box(x - 0.5, top - 3, 1.5, sheet.panel_height + 6, BAR_LINE)

    for step, drum in np.argwhere(groove.hits).tolist():
        x = left + (step + float(groove.offset[step, drum])) * STEP_WIDTH
        y = top + sheet.row_top(drum) + (ROW_HEIGHT - MARK_HEIGHT) / 2
        fill = _blend(PANEL, _colour(drum), SOFTEST + (1 - SOFTEST) * float(groove.velocity[step, drum]))
        pen.box(x, y, MARK_WIDTH, MARK_HEIGHT, fill, MARK_RADIUS)


def _colour(drum: int) -> Colour:
    return DRUM_COLOURS[drum % len(DRUM_COLOURS)]


def _blend(back: Colour, front: Colour, opacity: float) -> Colour:
    red, green, blue = (round(b + (f - b) * opacity) for b, f in zip(back, front, strict=True))
    return red, green, blue
