"""Folders as people have them: links, odd names, things that only look like files."""

import os
import random
import tracemalloc
from pathlib import Path

import pytest

from musicvae.errors import ConfigError, DataError
from preprocess.rejection import Reason, Rejection
from preprocess.settings import LimitSettings, SplitSettings
from preprocess.sources import folder as folder_source
from preprocess.sources.folder import open_folder
from preprocess.sources.listing import read_source
from tests.support.midi.midi_bytes import hit, midi_file

MIDI = midi_file(hit(0, 36))


def names(folder: Path, **options) -> list[str]:
    return [file.name for file in open_folder(folder, SplitSettings(), **options).files]


def put(folder: Path, *files: str) -> None:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MIDI)


def reason(folder: Path, name: str) -> str | None:
    [file] = [file for file in open_folder(folder, SplitSettings()).files if file.name == name]
    data = read_source(file, LimitSettings())
    return data.reason if isinstance(data, Rejection) else None


def test_any_depth_and_any_case(tmp_path):
    put(tmp_path, "z.mid", "b/Y.MID", "b/x.Midi", "b/c.mid/w.mIdI", "K.KAR", "r.rmi", "b/notes.txt", "a.midx")
    source = open_folder(tmp_path, SplitSettings())
    expected = ["K.KAR", "b/Y.MID", "b/c.mid/w.mIdI", "b/x.Midi", "r.rmi", "z.mid"]
    assert [file.name for file in source.files] == expected
    assert [read_source(file, LimitSettings()) for file in source.files] == [MIDI] * 6
    assert (source.kind, source.drum_map, source.keeps_duplicates) == ("folder", "general_midi", False)
    assert {file.split for file in source.files} == {None}


def test_names_that_differ_in_case_alone_are_two_files(tmp_path):
    put(tmp_path, "a.mid", "A.mid", "a.MID")
    assert names(tmp_path) == ["A.mid", "a.MID", "a.mid"]


def test_files_without_a_suffix_that_begin_like_midi(tmp_path):
    (tmp_path / "song").write_bytes(MIDI)
    (tmp_path / "Mr. Drum").write_bytes(b"RIFF\0\0\0\0RMIDdata")
    (tmp_path / "README").write_text("no music")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["Mr. Drum", "song"]


def test_loops_end(tmp_path):
    put(tmp_path, "a/b/x.mid")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(".")
    (tmp_path / "around.mid").symlink_to("around.mid")
    assert names(tmp_path) == ["a/b/x.mid", "around.mid"]
    assert reason(tmp_path, "around.mid") == Reason.UNREADABLE


def test_the_real_path_of_a_folder_is_its_name(tmp_path):
    put(tmp_path, "real/x.mid")
    (tmp_path / "a-link").symlink_to("real")
    assert names(tmp_path) == ["real/x.mid"]


def test_of_two_links_to_a_folder_outside_the_first_is_followed(tmp_path):
    put(tmp_path, "outside/sub/x.mid", "in/y.mid")
    for link in ("c", "b", "a/d"):
        (tmp_path / "in" / link).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / link).symlink_to(tmp_path / "outside")
    (tmp_path / "in/inner").symlink_to(tmp_path / "outside/sub")
    assert names(tmp_path / "in") == ["a/d/sub/x.mid", "y.mid"]


def test_links_to_files_are_files(tmp_path):
    put(tmp_path, "a.mid")
    (tmp_path / "b.mid").symlink_to("a.mid")
    (tmp_path / "named").symlink_to("a.mid")
    assert names(tmp_path) == ["a.mid", "b.mid", "named"]


def test_what_cannot_be_read_is_listed_and_unreadable(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "lost.mid").symlink_to("nowhere")
    put(tmp_path, "ok.mid")
    assert names(tmp_path) == ["lost.mid", "ok.mid", "pipe.mid"]
    assert [reason(tmp_path, name) for name in names(tmp_path)] == [Reason.UNREADABLE, None, Reason.UNREADABLE]


def test_a_folder_that_cannot_be_listed_is_accounted_for(tmp_path, monkeypatch):
    put(tmp_path, "locked/x.mid", "open/y.mid")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(tmp_path) == ["locked/", "open/y.mid"]
    assert reason(tmp_path, "locked/") == Reason.UNREADABLE
    with pytest.raises(ConfigError, match="cannot be listed"):
        open_folder(tmp_path / "locked", SplitSettings())


def test_names_that_are_not_utf8_are_escaped_and_read(tmp_path):
    raw = os.fsencode(tmp_path)
    Path(os.fsdecode(raw + b"/caf\xe9")).mkdir()
    for name in (b"caf\xe9/x.mid", b"caf\xc3\xa9.mid", b"\\xe9.mid"):
        Path(os.fsdecode(raw + b"/" + name)).write_bytes(MIDI)
    assert names(tmp_path) == ["\\\\xe9.mid", "caf\\xe9/x.mid", "café.mid"]
    assert [reason(tmp_path, name) for name in names(tmp_path)] == [None] * 3


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    put(folder, *(f"{top}/{sub}/{number}.mid" for top in "abc" for sub in "xy" for number in range(3)))
    put(tmp_path, "outside/one.mid", "outside/deep/two.mid")
    for place, target in {"a/l": "outside", "c/l": "outside/deep", "b/x/l": "outside", "b/m": "in/a"}.items():
        (folder / place).symlink_to(tmp_path / target)
    before = names(folder)
    scandir = os.scandir
    for seed in range(10):
        rng = random.Random(seed)
        monkeypatch.setattr(os, "scandir", lambda path, rng=rng: _Shuffled(scandir(path), rng))
        assert names(folder) == before
    assert len(before) == 20


class _Shuffled:
    def __init__(self, entries, rng: random.Random) -> None:
        self.entries = list(entries)
        rng.shuffle(self.entries)

    def __enter__(self):
        return iter(self.entries)

    def __exit__(self, *_) -> None:
        pass


def test_folders_to_avoid_are_not_entered(tmp_path):
    put(tmp_path, "a.mid", "out/midi/b.mid", "sub/c.mid")
    (tmp_path / "again").symlink_to("out")
    assert names(tmp_path, avoid=[tmp_path / "out", tmp_path / "none"]) == ["a.mid", "sub/c.mid"]


def test_no_midi_names_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="1 other files"):
        open_folder(tmp_path, SplitSettings())
    (tmp_path / "more.ZIP").write_bytes(b"")
    with pytest.raises(DataError, match="1 of them archives"):
        open_folder(tmp_path, SplitSettings())


@pytest.mark.parametrize(
    ("shares", "splits"),
    [
        ({}, ("train", "validation")),
        ({"test_share": 0.1}, ("train", "validation", "test")),
        ({"validation_share": 0}, ("train",)),
    ],
)
def test_the_splits_that_can_occur(tmp_path, shares, splits):
    put(tmp_path, "a.mid")
    assert open_folder(tmp_path, SplitSettings(**shares)).splits == splits


def test_many_files_are_sorted_in_pieces_and_take_little_more_than_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_source, "SORTED_NAMES", 300)
    put(tmp_path, "original.mid")
    expected = [f"{number % 7}/{'x' * 20}{number:05d}.mid" for number in range(3000)]
    for name in expected:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).hardlink_to(tmp_path / "original.mid")
    names(tmp_path)  # what the first call imports
    tracemalloc.start()
    try:
        source = open_folder(tmp_path, SplitSettings())
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [file.name for file in source.files] == sorted([*expected, "original.mid"])
    assert kept < 60 * len(expected), "31 characters and 8 bytes"
