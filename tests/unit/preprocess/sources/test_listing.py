"""Names for people, files on demand, and what is taken for MIDI."""

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.sources.listing import FilePlace, Listing, SourceFile, is_candidate, printable


def listing(size: int) -> Listing:
    return Listing(size, lambda index: SourceFile(f"{index:06d}.mid", FilePlace(f"/midi/{index:06d}.mid")))


def test_a_listing_is_a_sequence():
    files = listing(5)
    assert len(files) == 5
    assert files[-1].name == "000004.mid"
    assert [file.name for file in files[1:4:2]] == ["000001.mid", "000003.mid"]
    assert [file.name for file in files] == [f"00000{number}.mid" for number in range(5)]
    with pytest.raises(IndexError):
        files[5]


def test_a_slice_of_a_million_travels_alone():
    piece = listing(1_000_000)[999_000:999_002]
    assert pickle.loads(pickle.dumps(piece)) == piece
    assert len(pickle.dumps(piece)) < 500


@pytest.mark.parametrize("name", ["a.mid", "Märchen/鼓 1.mid", "back\\slash.mid", "a\\\\b", "NFD e\u0301\u3000.mid"])
def test_text_stays_as_it_is(name):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"caf\xe9.mid", "caf\\xe9.mid"),
        (b"a\nb\x1b[31m.mid", "a\\x0ab\\x1b[31m.mid"),
        (b"\\xe9.mid", "\\\\xe9.mid"),
        (b"\\\xe9.mid", "\\\\\\xe9.mid"),
        ("\u2028\u0085".encode(), "\\xe2\\x80\\xa8\\xc2\\x85"),
    ],
)
def test_the_rest_stands_escaped(raw, shown):
    assert printable(os.fsdecode(raw)) == shown
    assert shown.isprintable()


@given(st.lists(st.lists(st.sampled_from(["\\", "x", "e9", b"\xe9", "\n", "\\xe9", "ä"]), max_size=4), max_size=8))
def test_different_names_stay_different(names):
    raw = {b"".join(part if isinstance(part, bytes) else part.encode() for part in parts) for parts in names}
    assert len({printable(os.fsdecode(name)) for name in raw}) == len(raw)


@pytest.mark.parametrize("name", ["a.mid", "a.MID", "a.Midi", "b/a.kAr", "a.rmi", "a.b.mid"])
def test_a_suffix_is_enough(name):
    def unasked() -> bytes:
        raise AssertionError("its bytes are not needed")

    assert is_candidate(name, unasked)


@pytest.mark.parametrize("name", ["a", "b.c/a", "Mr. Drum", ".hidden"])
def test_without_a_suffix_the_first_bytes_tell(name):
    assert is_candidate(name, lambda: b"MThd\0\0\0\6\0\1\0\1")
    assert is_candidate(name, lambda: b"RIFF\1\2\3\4RMID")
    assert is_candidate(name, lambda: None)
    for head in (b"", b"MTh", b"RIFF\1\2\3\4WAVE", b"mid"):
        assert not is_candidate(name, lambda head=head: head)


@pytest.mark.parametrize("name", ["a.midx", "a.txt", "mid.zip", "a.mid.gz"])
def test_another_suffix_is_another_file(name):
    assert not is_candidate(name, lambda: b"MThd\0\0\0\6\0\1\0\1")


def test_attributes_that_macos_lays_beside_files_are_no_candidates():
    assert not is_candidate("__MACOSX/a/._song.mid", lambda: b"\x00\x05\x16\x07")
    assert is_candidate("a/._song.mid", lambda: b"MThd")
