"""The commands of the pages in docs/, run as they are written."""

import json

import pytest

from jobs.sweep_ledger import read_ledger
from musicvae.durable import read_lines
from musicvae.manifest import ShardManifest
from tests.cluster.ray_cluster import ray_cluster
from tests.commands import CHECKOUT
from tests.fenced_code import run_shell_blocks
from tests.sample_fixtures import manifest_of
from tests.tiny_run import status

pytestmark = pytest.mark.slow


def test_preprocessing(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "preprocessing.md", tmp_path)
    shards = {folder.name: ShardManifest.read(folder) for folder in sorted((tmp_path / "shards").iterdir())}
    assert set(shards) == {"archive", "demo", "folder", "full", "list"}
    windows = {name: sum(split.windows for split in own.splits.values()) for name, own in shards.items()}
    assert windows["folder"] == windows["archive"] == windows["demo"] > windows["full"] > windows["list"] > 0
    assert "# Bars of a window." in printed


def test_ray(tmp_path):
    with ray_cluster(cpus=2, dashboard=True) as cluster:
        variables = {**cluster.environment, "RAY_API_SERVER_ADDRESS": cluster.ray_jobs}
        run_shell_blocks(CHECKOUT / "docs" / "ray.md", tmp_path, **variables)
    assert len(manifest_of(tmp_path / "first" / "grooves")) == 60
    steps = [record["step"] for record in read_lines(tmp_path / "runs" / "on-ray" / "metrics.jsonl")]
    assert max(steps) == 25
    assert len(set(steps)) == len(steps)


def test_local(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "local.md", tmp_path)
    assert len(manifest_of(tmp_path / "first" / "grooves")) == 60
    assert status(tmp_path / "runs" / "more")["state"] == "finished"
    assert "python -m jobs.train --ranks 1 --preset demo" in printed
    assert not list((tmp_path / "submissions").iterdir())


def test_slurm(slurm, tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "slurm.md", tmp_path, **slurm.environment)
    assert len(manifest_of(tmp_path / "first" / "grooves")) == 60
    assert len(manifest_of(tmp_path / "grooves")) == 1000
    assert "#SBATCH --nodes=2" in (tmp_path / "scripts.txt").read_text()
    shown = json.loads((tmp_path / "status.json").read_text())
    assert {row["state"] for row in shown} == {"done"}
    assert "sample 0-2499" in printed, "what was cancelled"
    assert not (tmp_path / "held").exists()
    swept = read_ledger(tmp_path / "sweeps" / "array")
    assert [trial.state for trial in swept.trials.values()] == ["finished"] * 4
    assert status(tmp_path / "runs" / "on-ray")["state"] == "finished"


def test_sampling(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "sampling.md", tmp_path)
    grooves = tmp_path / "grooves"
    counts = {folder.name: len(manifest_of(folder)) for folder in sorted(grooves.iterdir())}
    expected = {
        "a": 1000,
        "best": 20,
        "far": 20,
        "loops": 8,
        "new": 300,
        "none": 50,
        "packed-loops": 8,
        "picked": 2,
        "shards": 500,
        "tars": 50,
        "zip": 50,
    }
    assert counts == expected
    assert len(list(grooves.glob("loops/*/*.flac"))) == 8
    for name in ("groove-00012.mid", "groove-00590.mid"):
        assert (grooves / "picked" / "000" / name).read_bytes() == (grooves / "a" / "000" / name).read_bytes()
    assert "1,000,000 grooves will take about" in printed
    assert "still missing: 0 to 249 (shards 0 of 2)" in printed


def test_training(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "training.md", tmp_path)
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name for run in runs] == ["looked-into", "one", "tuned", "two"]
    assert {status(run)["state"] for run in runs} == {"finished"}
    assert (tmp_path / "compared.html").stat().st_size > 10_000
    assert (tmp_path / "exported" / "model.safetensors").exists()
    assert (tmp_path / "runs" / "looked-into" / "profile" / "table.txt").exists()
    assert "resumed from step 60" in printed


def test_sampling_modes(tmp_path):
    run_shell_blocks(CHECKOUT / "docs" / "sampling-modes.md", tmp_path)
    grooves = {folder.name: len(list(folder.rglob("*.mid"))) for folder in (tmp_path / "grooves").iterdir()}
    names = ("new", "like", "moved", "continued", "kept", "wanted", "drawn", "hiphop", "jazz")
    assert grooves == {"way": 5} | dict.fromkeys(names, 16)


def test_sweeps(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "sweeps.md", tmp_path)
    demo, mine = (read_ledger(tmp_path / "sweeps" / name) for name in ("demo", "mine"))
    assert len(demo.numbers) == 12
    assert len(mine.numbers) == 6
    assert all(trial.state == "finished" for trial in (*demo.trials.values(), *mine.trials.values()))
    assert "12 trials of up to 180 steps; the best 1/3 go on after 20, 60 steps" in printed
    assert "0 failed trial(s) are tried again" in printed
    assert (tmp_path / "sweeps" / "demo" / "report.html").stat().st_size > 10_000
    assert len(list((tmp_path / "grooves" / "winner").rglob("*.mid"))) == 4
