"""Outputs that are copied to an object store, and work that goes on from there on a machine that has none of it."""

import shutil
import signal

import fsspec
import pytest

from tests.support.commands import TINY, ok, run_job
from tests.support.processes.running_training import running_training
from tests.support.runs.run_folders import run_with_weights
from tests.support.runs.tiny_run import assert_same_state, losses, train
from tests.support.services.s3_server import s3_server

pytestmark = pytest.mark.slow
STEPS = 30


@pytest.fixture(scope="module")
def s3():
    with s3_server("grooves") as variables:
        yield variables


def test_a_preempted_training_goes_on_from_its_copy_on_a_fresh_machine(small_shards, tmp_path, s3):
    url, settings = "s3://grooves/runs/one", ["train.checkpoint_every=10", "--ranks", 2]
    arguments = ["--sync-to", url, "--resume-from", url, *settings]
    with running_training(small_shards, tmp_path / "first", *arguments, "train.steps=100000", **s3) as training:
        training.wait_until(lambda: training.steps() >= 12)
        training.process.send_signal(signal.SIGUSR2)
        code, said = training.ended()
    assert code == 75, said
    assert f"there is no copy at {url} yet" in said
    assert f"copy: {url}" in said
    steps = training.steps() + 8
    shutil.move(tmp_path / "first", tmp_path / "lost")

    train(small_shards, tmp_path / "second", *arguments, f"train.steps={steps}", **s3)
    train(small_shards, tmp_path / "undisturbed", *settings, f"train.steps={steps}")
    assert losses(tmp_path / "second") == losses(tmp_path / "undisturbed")
    assert_same_state(tmp_path / "undisturbed", tmp_path / "second", steps)
    assert (tmp_path / "second" / "config.yaml").read_bytes() == (tmp_path / "lost" / "config.yaml").read_bytes()

    other = run_job("train", "--shards", small_shards, "--run", tmp_path / "new", "--sync-to", url, **s3)
    assert other.returncode == 2
    assert "the copy of another folder" in other.stderr
    assert not (tmp_path / "new").exists()


def test_a_sampling_grows_from_its_copy(tmp_path, s3):
    url, run = "s3://grooves/samplings/one", run_with_weights(tmp_path / "run").path
    options = ["--run", run, "--pack", "tar", "--feel", "mean", "--no-gallery", "--chunk", 16]
    copied = ["--sync-to", url, "--resume-from", url]
    ok(run_job("sample", *options, *copied, "--count", 20, "--out", tmp_path / "first", **s3))
    result = ok(run_job("sample", *options, *copied, "--count", 40, "--out", tmp_path / "second", **s3))
    assert f"is made from {url}" in result.stdout
    ok(run_job("sample", *options, "--count", 40, "--out", tmp_path / "whole"))
    names = {"grooves-00000.tar", "manifest.jsonl", "manifest.parquet", "report.json", "settings.json", "z.npy"}
    for name in names:
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_bucket_that_is_not_there_ends_the_command_before_it_works(small_shards, tmp_path, s3):
    arguments = ["--shards", small_shards, "--run", tmp_path / "run", *TINY, "train.steps=5"]
    missing = run_job("train", *arguments, "--sync-to", "s3://nowhere/x", **s3)
    assert missing.returncode == 2, missing.stdout
    assert "likely    a bucket that is not there" in missing.stderr
    assert not (tmp_path / "run").exists()


def test_exports_reports_and_a_sampling_are_copied_and_replaced(tmp_path, s3):
    store = fsspec.filesystem("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], key="test", secret="secret")
    run, model = run_with_weights(tmp_path / "run").path, tmp_path / "model"
    sampled = ["sample", "--run", run, "--feel", "mean", "--no-gallery", "--out", tmp_path / "grooves", "--pack", "tar"]
    for more in ([], ["--overwrite"]):
        export = ok(run_job("export", run, model, "--sync-to", "s3://grooves/model", *more, **s3))
        assert "copy: s3://grooves/model" in export.stdout
        seed = ["--seed", len(more), "--count", 20 - len(more)]
        ok(run_job(*sampled, *seed, *more, "--sync-to", "s3://grooves/replaced", **s3))
        for name in ("config.json", "model.safetensors", "README.md"):
            assert store.cat(f"grooves/model/{name}") == (model / name).read_bytes()
        for name in ("grooves-00000.tar", "manifest.jsonl"):
            assert store.cat(f"grooves/replaced/{name}") == (tmp_path / "grooves" / name).read_bytes()
    report = ok(run_job("report", run, "--sync-to", "s3://grooves/run", **s3))
    assert "copy: s3://grooves/run" in report.stdout
    assert store.cat("grooves/run/report.html") == (run / "report.html").read_bytes()
    both = run_job("report", run, "--out", tmp_path / "x.html", "--sync-to", "s3://grooves/run", **s3)
    assert both.returncode == 2
    assert "--sync-to copies a run with its page" in both.stderr
