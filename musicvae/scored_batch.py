"""A batch of sampled grooves with what is known of how it came about: codes, and how likely the model finds it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int16

from musicvae.model import MusicVAE
from musicvae.objective import reconstruction_nats
from musicvae.sampling import Recipe, batch_codes, generate_batch, one_thread


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBatch:
    """Items of one batch of `musicvae.sampling`, all of its rows.

    Attributes:
        codes: what each was decoded from, in the coordinates in which the prior is N(0, I).
        log_likelihood: log p(x | z) in nats, at temperature 1 whatever the recipe's.
    """

    tokens: Int16[np.ndarray, "item step"]
    codes: Float32[np.ndarray, "item latent"]
    log_likelihood: Float64[np.ndarray, " item"]


@torch.no_grad()
def scored_batch(model: MusicVAE, recipe: Recipe, number: int) -> ScoredBatch:
    """Generates a batch; as all its rows always go together, an item's figures are functions of the item alone."""
    tokens, codes = generate_batch(model, recipe, number), batch_codes(model, recipe, number)
    with one_thread():
        chosen = torch.from_numpy(tokens.astype(np.int64))
        logits = model.logits(model.prior.z_of(torch.from_numpy(codes)), chosen)
        nats = reconstruction_nats(logits, chosen).double().sum(dim=1)
    return ScoredBatch(tokens, codes, -nats.numpy())
