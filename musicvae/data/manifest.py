"""`manifest.json`: what a folder of shards holds, with the hashes that prove it."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

from musicvae.durable import write_json
from musicvae.errors import ConfigError, DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


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
        if self.windows < 1 or self.bytes < 1:
            raise ValueError(f"shard {self.name!r} must hold windows, found {self.windows} in {self.bytes} bytes")
        if self.name != Path(self.name).name or self.name.startswith("."):
            raise ValueError(f"a shard's name must be a plain file name, found {self.name!r}")
        # Copies of remote shards are named by it.
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
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
        total = sum(shard.windows for shard in self.shards)
        if total != self.windows:
            raise ValueError(f"the shards hold {total} windows, the split says {self.windows}")
        if len({shard.name for shard in self.shards}) != len(self.shards):
            raise ValueError("a shard stands twice in one split")


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
                likely="the collection is too small for every split to get files"
                if name in SPLITS
                else "a misspelt name",
                do="build the shards from more files, or with another split.validation_share"
                if name in SPLITS
                else f"name one of {', '.join(SPLITS)}",
            )
        return entry

    def write(self, folder: Path) -> None:
        """Writes `manifest.json`; a folder without one is not finished."""
        write_json(folder / MANIFEST_NAME, {**self._content(), "fingerprint": self.fingerprint})

    @classmethod
    def read(cls, folder: Path) -> "ShardManifest":
        """The manifest of a folder of shards.

        Raises:
            ConfigError: there is none.
            DataError: it is damaged, of another schema, or edited (its fingerprint does not match).
        """
        path = folder / MANIFEST_NAME
        try:
            return cls.parse(path.read_text(), str(path))
        except FileNotFoundError:
            found = "no such folder" if not folder.exists() else f"no {MANIFEST_NAME} in it"
            raise no_shards(str(folder), found, f"python -m jobs.build_shards --source ... --out {folder}") from None
        except (OSError, UnicodeDecodeError) as error:
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
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
            "splits": {name: asdict(split) for name, split in self.splits.items()},
        }

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> "ShardManifest":
        splits = {
            name: SplitEntry(split["windows"], split["files"], tuple(ShardEntry(**shard) for shard in split["shards"]))
            for name, split in values["splits"].items()
        }
        pitches = {drum: tuple(pitches) for drum, pitches in values["drum_map"]["pitches"]}
        drum_map = DrumMap(values["drum_map"]["name"], pitches)
        return cls(GridSpec(**values["grid"]), drum_map, splits, values["schema"])


def no_shards(place: str, found: str, do: str) -> ConfigError:
    """What to tell a user who named a place without shards."""
    return ConfigError(
        f"no shards in {place}",
        expected=f"a folder with {MANIFEST_NAME}, as jobs.build_shards makes it",
        found=found,
        likely="another path, or build_shards has not finished there",
        do=do,
    )


def _damaged(name: str, found: str) -> DataError:
    return DataError(
        f"{name} cannot be used",
        expected=f"a manifest of schema {SCHEMA} as jobs.build_shards writes it",
        found=found,
        likely="a copy that broke off, another version, or an edit by hand",
        do="copy the folder again, or build the shards anew with --overwrite",
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
    if (found := hashlib.file_digest(file, "sha256").hexdigest()) != shard.sha256:
        raise WrongBytesError(f"sha256 {found[:12]}..., the manifest says {shard.sha256[:12]}...")
