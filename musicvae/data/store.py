"""Windows of a split by their ids, out of shards that are fetched and verified when they are first needed.

A shard is verified once, by whoever needs it first: the reader, or a helper that fetches ahead. `WindowStore` gives the
tokens or the playing that training reads; `find_windows` gives single windows with all that is known of them.
"""

import queue
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int16, Int64

from musicvae.data.manifest import ShardEntry, ShardManifest, ShardSource
from musicvae.data.shards import (
    ARRAYS,
    BLOCK_WINDOWS,
    PLAYING,
    TEMPO,
    TOKENS,
    ShardChangedError,
    ShardIndex,
    index_playing,
    index_tokens,
    read_blocks,
    read_windows_at,
    shape_of_window,
)
from musicvae.data.windows import PlayedWindows, WindowMeta
from musicvae.errors import ConfigError, DataError
from musicvae.groove.groove import DrumGroove

CHANGES = 3
"""How often in a row one read may find that a shard has changed since it was verified."""


def reread_warning(shard_windows: Int64[np.ndarray, " shard"], *, lanes: int, cached_blocks: int) -> str | None:
    """What to tell of a rank that reads blocks again and again, as its cache holds fewer than it reads from at a time.

    Args:
        shard_windows: number of windows of each shard.
        lanes: of the rank; each is in a shard of its own.
    """
    blocks = np.sort(-(-shard_windows // BLOCK_WINDOWS))
    needed = int(blocks[-lanes:].sum())
    if needed <= cached_blocks:
        return None
    return (
        f"each rank reads from {needed:,} blocks at a time and keeps data.cached_blocks={cached_blocks:,}, so it reads "
        f"blocks again and again; set data.cached_blocks={needed}, take fewer data.lanes or more ranks, or build "
        "smaller shards (shard.windows)"
    )


class WindowStore:
    """The windows of one split by id, with a bounded number of decoded blocks in memory.

    A shard is verified against its hash when it is first read, and again only if its file changes. One thread at a
    time may call `tokens` or `played`.

    Args:
        source: where the shards are.
        played: whether velocity, timing and tempo are read, in place of tokens.
        cached_blocks: how many runs of 1,024 windows are kept, those used last.
        ahead_mib: how much of the shards may be made ready before it is needed.

    Raises:
        ConfigError: no such split.
    """

    def __init__(
        self,
        source: ShardSource,
        manifest: ShardManifest,
        split: str,
        *,
        cached_blocks: int,
        ahead_mib: float = 0.0,
        played: bool = False,
    ) -> None:
        self.grid = manifest.grid
        self.num_drums = manifest.drum_map.num_drums
        entries = manifest.split(split).shards
        steps, drums = self.grid.num_steps, self.num_drums
        self._shards = VerifiedShards(source, entries, num_steps=steps, num_drums=drums, played=played)
        self.ahead_bytes = int(ahead_mib * 2**20)
        self.shard_bytes = np.array([shard.bytes for shard in entries], dtype=np.int64)
        self._windows = np.array([shard.windows for shard in entries], dtype=np.int64)
        self._starts = np.cumsum(self._windows) - self._windows
        self.num_windows = int(self._windows.sum())

        # All cached blocks lie in one array of a kind, so that a batch is gathered in one operation. Memory that no
        # block has been read into yet is not taken from the machine.
        blocks = -(-self._windows // BLOCK_WINDOWS)
        total = int(blocks.sum())
        self._first_block = np.cumsum(blocks) - blocks
        self.capacity = min(cached_blocks, total)
        rows = (self.capacity, BLOCK_WINDOWS)
        self._blocks: dict[str, np.ndarray] = {
            name: np.empty((*rows, *shape_of_window(name, steps, drums)), ARRAYS[name])
            for name in (PLAYING if played else TOKENS)
        }
        if played:
            self._blocks[TEMPO] = np.empty(rows, dtype=np.float32)
        self._slot_of_block = np.full(total, -1, dtype=np.int32)
        self._block_in_slot = np.full(self.capacity, -1, dtype=np.int64)
        self._last_use = np.zeros(self.capacity, dtype=np.int64)
        self._uses = 0

    def tokens(self, window_ids: Int64[np.ndarray, " window"]) -> Int16[np.ndarray, "window step"]:
        """The tokens of the windows with these ids.

        Raises:
            DataError: a shard is missing, damaged, or was changed while it was in use.
        """
        return self._gathered(window_ids)["tokens.npy"]

    def played(self, window_ids: Int64[np.ndarray, " window"]) -> PlayedWindows:
        """How the windows with these ids were played.

        Raises:
            DataError: as `tokens`.
        """
        arrays = self._gathered(window_ids)
        return PlayedWindows(arrays["velocity.npy"], arrays["offset.npy"], arrays[TEMPO])

    def expect(self, shards: Iterable[int]) -> None:
        """Has shards, by their places in the split, made ready in the background; see `VerifiedShards.expect`."""
        self._shards.expect(shards)

    def _gathered(self, window_ids: Int64[np.ndarray, " window"]) -> dict[str, np.ndarray]:
        """Each array of the windows."""
        result = {name: np.empty((len(window_ids), *kept.shape[2:]), kept.dtype) for name, kept in self._blocks.items()}
        # So many windows cannot need more blocks than there is room for.
        for first in range(0, len(window_ids), self.capacity):
            part = slice(first, first + self.capacity)
            shard = np.searchsorted(self._starts, window_ids[part], side="right") - 1
            in_shard = window_ids[part] - self._starts[shard]
            slots = self._slots(self._first_block[shard] + in_shard // BLOCK_WINDOWS)
            for name, kept in self._blocks.items():
                result[name][part] = kept[slots, in_shard % BLOCK_WINDOWS]
        return result

    def _slots(self, blocks: Int64[np.ndarray, " window"]) -> Int64[np.ndarray, " window"]:
        """Where the blocks are in the cache; those that are not are read first."""
        self._uses += 1
        slots = self._slot_of_block[blocks]
        self._last_use[slots[slots >= 0]] = self._uses
        if (slots < 0).any():
            for block in np.unique(blocks[slots < 0]).tolist():
                self._load(block)
            slots = self._slot_of_block[blocks]
        return slots.astype(np.int64)

    def _load(self, block: int) -> None:
        slot = int(self._last_use.argmin())
        if (evicted := self._block_in_slot[slot]) >= 0:
            self._slot_of_block[evicted] = -1
        self._block_in_slot[slot] = -1  # until it is whole: an error must leave no half block behind
        shard = int(np.searchsorted(self._first_block, block, side="right")) - 1
        first = (block - int(self._first_block[shard])) * BLOCK_WINDOWS
        count = min(BLOCK_WINDOWS, int(self._windows[shard]) - first)
        self._shards.read(shard, first, {name: kept[slot, :count] for name, kept in self._blocks.items()})
        self._slot_of_block[block] = slot
        self._block_in_slot[slot] = block
        self._last_use[slot] = self._uses


@dataclass(slots=True, eq=False)
class _Preparation:
    """A shard that is to be fetched and verified; what goes wrong is kept for who reads the shard."""

    begun: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class VerifiedShards:
    """Reads windows from shards whose bytes are those of the manifest. Safe to use from several threads.

    Args:
        source: where the shards are.
        entries: the shards; below, a shard is its place among these.
        num_steps, num_drums: steps of a window, and drums that its tokens may hold.
        played: whether velocity, timing and tempo are read, in place of tokens.
    """

    def __init__(
        self, source: ShardSource, entries: Sequence[ShardEntry], *, num_steps: int, num_drums: int, played: bool
    ) -> None:
        self.source = source
        self.entries = entries
        self.num_steps = num_steps
        self.num_drums = num_drums
        self.played = played
        self._lock = threading.Lock()
        self._indices: dict[int, ShardIndex] = {}
        self._preparations: dict[int, _Preparation] = {}
        self._expected: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._helpers = 0

    def read(self, shard: int, first: int, into: Mapping[str, np.ndarray]) -> None:
        """Reads consecutive windows of a shard, from `first` on, as many as there is room for.

        A file that was replaced or touched since it was verified is verified anew.

        Raises:
            DataError: the shard is missing, damaged, or changes while it is read.
        """
        entry = self.entries[shard]
        for _ in range(CHANGES):
            index = self._index(shard)
            try:
                read_windows_at(self.source.local(entry), index, first, into)
                return
            except ShardChangedError:
                with self._lock:
                    self._indices.pop(shard, None)
        raise DataError(
            f"shard {entry.name} of {self.source} keeps changing",
            expected="a file that does not change while it is in use",
            found=f"another size, time or inode {CHANGES} times in a row",
            likely="another program is writing the shards",
            do="wait until it has finished, then run the same command again",
        )

    def expect(self, shards: Iterable[int]) -> None:
        """Has shards fetched and verified in the background, so that `read` need not wait.

        What goes wrong is told when the shard is read; one that is never read harms nobody.
        """
        with self._lock:
            for shard in shards:
                if shard not in self._indices and shard not in self._preparations:
                    self._preparations[shard] = _Preparation()
                    self._expected.put(shard)
            for _ in range(min(self.source.fetchers, self._expected.qsize()) - self._helpers):
                self._helpers += 1
                threading.Thread(target=self._prepare_expected, name="shards", daemon=True).start()

    def _index(self, shard: int) -> ShardIndex:
        """Where the shard's windows lie; verifies it, or waits for the thread that does."""
        while True:
            with self._lock:
                if index := self._indices.get(shard):
                    return index
                preparation = self._preparations.setdefault(shard, _Preparation())
            self._prepare(shard, preparation)
            preparation.done.wait()
            if preparation.error:
                with self._lock:
                    self._preparations.pop(shard, None)
                raise preparation.error

    def _prepare(self, shard: int, preparation: _Preparation) -> None:
        with self._lock:
            if preparation.begun:
                return
            preparation.begun = True
        try:
            try:
                index = self._verify(shard)
            except DataError:
                if not self.source.discard(self.entries[shard]):
                    raise
                index = self._verify(shard)
            with self._lock:
                self._indices[shard] = index
                self._preparations.pop(shard, None)
        except BaseException as error:  # carried over to who reads the shard, whatever it is
            preparation.error = error
        finally:
            preparation.done.set()

    def _verify(self, shard: int) -> ShardIndex:
        entry, index = self.entries[shard], index_playing if self.played else index_tokens
        return index(self.source.local(entry), entry, num_steps=self.num_steps, num_drums=self.num_drums)

    def _prepare_expected(self) -> None:
        while True:
            with self._lock:
                if self._expected.empty():
                    self._helpers -= 1  # it ends with its work: a thread that waited would keep the shards in memory
                    return
                shard = self._expected.get()
                preparation = self._preparations.get(shard)
            if preparation:
                self._prepare(shard, preparation)


@dataclass(frozen=True, slots=True, eq=False)
class FoundWindow:
    """A window and where it stands.

    Attributes:
        split: its split.
        id: its place in the manifest's order within the split.
    """

    split: str
    id: int
    meta: WindowMeta
    groove: DrumGroove


def find_windows(source: ShardSource, manifest: ShardManifest, split: str, ids: Sequence[int]) -> list[FoundWindow]:
    """The windows with these ids, in that order; reads the shards that hold them, one at a time.

    Raises:
        ConfigError: no such split or window.
        DataError: a shard that holds one is missing or damaged.
    """
    entry = manifest.split(split)
    if outside := [i for i in ids if not 0 <= i < entry.windows]:
        raise ConfigError(
            f"there is no window {outside[0]} in split {split!r}",
            expected=f"0 to {entry.windows - 1}",
            found=str(outside[0]),
            likely="a window of another split, or of another build",
            do="choose a window in that range",
        )
    starts = np.cumsum([0, *(shard.windows for shard in entry.shards)])
    shard_of = np.searchsorted(starts, ids, side="right") - 1
    windows_by_id: dict[int, FoundWindow] = {}
    for shard in np.unique(shard_of).tolist():
        (windows,) = read_blocks(source, manifest, [entry.shards[shard]])
        for i in np.array(ids)[shard_of == shard].tolist():
            row = i - int(starts[shard])
            windows_by_id[i] = FoundWindow(split, i, windows.meta[row], windows.groove(row, manifest.grid))
    return [windows_by_id[i] for i in ids]
