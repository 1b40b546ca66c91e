"""What is kept of the code of a submission."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cluster.code import SHIPPED_MODELS
from cluster.errors import TargetError
from cluster.site import Site
from cluster.submission import Submission, read_snapshot, take_snapshot
from jobs.clean import main as clean_command
from jobs.submission import hand_over


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
    assert read_snapshot(tmp_path / "code") == {"commit": head, "dirty": False, "left_out": []}
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


def test_secrets_and_links_stay_in_the_checkout(checkout, tmp_path):
    jobs, outside = checkout / "jobs", tmp_path / "outside"
    outside.mkdir()
    (outside / "shadow").write_text("theirs")
    names = [".env", "prod.env", "api_secret.txt", "key.pem", "id_ed25519", "Credentials.json"]
    for name in names:
        (jobs / name).write_text("hunter2")
    (jobs / "link").symlink_to(outside / "shadow")
    (jobs / "a.py").rename(outside / "a.py")
    (jobs / "a.py").symlink_to(outside / "a.py")
    (jobs / "run.sh").write_text("new\n")
    (jobs / "run.sh").chmod(0o700)
    (jobs / "mine.txt").touch(0o600)
    left_out = take_snapshot(checkout, ["jobs"], tmp_path / "code")
    assert left_out == sorted(f"jobs/{name}" for name in [*names, "link", "a.py"])
    assert read_snapshot(tmp_path / "code")["left_out"] == left_out
    kept = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "code" / "jobs").iterdir()}
    assert kept == {"gone.py": 0o644, "run.sh": 0o700, "mine.txt": 0o600}


def test_a_tracked_folder_that_became_a_link_is_not_followed(checkout, tmp_path):
    (checkout / "jobs").rename(tmp_path / "elsewhere")
    (checkout / "jobs").symlink_to(tmp_path / "elsewhere")
    assert take_snapshot(checkout, ["jobs"], tmp_path / "code") == ["jobs", "jobs/a.py", "jobs/gone.py"]
    assert not (tmp_path / "code" / "jobs").exists()


def test_the_patch_holds_nothing_but_changes_of_what_is_kept(checkout, tmp_path):
    (checkout / "jobs" / "password.txt").write_text("")
    subprocess.run(["git", "add", "--all"], cwd=checkout, check=True)
    (checkout / "jobs" / "password.txt").write_text("hunter2")
    (checkout / "tests" / "t.py").write_text("hunter2")
    (checkout / "jobs" / "gone.py").write_text("changed")
    take_snapshot(checkout, ["jobs"], tmp_path / "code")
    patch = (tmp_path / "code" / "changes.patch").read_text()
    assert "hunter2" not in patch
    assert "+changed" in patch


def submission(folder: Path) -> Submission:
    made = Submission(folder, "local", folder, Site(), ())
    made.write_plan()
    return made


def three_submissions(tmp_path: Path) -> list[Submission]:
    return [submission(tmp_path / "submissions" / name) for name in ("one", "two", "three")]


def test_submissions_of_the_same_code_share_it(checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hand_over, "CHECKOUT", checkout)
    (checkout / "jobs" / "run.sh").write_text("go\n")
    weights = Path(SHIPPED_MODELS, "small", "model.safetensors")
    (checkout / weights).parent.mkdir(parents=True)
    (checkout / weights).write_text("weights")
    first, second, third = three_submissions(tmp_path)
    hand_over.keep_code(first, print)
    (first.code / "jobs" / "__pycache__").mkdir()
    (first.code / "jobs" / "__pycache__" / "a.pyc").touch()
    hand_over.keep_code(second, print)
    assert first.code.samefile(second.code)
    assert not first.code.readlink().is_absolute()
    kept, store = first.code.resolve(), tmp_path / "submissions" / ".code"
    models = (kept / SHIPPED_MODELS).resolve()
    assert {*store.iterdir()} == {kept, models}
    assert (first.code / weights).read_text() == "weights"

    # Another content is another snapshot, with the same models.
    (checkout / "jobs" / "gone.py").write_text("other")
    (checkout / "jobs" / "run.sh").chmod(0o755)
    hand_over.keep_code(second, print)
    assert (first.code / "jobs" / "gone.py").read_text() == ""
    assert (second.code / "jobs" / "run.sh").stat().st_mode & 0o100
    assert {*store.iterdir()} == {kept, models, second.code.resolve()}

    # What somebody has edited in the store is not taken for the checkout's code.
    (second.code / "jobs" / "gone.py").write_text("edited")
    hand_over.keep_code(third, print)
    assert (third.code / "jobs" / "gone.py").read_text() == "other"
    assert (second.code / "jobs" / "gone.py").read_text() == "edited"

    # What no submission uses is removed once it is old; models are used by the snapshots that link to them.
    (store / "notes").mkdir()
    others = {store / "notes", second.code.resolve(), third.code.resolve()}
    clean_command([first.folder], yes=True)
    assert kept.is_dir()
    for path in (kept, models):
        os.utime(path, (0, 0))
    clean_command([second.folder], yes=True)
    assert "removed 1 copy of the code that no submission uses" in capsys.readouterr().out
    assert {*store.iterdir()} == {models, *others}
    (checkout / weights).write_text("others")
    hand_over.keep_code(third, print)
    for path in (models, *others):
        os.utime(path, (0, 0))
    hand_over.keep_code(submission(tmp_path / "submissions" / "four"), print)
    clean_command([tmp_path / "submissions" / "four"], yes=True)
    assert {*store.iterdir()} == {store / "notes", third.code.resolve(), (third.code / SHIPPED_MODELS).resolve()}


def test_a_submission_of_an_earlier_version_gets_a_link_when_it_is_submitted_again(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(hand_over, "CHECKOUT", checkout)
    first, second, _ = three_submissions(tmp_path)
    take_snapshot(checkout, ["jobs"], first.code)
    hand_over.keep_code(second, print)
    hand_over.keep_code(first, print)
    assert first.code.samefile(second.code)


def test_where_the_store_is_somebody_elses_a_submission_has_its_own_code(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(hand_over, "CHECKOUT", checkout)
    (made, *_) = three_submissions(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "submissions" / ".code").symlink_to(tmp_path / "elsewhere")
    hand_over.keep_code(made, print)
    assert not made.code.is_symlink()
    assert (made.code / "jobs" / "a.py").read_text() == "a = 1\n"
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_a_submission_is_its_owners_alone(tmp_path):
    made = submission(tmp_path / "submissions" / "s")
    assert made.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_no_checkout(tmp_path):
    with pytest.raises(TargetError, match="cannot keep a copy of the code") as raised:
        take_snapshot(tmp_path, ["jobs"], tmp_path / "code")
    assert "clone" in raised.value.details["do"]
    assert read_snapshot(tmp_path) is None
