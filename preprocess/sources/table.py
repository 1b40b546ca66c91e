"""A list of MIDI files: CSV with a header or JSON lines, with what the user knows about each file."""

import csv
import difflib
import json
import math
import os
import posixpath
import re
import sys
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from musicvae.data.manifest import SPLITS, Split
from musicvae.errors import ConfigError, DataError
from preprocess.settings import SplitSettings
from preprocess.sources.listing import FilePlace, Listing, Source, SourceFile, possible_splits, printable

CSV_SUFFIXES = (".csv",)
JSON_SUFFIXES = (".jsonl", ".ndjson")
LIST_SUFFIXES = CSV_SUFFIXES + JSON_SUFFIXES
COLUMNS = ("path", "split", "group", "style", "bpm")
NO_TEMPO = 0.0
MOST_CHARACTERS = 2**20
"""Of a line."""
NO_TEXT = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of characters, as JSON can spell them; those between stand for bytes that are not UTF-8."""


def open_list(path: Path, settings: SplitSettings) -> Source:
    """The files that a table names: a `path` each, relative to the table's folder or absolute, in any order.

    Optional are `split`, `group`, `style` and `bpm` (instead of the tempo that a file says); other columns are
    ignored. Files are not looked for: one that is missing is accounted for as such.

    Args:
        path: absolute; UTF-8, with or without a byte order mark.

    Raises:
        DataError: a table that cannot be used, naming the line: no paths, a split that does not exist, a tempo that is
            no positive number, a path twice, or no group where groups decide the split.
        ConfigError: groups decide the split, and the table has none.
    """
    rows = _Rows(path)
    for line, row in _read(path):
        rows.add(line, row)
    if not rows.names:
        raise DataError(f"{path} lists no files", expected="one line for each file", found="none")
    if settings.group == "column":
        rows.keep_groups_together()
    can_occur = set(rows.splits)
    if None in can_occur:
        can_occur.update(possible_splits(settings))
    splits: tuple[Split, ...] = tuple(split for split in SPLITS if split in can_occur)
    return Source("list", rows.listing(), splits, keeps_duplicates=True)


class _Rows:
    """The rows so far, in columns: a million are small."""

    def __init__(self, path: Path) -> None:
        self.names: list[str] = []
        self.splits: list[Split | None] = []
        self._path = path
        self._folder = os.fspath(path.parent)
        self._paths: list[str] = []
        self._groups: list[str] = []
        self._styles: list[str] = []
        self._tempos = array("d")
        self._lines: dict[str, int] = {}
        self._without_group: int | None = None

    def add(self, line: int, row: Mapping[str, Any]) -> None:
        """One row, checked."""
        given = self._text(line, row, "path")
        if not given or "\0" in given:
            raise self._error(line, expected="a path", actual=repr(given))
        # The name is for people and must be unique; the path stays as given, since `x/..` may lead through a link.
        place = posixpath.normpath(posixpath.join(self._folder, given))
        if (before := self._lines.setdefault(place, line)) != line:
            raise self._error(
                line, expected="each file once", actual=f"{printable(given)}, which is also in line {before}"
            )
        inside = place.startswith(f"{self._folder}/")
        self.names.append(printable(place[len(self._folder) + 1 :] if inside else posixpath.normpath(given)))
        self._paths.append(self.names[-1] if self.names[-1] == given else given)
        split = self._split(line, self._text(line, row, "split"))
        group = self._text(line, row, "group")
        if split is None and not group:
            self._without_group = self._without_group or line
        self.splits.append(split)
        self._groups.append(sys.intern(printable(group)))
        self._styles.append(sys.intern(printable(self._text(line, row, "style"))))
        self._tempos.append(self._tempo(line, row.get("bpm")))

    def keep_groups_together(self) -> None:
        """Gives rows without a split the one that their group has.

        Raises:
            ConfigError: there are no groups.
            DataError: a row with neither group nor split, or a group in two splits.
        """
        if not any(self._groups):
            raise ConfigError(
                "split.group=column needs a list with groups",
                expected="a column `group`",
                found=f"none in {self._path}",
                do="add the column, or set split.group to file or folder",
            )
        if self._without_group:
            raise self._error(self._without_group, expected="a `group` or a `split`", actual="neither")
        given: dict[str, Split] = {}
        for line, group, split in zip(self._lines.values(), self._groups, self.splits, strict=True):
            if group and split and given.setdefault(group, split) != split:
                contradiction = f"{split}, and {given[group]} in an earlier line"
                raise self._error(line, expected=f"one split for all of group {group!r}", actual=contradiction)
        for row, group in enumerate(self._groups):
            self.splits[row] = self.splits[row] or given.get(group)

    def listing(self) -> Listing:
        """All rows by name."""
        self._lines.clear()
        order = array("q", sorted(range(len(self.names)), key=self.names.__getitem__))

        def make(index: int) -> SourceFile:
            row = order[index]
            return SourceFile(
                self.names[row],
                FilePlace(posixpath.join(self._folder, self._paths[row])),
                self.splits[row],
                self._styles[row],
                self._groups[row],
                self._tempos[row] or None,
            )

        return Listing(len(order), make)

    def _text(self, line: int, row: Mapping[str, Any], column: str) -> str:
        match row.get(column):
            case None:
                return ""
            case str(text):
                if NO_TEXT.search(text):
                    raise self._error(line, expected=f"text in `{column}`", actual=json.dumps(text))
                return text.strip() if column != "path" else text
            case bool() | list() | dict() as value:
                raise self._error(line, expected=f"text in `{column}`", actual=json.dumps(value))
            case number:
                return str(number)

    def _split(self, line: int, name: str) -> Split | None:
        if not name:
            return None
        for split in SPLITS:
            if split == name:
                return split
        near = difflib.get_close_matches(name.lower(), SPLITS, n=1, cutoff=0.4)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise self._error(line, expected=f"split {', '.join(SPLITS)}, or none", actual=f"{name!r}{meant}")

    def _tempo(self, line: int, value: Any) -> float:
        if value is None or value == "":
            return NO_TEMPO
        try:
            tempo = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            tempo = math.nan
        if not (math.isfinite(tempo) and tempo > 0):
            raise self._error(line, expected="a positive number in `bpm`, or nothing", actual=repr(value))
        return tempo

    def _error(self, line: int, *, expected: str, actual: str) -> DataError:
        return _unusable(self._path, line, expected=expected, actual=actual)


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) for each row; bytes that are not UTF-8 are kept, since file names may hold them."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = _lines(path, file)
            yield from _read_csv(path, lines) if path.name.lower().endswith(CSV_SUFFIXES) else _read_json(path, lines)
    except OSError as error:
        raise DataError(f"{path} cannot be read", found=error.strerror or str(error)) from None


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    """The lines of a file, none of which is held before it is known to be short."""
    number = 0
    while line := file.readline(MOST_CHARACTERS):
        number += 1
        if len(line) == MOST_CHARACTERS:
            expected = f"at most {MOST_CHARACTERS:,} characters"
            raise _unusable(path, number, expected=expected, actual="more", likely="no list of files")
        yield line


def _read_csv(path: Path, file: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.reader(file, strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if twice := [name for name in COLUMNS if header.count(name) > 1]:
            raise _unusable(path, 1, expected="each column once", actual=f"`{twice[0]}` twice")
        if "path" not in header:
            raise _unusable(
                path,
                1,
                expected=f"a header with a column `path`, and optionally {', '.join(COLUMNS[1:])}",
                actual=", ".join(map(printable, header)) or "nothing",
                likely="no header, or another separator than a comma",
            )
        for row in rows:
            if any(row) and len(row) != len(header):
                mismatch = f"{len(row)} fields, the header has {len(header)}"
                likely = "a comma in a field without quotes, or an incomplete copy"
                raise _unusable(
                    path, rows.line_num, expected="as many fields as in the header", actual=mismatch, likely=likely
                )
            if any(row):
                yield rows.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise _unusable(path, rows.line_num, expected="CSV", actual=str(error)) from None


def _read_json(path: Path, file: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unusable(path, line, expected="one JSON object on each line", actual=str(error)) from None
        if not isinstance(row, dict) or "path" not in row:
            content = f"keys {', '.join(row)}" if isinstance(row, dict) else type(row).__name__
            raise _unusable(path, line, expected="a JSON object with a key `path`", actual=printable(content))
        yield line, row


def _unusable(path: Path, line: int, *, expected: str, actual: str, likely: str = "") -> DataError:
    return DataError(f"{path}, line {line} cannot be used", expected=expected, found=actual, likely=likely)
