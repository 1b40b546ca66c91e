"""Generates grooves in bulk, each a function of the weights, the recipe and its own number alone.

Matrix products round differently for other shapes, other rows of a batch and other numbers of threads. So items are
always decoded `BATCH` at a time on one thread: item i sits in row i % BATCH of batch i // BATCH whatever the count, a
last batch is decoded whole and cut, and its noise is keyed by (seed, i). Who decodes which batch then changes nothing,
and more speed comes from more processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int16, Int64
from torch import Tensor

from musicvae.generation.constraints import GrooveConstraint, HitMask, ReachabilityGuide, bits_set, num_hits
from musicvae.generation.recipe import GenerationSettings, codes_of
from musicvae.generation.settings import BATCH
from musicvae.model.model import MusicVAE
from musicvae.model.settings import DecodingPrecision
from musicvae.randomness import Purpose, uniforms

WHOLE = slice(0, BATCH)
"""All rows of a batch."""
FREE_DRAWS = 4
"""Draws of an item that has to have something as a whole, before the closest of them is steered."""
STEERINGS = 6
"""Most attempts at that. In the last one no token is allowed after which the constraint is out of reach."""
LEAST_HITS = 0.5
"""What no hits count as, where the logarithm of their number is taken."""
GAIN, FIRST_HITS = 3.0, 4.0
"""How far a groove that has got more hits or fewer than its course is tilted back, by the logarithm of their ratio; as
if both had so many hits more, or the first steps would be tilted wildly."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Items of one batch, with how they came about.

    Attributes:
        codes: z of each.
        log_likelihood: log p(x | z) in nats, at temperature 1 and without constraints whatever the recipe's, in the
            recipe's precision.
        steered: hits that the model would not have chosen at their step, or would have, had a constraint of the whole
            groove not decided.
    """

    tokens: Int16[np.ndarray, "item step"]
    codes: Float32[np.ndarray, "item latent"]
    log_likelihood: Float64[np.ndarray, " item"]
    steered: Int16[np.ndarray, " item"]

    def replaced(self, rows: Bool[np.ndarray, " item"], by: "Decoded") -> "Decoded":
        """The same with some items of another."""
        mine_and_theirs = ((getattr(self, field.name), getattr(by, field.name)) for field in fields(self))
        return Decoded(*(np.where(rows.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in mine_and_theirs))

    @classmethod
    def joined(cls, batches: list["Decoded"]) -> "Decoded":
        """One after the other."""
        return cls(*(np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(cls)))

    def take(self, rows: Int64[np.ndarray, " item"]) -> "Decoded":
        """Some of them."""
        return Decoded(*(getattr(self, field.name)[rows] for field in fields(self)))


def num_batches(count: int) -> int:
    """Batches that hold items 0..count - 1."""
    return -(-count // BATCH)


def generate(model: MusicVAE, recipe: GenerationSettings, count: int) -> Iterator[Int16[np.ndarray, "item step"]]:
    """Tokens of items 0..count - 1 in order, a batch at a time; memory does not grow with the count."""
    for number in range(num_batches(count)):
        yield generate_batch(model, recipe, number)[: count - number * BATCH]


def generate_batch(
    model: MusicVAE, recipe: GenerationSettings, number: int, rows: slice = WHOLE
) -> Int16[np.ndarray, "item step"]:
    """Tokens of items `number * BATCH` to `(number + 1) * BATCH - 1`, or of some rows of them."""
    return decode_batch(model, recipe, number, rows).tokens


def decode_batch(model: MusicVAE, recipe: GenerationSettings, number: int, rows: slice = WHOLE) -> Decoded:
    """As `generate_batch`, with the codes of the items and how likely the model finds them.

    Args:
        rows: those that are wanted. Where each item is chosen from several, the candidates of others are left out.

    Raises:
        ValueError: constraints that no groove can keep.
    """
    if recipe.best_of is None:
        return _candidates(model, recipe, number).take(np.arange(BATCH)[rows])
    several, (start, stop, _) = recipe.best_of.candidates, rows.indices(BATCH)
    first, last = start * several // BATCH, -(-stop * several // BATCH)
    decoded = Decoded.joined([_candidates(model, recipe, number * several + batch) for batch in range(first, last)])
    candidates = decoded.take(np.arange(start * several, stop * several) - first * BATCH)
    return candidates.take(recipe.best_of.chosen(candidates.tokens))


def _candidates(model: MusicVAE, recipe: GenerationSettings, number: int) -> Decoded:
    """The items of a batch before a choice."""
    constraint, steering = recipe.constraint, _Steering.none(model, recipe, number)
    decoded, _ = _drawn(model, recipe, number, steering)
    if constraint is None:
        return decoded
    # Refuses what no groove can keep.
    ReachabilityGuide(constraint, steering.hit_mask, _items(number), model.num_drums)
    for draw in range(1, FREE_DRAWS):
        distance = constraint.distance(decoded.tokens)
        if not distance.any():
            return decoded
        again, _ = _drawn(model, recipe, number, replace(steering, draws=np.full(BATCH, draw)))
        nearer = constraint.distance(again.tokens) < distance
        decoded, steering = decoded.replaced(nearer, again), steering.drawn_again(nearer, draw)
    return decoded if constraint.reached(decoded.tokens).all() else _steered(model, recipe, number, steering)


def _steered(model: MusicVAE, recipe: GenerationSettings, number: int, steering: "_Steering") -> Decoded:
    """The items of a batch, each as near to its free draw as an attempt makes it that meets the constraint."""
    constraint, items = recipe.constraint, _items(number)
    assert constraint is not None, "who calls this has looked"
    decoded, drums = _drawn(model, recipe, number, steering)
    steering = replace(steering, shares=_shares_before(decoded.tokens))
    for attempt in range(1, STEERINGS + 1):
        missing = ~constraint.reached(decoded.tokens)
        if not missing.any():
            break
        steering = steering.towards(constraint, decoded.tokens, drums, items, missing)
        if attempt == STEERINGS:
            steering = replace(steering, guide=ReachabilityGuide(constraint, steering.hit_mask, items, model.num_drums))
        again, of_again = _drawn(model, recipe, number, steering)
        decoded, drums = decoded.replaced(missing, again), np.where(missing[:, None, None], of_again, drums)
    return decoded


@dataclass(frozen=True, slots=True, eq=False)
class _Steering:
    """What leads each item of a batch to what it has to have as a whole.

    Attributes:
        draws: which of its independent draws it is: they give its code and the random numbers of its steps.
        tilt: nats that each hit of a token adds to its logit, at all steps alike.
        low, high: tilts that gave too few hits, and too many.
        course: hits that are to come before each step; not a number where their number is not steered.
        shares: share of its hits that the free draw has before each step.
        free_mask: what is decided whatever the constraint.
        hit_mask: that, and hits of drums that were missing.
        guide: the last resort.
    """

    draws: Int64[np.ndarray, " item"]
    tilt: Float64[np.ndarray, " item"]
    low: Float64[np.ndarray, " item"]
    high: Float64[np.ndarray, " item"]
    course: Float64[np.ndarray, "item step"]
    shares: Float64[np.ndarray, "item step"]
    free_mask: HitMask
    hit_mask: HitMask
    guide: ReachabilityGuide | None = None

    @classmethod
    def none(cls, model: MusicVAE, recipe: GenerationSettings, number: int) -> "_Steering":
        """The first draw of each item as it comes."""
        hit_mask = recipe.hit_mask or HitMask.nothing(model.num_steps)
        draws, level, far = np.zeros(BATCH, np.int64), np.zeros(BATCH), np.full(BATCH, np.inf)
        course = np.full((BATCH, model.num_steps), np.nan)
        return cls(draws, level, -far, far, course, course, hit_mask, hit_mask)

    def drawn_again(self, rows: Bool[np.ndarray, " item"], draw: int) -> "_Steering":
        """The same with another draw of some items."""
        return replace(self, draws=np.where(rows, draw, self.draws))

    def towards(
        self,
        constraint: GrooveConstraint,
        tokens: Int16[np.ndarray, "item step"],
        drums: Float32[np.ndarray, "item drum step"],
        items: range,
        rows: Bool[np.ndarray, " item"],
    ) -> "_Steering":
        """The next attempt at some items.

        Args:
            tokens: what this one has come to.
            drums: log-probability of each drum at each step of it.
        """
        hits = num_hits(tokens)
        many, few = rows & (hits > constraint.most), rows & (hits < constraint.fewest)
        low, high = np.where(few, self.tilt, self.low), np.where(many, self.tilt, self.high)
        inside = min(4, (constraint.most - constraint.fewest) // 4)
        aim = np.where(many, constraint.most - inside, constraint.fewest + inside)
        # As if a tilt changed the odds of each hit alone; between a tilt that was too low and one too high, the middle.
        guess = self.tilt + np.log(np.maximum(aim, LEAST_HITS) / np.maximum(hits, LEAST_HITS))
        between = np.isfinite(low) & np.isfinite(high)
        guess[between] = (low[between] + high[between]) / 2
        placed = np.zeros_like(tokens)
        for row in np.flatnonzero(rows & (constraint.missing(tokens) != 0)):
            _place(placed[row], drums[row], int(constraint.missing(tokens[row : row + 1])[0]))
        return replace(
            self,
            tilt=np.where(many | few, guess, self.tilt),
            low=low,
            high=high,
            course=np.where((many | few)[:, None], aim[:, None] * self.shares, self.course),
            hit_mask=self.hit_mask.with_hits(placed, items) if placed.any() else self.hit_mask,
        )


def _shares_before(tokens: Int16[np.ndarray, "item step"]) -> Float64[np.ndarray, "item step"]:
    """The share of its hits that a groove has before each step; as if steps were alike, where it has none."""
    hits = np.bitwise_count(tokens).astype(np.float64)
    hits = np.where(hits.any(axis=1, keepdims=True), hits, 1)
    return (hits.cumsum(axis=1) - hits) / hits.sum(axis=1, keepdims=True)


def _place(placed: Int16[np.ndarray, " step"], drums: Float32[np.ndarray, "drum step"], missing: int) -> None:
    """Puts each missing drum where it is likeliest, the most certain one first; no two on one step if that can be."""
    free = np.ones(len(placed), bool)
    bits = [drum for drum in range(len(drums)) if missing >> drum & 1]
    for drum in sorted(bits, key=lambda drum: -drums[drum].max()):
        apart = np.where(free, drums[drum], -np.inf)
        step = int((apart if np.isfinite(apart).any() else drums[drum]).argmax())
        placed[step] |= 1 << drum
        free[step] = False


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
    model: MusicVAE, recipe: GenerationSettings, number: int, steering: _Steering
) -> tuple[Decoded, Float32[np.ndarray, "item drum step"]]:
    """The items of a batch as they are steered; and the log-probability of each drum at each of their steps.

    The latter is that of drums which have to occur; of others it is -inf.
    """
    items, choice, guide = _items(number), recipe.choice, steering.guide
    codes, numbers = _noise(model, recipe, items, steering.draws)
    groove_of, free_groove_of = steering.hit_mask.groove_of(items), steering.free_mask.groove_of(items)
    log_likelihood, steered = torch.zeros(BATCH, dtype=torch.float64), torch.zeros(BATCH, dtype=torch.int64)
    hits_of_token = torch.from_numpy(np.bitwise_count(np.arange(1 << model.num_drums)).astype(np.float32))
    level, course = torch.from_numpy(steering.tilt), torch.from_numpy(steering.course)
    hits_before = torch.zeros(BATCH, dtype=torch.int64)
    must_have = 0 if recipe.constraint is None else recipe.constraint.must_have
    wanted = [drum for drum in range(model.num_drums) if must_have >> drum & 1]
    with_drum = [torch.from_numpy((np.arange(1 << model.num_drums) >> drum & 1).astype(bool)) for drum in wanted]
    drums = torch.full((BATCH, model.num_drums, model.num_steps), -torch.inf)
    decides = guide is not None or steering.hit_mask is not steering.free_mask

    def next_token(step: int, logits: Tensor) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        to_course = ((course[:, step] + FIRST_HITS) / (hits_before + FIRST_HITS)).log()
        tilt = (level + GAIN * to_course.nan_to_num(0.0))[:, None].float()
        tilted = logits + tilt * hits_of_token if tilt.any() else logits
        free = steering.free_mask.allowed(step, logits.shape[1])
        free = None if free is None else free[free_groove_of]
        choose = partial(choice.token, tilted, numbers[:, step], place=step / model.num_steps)
        token = choose(allowed=free)
        if decides:
            allowed, unsteered = steering.hit_mask.allowed(step, logits.shape[1]), token
            allowed = None if allowed is None else allowed[groove_of]
            if guide is not None:
                in_reach = guide.allowed(step)
                allowed = in_reach if allowed is None else allowed & in_reach
            token = choose(allowed=allowed)
            steered.add_(bits_set(token ^ unsteered))
        if guide is not None:
            guide.add(token)
        kept = tilted.masked_fill(~free, -torch.inf) if wanted and free is not None else tilted
        for drum, having in zip(wanted, with_drum, strict=True):
            drums[:, drum, step] = kept[:, having].logsumexp(dim=-1) - kept.logsumexp(dim=-1)
        hits_before.add_(bits_set(token))
        log_likelihood.add_(logits.log_softmax(dim=-1).gather(1, token[:, None])[:, 0])
        return token

    with one_thread():
        tokens = model.decode(codes, next_token, precision=recipe.precision)
    made = (tokens.numpy().astype(np.int16), codes.numpy(), log_likelihood.numpy(), steered.numpy().astype(np.int16))
    return Decoded(*made), drums.numpy()


def _noise(
    model: MusicVAE, recipe: GenerationSettings, items: range, draws: Int64[np.ndarray, " item"]
) -> tuple[Float32[Tensor, "item latent"], Float64[Tensor, "item step"]]:
    """The code of each item and the random numbers of its steps, of one of its independent draws."""
    codes, numbers = torch.zeros(BATCH, model.latent), np.zeros((BATCH, model.num_steps))
    for draw in np.unique(draws).tolist():
        rows = draws == draw
        with one_thread():
            of_draw = codes_of(
                recipe.origin, model.prior, model.latent, seed=recipe.seed, first=items.start, count=BATCH, draw=draw
            )
        codes[rows] = of_draw[rows]
        numbers[rows] = uniforms(recipe.seed, Purpose.DECODING, draw, items.start, BATCH, model.num_steps)[rows]
    return codes, torch.from_numpy(numbers)


def _items(number: int) -> range:
    return range(number * BATCH, (number + 1) * BATCH)
