"""An optimizer, a count of weights and ranks that leave torch's compiler where it is."""

import subprocess
import sys

import pytest
import torch

from musicvae.training.step import EagerAdamW
from tests.support.commands import CHECKOUT


def stepped(kind: type[torch.optim.AdamW]) -> tuple[torch.nn.Linear, torch.optim.AdamW]:
    """Five steps, a restart from its state, and five more."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(3, 2)
    optimizer = kind(layer.parameters(), lr=0.1, fused=True)
    for step in range(10):
        if step == 5:
            saved, optimizer = optimizer.state_dict(), kind(layer.parameters(), lr=0.1, fused=True)
            optimizer.load_state_dict(saved)
        layer(torch.full((4, 3), 1.0 + step)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer, optimizer


def test_it_is_torchs_own_to_the_bit():
    (layer, optimizer), (other, others) = stepped(EagerAdamW), stepped(torch.optim.AdamW)
    assert torch.equal(layer.weight, other.weight)
    for own, theirs in zip(optimizer.state.values(), others.state.values(), strict=True):
        assert {name: value.tolist() for name, value in own.items()} == {n: v.tolist() for n, v in theirs.items()}
    assert layer.weight.grad is None


@pytest.mark.slow
def test_neither_training_nor_counting_loads_the_compiler():
    code = """
import sys
import torch
import torch.distributed as dist
from musicvae.training.step import EagerAdamW
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.training.tasks import SkipInit
from musicvae.training.world import World
from tests.processes.test_eager_adamw import stepped

stepped(EagerAdamW)
drawn = torch.get_rng_state()
with SkipInit():
    model = MusicVAE(ModelSettings(), GridSpec(), 9)
assert torch.equal(drawn, torch.get_rng_state()), "nothing was drawn"
whole = MusicVAE(ModelSettings(), GridSpec(), 9)
assert [weight.shape for weight in model.parameters()] == [weight.shape for weight in whole.parameters()]

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
world = World(0, 2, torch.device("cpu"))
layer = torch.nn.Linear(3, 2)
wrapped = world.wrap(layer)
with world.without_sync(wrapped):
    wrapped(torch.ones(4, 3)).sum().backward()
wrapped(torch.ones(4, 3)).sum().backward()
assert torch.equal(layer.weight.grad, torch.full((2, 3), 8.0))
dist.destroy_process_group()
print("torch._dynamo" in sys.modules)
assert torch._dynamo.utils.get_optimize_ddp_mode() == "ddp_optimizer", "what DDP is answered is the compiler's default"
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "False\n"), result.stderr
