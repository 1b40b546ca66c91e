"""`jobs.submit --on slurm` on a real SLURM of two virtual nodes: preemptions, lost nodes, limits, arrays."""

import json
import random
import stat
import sys
from pathlib import Path

import pytest

from cluster.job import Array, Job, Word
from cluster.sbatch import render
from cluster.site import Site
from cluster.submission import Submission
from musicvae.durable import read_lines
from tests.cluster.slurm_cluster import SlurmCluster
from tests.support.commands import TINY, ok
from tests.support.harm.odd_words import ODD_WORDS
from tests.support.processes.process_tree import kill_tree
from tests.support.requirements import only_in_a_soak
from tests.support.runs.sample_fixtures import output_of, sampled
from tests.support.runs.tiny_run import assert_same_state, status, train
from tests.support.services.submitted import attempts, rows, run_in, submit, verdicts, wait_for

pytestmark = pytest.mark.slow
STEPS = 1200
SETTINGS = (*TINY, "train.checkpoint_every=100000")
TWO_NODES = ("--on", "slurm", "--nodes", 2, "--cpus-per-node", 2)


def told(slurm: SlurmCluster, job: str) -> dict[str, str]:
    """What SLURM says of a job."""
    return dict(field.split("=", 1) for field in slurm.client("scontrol", "show", "job", job).split() if "=" in field)


def number_of(submission: Path, job: str = "train") -> str:
    """SLURM's number of the last submission of a job."""
    receipts = [json.loads(line) for line in (submission / "receipts.jsonl").read_text().splitlines()]
    return [receipt["number"] for receipt in receipts if receipt["job"] == job][-1]


def logged(run: Path) -> int:
    return len(read_lines(run / "metrics.jsonl"))


@pytest.fixture(scope="module")
def undisturbed(small_shards, tmp_path_factory) -> Path:
    """What two ranks of this machine make of the settings."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small_shards, run, *SETTINGS, f"train.steps={STEPS}", ranks=2)
    return run


def test_preempted_by_a_partition_and_by_a_signal_it_ends_as_if_undisturbed(slurm, small_shards, undisturbed, tmp_path):
    run = tmp_path / "run"
    arguments = ["--shards", small_shards, "--run", run, *SETTINGS, f"train.steps={STEPS}"]
    submission = submit(tmp_path, "train", *TWO_NODES, "--", *arguments, **slurm.environment)
    number = number_of(submission)
    wait_for(lambda: logged(run) >= 50, submission)
    second = run_in(tmp_path, "submit", "train", "--name", "second", "--", *arguments)
    assert second.returncode == 2, second.stderr
    shown = ok(run_in(tmp_path, "status", *tmp_path.glob("submissions/second-*"))).stdout
    assert f"failed: in use: {run} is in use by process " in shown
    assert f"launch {number}.0" in shown, "and neither its lost node nor its ranks"
    slurm.client("sbatch", "--partition=urgent", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
    wait_for(lambda: len([e for e in attempts(submission, "train") if e["event"] == "start"]) == 2, submission)
    begun = attempts(submission, "train")[-1]["step"]
    assert begun >= 50
    wait_for(lambda: logged(run) >= begun + 20, submission)
    slurm.client("scancel", "--signal=USR2", "--batch", number)
    wait_for(lambda: verdicts(submission, "train")[-1] == "done", submission)
    wait_for(lambda: told(slurm, number)["JobState"] == "COMPLETED", submission)
    assert verdicts(submission, "train") == ["again", "again", "done"]
    # SLURM 24.11 counts one more in the job's own figures.
    assert [e["restart"] for e in attempts(submission, "train") if e["event"] == "start"] == [0, 1, 2]
    row = rows(tmp_path, **slurm.environment)["train"]
    assert (row["restarts"], row["why"]) == (2, "restarted after: preemption, signal from SLURM")
    assert_same_state(undisturbed, run, STEPS)


def test_a_lost_node_changes_nothing(slurm, small_shards, undisturbed, tmp_path):
    run, site = tmp_path / "run", tmp_path / "site.yaml"
    site.write_text("srun: [--cpu-bind=map_cpu:0]\n")  # wrong, and the job says so
    arguments = ["--shards", small_shards, "--run", run, *SETTINGS, f"train.steps={STEPS}", "train.checkpoint_every=50"]
    submission = submit(tmp_path, "train", *TWO_NODES, "--site", site, "--", *arguments, **slurm.environment)
    wait_for(lambda: logged(run) >= 120, submission)
    (log,) = submission.glob("logs/train-*.log")
    assert "2 CPUs, but its ranks may use only CPU 0; set srun: [--cpu-bind=none]" in log.read_text()
    slurm.lose_node("node2")
    try:
        wait_for(lambda: told(slurm, number_of(submission))["Restarts"] == "1", submission)
    finally:
        slurm.start_node("node2")
    wait_for(lambda: verdicts(submission, "train")[-1:] == ["done"], submission)
    starts = [event for event in attempts(submission, "train") if event["event"] == "start"]
    assert [start["restart"] for start in starts] == [0, 1]
    assert_same_state(undisturbed, run, STEPS)


@only_in_a_soak
def test_a_limit_of_time_that_is_hit_twice_changes_nothing(slurm, small_shards, tmp_path):
    run, site = tmp_path / "run", tmp_path / "site.yaml"
    site.write_text("notice_seconds: 90\n")  # SLURM may signal a minute early, and no limit is below one
    arguments = ["--shards", small_shards, "--run", run, *SETTINGS]
    limited = ["--site", site, "--time", 2, "--", *arguments, "train.steps=100000"]
    submission = submit(tmp_path, "train", *TWO_NODES, *limited, **slurm.environment)
    wait_for(lambda: verdicts(submission, "train") == ["again", "again"], submission, seconds=400)
    ok_cancelled = run_in(tmp_path, "cancel", submission, **slurm.environment)
    assert ok_cancelled.returncode == 0, ok_cancelled.stderr
    wait_for(lambda: rows(tmp_path, submission, **slurm.environment)["train"]["state"] == "cancelled", submission)
    wait_for(lambda: not slurm.client("squeue", "--noheader", "--states=RUNNING,COMPLETING"), submission)
    steps = status(run)["step"] + 20
    train(small_shards, run, *SETTINGS, f"train.steps={steps}", ranks=2)
    train(small_shards, tmp_path / "undisturbed", *SETTINGS, f"train.steps={steps}", ranks=2)
    assert_same_state(tmp_path / "undisturbed", run, steps)


def test_of_an_array_of_six_two_are_killed_and_only_those_are_submitted_again(slurm, sample_run, tmp_path):
    out, count = tmp_path / "out", 1200
    arguments = ["--feel", "mean", "--run", sample_run, "--count", count, "--out", out, "--chunk", 20]
    submission = submit(tmp_path, "sample", "--on", "slurm", "--array", "6%2", "--", *arguments, **slurm.environment)
    number = number_of(submission, "sample")
    victims = random.Random(3).sample(range(6), 2)
    for victim in sorted(victims):
        wait_for(lambda victim=victim: attempts(submission, "sample", victim), submission)
        kill_tree(attempts(submission, "sample", victim)[0]["pid"])
    wait_for(lambda: not slurm.client("squeue", "--noheader", f"--jobs={number}"), submission)
    assert rows(tmp_path, **slurm.environment)["sample"]["elements"] == {"done": 4, "failed": 2}
    assert not (out / "settings.json").exists()

    ok_retried = run_in(tmp_path, "retry", "--failed", "--json", **slurm.environment)
    (retried,) = json.loads(ok_retried.stdout.splitlines()[-1])
    assert retried["elements"] == {"sample": sorted(victims)}
    assert run_in(tmp_path, "retry", "--failed", "--json", **slurm.environment).stdout.strip() == "[]"
    again = number_of(submission, "sample")
    listed = slurm.client("squeue", "--noheader", "--array", "--states=all", f"--jobs={again}", "--format=%K")
    assert sorted(map(int, listed.split())) == sorted(victims)
    wait_for(lambda: (out / "settings.json").exists(), submission)
    sampled(sample_run, tmp_path / "alone", count=count)
    assert output_of(out) == output_of(tmp_path / "alone")


def test_2500_elements_become_three_arrays(slurm, sample_run, tmp_path):
    arguments = ["--feel", "mean", "--run", sample_run, "--count", 2500, "--out", tmp_path / "out"]
    wish = ["sample", "--on", "slurm", "--array", 2500, "--hold"]
    refused = run_in(tmp_path, "submit", *wish, "--", *arguments, **slurm.environment)
    assert refused.returncode == 2
    assert "2500 job(s)" in refused.stderr
    submission = submit(tmp_path, *wish, "--yes", "--", *arguments, **slurm.environment)
    receipts = [json.loads(line) for line in (submission / "receipts.jsonl").read_text().splitlines()]
    assert [len(receipt["elements"]) for receipt in receipts] == [1001, 1001, 498]
    assert [told(slurm, receipt["number"])["ArrayTaskId"] for receipt in receipts] == ["0-1000", "0-1000", "0-497"]
    assert {told(slurm, receipt["number"])["Reason"] for receipt in receipts} == {"JobHeldUser"}
    assert rows(tmp_path, **slurm.environment)["sample"]["elements"] == {"waiting": 2500}
    assert "1 submission" not in run_in(tmp_path, "clean", **slurm.environment).stdout
    for _ in range(2):
        assert run_in(tmp_path, "cancel", submission, **slurm.environment).returncode == 0
    assert rows(tmp_path, **slurm.environment)["sample"]["elements"] == {"cancelled": 2500}


def test_a_chain_whose_first_job_fails_ends_and_says_why(slurm, tmp_path):
    submission = submit(
        tmp_path, *("pipeline", "--on", "slurm", "--"), *("--source", "nowhere", "--out", "out"), **slurm.environment
    )
    wait_for(lambda: verdicts(submission, "build_shards"), submission)
    wait_for(lambda: rows(tmp_path, **slurm.environment)["report"]["state"] == "not submitted", submission)
    shown = run_in(tmp_path, "status", **slurm.environment).stdout
    assert "build_shards of pipeline" in shown
    assert "failed: configuration" in shown
    assert "a job before it failed" in rows(tmp_path, **slurm.environment)["train"]["why"]


def test_arguments_arrive_unchanged_and_files_are_the_users_own(slurm, tmp_path):
    """Through a real sbatch, in folders with names that break scripts."""
    letters = [chr(n) for n in (*range(1, 0x180), 0x2028, 0x3042, 0x1F941)]
    seeded = random.Random(8)
    words = [*ODD_WORDS, *("".join(seeded.choices(letters, k=seeded.randrange(30))) for _ in range(300))]
    program = (
        "import json, os, sys; from pathlib import Path; "
        "Path(f'{os.environ[\"OUT\"]}/{sys.argv[-1].replace(chr(47), chr(45))}').write_text("
        "json.dumps([sys.argv[1:], os.getcwd(), os.environ['ODD']]))"
    )
    folder = tmp_path / 'a folder, it\'s 50%j of "them" 🥁'
    environment = (("OUT", str(folder)), ("ODD", "a\n$(b)"))
    job = Job("odd", (Word.PYTHON, "-c", program, *words, Word.SHARE), environment=environment, array=Array(2))
    submission = Submission(folder / "s", "slurm", folder, Site(python=sys.executable), (job,))
    submission.write_plan()
    submission.code.symlink_to(Path(__file__).resolve().parents[2])
    script = submission.folder / "odd.sbatch"
    script.write_text(render(job, submission.site, submission.place), errors="surrogateescape")
    slurm.client("sh", "-c", 'umask 077; sbatch --array=0-1 "$0"', script)
    wait_for(lambda: all(verdicts(submission.folder, "odd", element) for element in (0, 1)), submission.folder)
    for element in (0, 1):
        written = folder / f"{element}-2"
        assert json.loads(written.read_text()) == [[*words, f"{element}/2"], str(folder), "a\n$(b)"]
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert stat.S_IMODE((submission.folder / "attempts" / f"odd-{element:06d}.jsonl").stat().st_mode) == 0o600
