"""What is kept of the code of a submission."""

import json
import subprocess
from pathlib import Path

import pytest

from cluster.errors import TargetError
from cluster.submission import read_snapshot, take_snapshot


@pytest.fixture
def checkout(tmp_path) -> Path:
    folder = tmp_path / "checkout"
    for name, text in (("jobs/a.py", "a = 1\n"), ("jobs/gone.py", ""), ("tests/t.py", ""), (".gitignore", "*.log\n")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--message=first"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_an_unchanged_tree(checkout, tmp_path):
    take_snapshot(checkout, ["jobs"], tmp_path / "code")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True).stdout.strip()
    assert read_snapshot(tmp_path / "code") == {"commit": head, "dirty": False}
    assert (tmp_path / "code" / "changes.patch").read_text() == ""
    assert sorted(path.name for path in (tmp_path / "code" / "jobs").iterdir()) == ["a.py", "gone.py"]
    assert not (tmp_path / "code" / "tests").exists()


def test_changed_new_removed_and_ignored_files(checkout, tmp_path):
    (checkout / "jobs" / "a.py").write_text("a = 2\n")
    (checkout / "jobs" / "ü b.py").write_text("new\n")
    (checkout / "jobs" / "x.log").write_text("ignored\n")
    (checkout / "jobs" / "gone.py").unlink()
    take_snapshot(checkout, ["jobs"], tmp_path / "code")
    (checkout / "jobs" / "a.py").write_text("a = 3\n")
    code = tmp_path / "code"
    assert {path.name: path.read_text() for path in (code / "jobs").iterdir()} == {"a.py": "a = 2\n", "ü b.py": "new\n"}
    assert json.loads((code / "snapshot.json").read_text())["dirty"] is True
    assert "+a = 2" in (code / "changes.patch").read_text()


def test_a_folder_that_is_no_checkout(tmp_path):
    with pytest.raises(TargetError, match="cannot keep a copy of the code") as raised:
        take_snapshot(tmp_path, ["jobs"], tmp_path / "code")
    assert "clone" in raised.value.details["do"]
    assert read_snapshot(tmp_path) is None
