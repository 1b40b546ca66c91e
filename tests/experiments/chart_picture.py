"""Charts as one PNG: lines, points and levels, in the colours of the drum sheets."""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musicvae.groove.picture import BEAT_LINE, DRUM_COLOURS, FAINT_INK, INK, PAPER, ROW_LINE, Colour
from preprocess.pages.charts import rule_distance

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

# In pixels of the finished picture.
WIDTH, HEIGHT, MARGIN, LEFT, TITLE, FOOT, LINE = 520, 340, 24, 58, 44, 52, 20
DOT, STROKE, DASH = 4.0, 2.0, 7
LEGEND_COLUMNS, LEGEND_WIDTH = 3, 260
OVERSAMPLING = 3
TITLE_SIZE, LABEL_SIZE = 17, 13
PADDING = 0.04
"""Of a chart's space, left free beyond the outermost values."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in the order in which they are joined, or apart.

    Attributes:
        colour: number of the colour; curves of one thing share it over all charts.
        dots: whether points are marked, where they are few.
    """

    label: str
    points: tuple[Point, ...]
    colour: int
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A value without an x, as a dashed line; left out where it lies beyond the curves."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Chart:
    """One set of axes."""

    title: str
    x_label: str
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to pixels, with round rules."""

    low: float
    high: float
    start: float
    length: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, length: float) -> "Axis":
        """Holds all values, with a little space beyond them."""
        every = list(values)
        low, high = min(every), max(every)
        free = PADDING * (high - low) or max(abs(high), 1.0) / 10
        return cls(low - free, high + free, start, length)

    def place(self, value: float) -> float:
        return self.start + self.length * (value - self.low) / (self.high - self.low)

    def rules(self) -> list[float]:
        step = rule_distance((self.high - self.low) / 2)  # that of bars, whose charts are half as high
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * number for number in range(first, last + 1)]


def draw_charts(charts: Sequence[Chart], *, columns: int) -> bytes:
    """The bytes of a PNG, `columns` charts in a row; every chart has at least one curve with a point."""
    from PIL import Image, ImageDraw

    labels = _legend(charts)
    row, rows = TITLE + HEIGHT + FOOT, math.ceil(len(charts) / columns)
    width = columns * (LEFT + WIDTH + MARGIN) + MARGIN
    height = 2 * MARGIN + rows * row + LINE * math.ceil(len(labels) / LEGEND_COLUMNS)
    image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), PAPER)
    draw = ImageDraw.Draw(image)
    for number, chart in enumerate(charts):
        down, across = divmod(number, columns)
        _draw_chart(draw, chart, MARGIN + LEFT + across * (LEFT + WIDTH + MARGIN), MARGIN + TITLE + down * row)
    top = MARGIN + rows * row
    for place, (label, colour) in enumerate(labels):
        x, y = MARGIN + LEFT + place % LEGEND_COLUMNS * LEGEND_WIDTH, top + LINE * (place // LEGEND_COLUMNS)
        _dot(draw, x, y + LABEL_SIZE / 2 + 2, colour)
        _text(draw, x + 12, y, label, LABEL_SIZE, INK, "la")
    buffer = io.BytesIO()
    image.reduce(OVERSAMPLING).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _legend(charts: Sequence[Chart]) -> list[tuple[str, Colour]]:
    named = {curve.label: _colour(curve) for chart in charts for curve in chart.curves}
    return list(named.items())


def _draw_chart(draw: "ImageDraw", chart: Chart, left: float, top: float) -> None:
    points = [point for curve in chart.curves for point in curve.points]
    x_axis = Axis.over((x for x, _ in points), left, WIDTH)
    y_axis = Axis.over((y for _, y in points), top + HEIGHT, -HEIGHT)
    _text(draw, left, top - 14, chart.title, TITLE_SIZE, INK, "ls")
    _text(draw, left + WIDTH, top + HEIGHT + 26, chart.x_label, LABEL_SIZE, FAINT_INK, "ra")
    for rule in y_axis.rules():
        y = y_axis.place(rule)
        _line(draw, [(left, y), (left + WIDTH, y)], ROW_LINE, 1)
        _text(draw, left - 8, y, f"{rule:.5g}", LABEL_SIZE, FAINT_INK, "rm")
    for rule in x_axis.rules():
        x = x_axis.place(rule)
        _line(draw, [(x, top), (x, top + HEIGHT)], BEAT_LINE, 1)
        _text(draw, x, top + HEIGHT + 8, f"{rule:,.5g}", LABEL_SIZE, FAINT_INK, "ma")
    for level in chart.levels:
        if y_axis.low <= level.value <= y_axis.high:
            y = y_axis.place(level.value)
            for start in range(0, WIDTH, 2 * DASH):
                _line(draw, [(left + start, y), (left + start + DASH, y)], FAINT_INK, 1.5)
            _text(draw, left + WIDTH - 4, y - 4, level.label, LABEL_SIZE, FAINT_INK, "rs")
    for curve in chart.curves:
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in curve.points]
        _line(draw, places, _colour(curve), STROKE)
        if curve.dots:
            for x, y in places:
                _dot(draw, x, y, _colour(curve))


def _colour(curve: Curve) -> Colour:
    return DRUM_COLOURS[curve.colour % len(DRUM_COLOURS)]


def _dot(draw: "ImageDraw", x: float, y: float, fill: Colour) -> None:
    corners = (x - DOT, y - DOT, x + DOT, y + DOT)
    draw.ellipse([value * OVERSAMPLING for value in corners], fill=fill)


def _line(draw: "ImageDraw", points: Sequence[Point], fill: Colour, width: float) -> None:
    pixels = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
    draw.line(pixels, fill=fill, width=round(width * OVERSAMPLING), joint="curve")


def _text(draw: "ImageDraw", x: float, y: float, words: str, size: int, fill: Colour, anchor: str) -> None:
    from PIL import ImageFont

    draw.text(
        (x * OVERSAMPLING, y * OVERSAMPLING), words, fill, ImageFont.load_default(size * OVERSAMPLING), anchor=anchor
    )
