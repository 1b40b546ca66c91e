"""What a file's bytes are, what is said where there are none, and how a change is noticed."""

import errno
import os
from pathlib import Path

import pytest

from preprocess.rejection import Reason, Rejection
from preprocess.settings import LimitSettings
from preprocess.sources.listing import (
    NOWHERE,
    FilePlace,
    SourceFile,
    SpanPlace,
    ZipPlace,
    content_digest,
    read_source,
    stamp,
)

LIMITS = LimitSettings(max_bytes=100)


def file_at(path: Path | str) -> SourceFile:
    return SourceFile("name.mid", FilePlace(os.fspath(path)))


def read(path: Path | str) -> bytes | Rejection:
    return read_source(file_at(path), LIMITS)


def test_the_limit_is_the_last_size_that_is_read(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100))
    assert read(tmp_path / "a") == bytes(100)
    (tmp_path / "a").write_bytes(bytes(101))
    assert read(tmp_path / "a") == Rejection(
        "name.mid", Reason.TOO_LARGE, "101 bytes, more than limits.max_bytes = 100"
    )


def test_a_terabyte_is_refused_unread(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    data = read(tmp_path / "a")
    assert isinstance(data, Rejection)
    assert data.reason == Reason.TOO_LARGE


def test_each_obstacle_is_named(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("none")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "plain").write_bytes(b"")
    details = {}
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "dangling", tmp_path / "loop", tmp_path / "plain/x"):
        data = read(path)
        assert isinstance(data, Rejection)
        assert data.reason == Reason.UNREADABLE
        details[path.name] = data.detail
    assert details == {
        tmp_path.name: "a folder",
        "fifo": "a FIFO",
        "dangling": os.strerror(errno.ENOENT),
        "loop": os.strerror(errno.ELOOP),
        "x": os.strerror(errno.ENOTDIR),
    }
    for path in ("/dev/zero", "/none\0.mid", "/" + "x" * 5000):
        assert isinstance(read(path), Rejection)


@pytest.mark.parametrize(
    "place", [SpanPlace("/none", NOWHERE, 5), ZipPlace("/none", NOWHERE), SpanPlace("/none", 0, 5)]
)
def test_places_that_hold_nothing(place):
    data = read_source(SourceFile("name.mid", place), LIMITS)
    assert isinstance(data, Rejection)
    assert data.reason == Reason.UNREADABLE


def test_a_span_past_the_end_is_unreadable(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_source(SourceFile("x", SpanPlace(f"{tmp_path}/a", 4, 6)), LIMITS) == b"456789"
    cut = read_source(SourceFile("x", SpanPlace(f"{tmp_path}/a", 4, 7)), LIMITS)
    assert isinstance(cut, Rejection)
    assert "ends after 6 of its 7 bytes" in cut.detail


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.ESTALE])
def test_what_is_the_machines_fault_is_not_blamed_on_the_file(tmp_path, monkeypatch, code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    (tmp_path / "a").write_bytes(b"")
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        read(tmp_path / "a")


def test_a_stamp_changes_with_size_time_and_place(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    places = [
        FilePlace(f"{path}"),
        SpanPlace(f"{path}", 0, 1),
        SpanPlace(f"{path}", 1, 1),
        ZipPlace(f"{path}", 2, size=9),
    ]
    files = [SourceFile("x", place) for place in places]
    first = [stamp(file) for file in files]
    assert [stamp(file) for file in files] == first
    assert len(set(first)) == 4
    os.utime(path, ns=(0, 1))
    second = [stamp(file) for file in files]
    path.write_bytes(b"123456")
    os.utime(path, ns=(0, 1))
    third = [stamp(file) for file in files]
    path.unlink()
    assert stamp(files[0]) == "absent"
    assert len({*first, *second, *third, *(stamp(file) for file in files)}) == 16


def test_a_digest_is_that_of_the_bytes_or_of_the_reason():
    assert 0 <= content_digest(b"abc") < 2**64
    assert content_digest(b"abc") == content_digest(bytes([97, 98, 99])) != content_digest(b"abd")
    lost = Rejection("a.mid", Reason.UNREADABLE, "a FIFO")
    assert content_digest(lost) == content_digest(Rejection("b.mid", Reason.UNREADABLE, "a FIFO"))
    assert content_digest(lost) != content_digest(Rejection("a.mid", Reason.UNREADABLE, "a folder"))
