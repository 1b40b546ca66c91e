"""Whole commands on a machine that others use, too: what they planted is not used, and nothing of theirs is touched."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.code import CODE_PACKAGES
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command, ok, run_job
from tests.support.runs.sample_fixtures import write_sample_run
from tests.support.services.https_server import serving
from tests.support.services.submitted import rows, run_in, submit
from tests.support.sweeps.tiny_sweep import sweep_file

pytestmark = pytest.mark.slow
STRANGER = 12345
"""The number of a user who is neither this one nor root."""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files in which everybody may write."""
    with tempfile.TemporaryDirectory(prefix="tmp-") as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def train_from_url(shards: Path, run: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    """A training of two steps on shards behind a URL, with the default cache."""
    with serving(shards) as server:
        return run_job("train", "--shards", server.url, "--run", run, *TINY, "train.steps=2", TMPDIR=str(temporary))


def test_copies_of_remote_shards_are_the_users_own(small_shards, tmp_path, temporary):
    ok(train_from_url(small_shards, tmp_path / "run", temporary))
    cache = temporary / f"musicvae-{os.getuid()}"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert {path.name for path in temporary.iterdir()} == {cache.name}


@pytest.mark.parametrize("planted", ["link", "folder"])
def test_a_cache_that_somebody_else_has_put_there_is_refused(small_shards, tmp_path, temporary, planted):
    theirs, place = tmp_path / "theirs", temporary / f"musicvae-{os.getuid()}"
    theirs.mkdir(mode=0o777)
    if planted == "link":
        place.symlink_to(theirs)
    elif os.getuid() == 0:
        place.mkdir()
        os.chown(place, STRANGER, STRANGER)
    else:
        pytest.skip("only root can make a folder that is another user's")
    refused = train_from_url(small_shards, tmp_path / "run", temporary)
    assert refused.returncode == 2, refused.stderr
    assert "is a link, or belongs to another user" in refused.stderr
    assert not [*theirs.iterdir(), *place.iterdir()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout of our code without its models, with secrets of the user's in it and links out of it."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in CODE_PACKAGES:
        left_out = shutil.ignore_patterns("__pycache__", "weights", "baselines")
        shutil.copytree(CHECKOUT / package, folder / package, ignore=left_out)
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--message=first"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "jobs" / ".env").write_text("hunter2")
    (folder / "cluster" / "ssh.key").write_text("hunter2")
    (folder / "jobs" / "shadow").symlink_to("/etc/shadow")
    (folder / "jobs" / "mine.txt").touch(0o600)
    return folder


def test_a_submission_holds_no_secret_and_is_nobody_elses(checkout, tmp_path):
    run = write_sample_run(tmp_path / "run")
    command = job_command("submit", "report", "--", run)
    variables = {**os.environ, **QUIET, "PYTHONPATH": str(checkout)}
    submitted = ok(subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True))
    left_out = submitted.stderr.replace("\n", " ")
    assert all(name in left_out for name in ("jobs/.env", "cluster/ssh.key", "jobs/shadow"))
    (submission,) = tmp_path.glob("submissions/[!.]*")
    kept = [path for path in (tmp_path / "submissions").rglob("*") if path.is_file()]
    assert (submission / "code" / "jobs" / "mine.txt").resolve() in kept
    assert not [path for path in kept if b"hunter2" in path.read_bytes()]
    assert not [path for path in kept if path.name in (".env", "ssh.key", "shadow")]
    assert stat.S_IMODE(submission.stat().st_mode) == 0o700
    assert stat.S_IMODE((submission / "code" / "jobs" / "mine.txt").stat().st_mode) == 0o600


def test_a_process_that_has_the_number_of_an_ended_one_is_not_taken_for_it(tmp_path):
    run = write_sample_run(tmp_path / "run")
    submission = submit(tmp_path, "report", "--", run)
    receipts, (record,) = submission / "receipts.jsonl", [*submission.glob("attempts/*")]
    with subprocess.Popen(["sleep", "600"]) as ours:
        try:
            # As after a kill of the machine: the attempt has not ended, and its number is another process's.
            receipt = json.loads(receipts.read_text())
            _, began, key = receipt["number"].split("-")
            number = f"{ours.pid}-{began}-{key}"
            receipts.write_text(json.dumps({**receipt, "number": number}) + "\n")
            start = {**json.loads(record.read_text().splitlines()[0]), "launch": number, "pid": ours.pid}
            record.write_text(json.dumps(start) + "\n")
            assert rows(tmp_path, "submissions")["report"]["state"] == "lost"
            assert "nothing waited or ran" in ok(run_in(tmp_path, "cancel", submission)).stdout
            assert ours.poll() is None
            ok(run_in(tmp_path, "submit", "report", "--", run))
            assert rows(tmp_path, "submissions")["report"]["state"] == "done"
            assert ours.poll() is None
        finally:
            ours.kill()


def test_a_sweep_on_one_allowed_cpu_trains_one_trial_at_a_time(small_shards, tmp_path):
    temporary = tmp_path / ("t" * 80)
    temporary.mkdir()
    file = sweep_file(tmp_path / "sweep.yaml", budget={"trials": 2, "steps": 10})
    one = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    command = [*one, *job_command("sweep", "run", file, "--shards", small_shards, "--out", tmp_path / "sweep")]
    variables = {**os.environ, **QUIET, "TMPDIR": str(temporary)}
    ok(subprocess.run(command, cwd=CHECKOUT, env=variables, capture_output=True, text=True))
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "sweep" / "ledger.jsonl").read_text().splitlines()]
    assert [kind for kind in kinds if kind in ("start", "end")] == ["start", "end"] * 2


def test_the_demo_removes_nothing_that_no_command_of_it_has_made(tmp_path):
    out = tmp_path / "demo"
    (out / "shards").mkdir(parents=True)
    notes = [out / "made-by-jobs-demo", out / "NOTES.txt", out / "shards" / "NOTES.txt", out / "favourites.json"]
    for path in notes:
        path.write_text("mine")
    refused = run_job("demo", "--out", out, "--workers", 0)
    assert refused.returncode == 2, refused.stderr
    assert "files that jobs.build_shards did not write" in refused.stderr
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(notes)


def test_clean_removes_no_file_that_a_submission_does_not_make(tmp_path):
    submission = submit(tmp_path, "report", "--", write_sample_run(tmp_path / "run"))
    (submission / "why it failed.txt").write_text("mine")
    refused = run_in(tmp_path, "clean", "--yes")
    assert refused.returncode == 2, refused.stderr
    assert "why it failed.txt" in refused.stderr
    assert (submission / "plan.json").exists()
    (submission / "why it failed.txt").unlink()
    ok(run_in(tmp_path, "clean", "--yes"))
    assert not submission.exists()


def test_checkpoints_that_somebody_has_put_aside_are_left_alone(small_shards, tmp_path):
    run = tmp_path / "run"
    settings = (*TINY, "train.checkpoint_every=2", "train.keep_checkpoints=1")
    ok(run_job("train", "--shards", small_shards, "--run", run, *settings, "train.steps=2"))
    kept = run / "checkpoints" / "step-00000002-kept"
    shutil.copytree(run / "checkpoints" / "step-00000002", kept)
    ok(run_job("train", "--shards", small_shards, "--run", run, *settings, "train.steps=6"))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [kept.name, "step-00000006"]
