"""How an element stands, from what it wrote down and what its scheduler says."""

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from cluster import slurm
from cluster.attempts import TOO_SHORT, begin, finish
from cluster.errors import TargetError
from cluster.job import Array, Job, SchedulerState
from cluster.local import new_launch_id, runner_of
from cluster.site import Site
from cluster.status import ElementStatus, statuses_from
from cluster.submission import Submission, read_submission
from jobs.cancel import main as cancel_command
from jobs.clean import main as clean_command
from jobs.retry import main as retry_command
from jobs.submission.hand_over import outstanding
from jobs.submission.rows import submission_rows
from jobs.submission.run_view import RunViews

URL = "http://head:8265"


@pytest.fixture(autouse=True)
def accounted(monkeypatch) -> dict[tuple[str, int], SchedulerState]:
    """What the accounting database says, which the machine of the tests may have too."""
    ends: dict[tuple[str, int], SchedulerState] = {}
    monkeypatch.setattr(slurm, "ends_accounted", lambda numbers: {key: ends[key] for key in ends if key[0] in numbers})
    return ends


def submission(tmp_path, target):
    jobs = (Job("train", ("true",)), Job("sample", ("true",), after=("train",), array=Array(3)))
    made = Submission(tmp_path / "s", target, tmp_path, Site(), jobs, URL if target == "ray" else "")
    made.write_plan()
    assert read_submission(made.folder) == made
    return made


def state(made, said, element=0, job="train"):
    told = None if said is None else {("7", element): SchedulerState(*said)} if said else {}
    (found,) = [one for one in statuses_from(made, told) if (one.job.name, one.element) == (job, element)]
    return found.state, found.why


@pytest.mark.parametrize(
    ("said", "begun", "ended", "expected"),
    [
        (("PENDING", "Priority"), False, None, ("waiting", "Priority")),
        (("PENDING", "BeginTime"), True, 75, ("saved", "BeginTime")),
        (("RUNNING", "None"), True, None, ("running", "")),
        (("COMPLETING", "None"), True, 75, ("running", "")),
        (("CANCELLED", "None"), True, None, ("cancelled", "")),
        (("CANCELLED", "None"), True, 1, ("cancelled", "")),
        (("CANCELLED", "DependencyNeverSatisfied"), False, None, ("not submitted", "a job before it failed")),
        (("TIMEOUT", "TimeLimit"), True, None, ("failed", "timeout")),
        (("FAILED", "NonZeroExitCode"), True, 3, ("failed", "exit status 3")),
        (("COMPLETED", "None"), True, 0, ("done", "")),
        ((), True, 0, ("done", "")),
        ((), True, None, ("lost", "SLURM no longer knows the job, and the job did not record how it ended")),
        (None, False, None, ("waiting", "SLURM does not answer")),
        (None, True, None, ("running", "SLURM does not answer")),
        (None, True, 75, ("saved", "SLURM does not answer")),
    ],
)
def test_on_slurm(tmp_path, said, begun, ended, expected):
    made = submission(tmp_path, "slurm")
    (job, _) = made.jobs
    made.take_receipt(job, "7", [0])
    if begun:
        begin(made.folder, job, 0, launch_id="7", restart=0, pid=1)
    if ended is not None:
        finish(made.folder, job, 0, code=ended, asked=False)
    assert state(made, said) == expected


@pytest.mark.parametrize(
    ("said", "begun", "expected"),
    [
        (("PENDING", "queued"), False, ("waiting", "queued")),
        (("RUNNING", ""), True, ("running", "")),
        (("STOPPED", ""), True, ("cancelled", "")),
        (("FAILED", ""), True, ("lost", "its driver ended without a result")),
        (("FAILED", ""), False, ("not submitted", "a job before it failed")),
        ((), True, ("lost", f"the Ray cluster at {URL} does not know the job; the cluster was restarted")),
        (None, True, ("lost", f"no Ray cluster answers at {URL}")),
    ],
)
def test_on_ray(tmp_path, said, begun, expected):
    made = submission(tmp_path, "ray")
    (job, _) = made.jobs
    made.take_receipt(job, "7", [0])
    if begun:
        begin(made.folder, job, 0, launch_id="7", restart=0, pid=1)
    assert state(made, said) == expected


def test_what_slurm_has_requeued_lives_whatever_its_last_start_wrote_down(tmp_path):
    """Of the nodes of a training one is lost; the launcher of another fails and says so before SLURM ends it."""
    made = submission(tmp_path, "slurm")
    (job, _) = made.jobs
    made.take_receipt(job, "7", [0])
    begin(made.folder, job, 0, launch_id="7", restart=0, pid=1)
    finish(made.folder, job, 0, code=1, asked=False)
    assert state(made, ("PENDING", "BeginTime")) == ("waiting", "BeginTime")
    assert state(made, ("RUNNING", "None")) == ("running", "")
    assert state(made, ("COMPLETING", "None")) == ("failed", "exit status 1")
    made.take_receipt(job, "8", [0])
    told = {("7", 0): SchedulerState("RUNNING", ""), ("8", 0): SchedulerState("FAILED", "NonZeroExitCode")}
    assert [one.numbers for one in statuses_from(made, told) if one.job == job] == [("7",)]
    told["8", 0] = SchedulerState("PENDING", "Priority")
    assert [one.numbers for one in statuses_from(made, told) if one.job == job] == [("7", "8")]


def test_what_a_job_has_come_again_after_is_told(tmp_path):
    made = submission(tmp_path, "slurm")
    job = replace(made.jobs[0], retries=9)
    made.take_receipt(job, "7", [0])
    for restart, (code, asked) in enumerate([(75, True), (140, True), (None, False), (137, False), (75, False)]):
        begin(made.folder, job, 0, launch_id="7", restart=restart, pid=1)
        if code is not None:
            finish(made.folder, job, 0, code=code, asked=asked)
    begin(made.folder, job, 0, launch_id="7", restart=5, pid=1)
    when = datetime.fromtimestamp(time.time()).isoformat(timespec="seconds")
    (made.logs / "train-7.log").write_text(f"*** JOB 7 ON node1 CANCELLED AT {when} DUE TO JOB REQUEUE ***\n")
    (train, *_) = submission_rows(made, {("7", 0): SchedulerState("RUNNING", "")}, RunViews())
    assert (train.state, train.restarts) == ("running", 5)
    assert train.why == "restarted after: 2 x signal from SLURM, lost node or requeue, 2 x lost process"
    began = made.attempts(job, 0)[0].began
    when = datetime.fromtimestamp(began).isoformat(timespec="seconds")
    line = f"slurmstepd-node1: error: *** JOB 7 ON node1 CANCELLED AT {when}"
    attempt = replace(made.attempts(job, 0)[0], ended=began + 9, asked=True)
    following = replace(attempt, restart=1, began=began + 20)
    of_two = ElementStatus(job, 0, "running", "", None, (), (attempt, following))
    assert list(of_two.restart_causes(f"{line} DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***")) == ["node failure"]


def test_a_limit_that_is_too_short_for_a_start_is_what_has_to_change(tmp_path):
    made = submission(tmp_path, "slurm")
    job = made.jobs[0]
    made.take_receipt(job, "7", [0])
    for restart in range(job.retries + 1):
        begin(made.folder, job, 0, launch_id="7", restart=restart, pid=1)
        finish(made.folder, job, 0, code=75, asked=True, reason=TOO_SHORT)
    (train, *_) = submission_rows(made, {}, RunViews())
    assert (train.state, train.why) == ("failed", f"{TOO_SHORT}; restarted after: 3 x {TOO_SHORT}")
    (failure,) = train.failures()
    assert (failure.category, failure.cause) == ("time limit", TOO_SHORT)
    assert failure.do.startswith("use a longer --time")


def test_how_a_job_ended_is_remembered_when_slurm_has_forgotten_it(tmp_path):
    made = submission(tmp_path, "slurm")
    made.take_receipt(made.jobs[0], "7", [0])
    assert state(made, ())[0] == "lost"
    for said in (("CANCELLED", "None"), ()):
        assert state(made, said) == ("cancelled", "")
    made.folder.chmod(0o500)  # of somebody else, who may only look
    assert outstanding(made, ("failed", "lost")).elements["train"] == []
    made.folder.chmod(0o700)


def test_how_a_job_ended_that_slurm_had_forgotten_before_anybody_asked(tmp_path, accounted):
    """Of an array one element was cancelled in the night, and one never began."""
    made = submission(tmp_path, "slurm")
    train, sample = made.jobs
    made.take_receipt(train, "7", [0])
    begin(made.folder, train, 0, launch_id="7", restart=0, pid=1)
    finish(made.folder, train, 0, code=0, asked=False)
    made.take_receipt(sample, "8", [0, 1, 2])
    begin(made.folder, sample, 0, launch_id="8", restart=0, pid=1)
    accounted[("8", 0)] = accounted[("8", 1)] = SchedulerState("CANCELLED", "")
    with patch("cluster.status.scheduler_says", lambda _: {}):
        for _ in range(2):
            assert [state(made, (), n, "sample")[0] for n in range(3)] == ["cancelled", "cancelled", "lost"]
            assert outstanding(made, ("failed", "lost")).elements["sample"] == [2]
            accounted.clear()  # it is remembered


@pytest.mark.parametrize(
    ("launch", "age", "expected"), [("7.0", 5, "running"), ("7.0", 600, "lost"), ("6.0", 5, "lost")]
)
@pytest.mark.parametrize("target", ["slurm", "ray"])
def test_what_sends_heartbeats_is_not_lost(tmp_path, target, launch, age, expected):
    """Also where the scheduler shows jobs to their owner alone."""
    job = Job("train", ("true",), status=str(tmp_path / "status.json"))
    made = Submission(tmp_path / "s", target, tmp_path, Site(), (job,), URL)
    made.write_plan()
    made.take_receipt(job, "7", [0])
    begin(made.folder, job, 0, launch_id="7", restart=0, pid=1)
    (tmp_path / "status.json").write_text(json.dumps({"launch": launch, "heartbeat": time.time() - age}))
    assert state(made, ())[0] == expected


@pytest.fixture
def visible():
    """A folder whose parents everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def as_somebody_else(folder):
    """As a user who may look at a folder and not change it."""
    folder.chmod(0o555)
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if os.getresuid()[2] == 0:
            os.setresuid(0, 0, 0)
        folder.chmod(0o755)


def test_what_only_the_owner_may_do_is_refused_in_words(visible):
    made = submission(visible, "slurm")
    made.take_receipt(made.jobs[0], "7", [0])
    commands = {
        "cancel": cancel_command,
        "retry": partial(retry_command, failed=True),
        "clean": partial(clean_command, yes=True),
    }
    with as_somebody_else(made.folder):
        assert state(made, ("RUNNING", "None")) == ("running", "")
        for command in commands.values():
            with pytest.raises(TargetError) as refused:
                command([made.folder])
            assert refused.value.problem.startswith(f"{made.folder} belongs to ")
    assert not made.cancelled


def test_every_kind_of_end_is_offered_to_be_cleaned(tmp_path, capsys):
    ends = {"done": 0, "failed": 1, "cancelled": 75, "running": None}
    for name, code in ends.items():
        made = Submission(tmp_path / "submissions" / name, "ray", tmp_path, Site(), (Job("train", ("true",)),), URL)
        made.write_plan()
        made.take_receipt(made.jobs[0], "7", [0])
        begin(made.folder, made.jobs[0], 0, launch_id="7", restart=0, pid=1)
        made.mark_cancelled(name == "cancelled")
        if code is not None:
            finish(made.folder, made.jobs[0], 0, code=code, asked=False)
    running = {("7", 0): SchedulerState("RUNNING", "")}

    def cleaned(**options):
        with patch("cluster.status.scheduler_says", lambda group: running if group[0].name == "running" else {}):
            clean_command([tmp_path / "submissions"], **options)
        return capsys.readouterr().out

    listed = cleaned()
    assert f"would remove {tmp_path}/submissions/done (done, " in listed
    assert "1 more has been cancelled; --cancelled includes them\n" in listed
    assert "1 more has jobs that failed; --failed includes them\n" in listed
    rows = json.loads(cleaned(cancelled=True, failed=True, yes=True, json_=True))
    assert {Path(row["submission"]).name: row["state"] for row in rows} == {
        "done": "done", "failed": "failed", "cancelled": "cancelled"
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "submissions").iterdir()] == ["running"]


def test_elements_of_a_split_array_are_found_by_their_own_numbers(tmp_path):
    made = submission(tmp_path, "slurm")
    (_, job) = made.jobs
    made.take_receipt(job, "7", [0, 1])
    made.take_receipt(job, "8", [2], first=2)
    told = {("7", 0): SchedulerState("RUNNING", ""), ("7", 1): SchedulerState("PENDING", "Resources")}
    told |= {("8", 0): SchedulerState("TIMEOUT", "")}
    found = [(one.state, one.why) for one in statuses_from(made, told) if one.job == job]
    assert found == [("running", ""), ("waiting", "Resources"), ("failed", "timeout")]


def test_what_was_written_before_the_last_submission_is_about_an_earlier_one(tmp_path):
    made = submission(tmp_path, "slurm")
    (job, _) = made.jobs
    made.take_receipt(job, "6", [0])
    begin(made.folder, job, 0, launch_id="6", restart=0, pid=1)
    finish(made.folder, job, 0, code=1, asked=False)
    made.take_receipt(job, "7", [0])
    assert state(made, ("PENDING", "Priority")) == ("waiting", "Priority")


def test_nothing_was_submitted_yet(tmp_path):
    assert state(submission(tmp_path, "slurm"), ()) == ("not submitted", "")


def test_a_cancelled_submission(tmp_path):
    made = submission(tmp_path, "slurm")
    made.take_receipt(made.jobs[0], "7", [0])
    made.mark_cancelled(True)
    assert state(made, ()) == ("cancelled", "")
    made.mark_cancelled(False)
    assert state(made, ())[0] == "lost"


@pytest.fixture
def ours():
    """A process of this user that has nothing to do with any submission."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_process_that_was_given_the_number_of_an_ended_runner_is_left_alone(tmp_path, ours, capsys):
    made = submission(tmp_path, "local")
    for number, told in ((f"{ours.pid}-1-abcdef", "nothing waited or ran"), (f"{ours.pid}-abcdef", "train 0")):
        made.take_receipt(made.jobs[0], number, [0])
        begin(made.folder, made.jobs[0], 0, launch_id=number, restart=0, pid=ours.pid)
        cancel_command([made.folder])
        assert told in capsys.readouterr().out
        if number.count("-") == 2:
            assert ours.poll() is None
            assert state(made, None) == ("lost", "its process ended without a result")
            assert outstanding(made).elements["train"] == [0]
    assert ours.wait(10) == -signal.SIGTERM, "numbers of earlier versions do not say when the runner started"


def test_the_runner_of_a_number_is_known_while_it_lives():
    assert runner_of(new_launch_id()) == os.getpid()
    assert runner_of(f"{2**22 + 1}-1-abcdef") is None
