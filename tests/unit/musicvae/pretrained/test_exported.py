"""Exports: the same model as the run's, read with little at hand, and refused with four parts where it is damaged."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

import musicvae
from musicvae import command_line
from musicvae.errors import ConfigError, DataError
from musicvae.generation.attribute_vectors import fit_attribute_vectors
from musicvae.generation.generate import generate_batch
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.pretrained.card import EvaluationFigures, read_evaluation
from musicvae.pretrained.load import load_run, write_export
from musicvae.training.best_weights import in_bfloat16, read_best
from musicvae.training.run_folder import RunFolder
from tests.support.commands import CHECKOUT, ONE_THREAD
from tests.support.pages.fenced_code import fenced
from tests.support.runs.run_folders import run_with_weights
from tests.support.shards.shard_fixtures import patterned_windows

ORIGIN = {
    "run_id": "0123456789ab",
    "command": "python -m jobs.train --preset demo --run runs/a",
    "commit": "c0ffee",
    "packages": {"torch": "2.13.0", "wandb": None},
    "data": "groove",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_with_weights(tmp_path_factory.mktemp("run") / "tiny").path


@pytest.fixture
def export(run: Path, tmp_path: Path) -> Path:
    """An export that a test may damage."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_export(folder, load_run(run), read_best(RunFolder(run).best), ORIGIN)
    return folder


def test_it_is_the_run_bit_for_bit(run, export):
    of_run, exported = load_run(run), musicvae.load(export)
    assert (exported.step, exported.fingerprint, exported.weights_hash) == (
        *(of_run.step, of_run.fingerprint, of_run.weights_hash),
    )
    assert exported.settings == of_run.settings
    assert exported.grid == of_run.grid
    assert list(exported.drum_map.pitches.items()) == list(of_run.drum_map.pitches.items())
    tokens = torch.from_numpy(patterned_windows(5, seed=9).tokens).long()
    z = torch.randn(5, exported.model.latent, generator=torch.Generator().manual_seed(0))
    assert torch.equal(of_run.model.logits(z, tokens), exported.model.logits(z, tokens))
    recipe = GenerationSettings(PriorSource(), seed=3)
    np.testing.assert_array_equal(generate_batch(of_run.model, recipe, 0), generate_batch(exported.model, recipe, 0))
    for name in ("velocity", "offset"):
        np.testing.assert_array_equal(getattr(exported.feel, name), getattr(of_run.feel, name))
    assert exported.feel.tempo == of_run.feel.tempo
    np.testing.assert_array_equal(exported.feel.statistics.hits, of_run.feel.statistics.hits)
    assert exported.feel.statistics.windows == of_run.feel.statistics.windows


def test_common_loaders_read_its_weights_and_equal_weights_give_equal_bytes(run, export):
    file = export / "model.safetensors"
    with safetensors.safe_open(file, framework="pt") as weights:
        assert weights.metadata()["format"] == "pt"
    best = read_best(RunFolder(run).best)
    assert file.read_bytes() == best.exported() != best.data
    own, exported = safetensors.torch.load(best.data), safetensors.torch.load(best.exported())
    assert own.keys() == exported.keys()
    assert all(torch.equal(own[name], exported[name]) for name in own)
    read = read_best(file)
    assert (read.data, read.weights_hash) == (best.data, best.weights_hash)


def test_an_export_of_before_the_format_was_written_is_the_same_model(run, export):
    best = read_best(RunFolder(run).best)
    (export / "model.safetensors").write_bytes(best.data)
    changed(export, format="musicvae-grooves export 1")
    assert musicvae.load(export).weights_hash == best.weights_hash


def test_it_is_taken_where_a_run_is(run, export):
    assert load_run(export).weights_hash == load_run(run).weights_hash


def test_it_is_not_trained_on_by_accident(export):
    model = musicvae.load(export).model
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_torch_and_safetensors_are_enough(export):
    code = f"""
import sys

class Refusing:
    names = {{
        *("ray", "wandb", "webdataset", "symusic", "PIL", "yaml", "typer", "rich", "pretty_midi", "fsspec", "aiohttp")
    }}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(name)

sys.meta_path.insert(0, Refusing())
import musicvae, torch
trained = musicvae.load({str(export)!r})
print(tuple(trained.model.generate(torch.zeros(2, trained.model.latent)).shape))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == "(2, 64)"


def header_of(folder: Path) -> dict[str, Any]:
    before, header, page = (folder / "README.md").read_text().split("---\n", 2)
    assert before == ""
    assert page.startswith("\n# MusicVAE")
    return yaml.safe_load(header)


def test_the_header_of_the_card_has_licence_tags_data_and_metrics(run, export, tmp_path):
    header = header_of(export)
    assert header["license"] == "cc-by-4.0"
    assert header["datasets"] == ["groove"]
    assert {"midi", "drums"} <= {*header["tags"]}
    (result,) = header["model-index"][0]["results"]
    assert result["dataset"] == {"type": "groove", "name": "Groove MIDI Dataset", "split": "validation"}
    assert [metric["type"] for metric in result["metrics"]] == header["metrics"]
    assert {"type": "negative_elbo", "value": 72.5}.items() <= result["metrics"][0].items()
    write_export(tmp_path, load_run(run), read_best(RunFolder(run).best), {**ORIGIN, "data": None})
    assert (header_of(tmp_path)["license"], header_of(tmp_path)["datasets"]) == ("unknown", [])


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
def test_the_card_tells_what_it_is_worth_and_its_code_runs(export, monkeypatch):
    card = (export / "README.md").read_text()
    for words in (
        "| −ELBO, nats per window (lower is better) | 72.5 |",
        "`c0ffee`; torch 2.13.0.",
        "python -m jobs.train --preset demo --run runs/a",
        "CC BY 4.0",
        "| 0 | kick | 36, 35 |",
    ):
        assert words in card
    (code,) = fenced(export / "README.md", "python")
    alone = {"PYTHONPATH": str(CHECKOUT), **ONE_THREAD}
    result = subprocess.run([sys.executable, "-c", code], cwd=export, env=alone, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "(64, 9)" in result.stdout
    assert "(8,) 5 4" in result.stdout
    assert (export / "groove.mid").read_bytes().startswith(b"MThd")
    (command,) = [words for line in fenced(export / "README.md", "sh") if (words := line.split())[0] == "musicvae"]
    monkeypatch.chdir(export)
    assert command_line.main(command[1:]) == 0
    assert len(list((export / "grooves").glob("*.mid"))) == 16


def changed(export: Path, **values: object) -> None:
    config = json.loads((export / "config.json").read_text())
    (export / "config.json").write_text(json.dumps(config | values))


def refused(export: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        musicvae.load(export)
    assert all(caught.value.details.values()), "expected, found, likely, do"
    return caught.value


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"architectures": ["BertModel"]}', "null", '"text"', '{"format": 2}']
)
def test_a_foreign_or_damaged_configuration_is_refused(export, content):
    (export / "config.json").write_text(content)
    assert "config.json cannot be used" in str(refused(export))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"model": {"latent": -1}}, "latent"),
        ({"model": None}, "None"),
        ({"model": {"latnet": 8}}, "did you mean latent"),
        ({"grid": {"bars": 0}}, "bars"),
        ({"drum_map": {"name": "x", "classes": [["kick", [300]]]}}, "300"),
        ({"drum_map": {"name": "x", "classes": 3}}, "int"),
        ({"feel": {"velocity": []}}, "statistics"),
    ],
)
def test_values_that_cannot_be_are_named(export, values, found):
    changed(export, **values)
    assert found in refused(export).details["found"]


def test_weights_of_another_model_are_refused(export, tmp_path):
    changed(export, model={**json.loads((export / "config.json").read_text())["model"], "latent": 16})
    assert "size mismatch" in str(refused(export)) or "Error(s) in loading" in str(refused(export))


def test_weights_of_another_export_are_refused(export, tmp_path):
    other = run_with_weights(tmp_path / "other", seed=1)
    (export / "model.safetensors").write_bytes(other.best.read_bytes())
    assert "as config.json says" in refused(export).details["expected"]


@pytest.mark.parametrize("damage", [b"", b"\x80\x04pickle", None])
def test_damaged_weights_are_refused(export, damage):
    weights = export / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7] if damage is None else damage)
    assert "model.safetensors cannot be used" in str(refused(export))


def test_missing_weights_are_refused(export):
    (export / "model.safetensors").unlink()
    assert refused(export).details["found"] == "no such file"


def test_no_export_at_all_is_a_wrong_path(tmp_path):
    with pytest.raises(ConfigError, match="no exported model in"):
        musicvae.load(tmp_path / "absent")
    with pytest.raises(ConfigError, match="load a run folder with"):
        musicvae.load(str(tmp_path))


def test_shipped_models_go_by_their_names(run, tmp_path, monkeypatch):
    monkeypatch.setattr("musicvae.pretrained.shipped.WEIGHTS", tmp_path / "weights")
    with pytest.raises(ConfigError, match="there is no model 'generation'"):
        musicvae.load("generation")
    shipped = tmp_path / "weights" / "generation"
    shipped.mkdir(parents=True)
    write_export(shipped, load_run(run), read_best(RunFolder(run).best), ORIGIN)
    assert musicvae.shipped_models() == ("generation",)
    assert musicvae.load("generation").step == 40
    with pytest.raises(ConfigError, match="generation, or a folder that"):
        musicvae.load("genration")
    (tmp_path / "generation").mkdir()
    monkeypatch.chdir(tmp_path)
    assert musicvae.load("generation").step == 40, "a folder of that name in the current one hides nothing"
    with pytest.raises(ConfigError, match="no exported model in"):
        musicvae.load("./generation")


def test_rounded_weights_are_half_the_file_and_the_nearest_bfloat16(run, tmp_path):
    best = read_best(RunFolder(run).best)
    rounded = in_bfloat16(best)
    assert len(rounded.data) < 0.6 * len(best.data)
    write_export(tmp_path, load_run(run), rounded, ORIGIN)
    model, exact = musicvae.load(tmp_path).model, load_run(run).model
    for (name, weight), original in zip(model.named_parameters(), exact.parameters(), strict=True):
        assert weight.dtype == torch.float32, name
        assert torch.equal(weight, original.bfloat16().float()), name


def test_attribute_vectors_travel_with_the_model_and_damaged_ones_are_refused(run, tmp_path):
    trained = load_run(run)
    values = np.random.default_rng(0).normal(size=(20, len(trained.attributes)))
    codes = np.random.default_rng(1).normal(size=(20, trained.latent)).astype(np.float32)
    vectors = fit_attribute_vectors(codes, values, trained.attributes)
    write_export(tmp_path, replace(trained, vectors=vectors), read_best(RunFolder(run).best), ORIGIN)
    loaded = musicvae.load(tmp_path).vectors
    assert loaded is not None
    assert loaded.names == trained.attributes
    np.testing.assert_array_equal(loaded.directions, vectors.directions)
    assert "| density |" in (tmp_path / "README.md").read_text()
    file = tmp_path / "attributes.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    assert "attributes.safetensors cannot be used" in str(refused(tmp_path))
    file.unlink()
    assert "attributes.safetensors cannot be used" in str(refused(tmp_path))


def test_the_card_has_the_figures_of_these_very_weights_only(run, tmp_path):
    best = read_best(RunFolder(run).best)
    figure = {"value": 75.25, "interval": [70.5, 80.0], "numerator": [1], "denominator": [1]}
    model = {"weights": best.weights_hash, "figures": {"negative_elbo": figure}, "samples": {"memorised": 0.0}}
    content = {"split": "validation", "windows": 41, "quick": False, "models": {"tiny": model}}
    file = tmp_path / "figures.json"

    def measured(**changes: object) -> EvaluationFigures:
        file.write_text(json.dumps(content | changes))
        return read_evaluation(file, best.weights_hash)

    write_export(tmp_path, load_run(run), best, ORIGIN, measured())
    assert "| 75.25 | 70.5 to 80 |" in (tmp_path / "README.md").read_text()
    assert header_of(tmp_path)["metrics"] == ["negative_elbo"]
    assert json.loads((tmp_path / "config.json").read_text())["evaluation"]["about"]["windows"] == 41
    with pytest.raises(ConfigError, match="figures of other weights"):
        measured(models={"tiny": model | {"weights": "0"}})
    with pytest.raises(ConfigError, match="--quick"):
        measured(quick=True)
    with pytest.raises(DataError, match="has no figures"):
        measured(models=3)
    with pytest.raises(ConfigError, match="cannot read"):
        read_evaluation(tmp_path / "absent.json", best.weights_hash)
