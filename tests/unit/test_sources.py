"""What a source lists, and what it says when it cannot."""

import pytest

from musicvae.errors import ConfigError, DataError
from preprocess.settings import DemoSettings
from preprocess.sources import Source, open_source
from tests.midi_bytes import hit, midi_file

HEADER = "drummer,style,midi_filename,split\n"


def opened(name, tmp_path, **demo) -> Source:
    return open_source(str(name), demo=DemoSettings(**demo), demo_folder=tmp_path / "demo")


def test_a_folder_is_searched_to_any_depth_and_in_any_case(tmp_path):
    folder = tmp_path / "in"
    (folder / "b" / "c.mid").mkdir(parents=True)
    for name in ("z.mid", "b/Y.MID", "b/x.Midi", "b/c.mid/w.mIdI", "b/notes.txt", "a.midx"):
        (folder / name).write_bytes(midi_file(hit(0, 36)))
    source = opened(folder, tmp_path)
    assert [file.name for file in source.files] == ["b/Y.MID", "b/c.mid/w.mIdI", "b/x.Midi", "z.mid"]
    assert source.kind == "folder"
    assert source.drum_map == "general_midi"
    assert {file.split for file in source.files} == {None}
    assert all(file.path.is_absolute() for file in source.files)


def test_no_midi_names_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="1 other files"):
        opened(tmp_path, tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(ConfigError, match="nothing at that path"):
        opened(tmp_path / "none", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="a file"):
        opened(tmp_path / "file", tmp_path)


def test_gmd_is_known_by_its_table(tmp_path):
    (tmp_path / "info.csv").write_text(HEADER + "d,rock,b.mid,test\nd,jazz,a.mid,train\n")
    source = opened(tmp_path, tmp_path)
    assert source.kind == "groove"
    assert source.drum_map == "roland"
    assert source.splits == ("train", "test")
    assert [(file.name, file.split, file.style) for file in source.files] == [
        ("a.mid", "train", "jazz"),
        ("b.mid", "test", "rock"),
    ]


def test_another_table_makes_no_gmd(tmp_path):
    (tmp_path / "info.csv").write_text("name,size\n")
    (tmp_path / "a.mid").write_bytes(b"")
    assert opened(tmp_path, tmp_path).kind == "folder"


@pytest.mark.parametrize("table", ["", HEADER, HEADER + "d,rock,b.mid,holdout\n"])
def test_groove_dir_without_a_usable_table(tmp_path, monkeypatch, table):
    monkeypatch.setenv("GROOVE_DIR", str(tmp_path))
    (tmp_path / "info.csv").write_text(table)
    with pytest.raises(DataError, match=r"info\.csv"):
        opened("groove", tmp_path)


def test_groove_without_folder_and_network(tmp_path, monkeypatch):
    import pooch

    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.delenv("GROOVE_DIR", raising=False)
    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(DataError, match="set GROOVE_DIR"):
        opened("groove", tmp_path)


def test_the_demo_corpus_is_composed_where_it_is_asked_for(tmp_path):
    source = opened("demo", tmp_path, performances=3)
    assert source.kind == "demo"
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [file.name for file in source.files]
    assert all(file.style for file in source.files)
