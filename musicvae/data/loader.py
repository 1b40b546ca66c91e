"""Shards -> training batches, in the order of `DataOrder`, with every random number of the step drawn alongside.

The stages form a webdataset pipeline: batch numbers -> windows in our order -> `Batch`. Batch k is a function of
(manifest, settings, k); there is no state to save, so a resume simply starts at another k.

Training windows can be recombined from two: drums of one with drums of another, or bars of one with bars of another.
GMD has some 330 performances of four bars or more to learn from. What a hi-hat does and what the bar after does are
largely free of each other, so mixtures are plausible grooves that nobody played.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int16, Int64
from torch import Tensor
from webdataset.pipeline import DataPipeline

from musicvae.data.order import DataOrder, lanes_of_rank
from musicvae.data.settings import DataSettings
from musicvae.data.store import WindowStore
from musicvae.data.windows import PlayedWindows
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY
from musicvae.groove.played import MANNER, TICKS_PER_STEP, PlayedHits
from musicvae.randomness import Purpose, normals, uniforms, words

PREFETCHED_BATCHES = 4
AHEAD_BATCHES = 1024
"""So many batches before a lane comes to a shard, it is fetched and verified, if `data.ahead_mib` allows it."""
LEAVE_SECONDS = 5.0
"""A thread that waits for the network is not waited for."""
B = TypeVar("B", bound="WindowBatch")


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """What one rank needs for global batch `number`. Every tensor has a row for each of its windows.

    Attributes:
        first_place: place of the first window in the global batch.
    """

    number: int
    first_place: int
    window_ids: Int64[np.ndarray, " batch"]

    def __len__(self) -> int:
        return len(self.window_ids)

    def pinned(self: B) -> B:
        """The same batch in memory that a CUDA device can read by itself, so that `to` need not wait."""
        return self._changed(lambda tensor: tensor.pin_memory())

    def to(self: B, device: torch.device) -> B:
        """The same batch on a device; from pinned memory without waiting for it."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pieces(self: B, count: int) -> list[B]:
        """The batch cut in at most `count` consecutive, nearly equal, non-empty pieces."""
        bounds = [len(self) * i // count for i in range(count + 1)]
        return [self._rows(slice(a, b)) for a, b in pairwise(bounds) if b > a]

    def first(self: B, count: int) -> B:
        """Its first windows alone."""
        return self._rows(slice(0, count))

    def _rows(self: B, rows: slice) -> B:
        place = self.first_place + rows.start
        return self._changed(lambda tensor: tensor[rows], first_place=place, window_ids=self.window_ids[rows])

    def _changed(self: B, change: Callable[[Tensor], Tensor], **others: Any) -> B:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors, **others)


@dataclass(frozen=True, slots=True)
class Batch(WindowBatch):
    """Windows of tokens and their random numbers.

    Attributes:
        latent_noise: N(0, I) noise of the reparametrisation.
        coins, choices: uniform numbers of scheduled sampling, None where it is off.
        blanked: steps whose shown token is blanked by word dropout, None where it is off.
        mask_keys: what the dropout masks of each window are drawn by; needed by a model in training that has dropout.
    """

    tokens: Int64[Tensor, "batch step"]
    latent_noise: Float32[Tensor, "batch latent"]
    coins: Float32[Tensor, "batch step"] | None = None
    choices: Float32[Tensor, "batch step"] | None = None
    blanked: Bool[Tensor, "batch step"] | None = None
    mask_keys: Int64[Tensor, " batch"] | None = None


@dataclass(frozen=True, slots=True)
class PlayedBatch(WindowBatch):
    """Windows with their velocity and timing.

    Attributes:
        velocity: MIDI 1-127, 0 is no hit.
        ticks: offsets in ticks, `TICKS_PER_STEP` to a step.
        tempo: quarter notes per minute.
        manner: the figures of `MANNER` that the model is shown, NaN for those that it is not.
        mask_keys: as of `Batch`.
    """

    velocity: Int64[Tensor, "batch step drum"]
    ticks: Int64[Tensor, "batch step drum"]
    tempo: Float32[Tensor, " batch"]
    manner: Float32[Tensor, "batch figure"]
    mask_keys: Int64[Tensor, " batch"] | None = None


def draws_per_window(grid: GridSpec, num_drums: int) -> int:
    """How many uniform numbers `recombine` needs for one window."""
    return 2 + num_drums + grid.bars


def recombine(
    windows: Int16[np.ndarray, "window step"],
    partners: Int16[np.ndarray, "window step"],
    uniforms: Float64[np.ndarray, "window draw"],
    *,
    mix_drums: float,
    mix_bars: float,
    grid: GridSpec,
    num_drums: int,
) -> Int16[np.ndarray, "window step"]:
    """Each window with, by chance, a random half of its drums and a random half of its bars taken from its partner.

    Args:
        uniforms: in [0, 1), `draws_per_window` for each window.
        mix_drums: probability that drums are exchanged.
        mix_bars: probability that bars are exchanged.
    """
    wants_drums, wants_bars = uniforms[:, 0] < mix_drums, uniforms[:, 1] < mix_bars
    from_partner = (uniforms[:, 2 : 2 + num_drums] < 0.5) & wants_drums[:, None]
    mask = (from_partner * (1 << np.arange(num_drums))).sum(axis=1).astype(np.int16)[:, None]
    mixed = (windows & ~mask) | (partners & mask)
    bars = (uniforms[:, 2 + num_drums :] < 0.5) & wants_bars[:, None]
    return np.where(np.repeat(bars, grid.steps_per_bar, axis=1), partners, mixed)


@dataclass(frozen=True, slots=True)
class RandomDraws:
    """Which random numbers a batch carries.

    Attributes:
        seed: the run's seed.
        latent: dimensions of z.
        scheduled_sampling: whether `coins` and `choices` are wanted.
        word_dropout: share of shown tokens that are blanked.
        window_dropout: share of windows of which all shown tokens are blanked.
    """

    seed: int
    latent: int
    scheduled_sampling: bool = False
    word_dropout: float = 0.0
    window_dropout: float = 0.0


def training_batches(
    store: WindowStore,
    order: DataOrder,
    settings: DataSettings,
    draws: RandomDraws,
    *,
    rank: int,
    world_size: int,
    first: int,
    last: int,
) -> Iterable[Batch]:
    """A rank's share of the global batches first .. last - 1, as a webdataset pipeline."""
    lanes = lanes_of_rank(rank, world_size, order.lanes)
    return DataPipeline(
        partial(
            _in_order,
            range(first, last),
            store=store,
            order=order,
            settings=settings,
            seed=draws.seed,
            lanes=lanes,
        ),
        partial(_with_draws, draws=draws, first_place=lanes.start * order.windows_per_lane),
    )


def _ids_in_order(
    numbers: range, *, store: WindowStore, order: DataOrder, lanes: Sequence[int]
) -> Iterator[tuple[int, Int64[np.ndarray, " window"]]]:
    """The window ids of each batch; shards of batches to come are made ready meanwhile, up to the store's bytes."""
    expected, waiting = numbers.start, 0
    shards: Int64[np.ndarray, " shard"] = np.empty(0, dtype=np.int64)
    ahead: deque[tuple[int, int]] = deque()  # batches to come, and the bytes of the shards that begin in them
    for number in numbers:
        while ahead and ahead[0][0] <= number:
            waiting -= ahead.popleft()[1]
        last = min(number + AHEAD_BATCHES, numbers.stop)
        while expected < last and (expected <= number or waiting < store.ahead_bytes):
            before, shards = shards, order.shards(expected, lanes)
            if len(begun := np.setdiff1d(shards, before)):
                store.expect(begun.tolist())
                if expected > number:
                    ahead.append((expected, int(store.shard_bytes[begun].sum())))
                    waiting += ahead[-1][1]
            expected += 1
        yield number, order.windows(number, lanes)


Windows = tuple[int, np.ndarray, np.ndarray]
"""(batch number, window ids, tokens)."""


def _in_order(
    numbers: range,
    *,
    store: WindowStore,
    order: DataOrder,
    settings: DataSettings,
    seed: int,
    lanes: Sequence[int],
) -> Iterator[Windows]:
    first_place = lanes[0] * order.windows_per_lane
    mixes = settings.mix_drums > 0 or settings.mix_bars > 0
    draws = draws_per_window(store.grid, store.num_drums)
    for number, ids in _ids_in_order(numbers, store=store, order=order, lanes=lanes):
        tokens = store.tokens(ids)
        if mixes:
            # The partner is the window that the lane shows next: random as the order is, in the same shard as a
            # rule, and the same for every topology.
            tokens = recombine(
                tokens,
                store.tokens(order.windows(number, lanes, ahead=1)),
                uniforms(seed, Purpose.RECOMBINATION, number, first_place, len(ids), draws),
                mix_drums=settings.mix_drums,
                mix_bars=settings.mix_bars,
                grid=store.grid,
                num_drums=store.num_drums,
            )
        yield number, ids, tokens


def _with_draws(windows: Iterable[Windows], *, draws: RandomDraws, first_place: int) -> Iterator[Batch]:
    for number, ids, tokens in windows:
        count, steps = tokens.shape
        noise = normals(draws.seed, Purpose.LATENT, number, first_place, count, draws.latent)
        coins = choices = blanked = None
        if draws.scheduled_sampling:
            both = uniforms(draws.seed, Purpose.SCHEDULED_SAMPLING, number, first_place, count, 2 * steps)
            coins, choices = torch.from_numpy(both.astype(np.float32)).split(steps, dim=1)
        if draws.word_dropout or draws.window_dropout:
            chance = uniforms(draws.seed, Purpose.WORD_DROPOUT, number, first_place, count, steps + 1)
            whole = chance[:, steps:] < draws.window_dropout
            blanked = torch.from_numpy((chance[:, :steps] < draws.word_dropout) | whole)
        yield Batch(
            number=number,
            first_place=first_place,
            window_ids=ids,
            tokens=torch.from_numpy(tokens.astype(np.int64)),
            latent_noise=torch.from_numpy(noise.astype(np.float32)),
            coins=coins,
            choices=choices,
            blanked=blanked,
            mask_keys=_mask_keys(draws.seed, number, first_place, count),
        )


def _mask_keys(seed: int, number: int, first_place: int, count: int) -> Int64[Tensor, " batch"]:
    return torch.from_numpy(words(seed, Purpose.DROPOUT, number, first_place, count, 1).view(np.int64)[:, 0])


@dataclass(frozen=True, slots=True)
class PlayingVariation:
    """How the playing of training windows is varied, and how much of its manner the model is shown.

    GMD has ten players, few of whom play every loudness and every tempo; a variation is a player who might have been.

    Attributes:
        seed: the run's seed.
        share: probability that a window is varied.
        scale: most that its velocities are multiplied by above 1, or below.
        shift: most that its velocities are raised or lowered by. A velocity of 127 stays: a pad cannot be hit harder.
        ticks: most that its hits are moved by, all alike.
        hidden: probability that the model is shown no figure of the window's manner; half of it, for each figure alone.
    """

    seed: int
    share: float
    scale: float
    shift: float
    ticks: int
    hidden: float


def played_batches(
    store: WindowStore,
    order: DataOrder,
    variation: PlayingVariation,
    *,
    rank: int,
    world_size: int,
    first: int,
    last: int,
) -> Iterator[PlayedBatch]:
    """As `training_batches`, with velocity and timing; `store` is one of played windows."""
    lanes = lanes_of_rank(rank, world_size, order.lanes)
    first_place = lanes.start * order.windows_per_lane
    for number, ids in _ids_in_order(range(first, last), store=store, order=order, lanes=lanes):
        draws = uniforms(variation.seed, Purpose.PLAYING_VARIATION, number, first_place, len(ids), 5 + len(MANNER))
        windows = store.played(ids)
        played = vary(windows, draws[:, :4], variation)
        manner = played.manner()
        manner[(draws[:, 4:5] < variation.hidden) | (draws[:, 5:] < variation.hidden / 2)] = np.nan
        yield PlayedBatch(
            number=number,
            first_place=first_place,
            window_ids=ids,
            velocity=torch.from_numpy(played.midi_velocity()),
            ticks=torch.from_numpy(played.ticks()),
            tempo=torch.from_numpy(windows.tempo),
            manner=torch.from_numpy(manner),
            mask_keys=_mask_keys(variation.seed, number, first_place, len(ids)),
        )


def vary(windows: PlayedWindows, uniforms: Float64[np.ndarray, "window 4"], variation: PlayingVariation) -> PlayedHits:
    """Windows as other players might have played them.

    Args:
        uniforms: in [0, 1): whether a window is varied, then scale, shift and ticks.
    """
    played = windows.hits()
    is_varied = uniforms[:, 0] < variation.share
    most = np.array([variation.scale, variation.shift, variation.ticks])
    scale, shift, ticks = ((2 * uniforms[:, 1:] - 1) * most * is_varied[:, None]).T[..., None, None]
    loudness = played.midi_velocity()
    varied = np.rint(loudness * (1 + scale) + shift).clip(1, MAX_VELOCITY)
    half = TICKS_PER_STEP // 2
    offset = (played.ticks() + np.rint(ticks)).clip(-half, half - 1) / TICKS_PER_STEP
    return PlayedHits(
        played.hits,
        (np.where(loudness == MAX_VELOCITY, loudness, varied) / MAX_VELOCITY).astype(np.float32),
        offset.astype(np.float32),
    )


def in_background(batches: Iterable[B], *, pin: bool = False) -> Generator[B, None, None]:
    """The same batches, made ahead by a thread while the step runs; an error in it is raised here.

    Args:
        pin: gives them in pinned memory, for a CUDA device.
    """
    ready: queue.Queue[B | BaseException | None] = queue.Queue(PREFETCHED_BATCHES)
    closed = threading.Event()

    def put(item: B | BaseException | None) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch.pinned() if pin else batch):
                    return
            put(None)
        except BaseException as error:  # carried over to the consumer, whatever it is
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join(LEAVE_SECONDS)
