"""Shards: what is written is read back, and what was damaged is refused."""

import hashlib
import io
import json
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicvae.data.manifest import ShardEntry
from musicvae.data.shards import BLOCK_WINDOWS, index_playing, index_tokens, read_shard, write_shard
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.errors import DataError
from musicvae.groove.grid import GridSpec
from tests.support.harm.strange_shards import STEPS, strange_members, with_member

GRID, STRANGE = GridSpec(), strange_members(3)


def windows(count: int, seed: int = 0) -> WindowBlock:
    rng = np.random.default_rng(seed)
    velocity = np.where(rng.random((count, 64, 9)) < 0.2, rng.integers(1, 128, (count, 64, 9)), 0).astype(np.uint8)
    tokens = ((velocity > 0) << np.arange(9)).sum(axis=-1).astype(np.int16)
    offset = np.where(velocity > 0, rng.integers(-32768, 32768, velocity.shape), 0).astype(np.int16)
    meta = [WindowMeta(f"dir/ün{i}.mid", i, 90 + i / 7, "jazz/funk") for i in range(count)]
    return WindowBlock(tokens, velocity, offset, meta)


def read(path: Path, shard: ShardEntry) -> WindowBlock:
    return read_shard(path, shard, grid=GRID, num_drums=9)


def rewritten(path: Path, members: dict[str, bytes], shard: ShardEntry) -> ShardEntry:
    """A tar with other members, and an entry that vouches for it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    path.write_bytes(data)
    return replace(shard, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [1, BLOCK_WINDOWS, BLOCK_WINDOWS + 3])
def test_round_trip(tmp_path, count):
    written = windows(count)
    shard = write_shard(tmp_path / "a.tar", written)
    back = read(tmp_path / "a.tar", shard)
    assert shard.windows == len(back) == count
    for name in ("tokens", "velocity", "offset"):
        assert np.array_equal(getattr(back, name), getattr(written, name))
        assert getattr(back, name).dtype == getattr(written, name).dtype
    assert list(back.meta) == list(written.meta)


def test_the_same_windows_give_the_same_bytes(tmp_path):
    first, second = write_shard(tmp_path / "a.tar", windows(9)), write_shard(tmp_path / "b.tar", windows(9))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert replace(second, name="a.tar") == first
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {(info.mtime, info.uname, info.gname) for info in tar} == {(0, "root", "root")}


def test_blocks_hold_what_the_format_says(tmp_path):
    write_shard(tmp_path / "a.tar", windows(BLOCK_WINDOWS + 1))
    names = list(members(tmp_path / "a.tar"))
    parts = ("tokens.npy", "velocity.npy", "offset.npy", "meta.json")
    assert sorted(names) == sorted(f"{block:06d}.{part}" for block in range(2) for part in parts)
    assert names == sorted(names), "a block's members stand together, as every reader of such tars expects"


@pytest.mark.parametrize("place", [0, 600, 2000, -1500])
def test_a_flipped_byte_is_seen(tmp_path, place):
    shard = write_shard(tmp_path / "a.tar", windows(20))
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[place] ^= 1
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match="sha256"):
        read(tmp_path / "a.tar", shard)


def test_a_cut_or_missing_shard_is_seen(tmp_path):
    shard = write_shard(tmp_path / "a.tar", windows(20))
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[: len(data) // 2 // 512 * 512])
    with pytest.raises(DataError, match="bytes, the manifest says"):
        read(tmp_path / "a.tar", shard)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match="No such file"):
        read(tmp_path / "a.tar", shard)


def test_an_unknown_or_missing_member_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    shard = write_shard(path, windows(3))
    good = members(path)
    with pytest.raises(DataError, match="members"):
        read(path, rewritten(path, {**good, "000000.extra.txt": b"x"}, shard))
    with pytest.raises(DataError, match="members"):
        read(path, rewritten(path, {name: data for name, data in good.items() if "offset" not in name}, shard))


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("member", ["000000.tokens.npy", "000000.tokens.pyd", "000000.meta.pickle"])
def test_nothing_is_unpickled(tmp_path, monkeypatch, member):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.tar"
    shard = write_shard(path, windows(1))
    array = io.BytesIO()
    np.save(array, np.array([Bomb()], dtype=object), allow_pickle=True)
    bad = array.getvalue() if member.endswith("npy") else pickle.dumps(Bomb())
    with pytest.raises(DataError):
        read(path, rewritten(path, {**members(path), member: bad}, shard))
    assert not (tmp_path / "exploded").exists()


def test_meta_that_is_no_window_meta_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    shard = write_shard(path, windows(1))
    meta = json.dumps([{"source": "a", "bar": 0, "tempo": 1.0, "style": "", "colour": "red"}]).encode()
    with pytest.raises(DataError, match="colour"):
        read(path, rewritten(path, {**members(path), "000000.meta.json": meta}, shard))


def test_another_shape_than_the_manifests_is_refused(tmp_path):
    shard = write_shard(tmp_path / "a.tar", windows(3))
    with pytest.raises(DataError, match="shape"):
        read(tmp_path / "a.tar", replace(shard, windows=4))


def test_parts_of_blocks():
    block = windows(6)
    assert [meta.bar for meta in block.take(np.array([4, 1])).meta] == [4, 1]
    assert len(block[2:5]) == 3
    assert len(WindowBlock.joined([block, block[:1]])) == 7
    with pytest.raises(ValueError, match="differ in length"):
        WindowBlock(block.tokens, block.velocity, block.offset, block.meta[:2])


def test_a_window_as_groove():
    block = windows(2)
    groove = block.groove(1, GRID)
    assert np.array_equal(groove.tokens, block.tokens[1])
    assert np.array_equal(np.rint(groove.velocity * 127), block.velocity[1])
    assert np.array_equal(np.rint(groove.offset * 65536), block.offset[1])
    assert groove.source == "dir/ün1.mid"


@pytest.mark.parametrize("name", STRANGE)
def test_the_right_hash_of_the_wrong_content_is_damage(tmp_path, name):
    path = tmp_path / "train-000000.tar"
    member, data, found = STRANGE[name]
    shard = with_member(path, write_shard(path, windows(3)), member, data)
    with pytest.raises(DataError, match=rf"found +{found}"):
        read_shard(path, shard, grid=GRID, num_drums=9)
    if member == "tokens.npy":
        with pytest.raises(DataError, match=rf"found +{found}"):
            index_tokens(path, shard, num_steps=STEPS, num_drums=9)
    with pytest.raises(DataError, match=rf"found +.*{found}"):
        index_playing(path, shard, num_steps=STEPS, num_drums=9)


def test_velocities_that_do_not_belong_to_the_hits_are_refused_where_the_playing_is_read(tmp_path):
    written = windows(3)
    written.tokens[1, 5] ^= 4
    shard = write_shard(tmp_path / "a.tar", written)
    assert len(read(tmp_path / "a.tar", shard)) == 3
    with pytest.raises(DataError, match="block 000000 has velocities that do not belong to its hits"):
        index_playing(tmp_path / "a.tar", shard, num_steps=STEPS, num_drums=9)


def test_a_pipe_in_the_place_of_a_shard_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "train-000000.tar")
    shard = ShardEntry("train-000000.tar", 3, 3, "0" * 64)
    with pytest.raises(DataError, match="no regular file"):
        index_tokens(tmp_path / shard.name, shard, num_steps=STEPS, num_drums=9)
