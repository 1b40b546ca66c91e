"""What only a CUDA device can show; skipped without one."""

import pytest
import torch

from musicvae.durable import read_lines
from tests.commands import ok, run_job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SETTINGS = ["--preset", "demo", "train.steps=20", "train.log_every=1", "data.lanes=8", "train.global_batch=16"]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 3e-2)])
def test_a_gpu_trains_like_the_cpu(small_shards, tmp_path, precision, tolerance):
    losses = []
    for device in ("cpu", "cuda"):
        arguments = ["--shards", small_shards, "--run", tmp_path / device, *SETTINGS, f"train.precision={precision}"]
        ok(run_job("train", *arguments, f"resources.device={device}"))
        losses.append([record["loss"] for record in read_lines(tmp_path / device / "metrics.jsonl")])
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)


def test_a_run_moves_between_devices(small_shards, tmp_path):
    arguments = ["--shards", small_shards, "--run", tmp_path / "run", *SETTINGS]
    ok(run_job("train", *arguments, "resources.device=cuda"))
    ok(run_job("train", *arguments, "resources.device=cpu", "train.steps=22"))
    assert len(read_lines(tmp_path / "run" / "metrics.jsonl")) == 22
