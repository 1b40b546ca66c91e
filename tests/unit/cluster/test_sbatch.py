"""The scripts for SLURM: golden ones, which bash and shellcheck accept, made without SLURM."""

import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePath
from unittest.mock import patch

import pytest

from cluster.job import Array, Job, Resources
from cluster.sbatch import Place, render
from cluster.site import SITES, Site, read_site
from cluster.slurm import calls, ranges
from jobs.submission.kinds import SubmitRequest, jobs_of
from musicvae.settings import load_yaml
from tests.support.commands import CHECKOUT
from tests.support.requirements import skip_or_fail

GOLDEN = CHECKOUT / "tests" / "golden" / "sbatch"
HOME = PurePath("/home/ada")
PYTHON = "/shared/venvs/grooves/bin/python"
TRAIN = ["--preset", "paper", "--shards", "my shards", "--run", "runs/paper", "train.steps=50000"]
PYXIS = ("--container-image=/shared/images/grooves.sqsh", "--container-mounts=/shared:/shared", "--mpi=pmix")
APPTAINER = "apptainer exec --nv --bind /shared /shared/images/grooves.sif"
SWEEP = ["random", "--shards", "shards", "--out", "sweeps/random"]
GPU_NODE = {"gpus_per_node": 8, "cpus_per_node": 96, "memory": "400G", "minutes": 480}


def site(name: str | None = None) -> Site:
    return read_site(name, load_yaml).model_copy(update={"python": PYTHON})


def scripts(
    kind: str, arguments: list[str], own: Site, resources: Resources, array: Array | None = None, *, ray: bool = False
) -> dict[str, str]:
    """The scripts of a kind, by the name of their golden file."""
    variables = (("WANDB_MODE", "offline"),)
    request = SubmitRequest(
        resources, None, array, 3, variables, own.notice_seconds, Path(HOME), on_ray=ray, own_ray=ray
    )
    folder = HOME / "submissions" / f"{kind}-0123abcd"
    jobs = jobs_of(kind, arguments, request)
    return {job.name: render(job, own, Place(folder, folder / "code", HOME)) for job in jobs}


def all_scripts() -> dict[str, str]:
    pipeline = scripts(
        "pipeline",
        ["--source", "groove", "--out", "groove", "--preset", "small", "--count", "1000000"],
        site("slurm-cpu"),
        Resources(nodes=2, cpus_per_node=16, minutes=240),
        Array(2000, 100),
    )
    sample = ["--run", "runs/paper", "--count", "1000000", "--out", "grooves"]
    inside = {"python": "/usr/bin/python3"}
    pyxis = site("slurm-gpu").model_copy(update={**inside, "srun": PYXIS})
    apptainer = site("slurm-gpu").model_copy(update={**inside, "container": APPTAINER})
    nodes = Resources(nodes=4, **GPU_NODE)
    with patch.object(sys, "executable", PYTHON):
        contained = {
            "train-4-nodes-pyxis": scripts("train", TRAIN, pyxis, nodes)["train"],
            "train-4-nodes-apptainer": scripts("train", TRAIN, apptainer, nodes)["train"],
            "sample-pyxis": scripts("sample", sample, pyxis, Resources(gpus_per_node=1))["sample"],
        }
    return {
        **contained,
        "train-1-node": scripts("train", TRAIN, site(), Resources(minutes=60))["train"],
        "train-4-nodes-of-8-gpus": scripts("train", TRAIN, site("slurm-gpu"), Resources(nodes=4, **GPU_NODE))["train"],
        "sample-array": scripts("sample", sample, site("slurm-gpu"), Resources(gpus_per_node=1), Array(100, 10))[
            "sample"
        ],
        "sample-array-staggered": scripts(
            "sample",
            sample,
            site().model_copy(update={"stagger_seconds": 5}),
            Resources(cpus_per_node=4),
            Array(100, 10),
        )["sample"],
        "sweep": scripts("sweep", SWEEP, site("slurm-gpu"), Resources(**GPU_NODE))["sweep"],
        "sweep-on-ray": scripts("sweep", SWEEP, site("slurm-gpu"), Resources(nodes=4, **GPU_NODE), ray=True)["sweep"],
        "train-on-ray": scripts("train", TRAIN, site(), Resources(nodes=2, cpus_per_node=16), ray=True)["train"],
        **{f"pipeline-{name}": script for name, script in pipeline.items()},
    }


@pytest.mark.parametrize("name", all_scripts())
def test_a_script_is_the_golden_one(name):
    path = GOLDEN / f"{name}.sbatch"
    script = all_scripts()[name]
    if os.environ.get("REGENERATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
    assert script == path.read_text(), (
        "to accept it: REGENERATE_GOLDEN=1 python -m pytest tests/unit/cluster/test_sbatch.py"
    )


def test_every_golden_script_has_a_test():
    assert {path.stem for path in GOLDEN.iterdir()} == set(all_scripts())


@pytest.mark.parametrize("name", all_scripts())
def test_bash_and_shellcheck_accept_it(name):
    path = GOLDEN / f"{name}.sbatch"
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
    if not shutil.which("shellcheck"):
        skip_or_fail("shellcheck is not installed")
    checked = subprocess.run(["shellcheck", path], capture_output=True, text=True)
    assert checked.stdout == ""


def test_options_stand_ahead_of_the_first_command():
    """sbatch reads no option behind it."""
    for script in all_scripts().values():
        lines = script.splitlines()
        first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
        assert all(number < first for number, line in enumerate(lines) if line.startswith("#SBATCH"))


def test_percent_signs_in_a_path_are_no_patterns_of_sbatch():
    script = render(Job("a", ("true",)), Site(), Place(PurePath("/50%j/s"), PurePath("/c"), PurePath("/")))
    assert "#SBATCH --output=/50%%j/s/logs/a-%j.log" in script


@pytest.mark.parametrize(
    ("site", "said"),
    [
        (Site(setup=("true", "test -e /no/scratch")), "test -e /no/scratch"),
        (Site(modules=("cuda/99",), python=PYTHON), "module load cuda/99"),
        # What a profile of the site leaves unset is no error; what comes next is.
        (Site(setup=('test -z "$NOT_SET"',), python="/no/such/python"), "/no/such/python does not run"),
    ],
)
def test_what_fails_ahead_of_the_command_ends_the_job_and_is_named(tmp_path, site, said):
    script = render(Job("a", ("true",)), site, Place(tmp_path, tmp_path, tmp_path))
    module = "module() { return 1; }\n"
    ended = subprocess.run(["bash", "-c", module + script], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    assert f"error: the setup of the site failed: {said}\n" in ended.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in SITES.glob("*.yaml")))
def test_the_example_sites_can_be_used(name):
    assert read_site(name, load_yaml) != Site()


@pytest.mark.parametrize(
    ("numbers", "written"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0,2-3,7"), ([5, 6], "5-6")]
)
def test_ranges(numbers, written):
    assert ranges(numbers) == written


def test_an_array_is_split_at_the_sites_limit():
    job = Job("sample", ("true",), array=Array(2500, 100))
    three = calls(job, job.elements, PurePath("s"), [], max_array_size=1001, hold=True)
    assert [call.argv()[1:] for call in three] == [
        ["--parsable", "--hold", "--array=0-1000%33", "s"],
        ["--parsable", "--hold", "--array=0-1000%33", "s", "1001"],
        ["--parsable", "--hold", "--array=0-497%33", "s", "2002"],
    ]
    assert [element for call in three for element in call.elements] == list(range(2500))


def test_only_what_is_missing_is_submitted():
    job = Job("sample", ("true",), array=Array(2500))
    two = calls(job, [3, 4, 1500], PurePath("s"), ["17", "18"], max_array_size=1001, hold=False)
    after = ["--dependency=afterok:17:18", "--kill-on-invalid-dep=yes"]
    assert [call.argv()[2:] for call in two] == [[*after, "--array=3-4", "s"], [*after, "--array=499", "s", "1001"]]
