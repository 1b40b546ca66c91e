"""As many distinct drum performances as a benchmark asks for: GMD's own, every event moved by a few ticks by a seed."""

from collections.abc import Iterator
from pathlib import Path

import mido
import numpy as np

FILES_A_FOLDER = 1000
JITTER_TICKS = 8
"""Up to so many of 480 ticks a quarter: about a fifteenth of a step, so that some hits change their step."""
JITTER_VELOCITY = 10


def write_corpus(groove: Path, folder: Path, count: int, *, seed: int = 0) -> None:
    """Writes `count` distinct MIDI files; the first files of a larger corpus are those of a smaller one."""
    originals = [_Original(path) for path in sorted(groove.rglob("*.mid"))]
    for number in range(count):
        if number % FILES_A_FOLDER == 0:
            (folder / f"{number // FILES_A_FOLDER:04d}").mkdir(parents=True)
        data = originals[number % len(originals)].jittered(np.random.default_rng((seed, number)))
        (folder / f"{number // FILES_A_FOLDER:04d}" / f"{number:07d}.mid").write_bytes(data)


class _Original:
    def __init__(self, path: Path) -> None:
        song = mido.MidiFile(path)
        self.division = song.ticks_per_beat
        messages = list(mido.merge_tracks(song.tracks))
        self.tick = np.cumsum([message.time for message in messages])
        self.events = [bytes(message.bytes()) for message in messages]
        self.is_note = np.array([event[0] & 0xE0 == 0x80 for event in self.events])

    def jittered(self, random: np.random.Generator) -> bytes:
        moved = self.tick + np.where(self.is_note, random.integers(0, JITTER_TICKS, len(self.tick)), 0)
        louder = random.integers(-JITTER_VELOCITY, JITTER_VELOCITY, len(self.tick)).tolist()
        order = np.argsort(moved, kind="stable")
        track = b"".join(self._track(order.tolist(), np.diff(moved[order], prepend=0).tolist(), louder))
        header = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1]) + self.division.to_bytes(2, "big")
        return header + b"MTrk" + len(track).to_bytes(4, "big") + track

    def _track(self, order: list[int], deltas: list[int], louder: list[int]) -> Iterator[bytes]:
        for number, delta in zip(order, deltas, strict=True):
            event = self.events[number]
            if self.is_note[number] and event[2]:
                event = bytes([event[0], event[1], min(127, max(1, event[2] + louder[number]))])
            yield _variable_length(delta) + event


def _variable_length(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
