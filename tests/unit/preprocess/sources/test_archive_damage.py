"""Whatever happens to the bytes of an archive: it is refused with a cause, or each of its files is accounted for."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from musicvae.errors import DataError
from preprocess.rejection import Rejection
from preprocess.settings import BuildSettings
from preprocess.sources.archive import open_archive
from preprocess.sources.listing import read_source, stamp
from tests.support.midi.midi_bytes import hit, midi_file

MEMBERS = {"a.mid": midi_file(hit(0, 36)), f"{'n' * 120}.mid": midi_file(hit(0, 38)) * 50, "song": midi_file()}
ROUNDS = 60
BLOCK = 512


def tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def packed(name: str) -> bytes:
    match name.rpartition(".")[2]:
        case "zip":
            data = io.BytesIO()
            with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
                for member, content in MEMBERS.items():
                    archive.writestr(member, content)
            return data.getvalue()
        case "tgz":
            return gzip.compress(tar())
        case "bz2":
            return bz2.compress(tar())
        case "txz":
            return lzma.compress(tar())
        case _:
            return tar()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, left out or put in."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        start, size = rng.randrange(len(result)), rng.randrange(1, 600)
        match rng.randrange(5):
            case 0:
                del result[start : min(start + size, len(result) - 1)]
            case 1:
                result[start:start] = rng.randbytes(size)
            case _:
                result[start] = rng.randrange(256)
    return bytes(result)


def with_right_checksums(data: bytes) -> bytes:
    """A tar whose headers are taken at their word, so that odd values in them are read."""
    result = bytearray(data)
    for start in range(0, len(result) - BLOCK, BLOCK):
        if result[start + 257 : start + 262] == b"ustar":
            header = result[start : start + BLOCK]
            header[148:156] = b" " * 8
            result[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(result)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "checksums.tar", "a.tgz", "a.tar.bz2", "a.txz"])
def test_only_causes_and_rejections(tmp_path: Path, name: str):
    rng = random.Random(name)
    whole = packed(name)
    settings = BuildSettings()
    ends = {"refused": 0, "read": 0}
    for number in range(ROUNDS):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        data = damaged(whole, rng)
        path.write_bytes(with_right_checksums(data) if name == "checksums.tar" else data)
        try:
            files = open_archive(path, settings, spool=path.parent / "spool").files
        except DataError:
            ends["refused"] += 1
            continue
        ends["read"] += 1
        assert len({file.name for file in files}) == len(files)
        for file in files:
            assert isinstance(read_source(file, settings.limits), bytes | Rejection)
            assert stamp(file)
    assert ends["refused"]
