"""The events of a MIDI file that make a drum performance: hits, tempos, metres.

A hit is a note-on. Libraries that pair note-ons with note-offs lose hits where a drum is struck again before its
note-off, or is never switched off; both happen in drum recordings, and neither is an error here.
"""

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from musicvae.midi.midi_tracks import MidiError, MidiTracks, read_tracks

DRUM_CHANNEL = 10
"""The channel that General MIDI keeps for drums, counted from 1."""
NOTE_ON = 0x90
MAX_TICKS = 1 << 49
"""Every track is shorter, 18,000 years at 480 ticks a quarter and 120 quarters a minute, so that tick, pitch and
velocity fit one number to sort by."""

Mark = TypeVar("Mark", bound=tuple)


class TooManyHitsError(ValueError):
    """The file has more hits than the caller takes; `hits` says how many."""

    def __init__(self, hits: int, most: int) -> None:
        self.hits = hits
        super().__init__(f"{hits} hits, at most {most} are taken")


@dataclass(frozen=True, slots=True, eq=False)
class MidiEvents:
    """The events of one piece, in ticks from its start, track by track in file order.

    Attributes:
        division: ticks of a quarter note.
        tick, pitch, velocity: of every hit: note-ons of the chosen channels and tracks with a velocity.
        tempos: (tick, quarter notes per minute).
        metres: (tick, numerator, denominator).
        end: tick of the last event of any kind.
    """

    division: int
    tick: Int64[np.ndarray, " hit"]
    pitch: UInt8[np.ndarray, " hit"]
    velocity: UInt8[np.ndarray, " hit"]
    tempos: list[tuple[int, float]]
    metres: list[tuple[int, int, int]]
    end: int


def read_events(
    data: bytes,
    *,
    channels: Collection[int] = (DRUM_CHANNEL,),
    drum_tracks: bool = False,
    max_hits: int | None = None,
) -> list[MidiEvents]:
    """The pieces of a file: one in formats 0 and 1, whose tracks sound together; one for each track of format 2.

    Args:
        data: a MIDI file, or a RIFF file around one.
        channels: channels whose notes are hits, counted from 1.
        drum_tracks: whether all notes of tracks named like drums are hits too.
        max_hits: most hits of all pieces together.

    Raises:
        MidiError: no MIDI header, a damaged file, or one of `MAX_TICKS` and more.
        SmpteError: time in frames of film.
        TooManyHitsError: more than `max_hits`; raised before they are gathered.
    """
    tracks = read_tracks(data)
    row = np.frombuffer(tracks.data, dtype=np.uint8)
    # Three bytes of each event are below 128: the last of its delta and two data bytes. All its others are above.
    places = (row < 0x80).nonzero()[0]
    first, tempos, metres = _event_numbers(tracks, places)
    low = places.reshape(-1, 3)
    delta, pitch, velocity = row[low].T
    tick = _ticks(row, low[:, 0], delta, first)

    status = _with_running_status(row[low[:, 1] - 1])
    is_hit = np.zeros(len(low), dtype=bool)
    for channel in channels:
        is_hit |= status == NOTE_ON + channel - 1
    if drum_tracks:
        is_hit |= (status & 0xF0 == NOTE_ON) & np.repeat(tracks.named, np.diff(first, append=len(low)))
    hits = (is_hit & (velocity > 0)).nonzero()[0]
    if max_hits is not None and len(hits) > max_hits:
        raise TooManyHitsError(len(hits), max_hits)

    bounds = [*first, len(low)]
    ends = [int(tick[end - 1]) if end > start else 0 for start, end in pairwise(bounds)]
    if (longest := max(ends, default=0)) >= MAX_TICKS:
        raise MidiError(f"a track of {longest} ticks")
    if tracks.kind != 2:
        bounds, ends = [0, len(low)], [longest]
    cuts = hits.searchsorted(bounds).tolist()
    hit_tick, pitch, velocity = tick[hits], pitch[hits], velocity[hits]
    return [
        MidiEvents(
            tracks.division,
            hit_tick[a:b],
            pitch[a:b],
            velocity[a:b],
            [(int(tick[event]), tempo) for event, tempo in _between(tempos, start, end)],
            [(int(tick[event]), beats, unit) for event, beats, unit in _between(metres, start, end)],
            last_tick,
        )
        for (start, end), (a, b), last_tick in zip(pairwise(bounds), pairwise(cuts), ends, strict=True)
    ]


def _event_numbers(
    tracks: MidiTracks, low_bytes: Int64[np.ndarray, " byte"]
) -> tuple[list[int], list[tuple[int, float]], list[tuple[int, int, int]]]:
    """The first event of each track, and tempos and metres with the number of their event in place of its place."""
    places = [*tracks.starts, *[place for place, _ in tracks.tempos], *[place for place, *_ in tracks.metres]]
    numbers = iter((low_bytes.searchsorted(places) // 3).tolist())
    return (
        [next(numbers) for _ in tracks.starts],
        [(next(numbers), tempo) for _, tempo in tracks.tempos],
        [(next(numbers), beats, unit) for _, beats, unit in tracks.metres],
    )


def _ticks(
    data: UInt8[np.ndarray, " byte"],
    delta_end: Int64[np.ndarray, " event"],
    delta: UInt8[np.ndarray, " event"],
    first: list[int],
) -> Int64[np.ndarray, " event"]:
    """Ticks of each event from the start of its track.

    Args:
        delta_end: place of the last byte of each event's delta.
        delta: that byte.
        first: the first event of each track.
    """
    tick = delta.astype(np.int64)
    longer = (data[delta_end - 1] >= 0x80).nonzero()[0]
    for more in range(1, 4):
        if not len(longer):
            break
        tick[longer] += (data[delta_end[longer] - more] & 0x7F).astype(np.int64) << 7 * more
        longer = longer[data[delta_end[longer] - more - 1] >= 0x80]
    for start, end in pairwise([*first, len(tick)]):
        tick[start:end].cumsum(out=tick[start:end])
    return tick


def _with_running_status(status: UInt8[np.ndarray, " event"]) -> UInt8[np.ndarray, " event"]:
    """Each event's status byte, or that of the last event before it that has one.

    Anything below 128 stands where an event has none.
    """
    return status[np.maximum.accumulate(np.arange(len(status)) * (status >= 0x80))]


def _between(marks: list[Mark], start: int, end: int) -> list[Mark]:
    """The marks of events start..end-1; marks begin with their event and stand in its order."""
    return marks[bisect_left(marks, (start,)) : bisect_left(marks, (end,))]
