"""Archives are read in place, as if they were the folder that they were made of; damage is named, never skipped."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from musicvae.errors import DataError
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings, LimitSettings
from preprocess.sources.archive import open_archive
from preprocess.sources.folder import open_folder
from preprocess.sources.groove import find_groove
from preprocess.sources.listing import Source, read_source, stamp
from tests.support.midi.midi_bytes import hit, midi_file

MIDI = midi_file(hit(0, 36))
LIMITS = LimitSettings()
TARS = ("a.tar", "a.tar.gz", "a.TGZ", "a.tar.bz2", "a.txz")


def opened(path: Path, **limits) -> Source:
    return open_archive(path, BuildSettings.model_validate({"limits": limits}), spool=path.parent / "spool")


def contents(source: Source, limits: LimitSettings = LIMITS) -> dict[str, bytes | str]:
    read = {file.name: read_source(file, limits) for file in source.files}
    return {name: data.reason if isinstance(data, Rejection) else data for name, data in read.items()}


def pack(folder: Path, archive: Path) -> Path:
    """Everything below a folder, as the usual tools pack it."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, path.relative_to(folder))
        return archive
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as packed:
        packed.add(folder, ".")
    compress = {".tar": bytes, ".bz2": bz2.compress, ".txz": lzma.compress}.get(archive.suffix, gzip.compress)
    archive.write_bytes(compress(data.getvalue()))
    return archive


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "in"
    files = {"b/x.mid": MIDI, "a.MID": MIDI * 2, "b/deep/song": MIDI + b"3", "ä ö.kar": MIDI + b"4", "empty.mid": b""}
    others = {"b/notes.txt": b"none", "README": b"none", "b/x.mid.wav": b"none"}
    for name, data in {**files, **others}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.mark.parametrize("name", ["a.zip", *TARS])
def test_the_same_names_and_bytes_as_the_folder(folder, tmp_path, name):
    expected = contents(open_folder(folder, BuildSettings().split))
    source = opened(pack(folder, tmp_path / name))
    assert list(contents(source).items()) == list(expected.items())
    assert len(expected) == 5
    assert (source.kind, source.splits, source.drum_map) == ("archive", ("train", "validation"), "general_midi")


@pytest.mark.parametrize("name", TARS)
def test_a_tar_keeps_links_and_names_that_are_not_utf8(folder, tmp_path, name):
    (folder / os.fsdecode(b"caf\xe9.mid")).write_bytes(MIDI + b"5")
    (folder / "b/hard.mid").hardlink_to(folder / "b/x.mid")
    (folder / "b/soft.mid").symlink_to("../a.MID")
    (folder / "soft").symlink_to("b/soft.mid")
    (folder / "lost.mid").symlink_to("nowhere.mid")
    (folder / "loop.mid").symlink_to("loop.mid")
    (folder / "to-folder").symlink_to("b")
    os.mkfifo(folder / "pipe.mid")
    assert contents(opened(pack(folder, tmp_path / name))) == contents(open_folder(folder, BuildSettings().split))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_of_one_name_twice_the_last_counts_as_in_unpacking(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in (("a.mid", b"1"), ("a.mid", b"2"), ("./a.mid", b"3")):
                archive.writestr(member, data)
    else:
        write_tar(path, [("a.mid", b"1"), ("a.mid", b"2"), ("./a.mid", b"3")])
    assert contents(opened(path)) == {"a.mid": b"3"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_paths_that_lead_out_are_only_names(tmp_path, name):
    path = tmp_path / "at" / name
    path.parent.mkdir()
    members = [("../../up.mid", MIDI), ("/etc/root.mid", MIDI)]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members:
                archive.writestr(member, data)
    else:
        write_tar(path, members)
    before = sorted(tmp_path.iterdir())
    assert contents(opened(path)) == {"../../up.mid": MIDI, "/etc/root.mid": MIDI}
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["a.zip", *TARS])
def test_members_over_the_limit_are_listed_and_too_large(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "big.mid").write_bytes(MIDI + bytes(5000))
    (tmp_path / "in" / "small.mid").write_bytes(MIDI)
    path = pack(tmp_path / "in", tmp_path / name)
    small = LimitSettings(max_bytes=1000)
    assert contents(opened(path, max_bytes=1000), small) == {"big.mid": Reason.TOO_LARGE, "small.mid": MIDI}
    # With a higher limit the same spool does not do.
    assert contents(opened(path)) == {"big.mid": MIDI + bytes(5000), "small.mid": MIDI}


def test_a_compressed_tar_is_unpacked_once(folder, tmp_path, monkeypatch):
    path = pack(folder, tmp_path / "a.tgz")
    first = opened(path)
    members = tmp_path / "spool" / "members.bin"
    written = members.stat()
    assert sorted(child.name for child in members.parent.iterdir()) == ["index.jsonl", "members.bin"]
    assert written.st_mtime_ns == path.stat().st_mtime_ns
    with monkeypatch.context() as patched:
        patched.setattr(gzip, "open", lambda *_: pytest.fail("unpacked again"))
        again = opened(path)
    assert contents(again) == contents(first)
    assert [stamp(file) for file in again.files] == [stamp(file) for file in first.files]
    assert members.stat().st_ino == written.st_ino

    stamps = [stamp(file) for file in first.files]
    (folder / "new.mid").write_bytes(MIDI)
    changed = opened(pack(folder, path))
    assert "new.mid" in contents(changed)
    assert not {stamp(file) for file in changed.files} & set(stamps)


@pytest.mark.parametrize("lost", ["members.bin", "index.jsonl"])
def test_half_a_spool_is_made_again(folder, tmp_path, lost):
    path = pack(folder, tmp_path / "a.tgz")
    expected = contents(opened(path))
    (tmp_path / "spool" / lost).unlink()
    assert contents(opened(path)) == expected


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("name", ["a.zip", *TARS])
def test_a_copy_that_broke_off_is_refused(folder, tmp_path, name, keep):
    path = pack(folder, tmp_path / name)
    if name == "a.tar":
        # The usual tools fill a tar up to 10 KiB with zeros, which nobody misses.
        path.write_bytes(path.read_bytes().rstrip(b"\0"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError, match=r"incomplete download or copy"):
        opened(path)
    assert not list(tmp_path.glob("spool/*"))


def test_a_tar_cut_between_two_members_is_refused(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.mid", b"1"), ("b.mid", b"2")])
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1024])
    with pytest.raises(DataError, match="mark at the end of the archive is missing"):
        opened(tmp_path / "a.tar")


def test_a_damaged_header_inside_a_tar_does_not_hide_the_rest(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, [("a.mid", b"1"), ("b.mid", b"2"), ("c.mid", b"3")])
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="bad checksum"):
        opened(path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_other_files_under_an_archives_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match=name):
        opened(tmp_path / name)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_without_midi(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("")
    with pytest.raises(DataError, match="no MIDI files in"):
        opened(pack(tmp_path / "in", tmp_path / name))


def test_a_zip_whose_names_are_the_bytes_of_some_machine(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cafXX.mid", MIDI)
        archive.writestr("cafY.mid", MIDI)
    path.write_bytes(path.read_bytes().replace(b"cafXX", b"caf\xc3\xa9").replace(b"cafY", b"caf\xe9"))
    assert contents(opened(path)) == {"caf\\xe9.mid": MIDI, "café.mid": MIDI}


def test_an_encrypted_member_is_unreadable_and_the_others_are_not(folder, tmp_path):
    path = pack(folder, tmp_path / "a.zip")
    path.write_bytes(change_entry(path.read_bytes(), b"b/x.mid", flags=1))
    found = contents(opened(path))
    assert found.pop("b/x.mid") == Reason.UNREADABLE
    assert found == {name: data for name, data in contents(opened(pack(folder, path))).items() if name != "b/x.mid"}


def test_a_damaged_member_is_unreadable_with_the_cause(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mid", MIDI)
        archive.writestr("b.mid", MIDI)
    data = bytearray(path.read_bytes())
    data[data.index(MIDI) + 4] ^= 1
    path.write_bytes(data)
    first, second = (read_source(file, LIMITS) for file in opened(path).files)
    assert isinstance(first, Rejection)
    assert "CRC" in first.detail
    assert second == MIDI


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_methods_of_a_zip(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.mid", MIDI * 500)
    assert contents(opened(tmp_path / "a.zip")) == {"a.mid": MIDI * 500}


def test_an_unknown_method_is_unreadable(folder, tmp_path):
    path = pack(folder, tmp_path / "a.zip")
    path.write_bytes(change_entry(path.read_bytes(), b"b/x.mid", method=98))
    assert contents(opened(path))["b/x.mid"] == Reason.UNREADABLE


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_bomb_that_says_so_is_too_large_and_one_that_lies_is_unreadable(tmp_path, method):
    honest, liar = tmp_path / "honest.zip", tmp_path / "liar.zip"
    with zipfile.ZipFile(honest, "w", method) as archive:
        archive.writestr("bomb.mid", bytes(50 << 20))
    liar.write_bytes(change_entry(honest.read_bytes(), b"bomb.mid", size=1000))
    assert contents(opened(honest)) == {"bomb.mid": Reason.TOO_LARGE}
    assert contents(opened(liar)) == {"bomb.mid": Reason.UNREADABLE}


def test_an_archive_that_goes_away_leaves_unreadable_files(folder, tmp_path):
    for name in ("a.zip", "a.tar"):
        source = opened(pack(folder, tmp_path / name))
        before = [stamp(file) for file in source.files]
        (tmp_path / name).write_bytes(b"")
        assert set(contents(source).values()) <= {Reason.UNREADABLE, b""}
        (tmp_path / name).unlink()
        assert set(contents(source).values()) == {Reason.UNREADABLE}
        assert not {stamp(file) for file in source.files} & set(before)


@pytest.mark.skipif(shutil.which("zip") is None, reason="no zip command")
def test_a_zip_of_the_common_tool(folder, tmp_path):
    (folder / os.fsdecode(b"caf\xe9.mid")).write_bytes(MIDI + b"5")
    assert os.spawnvp(os.P_WAIT, "sh", ["sh", "-c", f"cd {folder} && zip -qr ../a.zip ."]) == 0
    assert contents(opened(tmp_path / "a.zip")) == contents(open_folder(folder, BuildSettings().split))


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def change_entry(
    data: bytes, name: bytes, *, flags: int | None = None, method: int | None = None, size: int | None = None
):
    """A zip with other values in the directory's entry of a member."""
    changed, start = bytearray(data), data.index(b"PK\1\2")
    while changed[start + 46 : start + 46 + struct.unpack_from("<H", data, start + 28)[0]] != name:
        start = data.index(b"PK\1\2", start + 1)
    for value, offset, kind in ((flags, 8, "<H"), (method, 10, "<H"), (size, 24, "<I")):
        if value is not None:
            struct.pack_into(kind, changed, start + offset, value)
    return bytes(changed)


def test_a_header_that_says_it_takes_gigabytes_is_refused_before_it_is_read(tmp_path):
    info = tarfile.TarInfo("./PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 3 * 2**30
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))
    with pytest.raises(DataError, match="a header of 3221225472 bytes"):
        opened(tmp_path / "a.tar.gz")


def test_a_zip_with_a_bomb_for_a_table_is_no_groove(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.sources.groove.MOST_TABLE_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("info.csv", b"style,midi_filename,split\n" + bytes(10_000))
    assert find_groove(tmp_path / "a.zip") is None
