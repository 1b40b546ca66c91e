"""The commands of the pages in docs/, run as they are written: preprocessing, training, local jobs.

In a soak alone: the gate checks their options and settings (`test_documented_commands`), and other tests run the jobs.
"""

import re
import shlex

import pytest

from musicvae.data.manifest import ShardManifest
from tests.support.commands import CHECKOUT, ok
from tests.support.pages.fenced_code import run_shell_blocks
from tests.support.requirements import only_in_a_soak
from tests.support.runs.sample_fixtures import manifest_of
from tests.support.runs.tiny_run import status
from tests.support.services.submitted import run_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # whole pages of commands


@only_in_a_soak
def test_preprocessing(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "preprocessing.md", tmp_path)
    shards = {folder.name: ShardManifest.read(folder) for folder in sorted((tmp_path / "shards").iterdir())}
    assert set(shards) == {"archive", "demo", "folder", "full", "list"}
    windows = {name: sum(split.windows for split in own.splits.values()) for name, own in shards.items()}
    assert windows["folder"] == windows["archive"] == windows["demo"] > windows["full"] > windows["list"] > 0
    assert "# Bars of a window." in printed


@only_in_a_soak
def test_local(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "local.md", tmp_path)
    assert len(manifest_of(tmp_path / "first" / "grooves")) == 60
    assert status(tmp_path / "runs" / "more")["state"] == "finished"
    assert "python -m jobs.train --ranks 1 --preset demo" in printed
    assert not list((tmp_path / "submissions").iterdir())


@only_in_a_soak
def test_training(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "training.md", tmp_path)
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name for run in runs] == ["looked-into", "one", "tuned", "two"]
    assert {status(run)["state"] for run in runs} == {"finished"}
    assert (tmp_path / "compared.html").stat().st_size > 10_000
    assert (tmp_path / "exported" / "model.safetensors").exists()
    assert (tmp_path / "runs" / "looked-into" / "profile" / "table.txt").exists()
    assert "resumed from step 60" in printed


def test_the_readme_s_table_of_commands_on_clusters(tmp_path):
    commands = re.findall(r"`jobs\.submit (?!KIND)([^`]*)`", (CHECKOUT / "README.md").read_text())
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command.replace("NAME", "slurm-gpu"))
        words.insert(words.index("--"), "--dry-run")
        assert "#SBATCH --job-name" in ok(run_in(tmp_path, "submit", *words)).stdout
