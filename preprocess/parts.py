"""What is kept of a batch of files until the build ends: one part, a zip of plain arrays.

A part holds the windows of its files in order, in chunks of bounded size, and the summary that the driver needs. It is
written aside and renamed, and nothing in it but what was converted decides a later build, so a part that is there and
whole is never made again. A part that a power cut has torn fails its checksums and is.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int8, Int16, Int32, Int64, UInt8, UInt64

from musicvae.data.manifest import SPLITS
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.durable import aside_of
from musicvae.groove.distance import window_hashes
from musicvae.groove.groove import hits_from_tokens
from preprocess.outcome import FileOutcome

NO_SPLIT = -1
"""In `PartSummary.split`: the file is rejected."""
DAMAGED = (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a part raises that is missing or torn; NotImplementedError for a compression that zipfile lacks."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some files of a batch in order, ready to be written.

    Velocity and offset stand for hits alone, a fifth of what windows take: they pass through a pipe and a file.

    Attributes:
        tokens: of each window.
        velocity: of each hit, by window, step, drum.
        offset: of each hit.
        num_drums: number of drum classes; 0 without windows.
        meta: JSON list with [source, style, bar of each window, tempo of each window] for each source.
        records: a line of JSON a file.
        hashes: 8 bytes for the tokens of each window.
        windows: number of windows of each file.
        split: of each file, a place in `SPLITS` or `NO_SPLIT`.
        digest: hash of each file's content.
        settled: whether trying the files again would give the same.
    """

    tokens: Int16[np.ndarray, "window step"]
    velocity: UInt8[np.ndarray, " hit"]
    offset: Int16[np.ndarray, " hit"]
    num_drums: int
    meta: bytes
    records: bytes
    hashes: UInt64[np.ndarray, " window"]
    windows: Int32[np.ndarray, " file"]
    split: Int8[np.ndarray, " file"]
    digest: UInt64[np.ndarray, " file"]
    settled: bool

    @classmethod
    def of(cls, files: Sequence[tuple[FileOutcome, WindowBlock | None]]) -> "Chunk":
        """The chunk of some converted files, at least one."""
        outcomes = [outcome for outcome, _ in files]
        blocks = [block for _, block in files if block is not None]
        meta = [
            [source, style, *zip(*((m.bar, m.tempo) for m in windows), strict=True)]
            for block in blocks
            for (source, style), windows in groupby(block.meta, lambda m: (m.source, m.style))
        ]
        tokens = _joined([block.tokens for block in blocks])
        cells = [np.flatnonzero(block.velocity) for block in blocks]
        return cls(
            tokens=tokens,
            velocity=_joined(
                [block.velocity.ravel()[block_cells] for block, block_cells in zip(blocks, cells, strict=True)]
            ),
            offset=_joined(
                [block.offset.ravel()[block_cells] for block, block_cells in zip(blocks, cells, strict=True)]
            ),
            num_drums=blocks[0].velocity.shape[-1] if blocks else 0,
            meta=json.dumps(meta, ensure_ascii=False).encode(),
            records=b"".join(outcome.record_line() for outcome in outcomes),
            hashes=window_hashes(tokens),
            windows=np.array([outcome.windows for outcome in outcomes], dtype=np.int32),
            split=np.array([_code(outcome) for outcome in outcomes], dtype=np.int8),
            digest=np.array([outcome.digest for outcome in outcomes], dtype=np.uint64),
            settled=all(outcome.settled for outcome in outcomes),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PartSummary:
    """What the driver keeps of a part: a few bytes a file and 8 bytes a window.

    Attributes:
        content: hash of everything in the part.
        windows: number of windows of each file.
        split: of each file, a place in `SPLITS` or `NO_SPLIT`.
        digest: hash of each file's content.
        hashes: 8 bytes for the tokens of each window, files in order.
    """

    content: str
    windows: Int32[np.ndarray, " file"]
    split: Int8[np.ndarray, " file"]
    digest: UInt64[np.ndarray, " file"]
    hashes: UInt64[np.ndarray, " window"]

    def copied(self) -> "PartSummary":
        """A summary with memory of its own: arrays that came over Ray keep their whole message alive."""
        arrays = (array.copy() for array in (self.windows, self.split, self.digest, self.hashes))
        return PartSummary(self.content, *arrays)


class PartWriter:
    """Takes chunks in order; the part has its name once the `with` block of `writing_part` ends."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._chunks: list[tuple[np.ndarray, ...]] = []
        self._settled = True

    def add(self, chunk: Chunk) -> None:
        """Writes the chunk's windows and records; the rest waits for the summary."""
        number = len(self._chunks)
        if len(chunk.tokens):
            _write_array(self._archive, f"{number}/tokens", chunk.tokens)
            _write_array(self._archive, f"{number}/velocity", chunk.velocity)
            _write_array(self._archive, f"{number}/offset", chunk.offset)
            _write(self._archive, f"{number}/drums", str(chunk.num_drums).encode())
            _write(self._archive, f"{number}/meta", chunk.meta)
        _write(self._archive, f"{number}/records", chunk.records)
        self._settled &= chunk.settled
        self._chunks.append((chunk.windows, chunk.split, chunk.digest, chunk.hashes))

    def finish(self, key: str) -> PartSummary:
        """Writes the summary under the key that says what the part was made of.

        Without a key, so that it is made again by the next build, if a rejection in it may have had a passing cause.
        """
        windows, split, digest, hashes = (np.concatenate(column) for column in zip(*self._chunks, strict=True))
        lengths = np.array([len(chunk_hashes) for _, _, _, chunk_hashes in self._chunks], dtype=np.int64)
        arrays = {"windows": windows, "split": split, "digest": digest, "hashes": hashes, "chunks": lengths}
        for name, array in arrays.items():
            _write_array(self._archive, name, array)
        _write(self._archive, "key", key.encode() if self._settled else b"")
        return PartSummary(_content(self._archive), windows, split, digest, hashes)


@contextmanager
def writing_part(path: Path) -> Iterator[PartWriter]:
    """A part to fill; not synced to disk, since a torn one is noticed and made again."""
    aside = aside_of(path)
    try:
        with zipfile.ZipFile(aside, "w") as archive:
            yield PartWriter(archive)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_summary(path: Path, key: str) -> PartSummary | None:
    """The summary of a part, if one is there, is whole, and was made of what the key says."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.read("key").decode() != key or archive.testzip():
                return None
            arrays = [_read_array(archive, name) for name in ("windows", "split", "digest", "hashes")]
            return PartSummary(_content(archive), *arrays)
    except DAMAGED:
        return None


def read_records(path: Path) -> list[bytes]:
    """The report's lines of a part's files."""
    with zipfile.ZipFile(path) as archive:
        chunks = len(_read_array(archive, "chunks"))
        return b"".join(archive.read(f"{number}/records") for number in range(chunks)).splitlines()


def read_windows(path: Path, rows: Int64[np.ndarray, " row"]) -> WindowBlock:
    """The windows of a part at some places, at least one, in ascending order."""
    blocks = []
    with zipfile.ZipFile(path) as archive:
        ends = np.cumsum(_read_array(archive, "chunks"))
        for number, chunk_rows in enumerate(np.split(rows, np.searchsorted(rows, ends[:-1]))):
            if len(chunk_rows):
                blocks.append(_read_rows(archive, number, chunk_rows - (ends[number - 1] if number else 0)))
    return WindowBlock.joined(blocks)


def _code(outcome: FileOutcome) -> int:
    return NO_SPLIT if outcome.split is None else SPLITS.index(outcome.split)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros((0, 0), dtype=np.int16)


def _read_rows(archive: zipfile.ZipFile, number: int, rows: np.ndarray) -> WindowBlock:
    all_tokens = _read_array(archive, f"{number}/tokens")
    chosen = np.zeros(len(all_tokens), dtype=bool)
    chosen[rows] = True
    of_chosen = np.repeat(chosen, np.bitwise_count(all_tokens).sum(axis=1, dtype=np.int64))
    tokens = all_tokens[rows]
    hits = hits_from_tokens(tokens, int(archive.read(f"{number}/drums")))
    velocity, offset = np.zeros(hits.shape, dtype=np.uint8), np.zeros(hits.shape, dtype=np.int16)
    velocity[hits] = _read_array(archive, f"{number}/velocity")[of_chosen]
    offset[hits] = _read_array(archive, f"{number}/offset")[of_chosen]
    meta = [
        (source, bar, tempo, style)
        for source, style, bars, tempos in json.loads(archive.read(f"{number}/meta"))
        for bar, tempo in zip(bars, tempos, strict=True)
    ]
    return WindowBlock(tokens, velocity, offset, [WindowMeta(*meta[row]) for row in rows.tolist()])


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), data)


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    archive.writestr(zipfile.ZipInfo(name), buffer.getbuffer())


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    return np.load(io.BytesIO(archive.read(name)), allow_pickle=False)


def _content(archive: zipfile.ZipFile) -> str:
    members = [(member.filename, member.file_size, member.CRC) for member in archive.infolist()]
    return hashlib.blake2b(repr(members).encode(), digest_size=16).hexdigest()
