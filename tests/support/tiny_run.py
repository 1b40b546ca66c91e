"""Settings of a run so small that whole commands can be repeated in tests, and what such a run leaves."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from musicvae.durable import read_lines
from tests.support.commands import ok, run_job

TINY = (
    "model.latent=8",
    "model.encoder_embedding=8",
    "model.encoder_hidden=16",
    "model.encoder_layers=1",
    "model.conductor_hidden=16",
    "model.conductor_layers=1",
    "model.conductor_embedding=16",
    "model.decoder_embedding=8",
    "model.decoder_hidden=16",
    "model.decoder_layers=1",
    "data.lanes=8",
    "data.mix_drums=0.3",
    "data.mix_bars=0.3",
    "objective.word_dropout=0.1",
    "train.global_batch=16",
    "train.log_every=1",
    "train.evaluate_every=1000",
    "train.checkpoint_every=10",
    "resources.threads=1",
)


def train(shards: Path | str, run: Path, *settings: object, ranks: int = 0, **environment: str) -> list[float]:
    """Trains a tiny model to its end and gives the loss of every step."""
    ok(run_job("train", "--shards", shards, "--run", run, *TINY, *settings, ranks=ranks, **environment))
    return losses(run)


def losses(run: Path) -> list[float]:
    """Of every step, each of which has to stand once."""
    records = read_lines(run / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, len(records) + 1)), "every step stands once"
    return [record["loss"] for record in records]


def status(run: Path) -> dict[str, Any]:
    """status.json, empty where there is none yet."""
    path = run / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def final_state(run: Path, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and optimizer state of a checkpoint."""
    checkpoint = run / "checkpoints" / f"step-{step:08d}"
    weights = safetensors.torch.load_file(checkpoint / "model.safetensors")
    return weights, torch.load(checkpoint / "optimizer.pt", weights_only=True)


def assert_same_state(expected: Path, found: Path, step: int) -> None:
    """Weights and optimizer moments of two runs, bit for bit."""
    (weights, optimizer), (other_weights, other_optimizer) = final_state(expected, step), final_state(found, step)
    assert weights.keys() == other_weights.keys()
    for name in weights:
        assert torch.equal(weights[name], other_weights[name]), name
    for key, moments in optimizer["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other_optimizer["state"][key][name]), (key, name)
