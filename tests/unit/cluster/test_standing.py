"""How an element stands, from what it wrote down and what its scheduler says."""

import pytest

from cluster.attempts import begin, finish
from cluster.job import Array, Job, SchedulerState
from cluster.site import Site
from cluster.standing import standings_told
from cluster.submission import Submission, read_submission

URL = "http://head:8265"


def submission(tmp_path, target):
    jobs = (Job("train", ("true",)), Job("sample", ("true",), after=("train",), array=Array(3)))
    made = Submission(tmp_path / "s", target, tmp_path, Site(), jobs, URL if target == "ray" else "")
    made.write_plan()
    assert read_submission(made.folder) == made
    return made


def state(made, said, element=0, job="train"):
    told = None if said is None else {("7", element): SchedulerState(*said)} if said else {}
    (found,) = [one for one in standings_told(made, told) if (one.job.name, one.element) == (job, element)]
    return found.state, found.why


@pytest.mark.parametrize(
    ("said", "begun", "ended", "expected"),
    [
        (("PENDING", "Priority"), False, None, ("waiting", "Priority")),
        (("PENDING", "BeginTime"), True, 75, ("saved", "BeginTime")),
        (("RUNNING", "None"), True, None, ("running", "")),
        (("COMPLETING", "None"), True, 75, ("running", "")),
        (("CANCELLED", "None"), True, None, ("cancelled", "")),
        (("CANCELLED", "DependencyNeverSatisfied"), False, None, ("not submitted", "a job before it failed")),
        (("TIMEOUT", "TimeLimit"), True, None, ("failed", "timeout")),
        (("FAILED", "NonZeroExitCode"), True, 3, ("failed", "exit status 3")),
        (("COMPLETED", "None"), True, 0, ("done", "")),
        ((), True, 0, ("done", "")),
        ((), True, None, ("lost", "SLURM no longer knows of it, and it did not say how it ended")),
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
        begin(made.folder, job, 0, launch="7", restart=0, pid=1)
    if ended is not None:
        finish(made.folder, job, 0, code=ended, asked=False)
    assert state(made, said) == expected


@pytest.mark.parametrize(
    ("said", "begun", "expected"),
    [
        (("PENDING", "queued"), False, ("waiting", "queued")),
        (("RUNNING", ""), True, ("running", "")),
        (("STOPPED", ""), True, ("cancelled", "")),
        (("FAILED", ""), True, ("lost", "its driver ended without a word")),
        (("FAILED", ""), False, ("not submitted", "a job before it failed")),
        ((), True, ("lost", f"the Ray cluster at {URL} does not know it; it was started anew")),
        (None, True, ("lost", f"no Ray cluster answers at {URL}")),
    ],
)
def test_on_ray(tmp_path, said, begun, expected):
    made = submission(tmp_path, "ray")
    (job, _) = made.jobs
    made.take_receipt(job, "7", [0])
    if begun:
        begin(made.folder, job, 0, launch="7", restart=0, pid=1)
    assert state(made, said) == expected


def test_elements_of_a_split_array_are_found_by_their_own_numbers(tmp_path):
    made = submission(tmp_path, "slurm")
    (_, job) = made.jobs
    made.take_receipt(job, "7", [0, 1])
    made.take_receipt(job, "8", [2], first=2)
    told = {("7", 0): SchedulerState("RUNNING", ""), ("7", 1): SchedulerState("PENDING", "Resources")}
    told |= {("8", 0): SchedulerState("TIMEOUT", "")}
    found = [(one.state, one.why) for one in standings_told(made, told) if one.job == job]
    assert found == [("running", ""), ("waiting", "Resources"), ("failed", "timeout")]


def test_what_was_written_before_the_last_submission_is_about_an_earlier_one(tmp_path):
    made = submission(tmp_path, "slurm")
    (job, _) = made.jobs
    made.take_receipt(job, "6", [0])
    begin(made.folder, job, 0, launch="6", restart=0, pid=1)
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
