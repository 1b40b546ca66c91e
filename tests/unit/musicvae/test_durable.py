"""Files and folders that are whole or absent."""

import os
from pathlib import Path

import pytest

from musicvae.durable import append_line, read_lines, whole_folder, write_json, write_whole


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
