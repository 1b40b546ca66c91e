"""What a login node can do that has pyyaml, pydantic, typer and rich, and no torch, Ray, W&B, numpy or SLURM."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.commands import CHECKOUT
from tests.support.runs.run_folders import begun_run

COMMANDS = ("submit", "status", "logs", "cancel", "retry", "clean", "doctor")
ALLOWED = ("pyyaml", "pydantic", "typer", "rich")


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A folder of packages: the allowed ones with what they need themselves, linked to those of this environment."""
    folder = tmp_path_factory.mktemp("bare")
    waiting, seen = list(ALLOWED), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
        for top in {
            Path(file.parts[0]) for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")
        }:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    return begun_run(tmp_path_factory.mktemp("runs") / "run").path


def python(bare: Path, *arguments: str, folder: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    """Runs Python without this environment's packages, and without SLURM on its PATH."""
    environment = {"PYTHONPATH": os.pathsep.join([str(bare), str(CHECKOUT)]), "PATH": "", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_environment_is_bare(bare):
    for name in ("torch", "ray", "wandb", "numpy", "jaxtyping"):
        assert "ModuleNotFoundError" in python(bare, "-c", f"import {name}").stderr


def test_the_commands_can_be_imported(bare):
    assert python(bare, "-c", f"import {', '.join(f'jobs.{name}' for name in COMMANDS)}").stderr == ""


def test_every_module_of_cluster_can_be_imported(bare):
    modules = ", ".join(f"cluster.{path.stem}" for path in (CHECKOUT / "cluster").glob("*.py"))
    assert python(bare, "-c", f"import {modules}").stderr == ""


@pytest.mark.parametrize(
    ("kind", "options", "arguments"),
    [
        ("build_shards", [], ["--source", "demo", "--out", "shards"]),
        (
            "train",
            ["--nodes", "4", "--gpus-per-node", "8", "--cpus-per-node", "64"],
            ["--shards", "SHARDS", "--run", "run"],
        ),
        ("evaluate", [], ["--shards", "SHARDS"]),
        ("sample", ["--array", "4"], ["--count", "100", "--out", "out"]),
        ("sweep", ["--gpus-per-node", "4", "--cpus-per-node", "32"], ["demo", "--shards", "SHARDS", "--out", "sweep"]),
        ("report", [], ["RUN"]),
        ("pipeline", ["--array", "4", "--nodes", "2"], ["--source", "demo", "--out", "out"]),
    ],
)
@pytest.mark.parametrize("target", ["local", "slurm", "ray"])
def test_every_dry_run_works(bare, small_shards, begun, tmp_path, kind, options, arguments, target):
    arguments = [{"SHARDS": str(small_shards), "RUN": str(begun)}.get(word, word) for word in arguments]
    if target == "ray":
        options = ["--ray-jobs", "http://head:8265", *(options if "--array" not in options else [])]
    if target == "local" and "--nodes" in options:
        options = [*options[: options.index("--nodes")], *options[options.index("--nodes") + 2 :]]
    shown = python(
        bare, "-m", "jobs.submit", kind, "--on", target, "--dry-run", *options, "--", *arguments, folder=tmp_path
    )
    assert shown.returncode == 0, shown.stderr
    assert f"jobs.{'train' if kind == 'pipeline' else kind}" in shown.stdout
    # Random numbers of a sweep need numpy; nothing else does.
    assert ("numpy is not installed here" in shown.stderr) == (kind == "sweep")
    assert shown.stderr.count("warning") == (kind == "sweep")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named_before_anything_is_submitted(bare, tmp_path):
    mistaken = ["--preset", "smal", "--shards", "/nowhere", "--run", "R", "train.stepz=3"]
    refused = python(bare, "-m", "jobs.submit", "train", "--on", "slurm", "--dry-run", "--", *mistaken, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no preset 'smal' (did you mean small?)" in refused.stderr
    assert "unknown setting train.stepz (did you mean train.steps?)" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_the_status_of_nothing(bare, tmp_path):
    (tmp_path / "runs").mkdir()
    shown = python(bare, "-m", "jobs.status", "--json", folder=tmp_path)
    assert shown.stdout == "[]\n", shown.stderr
