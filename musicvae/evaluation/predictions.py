"""What a predictor makes of the windows of a split, window by window: all its figures are computed from this.

The importance-weighted bound (Burda et al. 2016, arXiv 1509.00519, equation 8):

    -log p(x) <= -E log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),    z_k from q(z | x)

    It tightens with K and is the -ELBO in expectation for K = 1. The noise of draw k is a function of (seed, window id,
    k): fewer draws are the first ones of more. The encoder runs once a window, the decoder K times.

What z tells about its window (Hoffman and Johnson 2016, "ELBO surgery") splits the KL in two:

    mean over windows of KL(q(z | x_n) || p(z)) = I(n; z) + KL(q(z) || p(z)),    q(z) = 1/N sum_n q(z | x_n)

    The first part is the mutual information of window and code, at most log N; the second is how far the codes of the
    data, together, are from the prior that samples are drawn from. q(z) is exact over the N windows given, all pairs in
    float64; z is one draw a window, as in the -ELBO.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float64, Int16, Int64
from torch import Tensor

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.elbo import evaluate_windows, spaced_windows
from musicvae.evaluation.scores import active_units
from musicvae.model.model import MusicVAE
from musicvae.model.objective import reconstruction_nats
from musicvae.randomness import Purpose, normals

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")
BLOCK = 1024
"""Codes whose densities under all posteriors are held at once."""
PerWindow = Float64[np.ndarray, " window"]
Codes = Float64[np.ndarray, "window latent"]


@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """The likeliest tokens; steps before `first_step` are not predicted and count in no score."""

    tokens: Int16[np.ndarray, "window step"]
    first_step: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Likelihoods:
    """Nats of each window.

    Attributes:
        reconstruction: -log p(x | z) under one draw of z.
        kl: KL(q(z | x) || p(z)); 0 of a predictor without a latent, whose `reconstruction` is -log p(x) itself.
        importance_bound: the bound on -log p(x) from many draws (`musicvae.evaluation.predictions`).
        information: log q(z | x) - log q(z), whose mean is the mutual information of window and code
            (`musicvae.evaluation.predictions`).
        latent: dimensions of z.
        active_units: dimensions whose mu moves with the window (`musicvae.evaluation.scores`).
    """

    reconstruction: PerWindow
    kl: PerWindow
    importance_bound: PerWindow
    information: PerWindow
    latent: int
    active_units: int

    @property
    def negative_elbo(self) -> PerWindow:
        return self.reconstruction + self.kl

    @classmethod
    def exact(cls, nats: PerWindow) -> "Likelihoods":
        """-log p(x) of a predictor that has no latent."""
        nothing = np.zeros(len(nats))
        return cls(nats, nothing, nats, nothing, latent=0, active_units=0)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """A predictor on the windows of a split.

    Attributes:
        likelihoods: None of one that gives no probabilities.
        teacher_forced: each step predicted after the reference before it; a model decodes from mu.
        free_running: each step after the predictor's own; None of one that cannot do without the reference.
    """

    name: str
    likelihoods: Likelihoods | None
    teacher_forced: Guesses
    free_running: Guesses | None


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedWindows:
    """Some or all windows of a split, with their ids there."""

    ids: Int64[np.ndarray, " window"]
    split: SplitTokens

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def spaced(cls, split: SplitTokens, limit: int | None) -> "EvaluatedWindows":
        """At most `limit` windows, evenly spaced through the performances, so that each has its share.

        The performances of those that are taken are numbered anew, without gaps.
        """
        by_performance = np.argsort(split.performance, kind="stable")
        ids = np.sort(by_performance[spaced_windows(len(by_performance), limit)])
        _, performance = np.unique(split.performance[ids], return_inverse=True)
        return cls(ids, SplitTokens(split.tokens[ids], performance.astype(np.int64)))


@dataclass(frozen=True, slots=True, eq=False)
class _BatchPredictions:
    """What one batch of windows gives; the same names as in `Likelihoods` and `Predictions`."""

    reconstruction: PerWindow
    kl: PerWindow
    bound: PerWindow
    forced: Int16[np.ndarray, "window step"]
    free: Int16[np.ndarray, "window step"]
    z: Float64[np.ndarray, "window latent"]
    mu: Float64[np.ndarray, "window latent"]
    sigma: Float64[np.ndarray, "window latent"]


def predict(
    name: str,
    model: MusicVAE,
    windows: EvaluatedWindows,
    *,
    seed: int,
    draws: int,
    batch: int,
    device: torch.device,
    on_progress: Callable[[int], None],
    threads: int = 1,
) -> Predictions:
    """A model on the windows, at least one.

    Args:
        model: on `device`.
        seed: of the noise that z is drawn with; each window has its own, whatever the others.
        draws: of the importance-weighted bound.
        batch: windows, or rows of the decoder, at once; a resource, it changes no more than rounding.
        on_progress: called with the number of windows done, at times and in this thread.
        threads: batches at a time, each computed by one thread; a resource too. Several small products keep cores
            busier than one that is shared out among them.
    """
    model.eval()

    def predict_batch(first: int) -> _BatchPredictions:
        ids, tokens = windows.ids[first : first + batch], windows.split.tokens[first : first + batch]
        per_window = evaluate_windows(model, tokens, ids, seed=seed, device=device)
        assert per_window.free_running is not None
        z, mu, sigma = (
            values.double().cpu().numpy()
            for values in (per_window.z, per_window.posterior.mu, per_window.posterior.sigma)
        )
        return _BatchPredictions(
            reconstruction=per_window.reconstruction.cpu().numpy(),
            kl=per_window.kl.double().sum(dim=1).cpu().numpy(),
            bound=importance_bounds(model, tokens, ids, draws=draws, seed=seed, rows=batch, device=device),
            forced=per_window.teacher_forced,
            free=per_window.free_running,
            z=z,
            mu=mu,
            sigma=sigma,
        )

    by_batch = []
    firsts = range(0, len(windows), batch)
    # One thread alone is this one, whose share of the cores stays as it is.
    for result in map(predict_batch, firsts) if threads == 1 else in_single_threads(predict_batch, firsts, threads):
        by_batch.append(result)
        on_progress(min(len(by_batch) * batch, len(windows)))
    z, means, sigma = (
        np.concatenate([getattr(result, field) for result in by_batch]) for field in ("z", "mu", "sigma")
    )
    return Predictions(
        name,
        Likelihoods(
            reconstruction=np.concatenate([result.reconstruction for result in by_batch]),
            kl=np.concatenate([result.kl for result in by_batch]),
            importance_bound=np.concatenate([result.bound for result in by_batch]),
            information=mutual_information_terms(z, means, sigma),
            latent=model.latent,
            active_units=active_units(means.var(axis=0)),
        ),
        Guesses(np.concatenate([result.forced for result in by_batch])),
        Guesses(np.concatenate([result.free for result in by_batch])),
    )


def in_single_threads(
    work: Callable[[Argument], Answer], arguments: Iterable[Argument], threads: int
) -> Iterator[Answer]:
    """The answers in order, each computed by one thread, several at a time."""
    # torch's number of threads is one of each thread that starts parallel work.
    pool = ThreadPoolExecutor(threads, thread_name_prefix="evaluate", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, arguments)
    finally:
        pool.shutdown(cancel_futures=True)


def mutual_information_terms(z: Codes, mu: Codes, sigma: Codes) -> Float64[np.ndarray, " window"]:
    """log q(z_n | x_n) - log q(z_n) of each window; the mean estimates I(n; z) in nats.

    No term is above log N: among N windows a code cannot tell more than which one it was. A model whose codes tell
    all windows apart has log N whatever its KL.
    """
    noise = (z - mu) / sigma
    log_density = -0.5 * noise**2 - np.log(sigma) - 0.5 * math.log(2 * math.pi)
    return log_density.sum(axis=1) - log_aggregated_posterior(z, mu, sigma)


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
