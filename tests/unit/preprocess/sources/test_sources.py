"""What `--source` names, GMD wherever it lies, and what is said when there is nothing."""

import os
import zipfile
from pathlib import Path

import pooch
import pytest

from musicvae.errors import ConfigError, DataError
from preprocess.rejection import Rejection
from preprocess.settings import BuildSettings
from preprocess.sources.listing import Source, read_source, stamp
from preprocess.sources.open import open_source
from tests.support.midi.midi_bytes import hit, midi_file

MIDI = midi_file(hit(0, 36))
HEADER = "drummer,style,bpm,midi_filename,split\n"
TABLE = HEADER + "d,rock,90,b.mid,test\nd,jazz,80,d1/a.mid,train\n"
GROUPS = {"split": {"group": "column"}}


def opened(name: Path | str, tmp_path: Path, **settings) -> Source:
    return open_source(str(name), BuildSettings.model_validate(settings), scratch=tmp_path / "scratch")


def groove(folder: Path, table: str = TABLE) -> Path:
    """A folder like GMD's; `d1/a.mid` is missing."""
    folder.mkdir(parents=True)
    (folder / "info.csv").write_text(table)
    (folder / "b.mid").write_bytes(MIDI)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def test_each_kind_by_its_name(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mid").write_bytes(MIDI)
    (tmp_path / "l.csv").write_text("path\nin/a.mid\n")
    kinds = {folder: "folder", zipped(folder, tmp_path / "a.ZIP"): "archive", tmp_path / "l.csv": "list"}
    for name, kind in kinds.items():
        source = opened(name, tmp_path)
        assert source.kind == kind
        assert [read_source(file, BuildSettings().limits) for file in source.files] == [MIDI]
    assert not (tmp_path / "scratch").exists()


def test_a_relative_path_gives_places_for_tasks_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mid").write_bytes(MIDI)
    monkeypatch.chdir(tmp_path)
    source = opened("in", tmp_path)
    monkeypatch.chdir("/")
    assert read_source(source.files[0], BuildSettings().limits) == MIDI


def test_no_such_source(tmp_path):
    with pytest.raises(ConfigError, match="nothing at that path"):
        opened(tmp_path / "none", tmp_path)
    (tmp_path / "a.mid").write_bytes(MIDI)
    with pytest.raises(ConfigError, match=r"another kind(.*\n)*.*the folder that contains the file"):
        opened(tmp_path / "a.mid", tmp_path)


def test_groups_by_column_need_a_list(tmp_path):
    (tmp_path / "a.mid").write_bytes(MIDI)
    with pytest.raises(ConfigError, match="needs a list"):
        opened(tmp_path, tmp_path, **GROUPS)
    (tmp_path / "l.csv").write_text("path,group\na.mid,g\n")
    assert opened(tmp_path / "l.csv", tmp_path, **GROUPS).files[0].group == "g"


@pytest.mark.parametrize("place", ["folder", "one down", "zip", "zip, one down"])
def test_gmd_is_known_by_its_table(tmp_path, place):
    groove(tmp_path / "outer" / "groove")
    # What packers and file managers leave beside a folder is no second folder.
    (tmp_path / "outer" / "__MACOSX").mkdir()
    (tmp_path / "outer" / ".DS_Store").write_text("")
    name = {
        "folder": tmp_path / "outer" / "groove",
        "one down": tmp_path / "outer",
        "zip": zipped(tmp_path / "outer" / "groove", tmp_path / "any.zip"),
        "zip, one down": zipped(tmp_path / "outer", tmp_path / "other.zip"),
    }[place]
    source = opened(name, tmp_path)
    assert (source.kind, source.drum_map, source.keeps_duplicates) == ("groove", "roland", True)
    assert source.splits == ("train", "test")
    assert [(file.name, file.split, file.style, file.tempo) for file in source.files] == [
        ("b.mid", "test", "rock", None),
        ("d1/a.mid", "train", "jazz", None),
    ]
    there, missing = (read_source(file, BuildSettings().limits) for file in source.files)
    assert there == MIDI
    assert isinstance(missing, Rejection)


def test_gmd_beside_other_music_is_a_folder_like_others(tmp_path):
    groove(tmp_path / "in" / "groove")
    (tmp_path / "in" / "other").mkdir()
    assert opened(tmp_path / "in", tmp_path).kind == "folder"
    (tmp_path / "in" / "other").rmdir()
    (tmp_path / "in" / "song.mid").write_bytes(MIDI)
    assert opened(tmp_path / "in", tmp_path).kind == "folder"


def test_another_table_makes_no_gmd(tmp_path):
    (tmp_path / "info.csv").write_text("name,size\n")
    (tmp_path / "a.mid").write_bytes(b"")
    assert opened(tmp_path, tmp_path).kind == "folder"


@pytest.mark.parametrize("table", ["", HEADER, HEADER + "d,rock,90,b.mid,holdout\n", HEADER + "d,rock\n"])
def test_groove_dir_without_a_usable_table(tmp_path, monkeypatch, table):
    monkeypatch.setenv("GROOVE_DIR", str(groove(tmp_path / "groove", table)))
    with pytest.raises(DataError, match=r"info\.csv"):
        opened("groove", tmp_path)


def test_groove_dir_may_be_a_zip(tmp_path, monkeypatch):
    monkeypatch.setenv("GROOVE_DIR", str(zipped(groove(tmp_path / "groove"), tmp_path / "g.zip")))
    assert len(opened("groove", tmp_path).files) == 2
    monkeypatch.setenv("GROOVE_DIR", str(tmp_path / "none"))
    with pytest.raises(DataError, match="nothing at that path"):
        opened("groove", tmp_path)


def test_the_download_is_kept_as_it_is_and_read_in_place(tmp_path, monkeypatch):
    asked = {}

    def retrieve(url, known_hash, **options):
        asked.update(options, url=url, known_hash=known_hash)
        return str(zipped(groove(tmp_path / "groove"), tmp_path / "g.zip"))

    monkeypatch.delenv("GROOVE_DIR", raising=False)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    source = opened("groove", tmp_path)
    assert source.kind == "groove"
    assert asked["known_hash"].startswith("sha256:")
    assert asked["url"].endswith(asked["fname"])
    assert "processor" not in asked


def test_groove_without_folder_and_network(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.delenv("GROOVE_DIR", raising=False)
    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(DataError, match="set GROOVE_DIR"):
        opened("groove", tmp_path)


def test_gmd_is_the_same_from_its_folder_and_from_a_zip(tmp_path, groove_dir):
    folder = opened(groove_dir, tmp_path)
    archive = opened(zipped(groove_dir, tmp_path / "groove.zip"), tmp_path)
    assert len(folder.files) == len(archive.files) > 1000
    for one, other in zip(folder.files, archive.files, strict=True):
        assert (one.name, one.split, one.style) == (other.name, other.split, other.style)
        assert read_source(one, BuildSettings().limits) == read_source(other, BuildSettings().limits)


def test_the_demo_corpus_is_composed_in_the_scratch_folder(tmp_path):
    source = opened("demo", tmp_path, demo={"performances": 3})
    assert (source.kind, source.splits, source.keeps_duplicates) == ("demo", ("train", "validation"), False)
    midi = tmp_path / "scratch" / "midi"
    assert sorted(path.name for path in midi.iterdir()) == [file.name for file in source.files]
    assert all(file.style for file in source.files)


def test_a_demo_corpus_that_is_there_is_not_touched(tmp_path):
    first = opened("demo", tmp_path, demo={"performances": 3})
    midi = tmp_path / "scratch" / "midi"
    for file in first.files:
        os.utime(midi / file.name, ns=(0, 5))
    damaged = midi / first.files[1].name
    damaged.write_bytes(b"cut off")
    again = opened("demo", tmp_path, demo={"performances": 3})
    assert [stamp(file).endswith(" 5") for file in again.files] == [True, False, True]
    assert [file.name for file in again.files] == [file.name for file in first.files]
    assert damaged.read_bytes().startswith(b"MThd")
