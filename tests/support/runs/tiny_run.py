"""Runs so small that whole commands can be repeated in tests, and what such a run leaves."""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from musicvae.durable import read_lines
from tests.support.commands import TINY, ok, run_job


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


def begin_before_masks_were_keyed(run: Path) -> None:
    """Makes the checkpoints of a run what they were before the noise of their steps was written down."""
    for checkpoint in (run / "checkpoints").iterdir():
        state, hashes = checkpoint / "state.json", checkpoint / "sha256.json"
        values = json.loads(state.read_text())
        del values["noise"]
        state.write_text(json.dumps(values))
        hash_of_state = hashlib.sha256(state.read_bytes()).hexdigest()
        hashes.write_text(json.dumps({**json.loads(hashes.read_text()), "state.json": hash_of_state}))


def assert_same_state(expected: Path, found: Path, step: int) -> None:
    """Weights and optimizer moments of two runs, bit for bit."""
    (weights, optimizer), (other_weights, other_optimizer) = final_state(expected, step), final_state(found, step)
    assert weights.keys() == other_weights.keys()
    for name in weights:
        assert torch.equal(weights[name], other_weights[name]), name
    for key, moments in optimizer["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other_optimizer["state"][key][name]), (key, name)
