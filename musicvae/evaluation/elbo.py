"""What a model is worth on a split: sums that ranks can add, and the figures that follow from them.

Conventions:
    All nats are per window: log-likelihood summed over steps, KL over latent dimensions, then the mean over windows.
    -ELBO = reconstruction + KL, from one draw of z per window whose noise is keyed by (seed, window id); it bounds
    -log p(x) from above, so lower is better, and it never holds beta or free bits, which belong to training.
    Accuracies and F1 decode greedily from mu. *Teacher-forced*: step t is shown the reference before it.
    *Free-running*: it is shown what was decoded before it, so that only z can carry the groove.
    Every figure is a ratio of sums, so no batch size and no world size changes more than its rounding.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int16, Int64
from torch import Tensor

from musicvae.data.store import WindowStore
from musicvae.evaluation.scores import MatchCounts, active_units
from musicvae.model.encoders import Posterior
from musicvae.model.model import MusicVAE
from musicvae.model.objective import NATS_PER_BIT, reconstruction_nats
from musicvae.randomness import Purpose, normals

EVALUATION_BLOCKS = 64
"""Blocks of a split that an evaluation keeps in memory, 8 MiB: it goes through the windows in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationSums:
    """Sums over windows of all that an evaluation measures. Additive over disjoint sets of windows.

    Attributes:
        windows: how many windows.
        reconstruction: -log p(x | z) in nats.
        kl: KL(q(z | x) || p(z)) of each dimension in nats.
        mu: posterior means.
        mu_squared: squares of the posterior means.
        teacher_forced: tokens and hits right when shown the reference.
        free_running: the same when shown the model's own choices; empty where this was left out.
    """

    windows: float
    reconstruction: float
    kl: Float64[np.ndarray, " latent"]
    mu: Float64[np.ndarray, " latent"]
    mu_squared: Float64[np.ndarray, " latent"]
    teacher_forced: MatchCounts
    free_running: MatchCounts

    @classmethod
    def empty(cls, latent: int, num_drums: int) -> "EvaluationSums":
        """The sums over no windows."""
        zeros, nothing = np.zeros(latent), MatchCounts.empty(num_drums)
        return cls(0.0, 0.0, zeros, zeros, zeros, nothing, nothing)

    def __add__(self, other: "EvaluationSums") -> "EvaluationSums":
        return EvaluationSums(
            self.windows + other.windows,
            self.reconstruction + other.reconstruction,
            self.kl + other.kl,
            self.mu + other.mu,
            self.mu_squared + other.mu_squared,
            self.teacher_forced + other.teacher_forced,
            self.free_running + other.free_running,
        )

    def to_vector(self) -> Float64[np.ndarray, " sums"]:
        """All sums in a row: ranks add these with one all-reduce."""
        counts = [
            np.concatenate([[m.steps, m.correct], m.true_positives, m.false_positives, m.false_negatives])
            for m in (self.teacher_forced, self.free_running)
        ]
        return np.concatenate([[self.windows, self.reconstruction], self.kl, self.mu, self.mu_squared, *counts])

    @classmethod
    def from_vector(cls, vector: Float64[np.ndarray, " sums"], *, latent: int, num_drums: int) -> "EvaluationSums":
        """Exact inverse of `to_vector`."""
        head, kl, mu, mu_squared, forced, free = np.split(
            vector, np.cumsum([2, latent, latent, latent, 2 + 3 * num_drums])
        )
        return cls(float(head[0]), float(head[1]), kl, mu, mu_squared, _match_counts(forced), _match_counts(free))


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationReport:
    """The figures of an evaluation. A figure that was not measured is NaN.

    Attributes:
        negative_elbo: reconstruction + KL, nats per window; lower is better.
        reconstruction: -E_q[log p(x | z)], nats per window.
        kl: KL(q(z | x) || p(z)), nats per window.
        kl_by_dimension: the same of each dimension of z.
        mu_variance: of each dimension's posterior mean over the windows.
        active_units: dimensions of z whose mu has a variance over windows above .01 (Burda et al. 2016).
    """

    windows: int
    negative_elbo: float
    reconstruction: float
    kl: float
    kl_by_dimension: Float64[np.ndarray, " latent"]
    mu_variance: Float64[np.ndarray, " latent"]
    active_units: int
    teacher_forced: MatchCounts
    free_running: MatchCounts

    @property
    def elbo(self) -> float:
        """The lower bound itself: log p(x) >= elbo, nats per window; higher is better."""
        return -self.negative_elbo

    @property
    def kl_bits(self) -> float:
        return self.kl / NATS_PER_BIT

    @classmethod
    def from_sums(cls, sums: EvaluationSums) -> "EvaluationReport":
        windows = sums.windows or math.nan
        reconstruction, kl = sums.reconstruction / windows, float(sums.kl.sum()) / windows
        mu_variance = sums.mu_squared / windows - (sums.mu / windows) ** 2
        return cls(
            windows=int(sums.windows),
            negative_elbo=reconstruction + kl,
            reconstruction=reconstruction,
            kl=kl,
            kl_by_dimension=sums.kl / windows,
            mu_variance=mu_variance,
            active_units=active_units(mu_variance),
            teacher_forced=sums.teacher_forced,
            free_running=sums.free_running,
        )


def evaluation_rounds(
    num_windows: int, *, batch: int, rank: int = 0, world_size: int = 1
) -> Iterator[Int64[np.ndarray, " batch"]]:
    """Window ids of every `world_size`-th batch of a split, so that each window comes exactly once.

    All ranks get the same number of batches, so that a trainer may meet the others between them; the last may be empty.
    """
    window_ids = np.arange(num_windows)
    for first in range(0, len(window_ids), batch * world_size):
        yield window_ids[first + rank * batch :][:batch]


def evaluation_batches(
    windows: WindowStore, *, batch: int, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[Int64[np.ndarray, " batch"], Int16[np.ndarray, "batch step"]]]:
    """(window ids, tokens) of the batches of `evaluation_rounds`."""
    for chosen in evaluation_rounds(windows.num_windows, batch=batch, rank=rank, world_size=world_size):
        yield chosen, windows.tokens(chosen)


def spaced_windows(windows: int, limit: int | None) -> Int64[np.ndarray, " window"]:
    """Ids of at most `limit` windows, evenly spaced; the first ones, which overlap, would be a few files only."""
    count = windows if limit is None else min(windows, limit)
    return np.arange(count, dtype=np.int64) * windows // count


@dataclass(frozen=True, slots=True, eq=False)
class BatchEvaluation:
    """What a model makes of some windows, window by window.

    Attributes:
        posterior: q(z | x).
        z: one draw from it.
        kl: KL(q(z | x) || p(z)) of each dimension in nats.
        reconstruction: -log p(x | z) in nats.
        teacher_forced: likeliest tokens from mu, each step shown the reference before it.
        free_running: likeliest tokens from mu, each step shown those before it; None where this was left out.
    """

    posterior: Posterior
    z: Float[Tensor, "batch latent"]
    kl: Float[Tensor, "batch latent"]
    reconstruction: Float64[Tensor, " batch"]
    teacher_forced: Int16[np.ndarray, "batch step"]
    free_running: Int16[np.ndarray, "batch step"] | None


@torch.no_grad()
def evaluate_windows(
    model: MusicVAE,
    tokens: Int16[np.ndarray, "batch step"],
    window_ids: Int64[np.ndarray, " batch"],
    *,
    seed: int,
    device: torch.device,
    free_running: bool = True,
) -> BatchEvaluation:
    """Windows of a split, at least one; the model's training mode is left as it was.

    Args:
        seed: of the latent noise, which each window's id places.
        free_running: also decode free-running, which takes one decoder call per step.
    """
    reference = torch.from_numpy(tokens).to(device, torch.int64)
    noise = torch.from_numpy(latent_noise(seed, window_ids, model.latent)).to(device)
    with _evaluating(model):
        posterior = model.encode(reference)
        z = posterior.sample(noise)
        return BatchEvaluation(
            posterior=posterior,
            z=z,
            kl=model.prior.kl(posterior, z),
            reconstruction=reconstruction_nats(model.logits(z, reference), reference).double().sum(dim=1),
            teacher_forced=_on_host(model.logits(posterior.mu, reference).argmax(dim=-1)),
            free_running=_on_host(model.generate(posterior.mu)) if free_running else None,
        )


def evaluate_batch(
    model: MusicVAE,
    tokens: Int16[np.ndarray, "batch step"],
    window_ids: Int64[np.ndarray, " batch"],
    *,
    num_drums: int,
    seed: int,
    device: torch.device,
    free_running: bool = True,
) -> EvaluationSums:
    """The sums over some windows of a split, possibly none; arguments as of `evaluate_windows`."""
    if not len(tokens):
        return EvaluationSums.empty(model.latent, num_drums)
    per_window = evaluate_windows(model, tokens, window_ids, seed=seed, device=device, free_running=free_running)
    free = per_window.free_running
    return EvaluationSums(
        windows=float(len(tokens)),
        reconstruction=float(per_window.reconstruction.sum()),
        kl=_sum_over_windows(per_window.kl),
        mu=_sum_over_windows(per_window.posterior.mu),
        mu_squared=_sum_over_windows(per_window.posterior.mu.double().square()),
        teacher_forced=MatchCounts.compare(tokens, per_window.teacher_forced, num_drums),
        free_running=MatchCounts.empty(num_drums) if free is None else MatchCounts.compare(tokens, free, num_drums),
    )


def latent_noise(
    seed: int, window_ids: Int64[np.ndarray, " batch"], latent: int
) -> Float64[np.ndarray, "batch latent"]:
    """Standard normal noise of each window, a function of (seed, window id) alone."""
    rows = [normals(seed, Purpose.EVALUATION_LATENT, 0, int(window), 1, latent) for window in window_ids]
    return np.concatenate(rows)


def _match_counts(vector: Float64[np.ndarray, " sums"]) -> MatchCounts:
    steps, correct = vector[:2]
    return MatchCounts(float(steps), float(correct), *np.split(vector[2:], 3))


@contextmanager
def _evaluating(model: MusicVAE) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _on_host(tokens: Int64[Tensor, "batch step"]) -> Int16[np.ndarray, "batch step"]:
    return tokens.to("cpu", torch.int16).numpy()


def _sum_over_windows(values: Float[Tensor, "batch latent"]) -> Float64[np.ndarray, " latent"]:
    return values.double().sum(dim=0).cpu().numpy()
