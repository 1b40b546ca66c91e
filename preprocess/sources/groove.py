"""The Groove MIDI Dataset: its folder, its zip, or a download of the zip; its own table says what it holds."""

import csv
import io
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from musicvae.data.manifest import SPLITS, Split
from musicvae.errors import DataError
from preprocess.sources.archive import zip_place
from preprocess.sources.listing import MIDI_SUFFIXES, NOWHERE, FilePlace, Place, Source, SourceFile, ZipPlace

GROOVE_URL = "https://storage.googleapis.com/magentadata/datasets/groove/groove-v1.0.0-midionly.zip"
GROOVE_SHA256 = "651cbc524ffb891be1a3e46d89dc82a1cecb09a57c748c7b45b844c4841dcc1e"
GROOVE_TABLE = "info.csv"
MOST_TABLE_BYTES = 2**26
"""Of a table: a few bytes of a zip, or of a disk, may stand for gigabytes. GMD's own takes 130 KB."""
GROOVE_COLUMNS = {"style", "midi_filename", "split"}
BESIDE = (".", "__MACOSX")
"""How the names of folders begin that packers leave beside the one that they packed."""


@dataclass(frozen=True, slots=True)
class Groove:
    """GMD as it lies somewhere.

    Attributes:
        table: where its table is, for messages.
        text: content of the table.
        place: where a file lies, by its name in the table.
    """

    table: str
    text: bytes
    place: Callable[[str], Place]


def find_groove(path: Path) -> Groove | None:
    """GMD, if a folder or a zip is that: known by its table, in the root or in the only folder there."""
    return _find_in_folder(path) if path.is_dir() else _find_in_zip(path)


def open_groove(groove: Groove) -> Source:
    """GMD as its table lists it, so that a file that is missing is accounted for.

    Raises:
        DataError: a table that cannot be used.
    """
    try:
        files = [
            SourceFile(row["midi_filename"], groove.place(row["midi_filename"]), _split(row["split"]), row["style"])
            for row in csv.DictReader(io.StringIO(groove.text.decode("utf-8-sig"), newline=""))
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"{groove.table} cannot be used",
            expected=f"the table of the Groove MIDI Dataset, with columns {', '.join(sorted(GROOVE_COLUMNS))}",
            found=f"{type(error).__name__}: {error}",
            likely="an incomplete download, or an edited file",
            do="copy the dataset again",
        ) from None
    if not files:
        raise DataError(f"{groove.table} lists no files", expected="one row for each file", found="only a header")
    given = {file.split for file in files}
    return Source(
        "groove",
        tuple(sorted(files, key=lambda file: file.name)),
        tuple(split for split in SPLITS if split in given),
        drum_map="roland",
        keeps_duplicates=True,
    )


def locate_groove() -> Groove:
    """GMD as `GROOVE_DIR` names it (a folder or a zip), else the download, which is kept in the user's cache.

    Raises:
        DataError: it is not there, or cannot be downloaded.
    """
    given = os.environ.get("GROOVE_DIR")
    path = Path(given).absolute() if given else _download()
    if groove := find_groove(path):
        return groove
    raise DataError(
        f"{path} is not the Groove MIDI Dataset",
        expected=f"a folder or a zip with {GROOVE_TABLE} (columns {', '.join(sorted(GROOVE_COLUMNS))})",
        found="no such table in it" if path.exists() else "nothing at that path",
        likely="the wrong folder, or an incomplete download",
        do=f"set GROOVE_DIR to the folder with {GROOVE_TABLE}, or to its zip",
    )


def _download() -> Path:
    import pooch  # which a login node need not have

    pooch.get_logger().setLevel("WARNING")
    try:
        file = pooch.retrieve(
            GROOVE_URL,
            known_hash=f"sha256:{GROOVE_SHA256}",
            fname=GROOVE_URL.rpartition("/")[2],
            path=pooch.os_cache("musicvae"),
            downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty()),  # pyright: ignore[reportArgumentType]
        )
    except Exception as error:  # requests, urllib3, pooch and the file system each raise their own
        raise DataError(
            "the Groove MIDI Dataset cannot be downloaded",
            expected=f"{GROOVE_URL} with sha256 {GROOVE_SHA256[:12]}...",
            found=f"{type(error).__name__}: {error}",
            likely="this machine has no network, or a proxy answers instead of the server",
            do=f"copy the zip to this machine and set GROOVE_DIR to it, or to the folder with {GROOVE_TABLE}",
        ) from None
    return Path(file).absolute()


def _find_in_folder(folder: Path) -> Groove | None:
    try:
        with os.scandir(folder) as entries:
            prefixes = _prefixes({f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries})
        tables = [folder / prefix / GROOVE_TABLE for prefix in prefixes]
        groove_table = next(
            ((table, text) for table in tables if table.is_file() and _is_groove(text := _content(table))), None
        )
    except OSError:
        return None
    if groove_table is None:
        return None
    table, text = groove_table
    return Groove(os.fspath(table), text, lambda name: FilePlace(os.fspath(table.parent / name)))


def _find_in_zip(path: Path) -> Groove | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            prefixes = _prefixes({top + slash for top, slash, _ in (name.partition("/") for name in names)})
            tables = [prefix + GROOVE_TABLE for prefix in prefixes if prefix + GROOVE_TABLE in names]
            groove_table = next(
                ((table, text) for table in tables if _is_groove(text := _text_of(archive, table))), None
            )
            places = (
                {info.filename: zip_place(os.fspath(path), info) for info in archive.infolist()} if groove_table else {}
            )
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    if groove_table is None:
        return None
    table, text = groove_table
    absent = ZipPlace(os.fspath(path), NOWHERE)
    prefix = table.removesuffix(GROOVE_TABLE)
    return Groove(f"{path}/{table}", text, lambda name: places.get(prefix + name, absent))


def _content(table: Path) -> bytes:
    with table.open("rb") as file:
        return _limited(file)


def _text_of(archive: zipfile.ZipFile, table: str) -> bytes:
    with archive.open(table) as file:
        return _limited(file)


def _limited(file: IO[bytes]) -> bytes:
    """A table; nothing of one that is too long for one."""
    text = file.read(MOST_TABLE_BYTES + 1)
    return text if len(text) <= MOST_TABLE_BYTES else b""


def _prefixes(top: Iterable[str]) -> list[str]:
    """Where the table may lie: in the root, or in the only folder there if no MIDI lies beside it."""
    folders = [name for name in top if name.endswith("/") and not name.startswith(BESIDE)]
    alone = len(folders) == 1 and not any(name.lower().endswith(MIDI_SUFFIXES) for name in top)
    return ["", *(folders if alone else [])]


def _is_groove(table: bytes) -> bool:
    header = table.partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    return set(header.strip().split(",")) >= GROOVE_COLUMNS


def _split(name: str) -> Split:
    for split in SPLITS:
        if split == name:
            return split
    raise ValueError(f"split {name!r}, known are {', '.join(SPLITS)}")
