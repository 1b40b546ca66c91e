"""What a training says before it begins."""

import pytest
import torch

from jobs.training.plan import TrainRequest, describe, prepare
from musicvae.training.world import World


@pytest.mark.parametrize(
    ("precision", "capabilities", "warned"),
    [
        ("bfloat16", {"avx2": True, "avx512_bf16": False}, True),
        ("bfloat16", {"avx512_bf16": True}, False),
        ("bfloat16", {"amx_bf16": True}, False),
        ("float32", {"avx2": True}, False),
    ],
)
def test_precision_that_the_cpu_only_emulates_is_warned_of(
    monkeypatch, small_shards, tmp_path, precision, capabilities, warned
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    overrides = (f"train.precision={precision}",)
    plan = prepare(TrainRequest(str(small_shards), tmp_path / "run", "demo", None, None, overrides))
    said = describe(plan, World.single(), resumed=False)
    assert ("this cpu emulates bfloat16" in said) == warned
