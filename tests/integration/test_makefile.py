"""The Makefile names what a bare machine lacks, with its cure; CI and hooks run what it runs."""

import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from jobs.command.command_line import read_preset
from preprocess.sources.groove import GROOVE_SHA256, GROOVE_URL
from tests.support.commands import CHECKOUT


def make_install(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Runs `make install` in a folder without an environment, with a stand-in for python3."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, folder)
    stand_in = folder / "python3"
    stand_in.write_text(f"#!/bin/sh\n{python}\n")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    return subprocess.run(["make", "install", f"PYTHON={stand_in}"], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("python", "lacking", "cure"),
    [
        ('case "$*" in *version_info*) exit 1;; esac; echo Python 3.9.2', "Python 3.11 or newer", "PYTHON=python3.12"),
        ('case "$*" in *ensurepip*) exit 1;; esac', "venv module is missing", "apt-get install python3-venv"),
    ],
)
def test_a_missing_prerequisite_is_named_with_its_cure(tmp_path, python, lacking, cure):
    result = make_install(tmp_path, python)
    assert result.returncode != 0
    assert lacking in result.stdout
    assert cure in result.stdout
    assert not (tmp_path / ".venv").exists()


def test_models_are_trained_and_exported_under_the_names_that_they_ship_with():
    command = ["make", "-n", "model", "SHARDS=somewhere", "OUT=out"]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loops = dict(re.findall(r"for preset in ([\w ]+); do \\?\s*\S+ -m jobs\.(\w+)", result.stdout))
    assert loops == {
        "latent_free feed_forward generation reconstruction": "train",
        "latent_free feed_forward": "export",
    }
    exported = re.findall(r"for last in ([\w: ]+); do \S+ -m jobs\.export out/\S+ (\S+)", result.stdout)
    assert (
        exported
        == [("generation:generation_prior reconstruction:reconstruction_settle", "musicvae/weights/${last%:*}")] * 2
    )
    stretches = re.search(r"for stretch in ([\w: ]+);", result.stdout).group(1).replace(":", " ").split()
    for preset in {"latent_free", "feed_forward", *stretches}:
        read_preset(preset)
    assert {"generation_prior", "reconstruction_settle"} <= set(stretches), "what ships is the end of a stretch"
    assert "jobs/baselines/$preset" in result.stdout


def test_the_workflow_runs_what_a_contributor_runs_on_two_versions_of_python():
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())
    assert (workflow["env"]["GMD_URL"], workflow["env"]["GMD_SHA256"]) == (GROOVE_URL, GROOVE_SHA256)
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in workflow["jobs"].items()}
    assert commands["newcomer"] == ["make install", "make check", "make test"]
    assert commands["gate"][-1] == ".ci/run"
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    supported = [name.rpartition(" ")[2] for name in project["classifiers"] if "Python :: 3." in name]
    for job in workflow["jobs"].values():
        assert job["strategy"]["matrix"]["python"] == supported


def test_the_hooks_before_a_commit_are_those_of_make_check():
    hooks = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    checks = subprocess.run(["make", "-n", "check"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for hook in hooks:
        program, *words = hook["entry"].replace(" --force-exclude", "").split()
        assert " ".join([program, *words]) in checks, hook["id"]
    # An environment that is older than the Makefile would be made anew first.
    lines = [line for line in checks.splitlines() if " pip " not in line and " compileall " not in line]
    assert len(hooks) == sum(line.startswith(".venv/bin/") for line in lines)
