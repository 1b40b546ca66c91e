"""Precision that is what it says: types that kernels see, gradients in them, and what `train.matmul` sets."""

import warnings

import pytest
import torch

from musicvae.model.layers import LSTM
from musicvae.model.precision import computing
from tests.support.runs.precisions import gradients, likeness
from tests.support.runs.topologies import ARCHITECTURES

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = 2**40
"""Gradients of float16 would all be zero, were the loss divided by it."""


@pytest.mark.parametrize("preset", ["small", *ARCHITECTURES])
def test_bfloat16_is_bfloat16_and_its_gradients_are_those_of_float32_whatever_the_batch(small_shards, preset):
    exact, _ = gradients(small_shards, preset, "float32", "cpu")
    found, seen = gradients(small_shards, preset, "bfloat16", "cpu")
    assert torch.bfloat16 in set().union(*seen.by_kernel.values())
    assert torch.float16 not in set().union(*seen.by_kernel.values())
    assert seen.of_lstms <= {torch.bfloat16}
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    assert likeness(found, exact) > 0.98
    of_many, _ = gradients(small_shards, preset, "bfloat16", "cpu", times_smaller=SMALL)
    for name, gradient in found.items():
        torch.testing.assert_close(of_many[name] * SMALL, gradient, rtol=1e-5, atol=1e-20, msg=name)


@pytest.mark.parametrize("shape", [{"bidirectional": True}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("with_state", [False, True])
def test_an_lstm_that_is_cast_is_the_one_of_autocast(shape, with_state):
    """As on devices whose autocast gives LSTMs another type than its own."""
    torch.manual_seed(0)
    lstm = LSTM(5, 8, 2, **shape)
    values = torch.randn(7, 3, 5)
    rows, columns = 2 * (1 + lstm.bidirectional), 7 if lstm.batch_first else 3
    state = (torch.randn(rows, columns, 8), torch.randn(rows, columns, 8)) if with_state else None
    exact, _ = lstm(values, state)
    found, (hidden, cell) = lstm.computed_in(torch.bfloat16, values, state)
    assert (found.dtype, hidden.shape, cell.shape) == (torch.bfloat16, (rows, columns, 8), (rows, columns, 8))
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=0.03)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        by_autocast, _ = lstm(values, state)
    torch.testing.assert_close(found.float(), by_autocast.float(), rtol=0, atol=0.02)
    found.float().sum().backward()
    of_cast = {name: weight.grad.clone() for name, weight in lstm.named_parameters() if weight.grad is not None}
    lstm.zero_grad()
    exact.sum().backward()
    assert all(gradient.dtype == torch.float32 for gradient in of_cast.values())
    assert likeness(of_cast, {name: weight.grad for name, weight in lstm.named_parameters()}) > 0.999  # type: ignore


def flags() -> tuple[object, ...]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cuda.mem_efficient_sdp_enabled(),
    )


@pytest.mark.parametrize(
    ("device", "matmul", "deterministic", "expected"),
    [
        (CPU, "highest", False, ("highest", False, False, True, True)),
        (GPU, "high", False, ("high", True, False, True, True)),
        (CPU, "medium", True, ("medium", True, False, True, True)),
        (GPU, "highest", True, ("highest", False, True, False, False)),
    ],
    ids=["the default", "high", "medium", "deterministic"],
)
def test_what_a_training_sets_for_the_process_is_as_before_when_it_ends(
    monkeypatch, device, matmul, deterministic, expected
):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")

    def training() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with computing(device, matmul=matmul, deterministic=deterministic):
                inside.append(flags())
                raise KeyError

    before, filters, inside = flags(), warnings.filters[:], []
    with pytest.raises(KeyError):
        training()
    assert inside == [expected]
    assert (flags(), warnings.filters[:]) == (before, filters)
