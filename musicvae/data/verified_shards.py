"""The shards of a split, each fetched and proved by its hash once, by whoever comes first: the reader or a helper."""

import queue
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int16

from musicvae.data.manifest import ShardEntry
from musicvae.data.shard_file import ShardChangedError, TokenIndex, index_tokens, read_tokens_at
from musicvae.data.sources import ShardSource
from musicvae.errors import DataError

CHANGES = 3
"""How often in a row one read may find that a shard has changed since it was verified."""


@dataclass(slots=True, eq=False)
class _Preparation:
    """A shard that is to be fetched and verified; what goes wrong is kept for who reads the shard."""

    begun: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class VerifiedShards:
    """Reads tokens from shards whose bytes are those of the manifest. Safe to use from several threads.

    Args:
        source: where the shards are.
        entries: the shards; below, a shard is its place among these.
        num_steps: steps of a window.
    """

    def __init__(self, source: ShardSource, entries: Sequence[ShardEntry], *, num_steps: int) -> None:
        self.source = source
        self.entries = entries
        self.num_steps = num_steps
        self._lock = threading.Lock()
        self._indices: dict[int, TokenIndex] = {}
        self._preparations: dict[int, _Preparation] = {}
        self._expected: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._helper: threading.Thread | None = None

    def read(self, shard: int, first: int, into: Int16[np.ndarray, "window step"]) -> None:
        """Reads consecutive windows of a shard, from `first` on, as many as there is room for.

        A file that was replaced or touched since it was verified is verified anew.

        Raises:
            DataError: the shard is missing, damaged, or changes while it is read.
        """
        entry = self.entries[shard]
        for _ in range(CHANGES):
            index = self._index(shard)
            try:
                read_tokens_at(self.source.local(entry), index, first, into)
                return
            except ShardChangedError:
                with self._lock:
                    self._indices.pop(shard, None)
        raise DataError(
            f"shard {entry.name} of {self.source} does not stay the same",
            expected="a file that nobody writes to while it is in use",
            found=f"another size, time or inode {CHANGES} times in a row",
            likely="something writes the shards at this moment",
            do="wait for it to end, then run the same command again",
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
            if self._helper is None and not self._expected.empty():
                self._helper = threading.Thread(target=self._prepare_expected, name="shards", daemon=True)
                self._helper.start()

    def _index(self, shard: int) -> TokenIndex:
        """Where the shard's tokens lie; verifies it, or waits for the thread that does."""
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

    def _verify(self, shard: int) -> TokenIndex:
        entry = self.entries[shard]
        return index_tokens(self.source.local(entry), entry, num_steps=self.num_steps)

    def _prepare_expected(self) -> None:
        while True:
            with self._lock:
                if self._expected.empty():
                    self._helper = None  # it ends with its work: a thread that waited would keep the shards in memory
                    return
                shard = self._expected.get()
                preparation = self._preparations.get(shard)
            if preparation:
                self._prepare(shard, preparation)
