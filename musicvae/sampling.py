"""Generates grooves in bulk, each a function of the weights, the recipe and its own number alone.

Matrix products round differently for other shapes, other rows of a batch and other numbers of threads. So items are
always decoded `BATCH` at a time on one thread: item i sits in row i % BATCH of batch i // BATCH whatever the count, a
last batch is decoded whole and cut, and its noise is keyed by (seed, i). Who decodes which batch then changes nothing,
and more speed comes from more processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int16
from torch import Tensor

from musicvae.latent import variations
from musicvae.model import MusicVAE
from musicvae.randomness import Purpose, normals, uniforms

BATCH = 256
"""Items decoded together. Part of what every item is: another value changes the last bits of the logits."""


@dataclass(frozen=True, slots=True)
class FromPrior:
    """New grooves: the code of item i is a draw from N(0, I)."""


@dataclass(frozen=True, slots=True, eq=False)
class LikeWindows:
    """Variations of given windows, which take turns.

    Attributes:
        mu: code of each window, see `encode_windows`.
        distance: 0 is the window's reconstruction, 1 a groove that knows nothing of it (`musicvae.latent.variations`).

    Raises:
        ValueError: no windows, or a distance outside 0..1.
    """

    mu: Float32[np.ndarray, "window latent"]
    distance: float

    def __post_init__(self) -> None:
        if not len(self.mu):
            raise ValueError("no windows to vary")
        if not 0 <= self.distance <= 1:
            raise ValueError(f"a distance lies in 0..1, found {self.distance}")

    def window_of(self, item: int) -> int:
        """The window that an item is a variation of: they take turns."""
        return item % len(self.mu)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what item i is, besides the weights and i itself.

    Attributes:
        origin: where codes come from.
        seed: key of all noise.
        temperature: divides the logits before a token is drawn; None takes the likeliest token at every step, so that
            a groove is a function of its code alone.

    Raises:
        ValueError: a negative seed, or a temperature that is not positive.
    """

    origin: FromPrior | LikeWindows
    seed: int
    temperature: float | None = 1.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"a seed cannot be negative, found {self.seed}")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"a temperature must be positive, found {self.temperature}")


def num_batches(count: int) -> int:
    """Batches that hold items 0..count - 1."""
    return -(-count // BATCH)


def generate(model: MusicVAE, recipe: Recipe, count: int) -> Iterator[Int16[np.ndarray, "item step"]]:
    """Tokens of items 0..count - 1 in order, a batch at a time; memory does not grow with the count."""
    for number in range(num_batches(count)):
        yield generate_batch(model, recipe, number)[: count - number * BATCH]


@torch.no_grad()
def generate_batch(model: MusicVAE, recipe: Recipe, number: int) -> Int16[np.ndarray, "item step"]:
    """Tokens of items `number * BATCH` to `(number + 1) * BATCH - 1`."""
    first = number * BATCH
    z = _codes(recipe, first, model.latent)
    draws = None
    if recipe.temperature is not None:
        draws = torch.from_numpy(uniforms(recipe.seed, Purpose.DECODING, 0, first, BATCH, model.num_steps))
    with one_thread():
        tokens = model.generate(model.prior.z_of(z), draws, temperature=recipe.temperature or 1.0)
    return tokens.numpy().astype(np.int16)


def batch_codes(model: MusicVAE, recipe: Recipe, number: int) -> Float32[np.ndarray, "item latent"]:
    """What the items of a batch are decoded from, in the coordinates in which the prior is N(0, I)."""
    return _codes(recipe, number * BATCH, model.latent).numpy()


@torch.no_grad()
def encode_windows(model: MusicVAE, tokens: Int16[np.ndarray, "window step"]) -> Float32[np.ndarray, "window latent"]:
    """The code of each window, the same at every call and beside whatever other windows.

    It is the posterior mean, in the coordinates in which the prior is N(0, I) (`musicvae.prior`).
    """
    codes = [np.zeros((0, model.latent), dtype=np.float32)]
    with one_thread():
        for first in range(0, len(tokens), BATCH):
            rows = tokens[first : first + BATCH]
            full = np.zeros((BATCH, tokens.shape[1]), dtype=np.int64)
            full[: len(rows)] = rows
            mu = model.encode(torch.from_numpy(full)).mu
            codes.append(model.prior.noise_of(mu)[: len(rows)].float().numpy())
    return np.concatenate(codes)


@torch.no_grad()
def decode_codes(model: MusicVAE, codes: Float32[np.ndarray, "code latent"]) -> Int16[np.ndarray, "code step"]:
    """The likeliest tokens of each code, free-running: the same at every call and beside whatever other codes."""
    tokens = [np.zeros((0, model.num_steps), dtype=np.int16)]
    with one_thread():
        for first in range(0, len(codes), BATCH):
            rows = codes[first : first + BATCH]
            full = np.zeros((BATCH, codes.shape[1]), dtype=np.float32)
            full[: len(rows)] = rows
            z = model.prior.z_of(torch.from_numpy(full))
            tokens.append(model.generate(z)[: len(rows)].numpy().astype(np.int16))
    return np.concatenate(tokens)


@contextmanager
def one_thread() -> Iterator[None]:
    """Holds torch to one thread: sums are cut differently for other numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _codes(recipe: Recipe, first: int, latent: int) -> Float[Tensor, "item latent"]:
    match recipe.origin:
        case FromPrior():
            return _noise(recipe.seed, Purpose.PRIOR, first, latent)
        case LikeWindows(mu=mu, distance=distance) as like:
            rows = torch.from_numpy(mu[[like.window_of(item) for item in range(first, first + BATCH)]])
            return variations(rows, _noise(recipe.seed, Purpose.VARIATION, first, latent), distance)


def _noise(seed: int, purpose: Purpose, first: int, latent: int) -> Float[Tensor, "item latent"]:
    return torch.from_numpy(normals(seed, purpose, 0, first, BATCH, latent)).float()
