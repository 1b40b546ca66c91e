"""The commands jobs.latent and jobs.map, and an export with all that a card can hold, on a tiny untrained run."""

import json
from pathlib import Path

import pytest

import musicvae
from musicvae.data.manifest import ShardManifest
from tests.support.commands import TINY, ok, run_job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    ok(run_job("train", "--shards", small_shards, "--run", run, *TINY, "train.steps=20", "train.evaluate_every=20"))
    return run


@pytest.fixture(scope="module")
def export(run: Path, small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rounded weights, attribute vectors, attribution and the figures of these very weights."""
    folder = tmp_path_factory.mktemp("exports")
    out, figures = folder / "model", folder / "figures.json"
    arguments = (run, out, "--dtype", "bfloat16", "--shards", small_shards, "--data", "groove")
    ok(run_job("export", *arguments))
    ok(run_job("evaluate", "--run", out, "--shards", small_shards, "--no-baselines", "--json", figures))
    ok(run_job("export", *arguments, "--figures", figures, "--overwrite"))
    return out


def test_the_export_has_everything(export, small_shards):
    trained = musicvae.load(export)
    assert trained.vectors is not None
    assert trained.fingerprint == ShardManifest.read(small_shards).fingerprint
    card = (export / "README.md").read_text()
    for words in (
        "with these weights",
        "importance-weighted bound",
        "CC BY 4.0",
        "python -m jobs.train",
        "| crash |",
    ):
        assert words in card
    config = json.loads((export / "config.json").read_text())
    assert config["origin"]["command"].startswith("python -m jobs.train --shards"), "as it was typed, no file's path"
    evaluation = config["evaluation"]
    assert evaluation["about"]["windows"] == 41


def test_figures_of_other_weights_and_other_shards_are_refused(run, small_shards, tmp_path):
    figures = tmp_path / "figures.json"
    ok(run_job("evaluate", "--run", run, "--shards", small_shards, "--no-baselines", "--json", figures))
    refused = run_job("export", run, tmp_path / "out", "--dtype", "bfloat16", "--figures", figures)
    assert refused.returncode == 2
    assert "has figures of other weights" in refused.stderr
    refused = run_job("export", run, tmp_path / "out", "--data", "gmd")
    assert refused.returncode == 2
    assert "groove" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_effects_are_shown_and_written(export, small_shards, tmp_path):
    file = tmp_path / "latent.json"
    result = ok(run_job("latent", "--preset", export, "--shards", small_shards, "--starts", 6, "--json", file))
    for words in ("density", "Spearman", "interpolations of 5 pairs", "hit F1"):
        assert words in result.stdout
    figures = json.loads(file.read_text())
    assert set(figures["attributes"]) == {*musicvae.load(export).attributes}
    assert len(figures["interpolation"]["expected"]["jumps"]) == 5
    assert set(figures["variations"]) == {"0.0", "0.1", "0.2", "0.3", "0.5", "0.7", "1.0"}


def test_a_run_without_attribute_vectors_says_how_to_get_them(run, small_shards):
    result = ok(run_job("latent", "--run", run, "--shards", small_shards, "--starts", 3))
    assert "jobs.export RUN OUT --shards SHARDS" in result.stdout


def test_a_map_is_drawn(export, small_shards, tmp_path):
    result = ok(run_job("map", "--preset", export, "--shards", small_shards, "--out", tmp_path / "map.png"))
    assert "41 windows" in result.stdout
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    refused = run_job("map", "--preset", export, "--run", export, "--shards", small_shards, "--out", tmp_path / "b.png")
    assert refused.returncode == 2
