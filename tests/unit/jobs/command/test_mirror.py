"""Copies of a folder at a URL: whole at any moment, and nothing that others have made is touched."""

import json
import os
from pathlib import Path

import fsspec
import pytest

from jobs.command import mirror as mirroring
from jobs.command.mirror import LISTING, Mirror, MirrorError, fetch, mirrored
from musicvae.errors import ConfigError, DataError, NotThereError

URL = "memory://bucket/run"


@pytest.fixture(autouse=True)
def memory():
    """fsspec's memory is one for the whole process."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    write(
        folder, {"config.yaml": "a: 1", "status.json": "{}", "checkpoints/step-1/model": "one", "metrics.jsonl": "1\n"}
    )
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".mirror" not in path.parts
    }


def copied(tmp_path: Path, name: str = "fetched") -> dict[str, str]:
    assert fetch(URL, tmp_path / name)
    return content(tmp_path / name)


def test_a_copy_has_the_whole_files_and_whole_lines_and_is_brought_up_to_date(folder, tmp_path, memory):
    before = content(folder)
    write(folder, {".aside.tmp": "half", "rank.aside": "half", "lock": "me", "ranks/rank-0.json": "beat"})
    (folder / "link").symlink_to("/etc/passwd")
    with mirrored(folder, URL, skipped=("ranks",)):
        write(folder, {"metrics.jsonl": "1\n2\n3 is not whole"})
    assert copied(tmp_path) == before | {"metrics.jsonl": "1\n2\n"}

    shipped = {name: memory.info(f"/bucket/run/{name}")["created"] for name in before}
    (folder / "checkpoints" / "step-1" / "model").unlink()
    write(folder, {"checkpoints/step-2/model": "two", "metrics.jsonl": "1\n2\n3\n"})
    with mirrored(folder, URL, skipped=("ranks",)):
        pass
    assert copied(tmp_path, "again") == {
        **{name: before[name] for name in ("config.yaml", "status.json")},
        "checkpoints/step-2/model": "two",
        "metrics.jsonl": "1\n2\n3\n",
    }
    assert memory.info("/bucket/run/config.yaml")["created"] == shipped["config.yaml"], "what stays is not sent again"
    assert not memory.exists("/bucket/run/checkpoints/step-1/model"), "what has gone here goes there"


def test_the_copy_of_another_folder_is_refused_and_one_that_was_fetched_goes_on(folder, tmp_path):
    with mirrored(folder, URL):
        pass
    write(tmp_path / "other", {"config.yaml": "a: 1"})
    for other in (tmp_path / "other", tmp_path / "fresh"):
        with pytest.raises(ConfigError, match="--resume-from URL") as refused, mirrored(other, URL):
            raise AssertionError("it begins")
        assert "the copy of another folder" in str(refused.value)
    assert fetch(URL, tmp_path / "fetched")
    write(tmp_path / "fetched", {"more": "x"})
    with mirrored(tmp_path / "fetched", URL):
        pass
    assert copied(tmp_path, "again") == content(tmp_path / "fetched")


def test_nothing_else_there_is_touched(folder, memory):
    memory.pipe_file("/bucket/run/notes.txt", b"mine")
    for name in ("metrics.jsonl", "config.yaml"):
        with mirrored(folder, URL):
            (folder / name).unlink()
    assert memory.cat_file("/bucket/run/notes.txt") == b"mine"
    assert not memory.exists("/bucket/run/config.yaml")


@pytest.mark.parametrize("killed_at", range(1, 8))
@pytest.mark.parametrize("read_whole", [0, 2**23])
def test_a_copy_can_be_fetched_wherever_the_copying_is_killed(folder, tmp_path, monkeypatch, killed_at, read_whole):
    monkeypatch.setattr(mirroring, "AT_ONCE", 1)
    monkeypatch.setattr(mirroring, "READ_WHOLE", read_whole)
    first = Mirror(folder, URL)
    first.copy()
    old = content(folder)
    write(folder, {"status.json": "[]", "metrics.jsonl": "1\n2\n", "best": "new", "checkpoints/step-1/model": "other"})
    new, done = content(folder), 0

    class KilledError(BaseException):
        pass

    def counted(name: str):
        write_there = getattr(first._files, name)

        def counting(*arguments: object) -> object:
            nonlocal done
            done += 1
            if done == killed_at:
                raise KilledError
            return write_there(*arguments)

        monkeypatch.setattr(first._files, name, counting)

    counted("pipe_file")
    counted("put_file")
    with pytest.raises(KilledError):
        first.copy()
    monkeypatch.undo()
    found = copied(tmp_path)
    assert old.keys() <= found.keys() <= new.keys()
    assert all(text in (old.get(name), new[name]) for name, text in found.items())
    first.copy()
    assert copied(tmp_path, "again") == new


@pytest.mark.parametrize("read_whole", [0, 2**23])
def test_a_file_that_is_replaced_while_it_is_copied_can_be_fetched(folder, tmp_path, monkeypatch, read_whole):
    monkeypatch.setattr(mirroring, "READ_WHOLE", read_whole)
    mirror, contents = Mirror(folder, URL), iter(range(1000))
    mirror.copy()
    make_folder = mirror._make_folder

    def changing(place: str) -> None:
        make_folder(place)
        (folder / "status.json").write_text(f"[{next(contents)}]")

    monkeypatch.setattr(mirror, "_make_folder", changing)
    for turn in range(3):
        (folder / "best").write_text(f"{turn}")
        mirror.copy()
        assert copied(tmp_path, f"at {turn}")["best"] == f"{turn}"


def test_what_cannot_be_copied_is_told_once_and_at_the_end(folder, tmp_path, monkeypatch, capsys, memory):
    write_there = memory.pipe_file

    def refused(place: str, data: bytes) -> None:
        if not place.endswith("mirror.trial"):
            raise PermissionError("no such key AKIA")
        write_there(place, data)

    monkeypatch.setattr(memory, "pipe_file", refused)
    with pytest.raises(MirrorError, match="cannot be copied") as error, mirrored(folder, URL, seconds=0.05):
        mirroring.time.sleep(0.5)
    assert "PermissionError: no such key" in str(error.value)
    assert capsys.readouterr().err.count("warning: ") == 1
    with pytest.raises(ZeroDivisionError), mirrored(folder, URL):
        raise ZeroDivisionError
    assert capsys.readouterr().err.count("warning: ") == 1, "the block's own error is the one that counts"
    monkeypatch.undo()
    with mirrored(folder, URL):
        pass
    assert copied(tmp_path) == content(folder)


def test_a_folder_that_is_there_is_used_and_no_copy_is_no_error(folder, tmp_path, capsys):
    assert not fetch(URL, tmp_path / "run")
    assert not fetch(URL, tmp_path / "new")
    assert not fetch(None, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert "there is no copy at memory://bucket/run yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (LISTING, b"{"),
        (LISTING, b'{"format": 9, "identity": "", "files": {}}'),
        (LISTING, b'{"format": 1, "identity": "", "files": {"../outside": []}}'),
        ("checkpoints/step-1/model", b"onf"),
        ("metrics.jsonl", b"2\n"),
    ],
)
def test_a_copy_that_somebody_has_changed_is_refused_and_leaves_nothing(folder, tmp_path, memory, name, data):
    Mirror(folder, URL).copy()
    memory.pipe_file(f"/bucket/run/{name}", data)
    with pytest.raises(DataError):
        fetch(URL, tmp_path / "fetched")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(("url", "problem"), [("runs/one", "a URL"), ("pipe:cat", "program"), ("nosuch://x/y", "open")])
def test_what_cannot_be_written_to_is_refused(folder, url, problem):
    with pytest.raises((ConfigError, NotThereError), match=problem), mirrored(folder, url):
        raise AssertionError("it begins")


def test_of_several_processes_one_copies_at_a_time(folder):
    with mirroring._alone(Mirror(folder, URL), wait=False):
        child = os.fork()
        if not child:
            try:
                with mirroring._alone(Mirror(folder, URL), wait=False):
                    os._exit(0)
            except mirroring.FolderInUseError:
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    listing = json.dumps(mirroring.read_listing(fsspec.filesystem("memory"), "/bucket/run", URL))
    assert listing == "[null, {}]"
