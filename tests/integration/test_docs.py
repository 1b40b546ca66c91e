"""The commands of the pages in docs/, run as they are written: preprocessing, training, local jobs.

In a soak alone: the gate checks their options and settings (`test_documented_commands`), and other tests run the jobs.
"""

import os
import re
import shlex
import subprocess
import sys

import pytest

from musicvae.data.manifest import ShardManifest
from tests.support.commands import CHECKOUT, QUIET, ok
from tests.support.pages.fenced_code import fenced, run_shell_blocks
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
    assert not list(tmp_path.glob("submissions/[!.]*"))


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


def test_the_three_examples_of_a_site_can_be_pasted(tmp_path):
    blocks = fenced(CHECKOUT / "docs" / "slurm.md", "bash")
    starts = {
        "bare": 'srun --kill-on-bad-exit=1 --wait=120 bash -c "$each_node"',
        "pyxis": "srun --kill-on-bad-exit=1 --wait=120 --container-image=/shared/images/grooves.sqsh --container-",
        "apptainer": "python=(apptainer exec --nv --bind /shared /shared/images/grooves.sif /usr/bin/python3)",
    }
    command = blocks[0].rpartition("END\n")[2]
    for block, (name, start) in zip(blocks, starts.items(), strict=True):
        pasted = block if command in block else block + command.replace("bare.yaml", f"{name}.yaml")
        pasted = pasted.replace("python -m jobs.submit train", f"{sys.executable} -m jobs.submit train --dry-run")
        environment = {**os.environ, **QUIET, "PYTHONPATH": str(CHECKOUT)}
        shell = subprocess.run(
            ["bash", "-e"], input=pasted, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert shell.returncode == 0, shell.stderr
        assert [path.stem for path in tmp_path.glob("*.yaml")].count(name) == 1
        assert start in shell.stdout
        assert "#SBATCH --cpus-per-task=96\n" in shell.stdout
        assert "no number of CPUs" not in shell.stderr
