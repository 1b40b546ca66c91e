"""Counted operations are those that torch counts in a model whose LSTMs it sees through."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.training.profiling import forward_flops, matrix_peak, training_flops

WINDOWS, DRUMS = 3, 4
GRID = GridSpec(bars=3, beats_per_bar=4, steps_per_beat=4)
# All sizes differ, so that none can stand for another; `own` has no tables, which are no work of a window.
SETTINGS = {
    "latent": 7,
    "token_features": "own",
    "encoder_embedding": 5,
    "encoder_hidden": 12,
    "encoder_layers": 3,
    "conductor_hidden": 9,
    "conductor_layers": 2,
    "conductor_embedding": 10,
    "decoder_embedding": 6,
    "decoder_hidden": 11,
    "decoder_layers": 2,
}


KINDS = {
    "paper": {},
    "flat": {"decoder": "flat"},
    "feed forward": {"encoder": "feed_forward", "decoder": "feed_forward"},
    "flow": {"encoder": "feed_forward", "decoder": "flat", "prior": "flow", "prior_hidden": 13, "prior_layers": 3},
    "bars, recurrent": {"encoder": "feed_forward", "encoder_shares_bars": True, "decoder": "recurrent"},
    "no latent, transformer": {"encoder": "none", "latent": 0, "decoder": "transformer", "decoder_heads": 11},
    "segments": {
        "encoder": "segments",
        "latent": 12,
        "latent_segments": 6,
        "decoder": "independent",
        "step_features_layers": 2,
        "step_features_heads": 13,
    },
    "transformers": {"encoder": "transformer", "latent": 12, "latent_segments": 6, "decoder": "transformer"},
}
CONSTANT_INPUTS = {"feed forward": 0.25}
"""Share of gradients that nobody needs: for the drums that are read, and for the table of drums that scores tokens."""
SHARED = {"decoder_heads": 1, "step_features": 8, "step_features_hidden": 13, "history_lags": (1, 2, 16)}


@pytest.mark.parametrize("kind", KINDS)
def test_counted_operations_are_those_that_torch_counts(kind: str) -> None:
    settings = ModelSettings.model_validate(SETTINGS | SHARED | KINDS[kind])
    # In double precision torch has no fused LSTM, so that its counter meets the products themselves.
    model = MusicVAE(settings, GRID, DRUMS).double()
    tokens = torch.randint(0, 1 << DRUMS, (WINDOWS, GRID.num_steps))
    with FlopCounterMode(display=False) as forward:
        posterior = model.encode(tokens)
        logits = model.logits(posterior.mu + posterior.sigma, tokens)
        noise = model.prior.noise_of(posterior.mu)
    with FlopCounterMode(display=False) as backward:
        (logits.logsumexp(dim=-1).sum() + posterior.kl().sum() + noise.sum()).backward()
    assert forward.get_total_flops() == WINDOWS * forward_flops(settings, GRID, DRUMS)
    both = forward.get_total_flops() + backward.get_total_flops()
    # States before the first step are constants: the gradients for them, which nobody needs, are counted but not made.
    assert both == pytest.approx(WINDOWS * training_flops(settings, GRID, DRUMS), rel=CONSTANT_INPUTS.get(kind, 0.02))


def test_the_peak_is_a_rate_of_this_machine() -> None:
    peak = matrix_peak(torch.float32, torch.device("cpu"), seconds=0.0)
    assert 1e8 < peak < 1e15
