"""SLURM's commands as the project calls them; stand-ins for them say what a controller would."""

import os
from pathlib import Path, PurePath

import pytest

from cluster import slurm
from cluster.errors import TargetError
from cluster.job import SchedulerState
from cluster.slurm import Call, NoAnswerError, outside_of_jobs, states, submit

CALL = Call(PurePath("/s/train-1/train.sbatch"), (0,), 0, ())
AWAY = "Unable to contact slurm controller (connect failure)"
SBATCH = """#!/bin/sh
echo "$@" >>{folder}/calls
printf '7|%s\\n' "${{2#--comment=}}" >>{folder}/{queue}
[ "$(wc -l <{folder}/calls)" -gt {lost} ] || {{ echo "sbatch: error: {away}" >&2; exit 1; }}
echo 7
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(slurm, "LONGEST_PAUSE", 0.02)


def stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Programs that are found ahead of all others."""
    for name, script in programs.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def controller(folder: Path, monkeypatch: pytest.MonkeyPatch, *, lost: int, taken: bool) -> None:
    """One whose first answers are lost, after it has taken the job or before."""
    (folder / "queue").touch()
    queue = "queue" if taken else "nowhere"
    sbatch = SBATCH.format(folder=folder, queue=queue, lost=lost, away=AWAY)
    stand_ins(folder, monkeypatch, sbatch=sbatch, squeue=f"#!/bin/sh\ncat {folder}/queue\n")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("taken", "calls"), [(True, 1), (False, 3)])
def test_a_submission_whose_answer_is_lost_is_made_once(tmp_path, monkeypatch, taken, calls):
    controller(tmp_path, monkeypatch, lost=2, taken=taken)
    assert submit(CALL, patience=10) == "7"
    sent = (tmp_path / "calls").read_text().splitlines()
    assert len(sent) == calls
    assert all(line.startswith("--parsable --comment=/s/train-1 ") for line in sent)


@pytest.mark.usefixtures("quick")
def test_a_controller_that_stays_away_ends_the_wait(tmp_path, monkeypatch):
    controller(tmp_path, monkeypatch, lost=1000, taken=False)
    with pytest.raises(NoAnswerError, match="SLURM's controller does not answer"):
        submit(CALL, patience=0.1)
    assert len((tmp_path / "calls").read_text().splitlines()) > 1
    monkeypatch.setattr(slurm, "STATUS_PATIENCE", 0.1)
    stand_ins(tmp_path, monkeypatch, squeue=f"#!/bin/sh\necho 'slurm_load_jobs error: {AWAY}' >&2; exit 1\n")
    assert states(["7"]) is None


def test_squeue_is_asked_for_the_jobs_and_not_for_those_of_the_user_who_looks(tmp_path, monkeypatch):
    """A colleague, who has no jobs, had seen nothing but lost ones."""
    said = "7|3|PENDING|Priority\n8|N/A|RUNNING|None\n"
    stand_ins(tmp_path, monkeypatch, sbatch="", squeue=f"#!/bin/sh\necho \"$@\" >>{tmp_path}/calls; printf '{said}'\n")
    assert states(["7", "8"]) == {
        ("7", 3): SchedulerState("PENDING", "Priority"),
        ("8", 0): SchedulerState("RUNNING", "None"),
    }
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "--jobs=7,8,7" in call
    assert "--user" not in call
    assert states([]) == {}
    states([str(number) for number in range(slurm.NUMBERS_OF_A_CALL + 1)])
    assert len((tmp_path / "calls").read_text().splitlines()) == 3


def test_how_jobs_ended_that_the_controller_has_forgotten(tmp_path, monkeypatch):
    lines = ("7|CANCELLED by 1000", "8_3|NODE_FAIL", "8_[4-5,7%2]|CANCELLED by 0", "9|RUNNING", "10|OUT_OF_MEMORY")
    script = f"#!/bin/sh\necho \"$@\" >>{tmp_path}/calls; printf '%s\\n' '{chr(10).join(lines)}'\n"
    stand_ins(tmp_path, monkeypatch, sacct=script)
    states_by_key = {key: end.state for key, end in slurm.ends_accounted(["7", "8", "9", "10"]).items()}
    of_array = {("8", 3): "NODE_FAIL", ("8", 4): "CANCELLED", ("8", 5): "CANCELLED", ("8", 7): "CANCELLED"}
    assert states_by_key == {("7", 0): "CANCELLED", **of_array, ("10", 0): "OUT_OF_MEMORY"}
    assert "--jobs=7,8,9,10" in (tmp_path / "calls").read_text()
    stand_ins(tmp_path, monkeypatch, sacct="#!/bin/sh\necho Slurm accounting storage is disabled >&2; exit 1\n")
    assert slurm.ends_accounted(["7"]) == {}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("message", "cure"),
    [
        ("Batch job submission failed: Invalid account or account/partition combination specified", "--account"),
        ("invalid partition specified: cpus", "--partition"),
        ("Batch job submission failed: Requested node configuration is not available", "jobs.doctor"),
    ],
)
def test_a_refusal_is_not_asked_again_and_names_its_cure(tmp_path, monkeypatch, message, cure):
    script = f"#!/bin/sh\necho >>{tmp_path}/calls; echo 'sbatch: error: {message}' >&2; exit 1\n"
    stand_ins(tmp_path, monkeypatch, sbatch=script)
    with pytest.raises(TargetError) as refused:
        submit(CALL, patience=10)
    assert message in refused.value.problem
    assert cure in refused.value.details["do"]
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_commands_do_not_hear_of_the_job_that_they_are_typed_in():
    """An interactive step had bound all ranks of a job to its own CPU."""
    step = {"SLURM_CPU_BIND": "mask_cpu:0x1", "SLURM_JOB_ID": "1", "SBATCH_MEM_PER_NODE": "5", "PMI_RANK": "0"}
    kept = {"SLURM_CONF": "/etc/slurm.conf", "PATH": "/bin", "WANDB_MODE": "offline"}
    assert outside_of_jobs(step | kept) == kept
