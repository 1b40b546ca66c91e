"""Shards whose hash is right and whose content is not."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from musicvae.data.manifest import ShardEntry

STEPS, DRUMS = 64, 9


def with_member(path: Path, entry: ShardEntry, name: str, data: bytes) -> ShardEntry:
    """Puts other bytes into the members of a name, and gives what a manifest would say of the shard."""
    with tarfile.open(path) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for info, old in members:
            new = data if info.name.endswith(name) else old
            info.size = len(new)
            tar.addfile(info, io.BytesIO(new))
    content = path.read_bytes()
    return replace(entry, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def strange_members(windows: int) -> Mapping[str, tuple[str, bytes, str]]:
    """By what is strange: the member of a block of windows, its bytes, and a pattern of what is said of it."""
    tokens, velocity = (windows, STEPS), (windows, STEPS, DRUMS)

    def meta(**values: object) -> bytes:
        return json.dumps([{"source": "a", "bar": 0, "tempo": 100, **values}] * windows).encode()

    return {
        "tokens out of range": (
            "tokens.npy",
            _npy(np.full(tokens, 1 << DRUMS, dtype="<i2")),
            r"tokens of 512 to 512",
        ),
        "tokens below 0": ("tokens.npy", _npy(np.full(tokens, -1, dtype="<i2")), r"tokens of -1 to -1"),
        "tokens of another type": ("tokens.npy", _npy(np.zeros(tokens, dtype="<i4")), r"\S*tokens.npy holds int32"),
        "a shape beyond the file": (
            "tokens.npy",
            _npy(np.zeros(tokens, dtype="<i2"), shape=(10**12, STEPS)),
            r"\S*tokens.npy holds int16 of shape \(1000000000000, 64\)",
        ),
        "velocity beyond MIDI": ("velocity.npy", _npy(np.full(velocity, 200, dtype="u1")), r"a velocity of 200"),
        "a huge velocity": (
            "velocity.npy",
            _npy(np.zeros(velocity, dtype="u1"), shape=(10**15, STEPS, DRUMS)),
            r"velocity.npy holds uint8 of shape",
        ),
        "text for tempo": ("meta.json", meta(tempo="fast"), r"tempo of a window"),
        "nan for tempo": ("meta.json", meta(tempo=float("nan")), r"tempo of a window"),
        "a bar of 1.5": ("meta.json", meta(bar=1.5), r"bar of a window"),
        "a source that is no text": ("meta.json", meta(source=7), r"source and style"),
        "deep JSON": ("meta.json", b"[" * 100_000, r"maximum recursion"),
    }


def _npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape or array.shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + array.tobytes()
