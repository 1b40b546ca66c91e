"""What only a CUDA device can show; skipped without one."""

import numpy as np
import pytest
import torch

from musicvae.data.loader import Batch, in_background
from musicvae.durable import read_lines
from musicvae.groove.grid import GridSpec
from musicvae.model.layers import KeyedDropout, draw_masks
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings, ObjectiveSettings
from musicvae.training.settings import OptimizerSettings
from musicvae.training.step import TrainingObjective, new_optimizer, train_step
from musicvae.training.world import World
from tests.support.commands import ok, run_job
from tests.support.runs.precisions import gradients, likeness
from tests.support.runs.tiny_run import assert_same_state, losses
from tests.support.runs.topologies import ARCHITECTURES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SMALL = 2**40
"""Gradients of float16 would all be zero, were the loss divided by it."""
SETTINGS = ["--preset", "demo", "train.steps=20", "train.log_every=1", "data.lanes=8", "train.global_batch=16"]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 3e-2)])
def test_a_gpu_trains_like_the_cpu(small_shards, tmp_path, precision, tolerance):
    losses = []
    for device in ("cpu", "cuda"):
        arguments = ["--shards", small_shards, "--run", tmp_path / device, *SETTINGS, f"train.precision={precision}"]
        ok(run_job("train", *arguments, f"resources.device={device}"))
        losses.append([record["loss"] for record in read_lines(tmp_path / device / "metrics.jsonl")])
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("mode", ["true", "reduce-overhead"])
def test_a_compiled_model_trains_like_one_that_is_not(small_shards, tmp_path, mode, pieces):
    settings = ["--shards", small_shards, *SETTINGS, "resources.device=cuda", f"train.accumulation={pieces}"]
    for compiled in ("false", mode):
        ok(run_job("train", *settings, "--run", tmp_path / compiled, f"train.compile={compiled}"))
    assert losses(tmp_path / mode) == pytest.approx(losses(tmp_path / "false"), rel=1e-3)


def test_dropout_drops_the_same_on_both_devices():
    masks = []
    for device in ("cpu", "cuda"):
        layers = [KeyedDropout(0.3, 4, 33), KeyedDropout(0.7, 1, 50)]
        draw_masks(layers, torch.arange(-50, 50, device=device) * 0x123456789ABCDEF)
        masks.append([layer(torch.ones(100, *layer.shape, device=device)).cpu() for layer in layers])
    assert all(torch.equal(on_cpu, on_gpu) for on_cpu, on_gpu in zip(*masks, strict=True))


def test_a_run_moves_between_devices(small_shards, tmp_path):
    arguments = ["--shards", small_shards, "--run", tmp_path / "run", *SETTINGS]
    ok(run_job("train", *arguments, "resources.device=cuda"))
    ok(run_job("train", *arguments, "resources.device=cpu", "train.steps=22"))
    assert len(read_lines(tmp_path / "run" / "metrics.jsonl")) == 22


def test_a_step_never_waits_for_the_device():
    """Forward, backward, clipping, update and the copy of the figures: torch itself tells of every wait."""
    torch.manual_seed(0)
    model = MusicVAE(ModelSettings(latent=8), GridSpec(), 9).to("cuda")
    objective = TrainingObjective(model, ObjectiveSettings(word_dropout=0.1))
    optimizer = new_optimizer(objective, OptimizerSettings())
    batch = Batch(
        number=0,
        first_place=0,
        window_ids=np.arange(16),
        tokens=torch.randint(0, 512, (16, 64)),
        latent_noise=torch.randn(16, 8),
        blanked=torch.rand(16, 64) < 0.1,
    ).pinned()

    def step(number):
        return train_step(
            objective,
            optimizer,
            batch.to(torch.device("cuda")).pieces(2),
            step=number,
            learning_rate=1e-3,
            global_batch=16,
            clip=1.0,
            precision="bfloat16",
            world=World.single("cuda"),
        )

    step(0).result()  # kernels are chosen and memory is taken at the first
    torch.cuda.set_sync_debug_mode("error")
    try:
        under_way = step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(under_way.result().loss)


def test_batches_for_a_gpu_come_in_pinned_memory():
    batch = Batch(0, 0, np.arange(2), torch.zeros(2, 64, dtype=torch.int64), torch.zeros(2, 8))
    (pinned,) = in_background([batch], pin=True)
    assert pinned.tokens.is_pinned()
    assert pinned.latent_noise.is_pinned()


@pytest.mark.parametrize("preset", ["small", *ARCHITECTURES])
def test_bfloat16_is_bfloat16_in_every_kernel(small_shards, preset, capsys):
    """Autocast alone would give cuDNN's LSTMs float16."""
    exact, _ = gradients(small_shards, preset, "float32", "cuda")
    found, seen = gradients(small_shards, preset, "bfloat16", "cuda")
    with capsys.disabled():
        for kernel, types in sorted(seen.by_kernel.items()):
            print(f"{preset}: {kernel}: {', '.join(sorted(map(str, types)))}")
        print(f"{preset}: cosine of the gradients of bfloat16 and float32 {likeness(found, exact):.5f}")
    assert torch.float16 not in set().union(*seen.by_kernel.values())
    assert seen.of_lstms <= {torch.bfloat16}
    assert likeness(found, exact) > 0.98
    of_many, _ = gradients(small_shards, preset, "bfloat16", "cuda", times_smaller=SMALL)
    assert likeness(of_many, found) > 0.999999


@pytest.mark.parametrize("preset", ["small", "generation", "latent_free", "performance"])
def test_a_deterministic_run_that_was_stopped_ends_with_the_same_bits(small_shards, tmp_path, preset):
    settings = ["--preset", preset, "--shards", small_shards, "data.lanes=8", "train.global_batch=16"]
    settings += ["train.deterministic=true", "train.log_every=1", "resources.device=cuda"]
    for run, stops in (("whole", [20]), ("stopped", [9, 20])):
        for steps in stops:
            ok(run_job("train", *settings, "--run", tmp_path / run, f"train.steps={steps}"))
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 20)
