"""What a submission may use, and from when on somebody is asked."""

from pathlib import Path

import pytest

from cluster.job import Array, Job, Resources
from cluster.site import Site
from cluster.submission import Submission, Target
from jobs.submission.hand_over import confirm, gpu_hours
from jobs.submit import main
from musicvae.errors import ConfigError


def submission(*jobs: Job, target: Target = "slurm") -> Submission:
    return Submission(Path("submission"), target, Path(), Site(), jobs)


def everything(one: Submission) -> dict[str, range]:
    return {job.name: job.elements for job in one.jobs}


EIGHT = Job("train", ("train",), Resources(nodes=2, gpus_per_node=4, minutes=90))
UNLIMITED = Job("train", ("train",), Resources(gpus_per_node=1))
SMALL = Job("sample", ("sample",), Resources(gpus_per_node=1, minutes=30), array=Array(10))


def test_the_hours_of_what_is_missing_are_summed():
    both = submission(EIGHT, SMALL)
    assert gpu_hours(both, everything(both)) == 12 + 5
    assert gpu_hours(both, {"train": [], "sample": [3, 4]}) == 1
    assert gpu_hours(submission(UNLIMITED), {"train": []}) == 0


@pytest.mark.parametrize(
    ("job", "found"), [(EIGHT, None), (SMALL, None), (UNLIMITED, "without a limit"), (Job("x", ()), None)]
)
def test_what_may_use_much_is_not_submitted_where_nobody_can_be_asked(monkeypatch, job, found):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    one = submission(job)
    if found is None:
        confirm(one, everything(one), yes=False)
        return
    with pytest.raises(ConfigError, match=found):
        confirm(one, everything(one), yes=False)
    confirm(one, everything(one), yes=True)
    confirm(submission(job, target="local"), everything(one), yes=False)


def test_both_together_are_above_the_threshold(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    both = submission(EIGHT, SMALL)
    with pytest.raises(ConfigError, match=r"11 job\(s\), up to 17.0 GPU-hours"):
        confirm(both, everything(both), yes=False)


def test_many_jobs_are_large_without_any_gpu(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    many = submission(Job("sample", (), array=Array(101)))
    with pytest.raises(ConfigError, match=r"101 job\(s\)"):
        confirm(many, everything(many), yes=False)


def test_partition_and_account_may_be_named_without_a_site_file(small_shards, tmp_path, capsys):
    arguments = ["--preset", "demo", "--shards", str(small_shards), "--run", str(tmp_path / "run")]
    for site, partition in ((None, None), ("slurm-gpu", "gpu")):
        main(
            "train", arguments, on="slurm", dry_run=True, site=site, account="me", submissions=tmp_path / "submissions"
        )
        options = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#SBATCH ")]
        assert "#SBATCH --account=me" in options
        assert [line for line in options if "--partition" in line] == [f"#SBATCH --partition={partition}"] * bool(site)
    with pytest.raises(ConfigError, match="--on local has no account"):
        main("train", arguments, account="me")
