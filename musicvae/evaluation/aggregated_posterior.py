"""What z says about the window that it came from: the KL split in two (Hoffman and Johnson 2016, "ELBO surgery").

    mean over windows of KL(q(z | x_n) || p(z)) = I(n; z) + KL(q(z) || p(z)),    q(z) = 1/N sum_n q(z | x_n)

The first part is the mutual information of window and code, at most log N; the second is how far the codes of the
data, together, are from the prior that samples are drawn from. q(z) is exact over the N windows given, all pairs in
float64; z is one draw a window, as in the -ELBO.
"""

import math

import numpy as np
from jaxtyping import Float64

BLOCK = 1024
"""Codes whose densities under all posteriors are held at once."""

Codes = Float64[np.ndarray, "window latent"]


def mutual_information_terms(z: Codes, mu: Codes, sigma: Codes) -> Float64[np.ndarray, " window"]:
    """log q(z_n | x_n) - log q(z_n) of each window; the mean estimates I(n; z) in nats.

    No term is above log N: among N windows a code cannot tell more than which one it was. A model whose codes tell
    all windows apart has log N whatever its KL.
    """
    noise = (z - mu) / sigma
    own = -0.5 * noise**2 - np.log(sigma) - 0.5 * math.log(2 * math.pi)
    return own.sum(axis=1) - log_aggregated_posterior(z, mu, sigma)


def log_aggregated_posterior(z: Codes, mu: Codes, sigma: Codes) -> Float64[np.ndarray, " window"]:
    """log q(z) of each code, by log-mean-exp over all posteriors."""
    precision = sigma**-2
    # (z - mu)^2 / sigma^2, multiplied out so that all pairs are two matrix products.
    constant = (mu**2 * precision).sum(axis=1) + 2 * np.log(sigma).sum(axis=1) + z.shape[1] * math.log(2 * math.pi)
    result = []
    for first in range(0, len(z), BLOCK):
        codes = z[first : first + BLOCK]
        log_density = -0.5 * (codes**2 @ precision.T - 2 * codes @ (mu * precision).T + constant)
        greatest = log_density.max(axis=1)
        result.append(greatest + np.log(np.exp(log_density - greatest[:, None]).mean(axis=1)))
    return np.concatenate(result) if result else np.zeros(0)
