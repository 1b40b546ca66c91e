"""Where MIDI files come from: a folder, the Groove MIDI Dataset, or the demo corpus."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pooch

from musicvae.errors import ConfigError, DataError
from musicvae.manifest import SPLITS, Split
from preprocess.demo_corpus import write_demo_corpus
from preprocess.settings import DemoSettings

MIDI_SUFFIXES = (".mid", ".midi")
GROOVE_URL = "https://storage.googleapis.com/magentadata/datasets/groove/groove-v1.0.0-midionly.zip"
GROOVE_SHA256 = "651cbc524ffb891be1a3e46d89dc82a1cecb09a57c748c7b45b844c4841dcc1e"
GROOVE_TABLE = "info.csv"
GROOVE_COLUMNS = {"style", "midi_filename", "split"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One MIDI file of a collection.

    Attributes:
        name: its path within the collection, with forward slashes; what windows and reports call it.
        path: where it lies; absolute, for tasks run in other folders.
        split: the split that the collection gives it, if it gives any.
        style: its style, empty if unknown.
    """

    name: str
    path: Path
    split: Split | None = None
    style: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A collection of MIDI files, ordered by name.

    Attributes:
        kind: what it is.
        files: every file that will be accounted for.
        splits: the splits that its files go to, in the manifest's order.
        drum_map: the drum map that `auto` stands for.
    """

    kind: Literal["folder", "groove", "demo"]
    files: tuple[SourceFile, ...]
    splits: tuple[Split, ...] = ("train", "validation")
    drum_map: str = "general_midi"

    @property
    def lists_its_files(self) -> bool:
        """Whether a table names files and splits; then files of equal content are meant to be there."""
        return self.kind == "groove"


def open_source(name: str, *, demo: DemoSettings, demo_folder: Path) -> Source:
    """The collection that `--source` names: `groove`, `demo`, or a folder (GMD if it holds GMD's table).

    Args:
        name: what `--source` says.
        demo: which demo corpus.
        demo_folder: where a demo corpus is composed; not made for other sources.

    Raises:
        ConfigError: no such folder.
        DataError: no MIDI file in it, a table that cannot be used, or GMD cannot be had.
    """
    match name:
        case "demo":
            styles = write_demo_corpus(demo_folder, performances=demo.performances, seed=demo.seed)
            files = [SourceFile(file, demo_folder / file, style=style) for file, style in styles.items()]
            return Source("demo", _by_name(files))
        case "groove":
            return _groove(_groove_folder())
        case _:
            folder = Path(name).absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"no folder {folder}",
            expected="--source PATH (a folder of MIDI files), groove or demo",
            found="a file" if folder.exists() else "nothing at that path",
            do="check the path",
        )
    return _groove(folder) if _is_groove(folder) else _folder(folder)


def _folder(folder: Path) -> Source:
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in MIDI_SUFFIXES and not path.is_dir()]
    if not paths:
        raise DataError(
            f"no MIDI files under {folder}",
            expected=f"files that end in {' or '.join(MIDI_SUFFIXES)}, in any case and any depth",
            found=f"{sum(path.is_file() for path in folder.rglob('*'))} other files",
            likely="another path, or an archive that is not unpacked",
        )
    return Source("folder", _by_name([SourceFile(path.relative_to(folder).as_posix(), path) for path in paths]))


def _groove(folder: Path) -> Source:
    """GMD as its table lists it, so that a file that is missing on disk is accounted for."""
    table = folder / GROOVE_TABLE
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        files = [
            SourceFile(row["midi_filename"], folder / row["midi_filename"], _split(row["split"]), row["style"])
            for row in rows
        ]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"{table} cannot be used",
            expected=f"the table of the Groove MIDI Dataset, with columns {', '.join(sorted(GROOVE_COLUMNS))}",
            found=f"{type(error).__name__}: {error}",
            likely="another folder, or an incomplete download",
            do=f"point GROOVE_DIR at the folder that holds GMD's {GROOVE_TABLE}",
        ) from None
    if not files:
        raise DataError(f"{table} lists no files", expected="one row a file", found="a header alone")
    given = {file.split for file in files}
    return Source("groove", _by_name(files), tuple(split for split in SPLITS if split in given), "roland")


def _is_groove(folder: Path) -> bool:
    try:
        with (folder / GROOVE_TABLE).open(newline="", encoding="utf-8") as file:
            return set(next(csv.reader(file), [])) >= GROOVE_COLUMNS
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _groove_folder() -> Path:
    """GMD's folder: what `GROOVE_DIR` names, else the download, which is kept in the user's cache."""
    if given := os.environ.get("GROOVE_DIR"):
        return Path(given).absolute()
    pooch.get_logger().setLevel("WARNING")
    try:
        paths = pooch.retrieve(
            GROOVE_URL, known_hash=f"sha256:{GROOVE_SHA256}", path=pooch.os_cache("musicvae"), processor=pooch.Unzip()
        )
    except Exception as error:  # requests, urllib3, zipfile, pooch and the file system each raise their own
        raise DataError(
            "the Groove MIDI Dataset cannot be downloaded",
            expected=f"{GROOVE_URL} with sha256 {GROOVE_SHA256[:12]}...",
            found=f"{type(error).__name__}: {error}",
            likely="no network from this machine",
            do=f"copy the dataset here and set GROOVE_DIR to the folder that holds its {GROOVE_TABLE}",
        ) from None
    return next(Path(path).parent for path in paths if Path(path).name == GROOVE_TABLE)


def _split(name: str) -> Split:
    for split in SPLITS:
        if split == name:
            return split
    raise ValueError(f"split {name!r}, known are {', '.join(SPLITS)}")


def _by_name(files: list[SourceFile]) -> tuple[SourceFile, ...]:
    return tuple(sorted(files, key=lambda file: file.name))
