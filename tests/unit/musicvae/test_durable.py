"""Files and folders that are whole or absent."""

import os
import re
from pathlib import Path

import pytest

from musicvae.durable import append_line, read_lines, refuse_strangers, whole_folder, write_json, write_whole
from musicvae.errors import ConfigError


def test_write_whole_replaces_and_leaves_nothing_beside(tmp_path):
    write_whole(tmp_path / "a", b"one")
    write_whole(tmp_path / "a", "zwö")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "zwö"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_a_kill_would_leave_lies_in_the_scratch_folder(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").mkdir()
    seen, sync = [], os.fsync

    def looking(handle: int) -> None:
        seen.append([len(list((tmp_path / name).iterdir())) for name in ("scratch", "out")])
        sync(handle)

    monkeypatch.setattr(os, "fsync", looking)
    write_whole(tmp_path / "out" / "a", b"one", scratch=tmp_path / "scratch")
    assert seen == [[1, 0], [0, 1]], "the file's sync, then that of its folder"
    assert (tmp_path / "out" / "a").read_bytes() == b"one"


def test_json_has_one_form(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": "ü"})
    write_json(tmp_path / "b", {"a": "ü", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folder_appears_when_it_is_whole(tmp_path):
    with whole_folder(tmp_path / "new" / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "new" / "out").exists()
    assert (tmp_path / "new" / "out" / "a").read_text() == "1"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_nothing_is_left_not_even_new_parents(tmp_path, error):
    def fill() -> None:
        with whole_folder(tmp_path / "new" / "out") as folder:
            (folder / "a").write_text("1")
            raise error

    with pytest.raises(error):
        fill()
    assert list(tmp_path.iterdir()) == []


def fill(path: Path, text: str, *, replace: bool = False) -> None:
    with whole_folder(path, replace=replace) as folder:
        (folder / "a").write_text(text)


def test_an_existing_folder_is_kept_unless_it_is_to_be_replaced(tmp_path):
    fill(tmp_path / "out", "1")
    with pytest.raises(OSError, match="not empty"):
        fill(tmp_path / "out", "2")
    assert (tmp_path / "out" / "a").read_text() == "1"
    fill(tmp_path / "out", "3", replace=True)
    assert (tmp_path / "out" / "a").read_text() == "3"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_replacement_that_fails_keeps_the_old_folder(tmp_path):
    fill(tmp_path / "out", "1")

    def failing() -> None:
        with whole_folder(tmp_path / "out", replace=True) as folder:
            (folder / "a").write_text("2")
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        failing()
    assert (tmp_path / "out" / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_torn_last_line_is_ignored(tmp_path):
    log = tmp_path / "log"
    assert read_lines(log) == []
    append_line(log, {"step": 1})
    append_line(log, {"step": 2, "name": "ü"})
    with log.open("a") as file:
        file.write('{"step": 3, "na')
    assert read_lines(log) == [{"step": 1}, {"step": 2, "name": "ü"}]


@pytest.fixture
def output(tmp_path) -> Path:
    """What a command has made, a while ago."""
    for name in ("a.mid", "000/b.mid", "work/lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("ours")
        os.utime(tmp_path / name, (1000, 1000))
    return tmp_path


def refuse(output: Path) -> None:
    refuse_strangers(output, re.compile(r"(000/)?[ab]\.mid"), 1000.0, "jobs.maker", work="work")


def test_a_folder_as_its_maker_left_it_may_go(output):
    (output / "work" / "lock").write_text("changed")
    before = sorted(output.rglob("*"))
    refuse(output)
    assert sorted(output.rglob("*")) == before, "to look removes nothing"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "NOTES.txt").write_text("mine"), "NOTES.txt"),
        (lambda folder: (folder / "000" / "b.mid").write_text("mine"), "000/b.mid"),
        (
            lambda folder: (folder / "000" / "sub").mkdir() or (folder / "000" / "sub" / "a.mid").touch(),
            "000/sub/a.mid",
        ),
        (
            lambda folder: (folder / "000" / "work").mkdir() or (folder / "000" / "work" / "mine").touch(),
            "000/work/mine",
        ),
        (lambda folder: (folder / "b.mid").symlink_to(folder / "a.mid"), "b.mid"),
        (lambda folder: (folder / "link").symlink_to(folder / "000"), "link"),
    ],
)
def test_what_somebody_else_put_there_is_named_and_nothing_goes(output, change, named):
    change(output)
    with pytest.raises(ConfigError, match=rf"did not write(.|\n)* {named}\n"):
        refuse(output)
