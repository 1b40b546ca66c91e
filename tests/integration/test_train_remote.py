"""Training and evaluation from an https URL: the bits of a run from the folder, each shard over the network once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import TINY, ok, run_job
from tests.support.runs.tiny_run import assert_same_state, train
from tests.support.services.https_server import FolderServer, serving

STEPS = ("train.steps=12", "data.mix_bars=0.5")


@pytest.fixture
def server(small_shards: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FolderServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(small_shards, certificate) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_run_from_a_url_is_the_run_from_the_folder(server, small_shards, tmp_path, ranks):
    expected = train(small_shards, tmp_path / "folder", *STEPS, ranks=ranks)
    cache = f"data.cache_dir={tmp_path / 'cache'}"
    assert train(server.url, tmp_path / "url", *STEPS, cache, ranks=ranks) == expected
    assert_same_state(tmp_path / "folder", tmp_path / "url", 12)
    assert {path: n for path, n in server.requests.items() if path.endswith(".tar")} == {
        f"/{path.name}": 1 for path in small_shards.glob("*.tar")
    }


@pytest.mark.slow
def test_an_evaluation_from_a_url_has_the_figures_of_the_folder(server, small_shards, tmp_path):
    train(small_shards, tmp_path / "run", "train.steps=3")
    figures = []
    for number, shards in enumerate((small_shards, server.url)):
        file = tmp_path / f"{number}.json"
        options = ["--run", tmp_path / "run", "--json", file, "--cache-dir", tmp_path / "cache"]
        ok(run_job("evaluate", "--shards", shards, *options))
        figures.append(json.loads(file.read_text()))
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_a_certificate_that_nobody_vouches_for_is_told(server, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    result = run_job("train", "--shards", server.url, "--run", tmp_path / "run", *TINY)
    assert result.returncode == 2
    assert "cannot read the shards at https://localhost" in result.stderr
    assert "CERTIFICATE_VERIFY_FAILED" in result.stderr


@pytest.mark.slow
def test_a_program_as_shards_is_refused(tmp_path):
    result = run_job("train", "--shards", "pipe:cat x", "--run", tmp_path / "run", *TINY)
    assert result.returncode == 2
    assert "shards cannot be read from a program" in result.stderr
