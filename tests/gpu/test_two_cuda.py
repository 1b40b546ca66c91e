"""Two CUDA devices under NCCL train like one; skipped where there are fewer."""

import json

import pytest
import torch

from tests.support.commands import TINY, ok, run_job
from tests.support.processes.running_training import running_training
from tests.support.runs.tiny_run import losses

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-3), ("bfloat16", 3e-2)])
def test_two_ranks_on_two_gpus_train_like_one(small_shards, tmp_path, precision, tolerance):
    found = []
    for ranks in (0, 2):
        run = tmp_path / str(ranks)
        settings = [*TINY, "train.steps=25", f"train.precision={precision}", "resources.device=cuda"]
        result = ok(run_job("train", "--shards", small_shards, "--run", run, *settings, ranks=ranks))
        assert f"{ranks or 1} rank(s) on cuda" in result.stdout
        found.append(losses(run))
    assert len(found[0]) == 25
    assert found[1] == pytest.approx(found[0], rel=tolerance)


def test_a_run_goes_on_with_another_number_of_gpus(small_shards, tmp_path):
    settings = ["--shards", small_shards, *TINY, "train.precision=float64", "resources.device=cuda"]
    ok(run_job("train", *settings, "--run", tmp_path / "whole", "train.steps=20"))
    ok(run_job("train", *settings, "--run", tmp_path / "moved", "train.steps=10", ranks=2))
    ok(run_job("train", *settings, "--run", tmp_path / "moved", "train.steps=20"))
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "whole"), rel=1e-9)


def test_a_rank_that_waits_under_nccl_for_a_killed_one_leaves(small_shards, tmp_path):
    arguments = ["--ranks", 2, "train.steps=100000", "resources.device=cuda", "resources.max_restarts=0"]
    with running_training(small_shards, tmp_path / "run", *arguments) as training:
        training.wait_until(lambda: training.steps() >= 11)
        training.kill_rank(1)
        code, output = training.ended()
        assert code == 1, output
        assert "rank 1 of 2 failed first" in output
        survivor = json.loads((training.run / "ranks" / "rank-00000.error.json").read_text())
        assert survivor["secondary"]
        assert "has died, and this rank waited for it" in survivor["message"]
