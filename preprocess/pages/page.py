"""What all self-contained pages share: escaping, style, drum grids, and the settings that somebody changed."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from musicvae.groove.groove import DrumGroove

HERE = Path(__file__).parent
BASE_STYLE = HERE / "html_page.css"
MARK_WIDTH, MARK_HEIGHT = 0.78, 0.76
"""Of a hit on a drum grid, in steps and rows."""
SOFTEST = 0.2
"""Opacity of a hit of velocity 0: still to be seen."""


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """A setting that is not at its default."""

    name: str
    value: str
    default: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A hit on a drum grid: left edge in steps, upper edge in rows from the top, opacity."""

    x: float
    y: float
    opacity: float


def page_environment(folder: Path) -> Environment:
    """Renders the templates of a folder, and those that are shared (`drum_grid.html.jinja`); every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["address"] = address
    environment.filters["breakable"] = breakable
    environment.filters["count"] = count
    environment.filters["marks"] = marks
    environment.globals["mark_width"] = MARK_WIDTH
    environment.globals["mark_height"] = MARK_HEIGHT
    return environment


def style(page_style: Path) -> Markup:
    """The style of all pages, then a page's own."""
    return Markup(BASE_STYLE.read_text(encoding="utf-8") + page_style.read_text(encoding="utf-8"))


def render_report(
    environment: Environment,
    template: Path,
    styles: Sequence[Path],
    *,
    title: str,
    result: str,
    beside: Iterable[str],
    command: str,
    **values: Any,
) -> str:
    """A page with the header and the footer of all reports, as HTML that can always be encoded as UTF-8.

    Args:
        template: extends `report.html.jinja`.
        styles: after that of all pages.
        result: one sentence that says what came out.
        beside: files, by their paths from the folder of the page, which it links to.
        command: that writes it, after `python -m`.
        values: of the template.
    """
    css = style(styles[0]) + Markup("".join(path.read_text(encoding="utf-8") for path in styles[1:]))
    of_all = {"css": css, "title": title, "result": result, "beside": list(beside), "command": command}
    page = environment.get_template(template.name).render(**of_all, **values)
    return page.encode(errors="backslashreplace").decode()


def address(path: str) -> str:
    """A path as the address of a link."""
    return quote(os.fsencode(path))


def breakable(name: str) -> Markup:
    """A dotted name that may go on in the next line after a dot or an underscore."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def count(number: int) -> str:
    """A number for people."""
    return f"{number:,}"


def marks(groove: DrumGroove) -> list[Mark]:
    """The hits of a groove, the first drum at the bottom."""
    return [
        Mark(
            x=step + float(groove.offset[step, drum]),
            y=groove.hits.shape[1] - 1 - drum + (1 - MARK_HEIGHT) / 2,
            opacity=SOFTEST + (1 - SOFTEST) * float(groove.velocity[step, drum]),
        )
        for step, drum in np.argwhere(groove.hits).tolist()
    ]


def changed_settings(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[ChangedSetting]:
    """The settings, by dotted name, that are not at their defaults."""
    usual = dotted(defaults)
    return [
        ChangedSetting(name, str(value), str(usual.get(name, "")))
        for name, value in dotted(settings).items()
        if value != usual.get(name, "")
    ]


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    values = {}
    for name, value in settings.items():
        values |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return values
