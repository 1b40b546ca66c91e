"""Blocks of windows and the WebDataset tars that hold them.

A shard is a tar of blocks of up to 1,024 windows. A block has four members: `<block>.tokens.npy` int16
(window, step), `<block>.velocity.npy` uint8 (window, step, drum; MIDI 1-127, 0 is no hit), `<block>.offset.npy` int16
(window, step, drum; 1/65536 of a step) and `<block>.meta.json` (a list with source, bar, tempo, style per window).
Members are decoded here and never by webdataset's default decoder, which unpickles.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from musicvae.data.manifest import ShardEntry, ShardManifest
from musicvae.data.shard_file import check_members, verified
from musicvae.data.sources import ShardSource
from musicvae.data.windows import SplitTokens, WindowBlock, WindowMeta
from musicvae.durable import write_whole
from musicvae.groove.grid import GridSpec

BLOCK_WINDOWS = 1024


def write_shard(path: Path, windows: WindowBlock) -> ShardEntry:
    """Writes windows as one tar. The same windows give the same bytes everywhere.

    The tar is whole under its name but not yet on disk for good: `publish_folder` syncs a whole folder of them at once.
    """
    from webdataset.writer import TarWriter  # loads torch, so only where tars are written

    buffer = io.BytesIO()
    with TarWriter(buffer, encoder=False, mtime=0, user="root", group="root") as tar:
        for number, start in enumerate(range(0, len(windows), BLOCK_WINDOWS)):
            tar.write({"__key__": f"{number:06d}", **_encode(windows[start : start + BLOCK_WINDOWS])})
    data = buffer.getbuffer()
    write_whole(path, data, sync=False)
    return ShardEntry(path.name, len(windows), len(data), hashlib.sha256(data).hexdigest())


def read_shard(path: Path, shard: ShardEntry, *, grid: GridSpec, num_drums: int) -> WindowBlock:
    """All windows of a shard, with its hash checked first.

    Raises:
        DataError: the file is missing, not the one that the manifest describes, or holds anything unexpected.
    """
    with verified(path, shard) as file:
        windows = WindowBlock.joined([_decode(sample) for sample in _samples(path.name, file)])
        expected = (shard.windows, grid.num_steps, num_drums)
        if windows.velocity.shape != expected:
            raise ValueError(f"windows of shape {windows.velocity.shape}, the manifest says {expected}")
    return windows


def read_tokens(source: ShardSource, manifest: ShardManifest, split: str) -> SplitTokens:
    """The tokens of a whole split, in the order of the window ids.

    Raises:
        ConfigError: no such split.
        DataError: a damaged shard.
    """
    tokens, sources = [], []
    for shard in manifest.split(split).shards:
        block = read_shard(source.local(shard), shard, grid=manifest.grid, num_drums=manifest.drum_map.num_drums)
        tokens.append(block.tokens)
        sources += [meta.source for meta in block.meta]
    _, performance = np.unique(sources, return_inverse=True)
    return SplitTokens(np.concatenate(tokens), performance.astype(np.int64))


def _samples(name: str, file: BufferedReader) -> Iterator[dict[str, Any]]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    return group_by_keys(tar_file_expander([{"url": name, "stream": file}]))


def _encode(block: WindowBlock) -> dict[str, bytes | memoryview]:
    meta = [{"source": m.source, "bar": m.bar, "tempo": m.tempo, "style": m.style} for m in block.meta]
    return {
        "tokens.npy": _npy(block.tokens),
        "velocity.npy": _npy(block.velocity),
        "offset.npy": _npy(block.offset),
        "meta.json": json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode(),
    }


def _decode(sample: dict[str, Any]) -> WindowBlock:
    members = {name: value for name, value in sample.items() if not name.startswith("__")}
    check_members(sample["__key__"], members)
    return WindowBlock(
        np.load(io.BytesIO(members["tokens.npy"]), allow_pickle=False),
        np.load(io.BytesIO(members["velocity.npy"]), allow_pickle=False),
        np.load(io.BytesIO(members["offset.npy"]), allow_pickle=False),
        [WindowMeta(**meta) for meta in json.loads(members["meta.json"])],
    )


def _npy(array: np.ndarray) -> memoryview:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getbuffer()
