"""Whether a job is to come again, from what it wrote down."""

import json
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from cluster.attempts import (
    ASKED_VARIABLE,
    CANCELLED,
    TOO_SHORT,
    Record,
    begin,
    finish,
    main,
    oom_kills,
    reason_of_signal,
    verdict,
    without_progress,
)
from cluster.errors import ExitCode
from cluster.job import Job


@pytest.mark.parametrize(
    ("code", "asked", "stalled", "expected"),
    [
        (ExitCode.SUCCESS, True, 9, "done"),
        (ExitCode.PREEMPTED, True, 0, "again"),
        (ExitCode.PREEMPTED, False, 3, "again"),
        (ExitCode.PREEMPTED, True, 4, "gave up"),
        (140, True, 1, "again"),
        (143, True, 1, "again"),
        (140, False, 1, "failed"),
        (ExitCode.UNEXPECTED, True, 0, "failed"),
        (ExitCode.DATA, True, 0, "failed"),
        (ExitCode.INTERRUPTED, True, 0, "failed"),
    ],
)
def test_verdict(code, asked, stalled, expected):
    assert verdict(code, asked=asked, lost=False, stalled=stalled, retries=3) == expected


def test_a_job_that_lost_a_process_or_a_node_comes_again(tmp_path, job):
    for failure, launch, expected in (
        ("killed", "7.0", "again"),
        ("code", "7.0", "failed"),
        ("killed", "6.0", "failed"),
    ):
        begin(tmp_path, job, 0, launch_id="7", restart=0, pid=1)
        status = {"step": 5, "state": "failed", "launch": launch, "failure": {"category": failure}}
        Path(job.status).write_text(json.dumps(status), encoding="utf-8")
        assert finish(tmp_path, job, 0, code=1, asked=False) == expected


@pytest.mark.parametrize(
    ("cgroup", "counts"),
    [
        ("0::/slurm/job_7/step_batch/user\n", "slurm/job_7/memory.events"),
        ("1:cpu:/\n4:memory:/slurm/job_7/step_0\n0::/\n", "memory/slurm/job_7/memory.oom_control"),
        ("0::/user.slice/session-1.scope\n", "user.slice/session-1.scope/memory.events"),
    ],
)
def test_only_the_kernels_count_proves_that_memory_ran_out(tmp_path, job, monkeypatch, cgroup, counts):
    (tmp_path / "cgroup").write_text(cgroup)
    counted = tmp_path / "mount" / counts
    counted.parent.mkdir(parents=True)
    monkeypatch.setattr("cluster.attempts.oom_kills", partial(oom_kills, tmp_path / "cgroup", tmp_path / "mount"))
    cases = {(2, 2): ("again", False), (2, 3): ("failed", True), (None, None): ("again", False)}
    for kills, expected in cases.items():
        for kill, event in zip(kills, ("begin", "finish"), strict=True):
            counted.unlink(missing_ok=True)
            if kill is not None:
                counted.write_text(f"oom 5\noom_kill {kill}\n")
            if event == "begin":
                begin(tmp_path, job, 0, launch_id=f"{kills}", restart=0, pid=1)
        ended = finish(tmp_path, job, 0, code=137, asked=False)
        assert (ended, Record.of(tmp_path, "train", 0).attempts()[-1].out_of_memory) == expected


@pytest.fixture
def job(tmp_path):
    return Job("train", ("true",), status=str(tmp_path / "status.json"), retries=2)


def save(job: Job, step: int) -> None:
    assert job.status is not None
    Path(job.status).write_text(json.dumps({"step": step}), encoding="utf-8")


def attempt(tmp_path, job, *, code, launch="7"):
    opening = begin(tmp_path, job, 0, launch_id=launch, restart=0, pid=1)
    return opening if opening != "go" else finish(tmp_path, job, 0, code=code, asked=True)


def test_it_comes_again_as_long_as_it_gets_further(tmp_path, job):
    for step in range(10, 100, 10):
        begin(tmp_path, job, 0, launch_id="7", restart=0, pid=1)
        save(job, step)
        assert finish(tmp_path, job, 0, code=75, asked=True) == "again"


def test_it_is_given_up_after_restarts_without_progress(tmp_path, job):
    save(job, 5)
    assert [attempt(tmp_path, job, code=75) for _ in range(4)] == ["again", "again", "gave up", "gave up"]


def test_lost_nodes_count_too(tmp_path, job):
    """An attempt whose node was lost writes no end; SLURM starts the job again by itself."""
    openings = [begin(tmp_path, job, 0, launch_id="7", restart=n, pid=1) for n in range(4)]
    assert openings == ["go", "go", "go", "gave up"]


def test_a_new_submission_begins_to_count_anew(tmp_path, job):
    for _ in range(4):
        attempt(tmp_path, job, code=75)
    assert attempt(tmp_path, job, code=75, launch="8") == "again"


def test_what_is_done_is_not_done_again(tmp_path, job):
    assert attempt(tmp_path, job, code=0) == "done"
    assert begin(tmp_path, job, 0, launch_id="8", restart=0, pid=1) == "done"


def test_nothing_of_a_cancelled_submission_starts_or_comes_again(tmp_path, job):
    begin(tmp_path, job, 0, launch_id="7", restart=0, pid=1)
    (tmp_path / CANCELLED).touch()
    assert finish(tmp_path, job, 0, code=75, asked=True) == "cancelled"
    assert begin(tmp_path, job, 0, launch_id="7", restart=1, pid=1) == "cancelled"


def test_a_torn_line_costs_itself_alone(tmp_path, job):
    attempt(tmp_path, job, code=75)
    record = Record.of(tmp_path, "train", 0)
    with record.path.open("ab") as file:
        file.write(b'{"event": "sta')
    assert len(record.attempts()) == 1
    attempt(tmp_path, job, code=0)
    assert [one.verdict for one in record.attempts()] == ["again", "done"]


def test_without_progress_counts_back_to_the_last_that_got_further(tmp_path, job):
    for step in (0, 10, 10, 10):
        save(job, step)
        begin(tmp_path, job, 0, launch_id="7", restart=0, pid=1)
    assert without_progress(Record.of(tmp_path, "train", 0).attempts(), "7", 10) == 3


COMPLETING = "JobState=COMPLETING StartTime={before} EndTime={now}"
LOG = "slurmstepd-node1: error: *** JOB 7 ON node1 CANCELLED AT {when}{why} ***"


@pytest.mark.parametrize(
    ("fields", "log", "reason"),
    [
        ("JobState=RUNNING StartTime={before} EndTime={soon} PreemptTime={now}", "", "preemption"),
        ("JobState=RUNNING StartTime={now} EndTime=Unknown PreemptTime={before}", "", ""),
        ("JobState=RUNNING StartTime={before} EndTime={soon} PreemptTime=None", "", "time limit"),
        ("JobState=RUNNING StartTime={before} EndTime={late} PreemptTime=None", "", ""),
        (f"{COMPLETING} StdOut={{log}}", LOG.format(when="{now}", why=" DUE TO JOB REQUEUE"), "job requeue"),
        (f"{COMPLETING} StdOut={{log}}", LOG.format(when="{now}", why="").replace("JOB 7", "STEP 7.0"), ""),
        ("JobState=RUNNING StartTime={before} EndTime={late} StdOut={log}", LOG.format(when="{before}", why=""), ""),
        ("", "", ""),
    ],
)
def test_why_slurm_tells_a_job_to_stop_is_what_it_shows_and_writes(tmp_path, monkeypatch, fields, log, reason):
    seconds = {"before": -600, "now": 0, "soon": 90, "late": 3600}
    times = {n: datetime.fromtimestamp(time.time() + s).isoformat(timespec="seconds") for n, s in seconds.items()}
    (tmp_path / "log").write_text(log.format(**times))
    program, began = tmp_path / "scontrol", time.time() - 60
    shown = f"echo 'JobId=7 JobName=a b {fields.format(**times, log=tmp_path / 'log')} Comment=x=y'"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = 'show job --oneliner 7' ] && {shown}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason_of_signal("7", 120, began) == "", "no SLURM here"
    program.chmod(0o755)
    assert reason_of_signal("7", 120, began) == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"launch": "7.0", "step": 9, "first_step_at": 1000.0}, "time limit"),
        ({"launch": "7.0", "step": 9, "first_step_at": 5000.0}, TOO_SHORT),
        ({"launch": "7.0", "step": 9, "first_step_at": None}, TOO_SHORT),
        ({"launch": "6.0", "step": 9, "first_step_at": 1000.0}, TOO_SHORT),
    ],
)
def test_a_start_without_a_step_before_its_notice_had_too_short_a_limit(tmp_path, job, monkeypatch, status, reason):
    """It may have made steps since, within the notice."""
    plan = {"site": {"notice_seconds": 60}, "jobs": [job.to_json()]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    begin(tmp_path, job, 0, launch_id="7", restart=0, pid=1)
    Path(job.status).write_text(json.dumps(status), encoding="utf-8")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(ASKED_VARIABLE, "2000")
    monkeypatch.setattr("cluster.attempts.reason_of_signal", lambda *_: "time limit")
    monkeypatch.setattr("sys.argv", ["attempts", str(tmp_path), "train", "end", "--code", "75", "--asked", "yes"])
    main()
    assert Record.of(tmp_path, "train", 0).attempts()[-1].reason == reason


def test_what_scancel_ended_does_not_come_again(tmp_path, job):
    begin(tmp_path, job, 0, launch_id="7", restart=0, pid=1)
    assert finish(tmp_path, job, 0, code=75, asked=True, reason="cancelled") == "cancelled"
