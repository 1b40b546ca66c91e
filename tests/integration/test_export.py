"""The command jobs.export, and the commands that take what it makes."""

import json
import shutil
from pathlib import Path

import pytest

import musicvae
from tests.support.commands import ok, run_job
from tests.support.runs.run_folders import begun_run, run_with_weights
from tests.support.runs.sample_fixtures import sample_by_mean

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_with_weights(tmp_path_factory.mktemp("run") / "tiny").path


@pytest.fixture(scope="module")
def export(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    out = tmp_path_factory.mktemp("exports") / "model"
    result = ok(run_job("export", run, out))
    assert "step 40, validation −ELBO 72.50 nats per window" in result.stdout
    return out


def test_three_files(export):
    assert {path.name for path in export.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert musicvae.load(export).step == 40


def test_samples_are_those_of_the_run(run, export, tmp_path):
    for name, source in (("run", run), ("export", export)):
        sample_by_mean(source, "--count", 5, "--out", tmp_path / name)
    of_run, of_export = ((tmp_path / name / "manifest.jsonl").read_bytes() for name in ("run", "export"))
    assert of_run == of_export
    files = sorted((tmp_path / "run" / "000").glob("*.mid"))
    assert len(files) == 5
    for file in files:
        assert file.read_bytes() == (tmp_path / "export" / "000" / file.name).read_bytes()


def test_figures_are_those_of_the_run(run, export, small_shards, tmp_path):
    found = {}
    for name, source in (("run", run), ("export", export)):
        file = tmp_path / f"{name}.json"
        ok(run_job("evaluate", "--run", source, "--shards", small_shards, "--no-baselines", "--json", file))
        (found[name],) = json.loads(file.read_text())["models"].values()
        del found[name]["path"]
    assert found["run"] == found["export"]


def test_only_an_export_is_replaced_and_only_when_told(run, export, tmp_path):
    refused = run_job("export", run, export)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    ok(run_job("export", run, export, "--overwrite"))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "song.mid").write_bytes(b"1")
    refused = run_job("export", run, tmp_path / "precious", "--overwrite")
    assert refused.returncode == 2
    assert "files that jobs.export did not write" in refused.stderr
    assert (tmp_path / "precious" / "song.mid").exists()


def test_what_no_export_has_made_is_named_and_stays(run, export, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(export, out)
    (out / "NOTES.txt").write_text("mine")
    refused = run_job("export", run, out, "--overwrite")
    assert refused.returncode == 2
    assert "NOTES.txt" in refused.stderr
    assert {path.name for path in out.iterdir()} == {"NOTES.txt", *(path.name for path in export.iterdir())}


def test_a_run_without_weights_and_no_run_are_refused(tmp_path):
    begun_run(tmp_path / "begun")
    for path, words in ((tmp_path / "begun", "no trained weights"), (tmp_path / "absent", "no run in")):
        refused = run_job("export", path, tmp_path / "out")
        assert refused.returncode == 2
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()
