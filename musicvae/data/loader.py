"""Shards -> training batches, in the order of `DataOrder`, with every random number of the step drawn alongside.

The stages form a webdataset pipeline: batch numbers -> windows in our order -> `Batch`. Batch k is a function of
(manifest, settings, k); there is no state to save, so a resume simply starts at another k.

Training windows can be recombined from two: drums of one with drums of another, or bars of one with bars of another.
GMD has some 330 performances of four bars or more to learn from. What a hi-hat does and what the bar after does are
largely free of each other, so mixtures are plausible grooves that nobody played.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int16, Int64
from torch import Tensor
from webdataset.pipeline import DataPipeline

from musicvae.data.order import DataOrder, lanes_of_rank
from musicvae.data.settings import DataSettings
from musicvae.data.store import WindowStore
from musicvae.groove.grid import GridSpec
from musicvae.randomness import Purpose, normals, uniforms

PREFETCHED_BATCHES = 4
AHEAD_BATCHES = 128
"""So many batches before a lane comes to a shard, it is fetched and verified."""
LEAVE_SECONDS = 5.0
"""A thread that waits for the network is not waited for."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one rank needs for global batch `number`: its windows and its random numbers.

    Attributes:
        first_place: place of the first window in the global batch.
        latent_noise: N(0, I) noise of the reparametrisation.
        coins, choices: uniform numbers of scheduled sampling, None where it is off.
        blanked: steps whose shown token is blanked by word dropout, None where it is off.
    """

    number: int
    first_place: int
    window_ids: Int64[np.ndarray, " batch"]
    tokens: Int64[Tensor, "batch step"]
    latent_noise: Float32[Tensor, "batch latent"]
    coins: Float32[Tensor, "batch step"] | None = None
    choices: Float32[Tensor, "batch step"] | None = None
    blanked: Bool[Tensor, "batch step"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def pinned(self) -> "Batch":
        """The same batch in memory that a CUDA device can read by itself, so that `to` need not wait."""
        return self._changed(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; from pinned memory without waiting for it."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pieces(self, count: int) -> list["Batch"]:
        """The batch cut in at most `count` consecutive, nearly equal, non-empty pieces."""
        bounds = [len(self) * i // count for i in range(count + 1)]
        return [self._rows(slice(a, b)) for a, b in pairwise(bounds) if b > a]

    def first(self, count: int) -> "Batch":
        """Its first windows alone."""
        return self._rows(slice(0, count))

    def _rows(self, rows: slice) -> "Batch":
        place = self.first_place + rows.start
        return self._changed(lambda tensor: tensor[rows], first_place=place, window_ids=self.window_ids[rows])

    def _changed(self, change: Callable[[Tensor], Tensor], **others: Any) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors, **others)


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
    expected = numbers.start
    first_place = lanes[0] * order.windows_per_lane
    mixes = settings.mix_drums > 0 or settings.mix_bars > 0
    draws = draws_per_window(store.grid, store.num_drums)
    for number in numbers:
        while expected < min(number + AHEAD_BATCHES, numbers.stop):
            store.expect(order.shards(expected, lanes).tolist())
            expected += 1
        ids = order.windows(number, lanes)
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
        )


def in_background(batches: Iterable[Batch], *, pin: bool = False) -> Generator[Batch, None, None]:
    """The same batches, made ahead by a thread while the step runs; an error in it is raised here.

    Args:
        pin: gives them in pinned memory, for a CUDA device.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(PREFETCHED_BATCHES)
    closed = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
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
