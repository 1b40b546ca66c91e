"""A folder of MIDI files, looked at: one table of a screen, the files that most is wrong with first."""

import heapq
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.progress import track

from jobs.command.command_line import console
from preprocess.checks import Sign
from preprocess.existing import drum_map_of
from preprocess.outcome import convert_file
from preprocess.report import RecordSums
from preprocess.settings import BuildSettings
from preprocess.sources.open import open_source

MOST_FILES, NAME_CELLS = 15, 32
"""Rows of the table, and how wide the names are on the screen."""
NOTED = {
    "salvaged": "damaged, read in part",
    "late_tempo": "hits before the first tempo",
    "triplets": "mostly triplets, moved to sixteenths",
    "makeshift_hits": "hits read as another drum",
    "extra_bytes": "extra bytes after the last track",
}
"""What the row of a file says of a figure in its record."""
SIGNS = {
    Sign.SHIFTED: "the kit is octaves too low or high",
    Sign.ONE_DRUM: "one drum only",
    Sign.NEARLY_ONE_DRUM: "nearly one drum only",
    Sign.OFF_GRID: "the hits fit no grid",
    Sign.REPEATS: "repeats a few windows",
    Sign.NOT_READ: "drums on another channel",
    Sign.NO_METRE: "no metre",
}
"""The same of a sign; what follows from another sign is not said."""


def show_folder(folder: Path, settings: BuildSettings, *, as_json: bool) -> None:
    """Shows what a build with these settings makes of the files of a folder; no more than one file is in memory.

    Raises:
        ConfigError: no such drum map.
        DataError: the folder has no MIDI files.
    """
    sums = RecordSums()
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(str(folder), settings, scratch=Path(scratch))
        drum_map = drum_map_of(settings, source)

        def records() -> Iterator[dict[str, Any]]:
            hidden = as_json or not console.is_terminal
            for file in track(source.files, "reading", console=console, transient=True, disable=hidden):
                record = convert_file(file, settings, drum_map)[0].record()
                sums.add(record)
                yield record

        worst = heapq.nsmallest(MOST_FILES, records(), key=_goodness)
    accepted = sums.seen - sums.reasons.total()
    warnings = sums.warnings(accepted)
    if as_json:
        values = {"files": sums.seen, "accepted": accepted, "rejected": sums.most_frequent_reasons()}
        print(json.dumps({**values, "reading": dict(sums.reading), "warnings": warnings, "worst": worst}))
        return
    rejected = ", ".join(f"{reason} {count:,}" for reason, count in sums.most_frequent_reasons().items())
    print(f"{sums.seen:,} files: {accepted:,} have windows" + (f"; not used: {rejected}" if rejected else ""))
    print("\n".join(["", _cells("file", "windows", "hits", "left out", "note"), *map(_row, worst), ""]))
    if sums.seen > len(worst):
        print(f"and {sums.seen - len(worst):,} files with fewer problems")
    for warning in warnings:
        print(f"warning: {warning['text']}\n  what to do: {warning['remedy']}")


def _lost(record: Mapping[str, Any]) -> float:
    """The share of a file's hits that are left out, those aside that sound in another hit of their step."""
    lost = record.get("outside_hits", 0) + sum(record.get("unknown_pitches", {}).values())
    return lost / record["hits"] if "hits" in record else 0.0


def _goodness(record: Mapping[str, Any]) -> tuple[bool, int, float, int, str]:
    """Ascends from the file that most is wrong with."""
    noted = sum(name in record for name in NOTED)
    return record["outcome"] != "rejected", -len(record.get("signs", ())), -_lost(record), -noted, record["name"]


def _row(record: Mapping[str, Any]) -> str:
    windows = "none" if record["outcome"] == "rejected" else f"{record['windows']:,}"
    lost = f"{_lost(record):.0%}" if "hits" in record else ""
    return _cells(record["name"], windows, f"{record.get('hits', 0):,}", lost, _worth_knowing(record))


def _cells(name: str, windows: str, hits: str, lost: str, text: str) -> str:
    """A row that ends where the screen does; of a long name its end is shown."""
    while cell_len(name) > NAME_CELLS:
        name = name[1:]
    row = f"{set_cell_size(name, NAME_CELLS)}  {windows:>7}  {hits:>7}  {lost:>8}  {text}"
    return set_cell_size(row, min(console.width, cell_len(row))).rstrip()


def _worth_knowing(record: Mapping[str, Any]) -> str:
    signs = [text for sign, text in SIGNS.items() if sign in record.get("signs", ())]
    if record["outcome"] == "rejected":
        return f"{record['reason']}: {'; '.join(signs) or record['detail']}"
    return "; ".join([*signs, *(text for name, text in NOTED.items() if name in record)])
