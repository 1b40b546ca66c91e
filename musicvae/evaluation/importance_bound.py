"""The importance-weighted bound on -log p(x) (Burda et al. 2016, arXiv 1509.00519, equation 8).

    -log p(x) <= -E log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),    z_k from q(z | x)

It tightens with K and is the -ELBO in expectation for K = 1. The noise of draw k is a function of (seed, window id, k):
fewer draws are the first ones of more. The encoder runs once a window, the decoder K times.
"""

import math

import numpy as np
import torch
from jaxtyping import Float64, Int16, Int64
from torch import Tensor

from musicvae.model.model import MusicVAE
from musicvae.model.objective import reconstruction_nats
from musicvae.randomness import Purpose, normals


@torch.no_grad()
def importance_bounds(
    model: MusicVAE,
    tokens: Int16[np.ndarray, "window step"],
    window_ids: Int64[np.ndarray, " window"],
    *,
    draws: int,
    seed: int,
    rows: int,
    device: torch.device,
) -> Float64[np.ndarray, " window"]:
    """The bound of each window in nats, from `draws` draws; a model without a latent gives -log p itself.

    Args:
        model: in evaluation mode.
        rows: decoder rows at once; a resource, it changes no more than rounding.
    """
    draws = draws if model.latent else 1
    at_once = max(1, rows // draws)
    bounds = []
    for first in range(0, len(tokens), at_once):
        reference = torch.from_numpy(tokens[first : first + at_once]).to(device, torch.int64)
        ids = window_ids[first : first + at_once]
        weights = _log_weights(model, reference, ids, draws, seed, rows)
        bounds.append(-(torch.logsumexp(weights, dim=1) - np.log(draws)).cpu().numpy())
    return np.concatenate(bounds) if bounds else np.zeros(0)


def _log_weights(
    model: MusicVAE,
    reference: Int64[Tensor, "window step"],
    window_ids: Int64[np.ndarray, " window"],
    draws: int,
    seed: int,
    rows: int,
) -> Float64[Tensor, "window draw"]:
    """log p(x | z) + log p(z) - log q(z | x) of every draw."""
    noise = np.stack([normals(seed, Purpose.IMPORTANCE, int(i), 0, draws, model.latent) for i in window_ids])
    epsilon = torch.from_numpy(noise).to(reference.device)
    posterior = model.encode(reference)
    mu, sigma = posterior.mu.double()[:, None], posterior.sigma.double()[:, None]
    z = mu + sigma * epsilon
    log_posterior = -(0.5 * (epsilon.square() + math.log(2 * math.pi)) + sigma.log()).sum(dim=2)
    log_ratio = model.prior.log_density(z.flatten(0, 1)).view_as(log_posterior) - log_posterior
    codes = z.flatten(0, 1).to(posterior.mu.dtype)
    shown = reference.repeat_interleave(draws, dim=0)
    nats = [
        reconstruction_nats(
            model.logits(codes[first : first + rows], shown[first : first + rows]), shown[first : first + rows]
        )
        .double()
        .sum(dim=1)
        for first in range(0, len(codes), rows)
    ]
    return log_ratio - torch.cat(nats).view_as(log_ratio)
