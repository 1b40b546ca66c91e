"""The commands of the pages in docs/, run as they are written: preprocessing, training, local jobs."""

import pytest

from musicvae.data.manifest import ShardManifest
from tests.support.commands import CHECKOUT
from tests.support.fenced_code import run_shell_blocks
from tests.support.sample_fixtures import manifest_of
from tests.support.tiny_run import status

pytestmark = pytest.mark.slow


def test_preprocessing(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "preprocessing.md", tmp_path)
    shards = {folder.name: ShardManifest.read(folder) for folder in sorted((tmp_path / "shards").iterdir())}
    assert set(shards) == {"archive", "demo", "folder", "full", "list"}
    windows = {name: sum(split.windows for split in own.splits.values()) for name, own in shards.items()}
    assert windows["folder"] == windows["archive"] == windows["demo"] > windows["full"] > windows["list"] > 0
    assert "# Bars of a window." in printed


def test_local(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "local.md", tmp_path)
    assert len(manifest_of(tmp_path / "first" / "grooves")) == 60
    assert status(tmp_path / "runs" / "more")["state"] == "finished"
    assert "python -m jobs.train --ranks 1 --preset demo" in printed
    assert not list((tmp_path / "submissions").iterdir())


def test_training(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "training.md", tmp_path)
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name for run in runs] == ["looked-into", "one", "tuned", "two"]
    assert {status(run)["state"] for run in runs} == {"finished"}
    assert (tmp_path / "compared.html").stat().st_size > 10_000
    assert (tmp_path / "exported" / "model.safetensors").exists()
    assert (tmp_path / "runs" / "looked-into" / "profile" / "table.txt").exists()
    assert "resumed from step 60" in printed
