"""A folder of MIDI files, to any depth, through symbolic links, in an order of its own."""

import os
from array import array
from collections.abc import Iterable, Iterator
from heapq import merge
from pathlib import Path

from musicvae.errors import ConfigError, DataError
from preprocess.settings import SplitSettings
from preprocess.sources import listing
from preprocess.sources.listing import possible_splits

ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")
"""What is counted, and not opened, inside a folder."""
SORTED_NAMES = 10_000
"""Names that are sorted at a time: all of a large collection at once would be the peak of the driver's memory."""


def open_folder(folder: Path, settings: SplitSettings, *, avoid: Iterable[Path] = ()) -> listing.Source:
    """The MIDI files of a folder (see `is_candidate`), in an order that does not depend on the file system's.

    Links are followed. A folder that can be reached in several ways is entered once: by its real path if that lies
    within, else by the first link by name. A folder that cannot be listed stands among the files, with a slash at its
    end, so that it is accounted for. Archives inside a folder are not opened.

    Args:
        folder: absolute.
        avoid: folders that are not entered.

    Raises:
        ConfigError: it cannot be listed.
        DataError: no MIDI file in it.
    """
    walk = _Walk(os.fspath(folder), avoid)
    if walk.unlisted == [""]:
        raise ConfigError(
            f"{folder} cannot be listed", expected="a folder that can be read", do="correct its permissions"
        )
    names = walk.names_in_order()
    if not names:
        raise DataError(
            f"no MIDI files under {folder}",
            expected=f"files that {listing.MIDI_LIKE}, at any depth",
            found=f"{walk.others} other files" + (f", {walk.archives} of them archives" if walk.archives else ""),
            likely="archives inside a folder, which are not opened" if walk.archives else "a wrong path",
            do="give an archive itself (--source FILE.zip), or unpack the archives" if walk.archives else "",
        )
    files = folder_listing(os.fspath(folder), names)
    return listing.Source("folder", files, possible_splits(settings), unopened_archives=walk.archives)


class _Names:
    """Undecoded names in one block of memory: as strings of their own they need three times as much."""

    def __init__(self, names: Iterable[str]) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])
        for name in names:
            self._bytes += os.fsencode(name)
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(bytes(self._bytes[self._ends[index] : self._ends[index + 1]]))

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))


def folder_listing(folder: str, names: _Names) -> listing.Listing:
    """Files of a folder by their undecoded names, which are all that is kept of them."""

    def make(index: int) -> listing.SourceFile:
        return listing.SourceFile(listing.printable(names[index]), listing.FilePlace(f"{folder}/{names[index]}"))

    return listing.Listing(len(names), make)


class _Walk:
    """One pass over a folder: first its own tree, then what links lead to, round by round in the order of their names.

    Attributes:
        unlisted: folders that cannot be listed; the empty name is the folder itself.
        others: number of other files, archives among them.
        archives: number of archives.
    """

    def __init__(self, folder: str, avoid: Iterable[Path]) -> None:
        self.unlisted: list[str] = []
        self.others = 0
        self.archives = 0
        self._folder = folder
        self._names: list[str] = []
        self._sorted: list[_Names] = []
        self._entered = {_identity(os.fspath(path)) for path in avoid if path.exists()}
        starts = [""]
        while starts:
            links: list[str] = []
            for start in starts:
                self._enter_tree(start, links)
            starts = sorted(links)

    def names_in_order(self) -> _Names:
        """Candidates and, with a slash, folders that cannot be listed; relative to the folder, undecoded."""
        self._names += [f"{name}/" for name in self.unlisted]
        self._sort()
        return _Names(merge(*self._sorted, key=listing.printable))

    def _sort(self) -> None:
        self._sorted.append(_Names(sorted(self._names, key=listing.printable)))
        self._names.clear()

    def _enter_tree(self, start: str, links: list[str]) -> None:
        waiting = [start]
        while waiting:
            name = waiting.pop()
            path = f"{self._folder}/{name}"
            try:
                identity = _identity(path)
                if identity in self._entered:
                    continue
                self._entered.add(identity)
                with os.scandir(path) as entries:
                    folders = self._sort_out(f"{name}/" if name else "", entries, links)
            except OSError:
                self.unlisted.append(name)
                continue
            waiting += sorted(folders, reverse=True)

    def _sort_out(self, prefix: str, entries: Iterable[os.DirEntry[str]], links: list[str]) -> list[str]:
        """Notes the files and links of one folder and returns the folders in it."""
        folders: list[str] = []
        for entry in entries:
            name = prefix + entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(name)
            elif listing.is_candidate(entry.name, lambda entry=entry: _head(entry)):
                self._names.append(name)
                if len(self._names) == SORTED_NAMES:
                    self._sort()
            else:
                self.others += 1
                self.archives += entry.name.lower().endswith(ARCHIVE_SUFFIXES)
        return folders


def _identity(path: str) -> tuple[int, int]:
    """What a folder is, whatever path leads to it."""
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Links that lead to nothing, or to themselves, are files that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _head(entry: os.DirEntry[str]) -> bytes | None:
    try:
        if not entry.is_file():
            return b""
        with Path(entry.path).open("rb", buffering=0) as file:
            return file.read(listing.HEAD_BYTES)
    except OSError:
        return None
