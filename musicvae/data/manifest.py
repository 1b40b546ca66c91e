"""`manifest.json`: what shards hold, with the hashes that prove it; and where shards are: a folder, or any URL."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from musicvae.durable import open_regular, write_json
from musicvae.errors import DAMAGES, ConfigError, DataError, NotThereError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
Split = Literal["train", "validation", "test"]
SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_STEPS = 65_536
"""Of a window: a manifest that says more is damaged, and would have memory taken for it."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def check_whole(what: str, value: object) -> None:
    """Refuses what JSON may hold in the place of a count.

    Raises:
        ValueError: no whole number of 0 or more.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{what}: expected a whole number, found {value!r}")


def read_grid(values: Mapping[str, Any]) -> GridSpec:
    """A grid as JSON holds it.

    Raises:
        ValueError, TypeError, AttributeError: there is none, or one of more steps than anybody has memory for.
    """
    for name, value in values.items():
        check_whole(f"grid.{name}", value)
    grid = GridSpec(**values)
    if grid.num_steps > MOST_STEPS:
        raise ValueError(f"windows of {grid.num_steps} steps, at most {MOST_STEPS} are read")
    return grid


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One tar of a split.

    Raises:
        ValueError: no windows, a name that is not a plain file name, or a hash that is none.
    """

    name: str
    windows: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        check_whole(f"windows of shard {self.name!r}", self.windows)
        check_whole(f"bytes of shard {self.name!r}", self.bytes)
        if self.windows < 1 or self.bytes < 1:
            raise ValueError(f"shard {self.name!r} must hold windows, found {self.windows} in {self.bytes} bytes")
        if "/" in self.name or self.name.startswith("."):
            raise ValueError(f"a shard's name must be a plain file name, found {self.name!r}")
        # Copies of remote shards are named by it.
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"a sha256 has 64 hexadecimal digits, found {self.sha256!r}")


@dataclass(frozen=True, slots=True)
class SplitEntry:
    """One split: its shards in order. A window's id is its place in that order.

    Attributes:
        windows: number of windows over all shards.
        files: number of MIDI files that gave at least one of them.

    Raises:
        ValueError: counts that do not add up, or a shard named twice.
    """

    windows: int
    files: int
    shards: tuple[ShardEntry, ...]

    def __post_init__(self) -> None:
        check_whole("windows of a split", self.windows)
        check_whole("files of a split", self.files)
        total = sum(shard.windows for shard in self.shards)
        if total != self.windows:
            raise ValueError(f"the shards hold {total} windows, the split says {self.windows}")
        if len({shard.name for shard in self.shards}) != len(self.shards):
            raise ValueError("a shard is listed twice in one split")

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `asdict` gives them, which needs ten times as long for many shards."""
        shards = [{name: getattr(shard, name) for name in ShardEntry.__slots__} for shard in self.shards]
        return {"windows": self.windows, "files": self.files, "shards": shards}


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """What a folder of shards holds: everything a reader needs to know before it opens a tar."""

    grid: GridSpec
    drum_map: DrumMap
    splits: Mapping[str, SplitEntry]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"manifest schema {self.schema}, this version reads {SCHEMA}")
        if unknown := set(self.splits) - set(SPLITS):
            raise ValueError(f"unknown splits {sorted(unknown)}, known are {', '.join(SPLITS)}")

    @property
    def fingerprint(self) -> str:
        """A short hash of the content: equal exactly when the windows, their order, grid and drum map are."""
        content = json.dumps(self._content(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def split(self, name: str) -> SplitEntry:
        """One split.

        Raises:
            ConfigError: there is none of that name, or it is empty.
        """
        entry = self.splits.get(name)
        if entry is None or not entry.windows:
            raise ConfigError(
                f"there is no split {name!r} in these shards",
                expected=f"one of {', '.join(f'{k} ({v.windows} windows)' for k, v in self.splits.items())}",
                found=f"{name!r}{'' if entry is None else ', which is empty'}",
                likely="the collection is too small to give each split files" if name in SPLITS else "a misspelt name",
                do="build the shards from more files, or with another split.validation_share"
                if name in SPLITS
                else f"choose one of {', '.join(SPLITS)}",
            )
        return entry

    def write(self, folder: Path) -> None:
        """Writes `manifest.json`; a folder without one is not finished."""
        write_json(folder / MANIFEST_NAME, {**self._content(), "fingerprint": self.fingerprint})

    @classmethod
    def read(cls, folder: Path) -> "ShardManifest":
        """The manifest of a folder of shards.

        Raises:
            NotThereError: there is none.
            DataError: it is damaged, of another schema, or edited (its fingerprint does not match).
        """
        path = folder / MANIFEST_NAME
        try:
            with open_regular(path) as file:
                return cls.parse(file.read().decode(), str(path))
        except FileNotFoundError:
            problem = "no such folder" if not folder.exists() else f"no {MANIFEST_NAME} in it"
            raise no_shards(str(folder), problem, f"python -m jobs.build_shards --source ... --out {folder}") from None
        except DataError:
            raise
        except (OSError, ValueError) as error:
            raise _damaged(str(path), f"{type(error).__name__}: {error}") from None

    @classmethod
    def parse(cls, text: str, name: str) -> "ShardManifest":
        """The manifest that a text holds.

        Args:
            name: of the file, for the message.

        Raises:
            DataError: it is damaged, of another schema, or edited (its fingerprint does not match).
        """
        try:
            values = json.loads(text)
            manifest = cls._from_values(values)
        except DAMAGES as error:
            raise _damaged(name, f"{type(error).__name__}: {error}") from None
        if values.get("fingerprint") != manifest.fingerprint:
            raise _damaged(name, f"fingerprint {values.get('fingerprint')}, its content has {manifest.fingerprint}")
        return manifest

    def _content(self) -> dict[str, Any]:
        return {
            "schema": self.schema,
            "grid": asdict(self.grid),
            "drum_map": {
                "name": self.drum_map.name,
                "pitches": [[d, list(p)] for d, p in self.drum_map.pitches.items()],
            },
            "splits": {name: split.to_json() for name, split in self.splits.items()},
        }

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> "ShardManifest":
        splits = {
            name: SplitEntry(split["windows"], split["files"], tuple(ShardEntry(**shard) for shard in split["shards"]))
            for name, split in values["splits"].items()
        }
        pitches = {str(drum): tuple(pitches) for drum, pitches in values["drum_map"]["pitches"]}
        for pitch in chain.from_iterable(pitches.values()):
            check_whole("a pitch", pitch)
        drum_map = DrumMap(str(values["drum_map"]["name"]), pitches)
        return cls(read_grid(values["grid"]), drum_map, splits, values["schema"])


def no_shards(place: str, problem: str, do: str) -> NotThereError:
    """What to tell a user who named a place without shards."""
    return NotThereError(
        f"no shards in {place}",
        expected=f"a folder with {MANIFEST_NAME}, as jobs.build_shards writes it",
        found=problem,
        likely="a wrong path, or jobs.build_shards has not finished",
        do=do,
    )


def _damaged(name: str, damage: str) -> DataError:
    return DataError(
        f"{name} cannot be used",
        expected=f"a manifest of schema {SCHEMA} as jobs.build_shards writes it",
        found=damage,
        likely="an incomplete copy, another version of this program, or an edited file",
        do="copy the folder again, or rebuild the shards with --overwrite",
    )


class WrongBytesError(ValueError):
    """A file is not the one that the manifest describes."""


def check_bytes(file: BufferedReader, shard: ShardEntry) -> None:
    """Reads a whole file, a chunk at a time, and compares its size and hash with the manifest's.

    Raises:
        WrongBytesError: they differ.
    """
    if (size := os.fstat(file.fileno()).st_size) != shard.bytes:
        raise WrongBytesError(f"{size} bytes, the manifest says {shard.bytes}")
    if (digest := hashlib.file_digest(file, "sha256").hexdigest()) != shard.sha256:
        raise WrongBytesError(f"sha256 {digest[:12]}..., the manifest says {shard.sha256[:12]}...")


@runtime_checkable
class ShardSource(Protocol):
    """Shards wherever they are; as text, a name for messages that holds no password.

    Attributes:
        fetchers: how many shards a process makes ready at once.
    """

    fetchers: int

    def manifest(self) -> ShardManifest:
        """What the shards hold.

        Raises:
            ConfigError: there are no shards.
            DataError: the manifest is damaged.
        """
        ...

    def local(self, shard: ShardEntry) -> Path:
        """The shard as a file of this machine, fetched where need be. Its bytes are for the reader to verify.

        Raises:
            DataError: it cannot be had.
        """
        ...

    def discard(self, shard: ShardEntry) -> bool:
        """Drops a damaged copy of a shard; False where there is only the original, which stays."""
        ...


class FolderShards:
    """Shards in a folder that this machine sees."""

    fetchers = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def manifest(self) -> ShardManifest:
        return ShardManifest.read(self.folder)

    def local(self, shard: ShardEntry) -> Path:
        return self.folder / shard.name

    def discard(self, shard: ShardEntry) -> bool:
        return False


def open_shards(
    location: str | Path, *, cache_dir: str | Path | None = None, cache_gib: float | None = None
) -> ShardSource:
    """The shards at a path or URL; nothing is read yet.

    Args:
        cache_dir, cache_gib: where copies of remote shards are kept, and how much of them; see `ShardCache`.

    Raises:
        ConfigError: a URL that runs a program, of no known kind, or whose driver is not installed.
    """
    text = str(location)
    if isinstance(location, Path) or not is_url(text):
        return FolderShards(Path(location))
    if text.startswith("file://") and "::" not in text:
        return FolderShards(Path(text.removeprefix("file://")))
    from musicvae.data.cache import ShardCache
    from musicvae.data.remote import RemoteShards  # loads fsspec, so only where there is a URL

    return RemoteShards(text, ShardCache.at(cache_dir, cache_gib))


def is_url(location: str) -> bool:
    """Whether a location is a URL or a chain of them, and not a path."""
    return "://" in location or "::" in location or location.startswith("pipe:")


def refuse_programs(url: str) -> None:
    """Refuses `pipe:`, as webdataset's own URLs know it: data must not decide what runs on a machine.

    Raises:
        ConfigError: a part of the URL runs a program.
    """
    if any(part.strip().lower().startswith("pipe:") or part.strip().lower() == "pipe" for part in url.split("::")):
        raise ConfigError(
            "shards cannot be read from a program",
            expected="a folder, or a URL such as https://, s3:// or gs://",
            found="a pipe: URL",
            do="give the URL that the program reads; --shards accepts each URL that fsspec has a driver for",
        )


def without_secrets(text: str) -> str:
    """A text without what URLs in it hold beside host and path: user, password, signed queries."""
    return "::".join(re.sub(r"([A-Za-z][\w+.-]*://)([^\s'\"<>]*)", _bare_url, part) for part in text.split("::"))


def _bare_url(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    authority, slash, path = re.fullmatch(r"([^/?#]*)([/?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    plain, mark, _ = (slash + path).partition("?")
    return f"{scheme}{authority.rpartition('@')[2]}{plain.partition('#')[0]}{'?...' if mark else ''}"
