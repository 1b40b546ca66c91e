"""Lists: what a row says, and which line is to blame."""

import json
import os
from pathlib import Path

import pytest

from musicvae.errors import ConfigError, DataError
from preprocess.rejection import Reason, Rejection
from preprocess.settings import LimitSettings, SplitSettings
from preprocess.sources.listing import FilePlace, SourceFile, read_source, stamp
from preprocess.sources.table import open_list
from tests.support.midi.midi_bytes import hit, midi_file

MIDI = midi_file(hit(0, 36))


def table(folder: Path, content: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def files(path: Path, **settings) -> list[SourceFile]:
    return list(open_list(path, SplitSettings(**settings)).files)


def test_all_columns_of_csv_and_json_lines(tmp_path):
    rows = [
        {"path": "b.mid", "split": "test", "group": "song 7", "style": "rock", "bpm": 92.5},
        {"path": "a.mid", "split": "", "group": "", "style": "", "bpm": ""},
    ]
    header = ",".join(rows[0])
    text = "\n".join([header, *(",".join(map(str, row.values())) for row in rows)])
    lines = "\n\n".join(json.dumps({key: value for key, value in row.items() if value}) for row in rows)
    expected = [
        SourceFile("a.mid", FilePlace(f"{tmp_path}/a.mid")),
        SourceFile("b.mid", FilePlace(f"{tmp_path}/b.mid"), "test", "rock", "song 7", 92.5),
    ]
    assert files(table(tmp_path, text)) == expected
    assert files(table(tmp_path, lines, "list.jsonl")) == expected
    source = open_list(tmp_path / "list.csv", SplitSettings())
    assert (source.kind, source.keeps_duplicates, source.drum_map) == ("list", True, "general_midi")
    assert source.splits == ("train", "validation", "test")


@pytest.mark.parametrize("name", ["list.csv", "LIST.CSV", "list.jsonl", "list.ndjson"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_byte_order_marks_line_ends_and_bytes_that_are_not_utf8(tmp_path, name, mark, end):
    raw = b"caf\xe9 \xc3\xa4.mid"
    lines = [b"path", raw] if name.lower().endswith("csv") else [b'{"path": "' + raw + b'"}']
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).write_bytes(MIDI)
    [file] = files(table(tmp_path, mark + end.join(lines) + end, name))
    assert file.name == "caf\\xe9 ä.mid"
    assert read_source(file, LimitSettings()) == MIDI


def test_other_columns_and_empty_lines_are_ignored(tmp_path):
    path = table(tmp_path, 'id, Path ,note\n1,"a, b.mid",x\n\n,,\n2,c.mid,"y\nz"\n')
    assert [file.name for file in files(path)] == ["a, b.mid", "c.mid"]


def test_where_files_lie_and_what_they_are_called(tmp_path):
    folder = tmp_path / "lists"
    folder.mkdir()
    rows = ["path", "./x/../b.mid", "../up.mid", f"{folder}/inside.mid", f"{tmp_path}/beside.mid"]
    places = {file.name: file.place for file in files(table(folder, "\n".join(rows)))}
    assert places == {
        "../up.mid": FilePlace(f"{folder}/../up.mid"),
        f"{tmp_path}/beside.mid": FilePlace(f"{tmp_path}/beside.mid"),
        "b.mid": FilePlace(f"{folder}/./x/../b.mid"),
        "inside.mid": FilePlace(f"{folder}/inside.mid"),
    }


def test_what_is_missing_is_accounted_for(tmp_path):
    (tmp_path / "folder.mid").mkdir()
    long = "x" * 300 + ".mid"
    for file in files(table(tmp_path, f"path\nnone.mid\nfolder.mid\n{long}\n")):
        data = read_source(file, LimitSettings())
        assert isinstance(data, Rejection)
        assert data.reason == Reason.UNREADABLE
        assert stamp(file) == "absent" or file.name == "folder.mid"


@pytest.mark.parametrize(
    ("splits", "settings", "can_occur"),
    [
        (["test", "train"], {}, ("train", "test")),
        (["test", ""], {}, ("train", "validation", "test")),
        (["train", ""], {"validation_share": 0}, ("train",)),
        (["validation", "validation"], {"test_share": 0.1}, ("validation",)),
    ],
)
def test_the_splits_that_can_occur(tmp_path, splits, settings, can_occur):
    rows = [f"{number}.mid,{split}" for number, split in enumerate(splits)]
    path = table(tmp_path, "\n".join(["path,split", *rows]))
    assert open_list(path, SplitSettings(**settings)).splits == can_occur


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("file,split\na.mid,train\n", r"line 1 .*\n.*column `path`.*\n.*file, split"),
        ("path;split\na.mid;train\n", r"line 1 (.*\n)*.*another separator"),
        ("", r"line 1 .*\n.*column `path`.*\n.*nothing"),
        ("path,split\n", "lists no files"),
        ("path,split\na.mid,train\nb.mid,valid\n", r"line 3 (.*\n)*.*'valid'; did you mean validation\?"),
        ("path,split\na.mid,Train\n", r"line 2 (.*\n)*.*did you mean train\?"),
        ("path,split\na.mid,holdout\n", r"line 2 (.*\n)*.*'holdout'$"),
        ("path,bpm\na.mid,0\n", r"line 2 (.*\n)*.*'0'"),
        ("path,bpm\na.mid,fast\n", r"line 2 (.*\n)*.*'fast'"),
        ("path,bpm\na.mid,nan\n", r"line 2 (.*\n)*.*'nan'"),
        ("path,bpm\na.mid,inf\n", "line 2"),
        ("path,bpm\na.mid,-3\n", "line 2"),
        ("path,bpm\nx.mid,90\na.mid,92,5\n", r"line 3 (.*\n)*.*3 fields, the header has 2"),
        ("path,bpm\na.mid\n", r"line 2 (.*\n)*.*1 fields"),
        ("path,bpm\n,90\n", r"line 2 .*\n.*a path"),
        ("path,bpm\na\0.mid,90\n", "line 2"),
        ("path\na.mid\nb.mid\n./a.mid\n", r"line 4 (.*\n)*.*is also in line 2"),
        ('path\n"a.mid\n', "line 2 (.*\n)*.*unexpected end"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, content, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        files(table(tmp_path, content))
    assert "list.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"path": "a.mid"}\n{"path": "b.mi', r"line 2 .*\n.*one JSON object on each line"),
        ('{"path": "a.mid"}\n["b.mid"]', r"line 2 (.*\n)*.*list"),
        ('{"file": "a.mid"}', r"line 1 (.*\n)*.*keys file"),
        ('{"path": null}', r"line 1 .*\n.*a path"),
        ('{"path": ["a.mid"]}', r"line 1 .*\n.*text in `path`"),
        ('{"path": "a\\ud800.mid"}', r"line 1 .*\n.*text in `path`"),
        ('{"path": "a.mid", "split": "eval"}', r"'eval'; did you mean validation\?"),
        ('{"path": "a.mid", "bpm": true}', "line 1"),
        ('{"path": "a.mid", "bpm": [90]}', "line 1"),
        ('{"path": "a.mid", "bpm": NaN}', "line 1"),
        ("[" * 100_000, "line 1"),
        ("\n\n", "lists no files"),
    ],
)
def test_json_lines_that_cannot_be_used(tmp_path, content, complaint):
    with pytest.raises(DataError, match=complaint):
        files(table(tmp_path, content, "list.jsonl"))


def test_groups_may_be_numbers(tmp_path):
    [file] = files(table(tmp_path, '{"path": "a.mid", "group": 7}', "list.jsonl"), group="column")
    assert file.group == "7"


def test_rows_without_a_split_follow_their_group(tmp_path):
    rows = "path,group,split\na.mid,g,\nb.mid,g,test\nc.mid,h,train\n"
    assert [file.split for file in files(table(tmp_path, rows), group="column")] == ["test", "test", "train"]
    with pytest.raises(DataError, match=r"line 3.*(?s:.)*train, and test in an earlier line"):
        files(table(tmp_path, "path,group,split\na.mid,g,test\nb.mid,g,train\n"), group="column")


def test_a_column_stands_once(tmp_path):
    with pytest.raises(DataError, match="`path` twice"):
        files(table(tmp_path, "path,path\na.mid,b.mid\n"))


def test_groups_that_decide_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match="needs a list with groups"):
        files(table(tmp_path, "path\na.mid\n"), group="column")
    with pytest.raises(DataError, match="line 3"):
        files(table(tmp_path, "path,group\na.mid,g\nb.mid,\n"), group="column")
    # Whoever has a split needs no group.
    rows = "path,group,split\na.mid,g,\nb.mid,,train\n"
    assert [file.group for file in files(table(tmp_path, rows), group="column")] == ["g", ""]
