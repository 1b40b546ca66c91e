"""Shows the status of runs and submissions: python -m jobs.status [FOLDER ...] [--watch 5] [--json]

It is read from the folders. SLURM is asked only why a job waits, and why one ended that has not recorded it.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from jobs.command.command_line import console, run_command
from jobs.submission.rows import Row, rows_of
from jobs.submission.run_view import RunView, RunViews
from musicvae.errors import ConfigError
from musicvae.terminal import shown
from musicvae.training.settings import MAIN_FIGURES

DEFAULT = (Path("runs"), Path("submissions"))
STYLES = {"failed": "red", "lost": "red", "diverged": "red", "unknown": "red", "running": "green", "done": "dim"}
SHOWN_FAILURES, SHOWN_NUMBERS = 5, 3
FIGURES = ("step", "windows/s", "ETA", "−ELBO", "restarts", "heartbeat")
COLUMN = "column"
PADDING = 2
WIDE = 120
"""Characters of a terminal that has room for a column for each figure."""


def main(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Runs, submissions, or folders of them (./runs and ./submissions)."),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(min=0.5, metavar="SECONDS", help="Refresh the table every so many seconds, until Ctrl-C."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON list, with all failures.")] = False,
) -> None:
    """Show the status of runs and submissions: state, step, speed, -ELBO, restarts, and why jobs wait or failed.

    python -m jobs.status runs submissions --watch 5
    """
    given = folders or [folder for folder in DEFAULT if folder.is_dir()]
    if not given:
        raise ConfigError(
            "there are no runs or submissions to show",
            expected="a folder ./runs or ./submissions",
            do="give the folder of a run or a submission",
        )
    if watch is not None:
        from rich.live import Live  # which a single look does not wait for

        views = RunViews()
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(table_of(list(rows_of(given, views)), console.width), refresh=True)
                time.sleep(watch)
    rows = list(rows_of(given))
    if json_:
        print(json.dumps([row.to_json() for row in rows]))
        return
    console.print(table_of(rows, console.width), crop=False)
    summaries = [failure for row in rows for failure in row.failures()]
    for failure in summaries[:SHOWN_FAILURES]:
        print(shown(f"\n{failure}"))
    if len(summaries) > SHOWN_FAILURES:
        console.print(f"\n{len(summaries) - SHOWN_FAILURES} more failure(s); --json shows all of them")


@dataclass(frozen=True, slots=True)
class StatusTable:
    """Prints what a `rich.table.Table` without a box prints, byte by byte, in a thirtieth of its time.

    Rich chooses the widths of the columns, prints their names, and wraps the cells that are not plain words.

    Attributes:
        columns: their names; those of `unwrapped` are cut and not wrapped.
        cells: of each row, one for each column.
        styles: of each row's second cell.
    """

    columns: Sequence[str]
    unwrapped: Sequence[str]
    cells: Sequence[Sequence[str]]
    styles: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Segment]:
        widths = self._widths(console, options)
        if min(widths) < 1:  # in a terminal of a few characters
            table = self._table([None] * len(widths))
            for (name, state, *others), style in zip(self.cells, self.styles, strict=True):
                table.add_row(name, Text(state, style), *others)
            yield table
            return
        yield self._table(widths)
        styles = {style: console.get_style(style) if style else None for style in {*self.styles}}
        blanks = [" " * width for width in widths]
        may_wrap = [name not in self.unwrapped for name in self.columns]
        for row, style in zip(self.cells, self.styles, strict=True):
            columns = [_lines(console, *cell) for cell in zip(row, widths, may_wrap, strict=True)]
            for number in range(max(map(len, columns))):
                cells = [
                    lines[number] if number < len(lines) else blank
                    for lines, blank in zip(columns, blanks, strict=True)
                ]
                name, state, *others = cells
                end = f"  {'  '.join(others)} \n"
                if styles[style] and number < len(columns[1]):
                    yield from (Segment(f" {name}  "), Segment(state, styles[style]), Segment(end))
                else:
                    yield Segment(f" {name}  {state}{end}")

    def _widths(self, console: Console, options: ConsoleOptions) -> list[int]:
        """The characters of each column, which rich chooses by the widest cells alone."""
        table = self._table([None] * len(self.columns))
        table.add_row(*(max(cells, key=_width) for cells in zip(self.columns, *self.cells, strict=True)))
        widths = [-PADDING] * len(self.columns)
        for segment in console.render_lines(table, options, pad=False)[-1]:
            if segment.style and COLUMN in segment.style.meta:
                widths[segment.style.meta[COLUMN]] += segment.cell_length
        return widths

    def _table(self, widths: Sequence[int | None]) -> Table:
        """Without rows; its cells carry the number of their column.

        Args:
            widths: None leaves it to rich.
        """
        columns = [
            Column(name, width=width, no_wrap=name in self.unwrapped, style=Style(meta={COLUMN: number}))
            for number, (name, width) in enumerate(zip(self.columns, widths, strict=True))
        ]
        return Table(*columns, box=None)


def _is_plain(text: str) -> bool:
    """Whether it is one line, and each character has one place in a terminal; rich looks at each of the others."""
    return text.replace("−", "-").isascii() and "\n" not in text and "\t" not in text


def _width(text: str) -> int:
    return len(text) if _is_plain(text) else max(map(cell_len, text.splitlines()), default=0)


def _lines(console: Console, text: str, width: int, may_wrap: bool) -> list[str]:
    """The lines of a cell, each as wide as its column."""
    if _is_plain(text):
        if len(text) <= width:
            return [text.ljust(width)]
        lines = re.findall(rf"(\S.{{0,{width - 1}}})(?: |$)", text) if may_wrap and "  " not in text else []
        if " ".join(lines) == text:  # and so no word is longer than a line
            return [line.ljust(width) for line in lines]
    wrapped = Text(text).wrap(console, width, justify="left", overflow="ellipsis", no_wrap=not may_wrap)
    return [line.plain for line in wrapped]


def table_of(rows: list[Row], width: int, now: Callable[[], float] = time.time) -> StatusTable:
    """One row each; on a narrow terminal all figures of a row are in one column, with their names.

    Args:
        width: of the terminal, in characters.
    """
    cells = []
    for row in rows:
        run, state = row.run, row.state
        if row.elements:
            state = ", ".join(f"{count} {name}" for name, count in row.elements.items())
        figures = {
            "step": f"{run.step:,}/{run.total:,}" if run and run.total else "",
            "windows/s": f"{run.rate:.0f}" if run and run.rate else "",
            "ETA": _duration(run.eta_seconds) if run and run.eta_seconds and row.state == "running" else "",
            "−ELBO": _loss(run) if run else "",
            "restarts": str(row.restarts or ""),
            "heartbeat": f"{_duration(max(0.0, now() - run.heartbeat))} ago" if run and run.heartbeat else "",
        }
        progress = ", ".join(f"{name} {figure}" for name, figure in figures.items() if figure)
        of_figures = figures.values() if width >= WIDE else [progress]
        jobs = f"job {', '.join(row.numbers[:SHOWN_NUMBERS])}{', ...' * (len(row.numbers) > SHOWN_NUMBERS)}"
        why = "; ".join(filter(None, [jobs * bool(row.numbers), row.why]))
        cells.append([shown(text) for text in (row.name, state, *of_figures, why)])
    columns = ("name", "state", *(FIGURES if width >= WIDE else ["progress"]), "why")
    unwrapped = columns[: 2 if width >= WIDE else 1]
    return StatusTable(columns, unwrapped, cells, [STYLES.get(row.state, "") for row in rows])


def _loss(run: RunView) -> str:
    """The −ELBO without its unit, which the column has; another figure with its own."""
    if run.validation is None or run.figure is None:
        return ""
    name, unit = MAIN_FIGURES[run.figure]
    return f"{run.validation:.2f}" if name == "−ELBO" else f"{run.validation:.3f} {unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


if __name__ == "__main__":
    run_command(main)
