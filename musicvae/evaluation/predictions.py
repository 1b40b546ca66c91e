"""What a predictor makes of the windows of a split, window by window: what all its figures are computed from."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int16, Int64

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.aggregated_posterior import mutual_information_terms
from musicvae.evaluation.elbo import evaluate_windows, spaced_windows
from musicvae.evaluation.importance_bound import importance_bounds
from musicvae.evaluation.scores import active_units
from musicvae.model.model import MusicVAE

PerWindow = Float64[np.ndarray, " window"]


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
        importance_bound: the bound on -log p(x) from many draws (`musicvae.evaluation.importance_bound`).
        information: log q(z | x) - log q(z), whose mean is the mutual information of window and code
            (`musicvae.evaluation.aggregated_posterior`).
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
class _OfBatch:
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
    beat: Callable[[int], None],
    threads: int = 1,
) -> Predictions:
    """A model on the windows, at least one.

    Args:
        model: on `device`.
        seed: of the noise that z is drawn with; each window has its own, whatever the others.
        draws: of the importance-weighted bound.
        batch: windows, or rows of the decoder, at once; a resource, it changes no more than rounding.
        beat: called with the number of windows done, at times and in this thread.
        threads: batches at a time, each computed by one thread; a resource too. Several small products keep cores
            busier than one that is shared out among them.
    """
    model.eval()

    def of_batch(first: int) -> _OfBatch:
        ids, tokens = windows.ids[first : first + batch], windows.split.tokens[first : first + batch]
        found = evaluate_windows(model, tokens, ids, seed=seed, device=device)
        assert found.free_running is not None
        z, mu, sigma = (of.double().cpu().numpy() for of in (found.z, found.posterior.mu, found.posterior.sigma))
        return _OfBatch(
            reconstruction=found.reconstruction.cpu().numpy(),
            kl=found.kl.double().sum(dim=1).cpu().numpy(),
            bound=importance_bounds(model, tokens, ids, draws=draws, seed=seed, rows=batch, device=device),
            forced=found.teacher_forced,
            free=found.free_running,
            z=z,
            mu=mu,
            sigma=sigma,
        )

    done = []
    for one in _in_threads(of_batch, range(0, len(windows), batch), threads):
        done.append(one)
        beat(min(len(done) * batch, len(windows)))
    z, means, sigma = (np.concatenate([getattr(one, of) for one in done]) for of in ("z", "mu", "sigma"))
    return Predictions(
        name,
        Likelihoods(
            reconstruction=np.concatenate([one.reconstruction for one in done]),
            kl=np.concatenate([one.kl for one in done]),
            importance_bound=np.concatenate([one.bound for one in done]),
            information=mutual_information_terms(z, means, sigma),
            latent=model.latent,
            active_units=active_units(means.var(axis=0)),
        ),
        Guesses(np.concatenate([one.forced for one in done])),
        Guesses(np.concatenate([one.free for one in done])),
    )


def _in_threads(work: Callable[[int], _OfBatch], arguments: Iterable[int], threads: int) -> Iterator[_OfBatch]:
    """The results in order; with one thread they are computed in this one, whose share of cores stays as it is."""
    if threads == 1:
        yield from map(work, arguments)
        return
    # torch's number of threads is one of each thread that starts parallel work.
    pool = ThreadPoolExecutor(threads, thread_name_prefix="predict", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, arguments)
    finally:
        pool.shutdown(cancel_futures=True)
