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
from jaxtyping import Bool, Int64, UInt8

from musicvae.midi_tracks import SYSEX, MidiError, read_tracks

DRUM_CHANNEL = 10
"""The channel that General MIDI keeps for drums, counted from 1."""
NOTE_ON = 0x90

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
        MidiError: no MIDI header, or a damaged file.
        SmpteError: time in frames of film.
        TooManyHitsError: more than `max_hits`; raised before they are gathered.
    """
    tracks = read_tracks(data)
    row = np.frombuffer(tracks.data, dtype=np.uint8)
    last = _last_bytes(row)
    has_status = row[last - 2] >= 0x80
    first = np.searchsorted(last, tracks.starts)
    per_track = np.diff(first, append=len(last))
    tick = _ticks(row, last, has_status, first, per_track)
    status = _with_running_status(row[last - 2], has_status, np.repeat(first, per_track))

    hit_statuses = np.zeros(256, dtype=bool)
    hit_statuses[[NOTE_ON + channel - 1 for channel in channels]] = True
    is_hit = hit_statuses[status]
    if drum_tracks:
        is_hit |= (status & 0xF0 == NOTE_ON) & np.repeat(tracks.named, per_track)
    hits = np.flatnonzero(is_hit & (row[last] > 0))
    if max_hits is not None and len(hits) > max_hits:
        raise TooManyHitsError(len(hits), max_hits)
    pitch, velocity = row[last[hits] - 1], row[last[hits]]

    bounds = [*first.tolist(), len(last)] if tracks.kind == 2 else [0, len(last)]
    cuts = np.searchsorted(hits, bounds).tolist()
    tempos, metres = _by_event(tracks.tempos, last), _by_event(tracks.metres, last)
    return [
        MidiEvents(
            tracks.division,
            tick[hits[a:b]],
            pitch[a:b],
            velocity[a:b],
            [(int(tick[event]), tempo) for event, tempo in _between(tempos, start, end)],
            [(int(tick[event]), beats, unit) for event, beats, unit in _between(metres, start, end)],
            int(tick[start:end].max(initial=0)),
        )
        for (start, end), (a, b) in zip(pairwise(bounds), pairwise(cuts), strict=True)
    ]


def _last_bytes(data: UInt8[np.ndarray, " byte"]) -> Int64[np.ndarray, " event"]:
    """The place of the last byte of each event in a row of events of two data bytes.

    High bytes (128 and above) are status bytes or begin a delta of several bytes; low bytes stand in threes, two data
    bytes and the end of the next delta. So the low bytes between two high ones tell the kinds of both: two more than a
    multiple of three lead from a status byte to a delta, one more from a delta to a status byte, a multiple of three
    from either to its like.
    """
    high = np.concatenate([[-1], np.flatnonzero(data >= 0x80)])  # as if a delta began before the row
    low_after = np.append(high[1:], len(data)) - high - 1
    phase = low_after[:-1] % 3
    is_status = np.concatenate([[False], phase == 1])
    is_status = is_status[np.maximum.accumulate(np.where(np.append(0, phase), np.arange(len(high)), 0))]

    events_after = (low_after + is_status) // 3
    before = np.cumsum(events_after) - events_after
    number_after = np.arange(events_after.sum()) - np.repeat(before, events_after)
    return np.repeat(high + 3 - is_status, events_after) + 3 * number_after


def _ticks(
    data: UInt8[np.ndarray, " byte"],
    last: Int64[np.ndarray, " event"],
    has_status: Bool[np.ndarray, " event"],
    first: Int64[np.ndarray, " track"],
    per_track: Int64[np.ndarray, " track"],
) -> Int64[np.ndarray, " event"]:
    """Ticks of each event from the start of its track, whose first event and number of events are given."""
    delta_end = last - 2 - has_status
    delta_bytes = delta_end - np.append(-1, last[:-1])
    delta = data[delta_end].astype(np.int64)
    for more in range(1, 4):
        if not len(longer := np.flatnonzero(delta_bytes > more)):
            break
        delta[longer] |= (data[delta_end[longer] - more] & 0x7F).astype(np.int64) << 7 * more
    total = np.concatenate([[0], np.cumsum(delta)])
    return total[1:] - np.repeat(total[first], per_track)


def _with_running_status(
    status: UInt8[np.ndarray, " event"],
    has_status: Bool[np.ndarray, " event"],
    first_of_track: Int64[np.ndarray, " event"],
) -> UInt8[np.ndarray, " event"]:
    """Each event's own status byte, or that of the channel event before it in its track."""
    of_channel = has_status & (status < SYSEX)
    giver = np.maximum.accumulate(np.where(of_channel, np.arange(len(status)), -1))
    if (~has_status & (giver < first_of_track)).any():
        raise MidiError("a data byte before any status byte")
    return np.where(has_status, status, status[giver])


def _by_event(marks: list[Mark], last: Int64[np.ndarray, " event"]) -> list[Mark]:
    """Marks that begin with a place in the data -> the same with the number of the event that starts there."""
    events = np.searchsorted(last, [mark[0] for mark in marks]).tolist()
    return [(event, *mark[1:]) for event, mark in zip(events, marks, strict=True)]  # type: ignore[misc]


def _between(marks: list[Mark], start: int, end: int) -> list[Mark]:
    """The marks of events start..end-1; marks begin with their event and stand in its order."""
    return marks[bisect_left(marks, (start,)) : bisect_left(marks, (end,))]
