"""One step: a gradient that is not finite changes nothing, and figures come without waiting."""

import copy
import dataclasses
import math
import traceback
import weakref

import numpy as np
import pytest
import torch

from musicvae.data.loader import Batch
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings, ObjectiveSettings
from musicvae.training.fit import diverged, nonfinite_record
from musicvae.training.progress import gradient_norms
from musicvae.training.settings import OptimizerSettings
from musicvae.training.state import is_exhausted_memory, largest_that_fits, memory_exhausted
from musicvae.training.step import TrainingObjective, accumulate_gradients, new_optimizer, train_step
from musicvae.training.world import World

TINY = ModelSettings(
    latent=4,
    encoder_embedding=4,
    encoder_hidden=6,
    encoder_layers=1,
    conductor_hidden=6,
    conductor_layers=1,
    conductor_embedding=4,
    decoder_embedding=4,
    decoder_hidden=6,
    decoder_layers=1,
)


def batch(windows: int = 4, *, poisoned: bool = False) -> Batch:
    rng = np.random.default_rng(windows)
    noise = torch.from_numpy(rng.standard_normal((windows, TINY.latent)).astype(np.float32))
    if poisoned:
        noise[0, 0] = torch.inf
    tokens = torch.from_numpy(rng.integers(0, 512, (windows, 64)))
    return Batch(0, 0, np.arange(windows), tokens, noise)


@pytest.fixture
def objective() -> TrainingObjective:
    torch.manual_seed(0)
    return TrainingObjective(MusicVAE(TINY, GridSpec(), 9), ObjectiveSettings())


def step(objective, optimizer, pieces, number=0):
    return train_step(
        objective,
        optimizer,
        pieces,
        step=number,
        learning_rate=1e-2,
        global_batch=4,
        clip=1.0,
        precision="float32",
        world=World.single(),
    )


@pytest.mark.parametrize("first", [True, False], ids=["the very first step", "a later step"])
def test_a_step_that_is_not_finite_leaves_weights_moments_and_count(objective, first):
    optimizer = new_optimizer(objective, OptimizerSettings())
    if not first:
        step(objective, optimizer, [batch()])
    weights = copy.deepcopy(objective.state_dict())
    moments = copy.deepcopy(optimizer.state_dict()["state"])
    result = step(objective, optimizer, [batch(poisoned=True)]).result()
    assert not np.isfinite(result.gradient_norm)
    for name, weight in objective.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    for key, after in optimizer.state_dict()["state"].items():
        for name, value in after.items():
            assert torch.equal(value, moments[key][name] if moments else torch.zeros_like(value)), name


def test_after_a_left_out_step_training_goes_on_as_if_it_had_not_been(objective):
    other = copy.deepcopy(objective)
    optimizer, other_optimizer = (new_optimizer(o, OptimizerSettings()) for o in (objective, other))
    step(objective, optimizer, [batch()])
    step(objective, optimizer, [batch(poisoned=True)])
    step(objective, optimizer, [batch()])
    for _ in range(2):
        step(other, other_optimizer, [batch()])
    for name, weight in objective.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_the_norm_is_of_all_weights_together(objective):
    result = step(objective, new_optimizer(objective, OptimizerSettings()), [batch()]).result()
    assert result.gradient_norm == pytest.approx(np.linalg.norm(result.weight_norms), rel=1e-6)
    assert len(result.weight_norms) == len(list(objective.parameters()))
    assert result.gradient_norm > 0
    parts = gradient_norms(objective.model, result)
    assert set(parts) == {"gradient_norm.encoder", "gradient_norm.segments", "gradient_norm.decoder"}
    assert math.hypot(*parts.values()) == pytest.approx(result.gradient_norm, rel=1e-6)


def test_a_record_names_step_windows_and_weights_and_the_error_says_where_it_is(objective):
    result = step(objective, new_optimizer(objective, OptimizerSettings()), [batch(poisoned=True)]).result()
    record = nonfinite_record(5, result, objective.model, np.array([7, 3]))
    assert (record["step"], record["window_ids"], record["gradient_norm"]) == (5, [7, 3], "nan")
    assert set(record["weights_not_finite"]) <= {name for name, _ in objective.model.named_parameters()}
    assert record["weights_not_finite"]
    message = str(diverged(record, "RUN/nonfinite.jsonl", skipped=None))
    assert "not finite at step 5" in message
    assert "RUN/nonfinite.jsonl" in message


def test_figures_of_a_finite_step_that_only_one_weight_spoils(objective):
    result = step(objective, new_optimizer(objective, OptimizerSettings()), [batch()]).result()
    norms = result.weight_norms.copy()
    norms[2] = np.inf
    record = nonfinite_record(1, dataclasses.replace(result, weight_norms=norms), objective.model, np.array([0]))
    assert record["weights_not_finite"] == [list(dict(objective.model.named_parameters()))[2]]


def test_the_largest_size_that_fits_is_found_by_halving():
    tried = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest_that_fits(attempt, 40, torch.device("cpu")) == 5
    assert tried == [20, 10, 5]


def test_nothing_fits_and_other_errors_are_not_memory():
    def never(size: int) -> None:
        raise MemoryError

    assert largest_that_fits(never, 8, torch.device("cpu")) is None
    with pytest.raises(RuntimeError, match="shape"):
        largest_that_fits(lambda size: (_ for _ in ()).throw(RuntimeError("shape")), 8, torch.device("cpu"))
    assert not is_exhausted_memory(RuntimeError("shape"))


def test_what_a_backward_that_failed_had_saved_is_freed_before_the_next_attempt():
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, *gradients: torch.Tensor) -> torch.Tensor:
            raise MemoryError

    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor.detach().clone()

    alive = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> Saved:
        alive.add(saved := Saved(tensor))
        return saved

    def step() -> None:
        x = torch.ones(3, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
            branches = [(x * 2).exp() for _ in range(4)]
            (torch.stack(branches).sum() + Failing.apply(branches[-1]).sum()).backward()

    with pytest.raises(MemoryError) as failed:
        step()
    traceback.clear_frames(failed.tb)
    assert alive, "the engine holds the tasks that it did not come to"
    assert largest_that_fits(lambda size: None, 2, torch.device("cpu")) == 1
    assert not alive


def test_the_message_offers_an_accumulation_that_fits():
    error = memory_exhausted(step=1, share=64, accumulation=1, fitting=16, device=torch.device("cpu"))
    assert "train.accumulation=4. 16 windows at a time fit" in str(error)
    error = memory_exhausted(step=1, share=63, accumulation=1, fitting=15, device=torch.device("cpu"))
    assert "train.accumulation=5" in str(error)
    error = memory_exhausted(step=1, share=8, accumulation=1, fitting=None, device=torch.device("cpu"))
    assert "not even one window" in str(error)


def test_a_weight_needs_16_bytes_beside_what_ddp_and_autocast_copy(objective):
    """The arithmetic of docs/structure.md: weight, gradient and two moments."""
    optimizer = new_optimizer(objective, OptimizerSettings())
    step(objective, optimizer, [batch()])
    accumulate_gradients(objective, [batch()], step=1, global_batch=4, precision="bfloat16", world=World.single())
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    weights = list(objective.parameters())
    held = [*weights, *moments, *(weight.grad for weight in weights if weight.grad is not None)]
    assert sum(tensor.nbytes for tensor in held) == 16 * sum(weight.numel() for weight in weights)
