"""Generates grooves in bulk, each a function of the weights, the recipe and its own number alone.

Matrix products round differently for other shapes, other rows of a batch and other numbers of threads. So items are
always decoded `BATCH` at a time on one thread: item i sits in row i % BATCH of batch i // BATCH whatever the count, a
last batch is decoded whole and cut, and its noise is keyed by (seed, i). Who decodes which batch then changes nothing,
and more speed comes from more processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int16
from torch import Tensor

from musicvae.generation.constraints import HitMask, ReachabilityGuide
from musicvae.generation.recipe import GenerationSettings, codes_of
from musicvae.generation.settings import BATCH
from musicvae.model.model import MusicVAE
from musicvae.model.settings import DecodingPrecision
from musicvae.randomness import Purpose, uniforms

DRAWS = 8
"""Most draws of an item that has to have something as a whole; in the last of them it is guided there."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Items of one batch, with how they came about.

    Attributes:
        codes: z of each.
        log_likelihood: log p(x | z) in nats, at temperature 1 and without constraints whatever the recipe's, in the
            recipe's precision.
    """

    tokens: Int16[np.ndarray, "item step"]
    codes: Float32[np.ndarray, "item latent"]
    log_likelihood: Float64[np.ndarray, " item"]

    def replaced(self, rows: Bool[np.ndarray, " item"], by: "Decoded") -> "Decoded":
        """The same with some items of another."""
        mine_and_theirs = ((getattr(self, field.name), getattr(by, field.name)) for field in fields(self))
        return Decoded(*(np.where(rows.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in mine_and_theirs))


def num_batches(count: int) -> int:
    """Batches that hold items 0..count - 1."""
    return -(-count // BATCH)


def generate(model: MusicVAE, recipe: GenerationSettings, count: int) -> Iterator[Int16[np.ndarray, "item step"]]:
    """Tokens of items 0..count - 1 in order, a batch at a time; memory does not grow with the count."""
    for number in range(num_batches(count)):
        yield generate_batch(model, recipe, number)[: count - number * BATCH]


def generate_batch(model: MusicVAE, recipe: GenerationSettings, number: int) -> Int16[np.ndarray, "item step"]:
    """Tokens of items `number * BATCH` to `(number + 1) * BATCH - 1`."""
    return decode_batch(model, recipe, number).tokens


def decode_batch(model: MusicVAE, recipe: GenerationSettings, number: int) -> Decoded:
    """As `generate_batch`, with the codes of the items and how likely the model finds them.

    Raises:
        ValueError: constraints that no groove can keep.
    """
    decoded = _drawn(model, recipe, number, 0, None)
    if recipe.constraint is None:
        return decoded
    guide = ReachabilityGuide(recipe.constraint, _hit_mask(model, recipe), _items(number), model.num_drums)
    for draw in range(1, DRAWS):
        missing = ~recipe.constraint.reached(decoded.tokens)
        if not missing.any():
            break
        again = _drawn(model, recipe, number, draw, guide if draw == DRAWS - 1 else None)
        decoded = decoded.replaced(missing, again)
    return decoded


@torch.no_grad()
def encode_windows(model: MusicVAE, tokens: Int16[np.ndarray, "window step"]) -> Float32[np.ndarray, "window latent"]:
    """The code of each window, the same at every call and beside whatever other windows.

    It is the posterior mean.
    """
    codes = [np.zeros((0, model.latent), dtype=np.float32)]
    with one_thread():
        for first in range(0, len(tokens), BATCH):
            rows = tokens[first : first + BATCH]
            full = np.zeros((BATCH, tokens.shape[1]), dtype=np.int64)
            full[: len(rows)] = rows
            mu = model.encode(torch.from_numpy(full)).mu
            codes.append(mu[: len(rows)].float().numpy())
    return np.concatenate(codes)


@torch.no_grad()
def decode_codes(
    model: MusicVAE, codes: Float32[np.ndarray, "code latent"], precision: DecodingPrecision = "float32"
) -> Int16[np.ndarray, "code step"]:
    """The likeliest tokens of each code, free-running: the same at every call and beside whatever other codes."""
    tokens = [np.zeros((0, model.num_steps), dtype=np.int16)]
    with one_thread():
        for first in range(0, len(codes), BATCH):
            rows = codes[first : first + BATCH]
            full = np.zeros((BATCH, codes.shape[1]), dtype=np.float32)
            full[: len(rows)] = rows
            made = model.generate(torch.from_numpy(full), precision=precision)
            tokens.append(made[: len(rows)].numpy().astype(np.int16))
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


@torch.no_grad()
def _drawn(
    model: MusicVAE, recipe: GenerationSettings, number: int, draw: int, guide: ReachabilityGuide | None
) -> Decoded:
    """One of several independent draws of the items of a batch, guided if need be."""
    items, hit_mask, choice = _items(number), _hit_mask(model, recipe), recipe.choice
    with one_thread():
        codes = codes_of(
            recipe.origin, model.prior, model.latent, seed=recipe.seed, first=items.start, count=BATCH, draw=draw
        )
    numbers = torch.from_numpy(uniforms(recipe.seed, Purpose.DECODING, draw, items.start, BATCH, model.num_steps))
    groove_of = hit_mask.groove_of(items)
    log_likelihood = torch.zeros(BATCH, dtype=torch.float64)

    def next_token(step: int, logits: Tensor) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        allowed = hit_mask.allowed(step, logits.shape[1])
        allowed = None if allowed is None else allowed[groove_of]
        if guide is not None:
            in_reach = guide.allowed(step)
            allowed = in_reach if allowed is None else allowed & in_reach
        token = choice.token(logits, numbers[:, step], place=step / model.num_steps, allowed=allowed)
        if guide is not None:
            guide.add(token)
        log_likelihood.add_(logits.log_softmax(dim=-1).gather(1, token[:, None])[:, 0])
        return token

    with one_thread():
        tokens = model.decode(codes, next_token, precision=recipe.precision)
    return Decoded(tokens.numpy().astype(np.int16), codes.numpy(), log_likelihood.numpy())


def _items(number: int) -> range:
    return range(number * BATCH, (number + 1) * BATCH)


def _hit_mask(model: MusicVAE, recipe: GenerationSettings) -> HitMask:
    return recipe.hit_mask or HitMask.nothing(model.num_steps)
