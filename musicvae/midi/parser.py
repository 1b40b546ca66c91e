"""A MIDI file -> the events of a drum performance: hits, tempos, metres; and what else the file holds.

A hit is a note-on. Libraries that pair note-ons with note-offs lose hits where a drum is struck again before its
note-off, or is never switched off; both happen in drum recordings, and neither is an error here.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from musicvae.groove.drum_map import KIT_PITCHES
from musicvae.midi.settings import DRUM_CHANNEL, ReadingSettings
from musicvae.midi.tracks import DRUM_NAME, MidiError, MidiTracks, read_tracks

NOTE_ON = 0x90
MAX_TICKS = 1 << 49
"""Every track is shorter, 18,000 years at 480 ticks a quarter and 120 quarters a minute, so that tick, pitch and
velocity fit one number to sort by."""
SHOWN_NAME = 40
"""Characters of a track's name that are shown."""
DEFAULT_READING = ReadingSettings()
Mark = TypeVar("Mark", bound=tuple)
IS_KIT_PITCH = np.isin(np.arange(128), KIT_PITCHES)


@dataclass(frozen=True, slots=True)
class ChannelNotes:
    """Note-ons of a channel that was not read.

    Attributes:
        channel: counted from 1.
        at_kit_pitches: of the notes, those at a pitch of a drum kit.
        tracks: names of the tracks that have them.
    """

    channel: int
    notes: int
    at_kit_pitches: int
    tracks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileFindings:
    """What a file holds beside the hits that were read.

    Attributes:
        not_read: notes of other channels, the channel with most at the pitches of a drum kit, by share, first.
        melodic: whether channel 10 was not read because a GS or XG message makes it melodic.
        salvaged: what is damaged and was stepped over, in words.
        extra_bytes: bytes after the last track that was read.
    """

    not_read: tuple[ChannelNotes, ...] = ()
    melodic: bool = False
    salvaged: tuple[str, ...] = ()
    extra_bytes: int = 0


NOTHING_ELSE = FileFindings()


class TooManyHitsError(ValueError):
    """The file has more hits than the caller takes; `hits` says how many."""

    def __init__(self, hits: int, most: int) -> None:
        self.hits = hits
        super().__init__(f"{hits} hits, at most {most} are read")


@dataclass(frozen=True, slots=True, eq=False)
class MidiEvents:
    """The events of one piece, in ticks from its start, track by track in file order.

    Attributes:
        division: ticks of a quarter note.
        tick, pitch, velocity: of every hit: note-ons of the chosen channels and tracks with a velocity.
        event: of every hit, its number among the events of all tracks of the file.
        tempos: (tick, quarter notes per minute).
        metres: (tick, numerator, denominator).
        end: tick of the last event of any kind.
        findings: of the whole file.
        loops: whether hits at the end belong to the first beat (`LOOP_MARK`).
    """

    division: int
    tick: Int64[np.ndarray, " hit"]
    pitch: UInt8[np.ndarray, " hit"]
    velocity: UInt8[np.ndarray, " hit"]
    event: Int64[np.ndarray, " hit"]
    tempos: list[tuple[int, float]]
    metres: list[tuple[int, int, int]]
    end: int
    findings: FileFindings
    loops: bool


def read_events(
    data: bytes, reading: ReadingSettings = DEFAULT_READING, *, max_hits: int | None = None
) -> list[MidiEvents]:
    """The pieces of a file: one in formats 0 and 1, whose tracks sound together; one for each track of format 2.

    Args:
        data: a MIDI file, or a RIFF file around one.
        reading: which notes are hits, and what is read of a damaged file.
        max_hits: most hits of all pieces together.

    Raises:
        MidiError: no MIDI header, a damaged file, or one of `MAX_TICKS` and more.
        SmpteError: time in frames of film.
        TooManyHitsError: more than `max_hits`; raised before they are gathered.
    """
    tracks = read_tracks(data, salvage=reading.salvage != "off")
    row = np.frombuffer(tracks.data, dtype=np.uint8)
    # Three bytes of each event are below 128: the last of its delta and two data bytes. All its others are above.
    places = (row < 0x80).nonzero()[0]
    first, tempos, metres = _event_numbers(tracks, places)
    low = places.reshape(-1, 3)
    delta, pitch, velocity = row[low].T
    tick = _ticks(row, low[:, 0], delta, first)
    if reading.transpose:
        pitch = (pitch.astype(np.int64) + reading.transpose).clip(0, 127).astype(np.uint8)

    status = row[low[:, 1] - 1]
    channel = _with_running_status(status) - NOTE_ON  # of a note-on, from 0; of all else far above
    chosen = _channels(reading.channels, frozenset(tracks.rhythm.items()))
    is_chosen = channel == chosen[0] if chosen else np.zeros(len(low), dtype=bool)
    for number in chosen[1:]:
        is_chosen |= channel == number
    if reading.drum_tracks and tracks.names:
        named = [DRUM_NAME.search(name) is not None for name in tracks.names]
        is_chosen |= np.repeat(named, np.diff(first, append=len(low)))
    is_note = (channel < 16) & (velocity > 0)
    hits = (is_note & is_chosen).nonzero()[0]
    if max_hits is not None and len(hits) > max_hits:
        raise TooManyHitsError(len(hits), max_hits)
    if tracks.broken or tracks.mended or tracks.missing:
        mended = places.searchsorted(tracks.mended) // 3
        _check_damage(tracks, reading, np.array([*first, len(low)]), hits, chosen, status, channel[mended])
    findings = NOTHING_ELSE
    has_others = np.count_nonzero(is_note) > len(hits)
    if has_others or tracks.rhythm or tracks.extra_bytes or tracks.broken or tracks.mended or tracks.missing:
        findings = FileFindings(
            not_read=_not_read((is_note & ~is_chosen).nonzero()[0], channel, pitch, first, tracks)
            if has_others
            else (),
            melodic=tracks.rhythm.get(DRUM_CHANNEL) is False and DRUM_CHANNEL - 1 not in chosen,
            salvaged=tuple(_salvaged(tracks)),
            extra_bytes=tracks.extra_bytes,
        )

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
            hits[a:b],
            [(int(tick[event]), tempo) for event, tempo in _between(tempos, start, end)],
            [(int(tick[event]), beats, unit) for event, beats, unit in _between(metres, start, end)],
            last_tick,
            findings,
            tracks.loops,
        )
        for (start, end), (a, b), last_tick in zip(pairwise(bounds), pairwise(cuts), ends, strict=True)
    ]


@lru_cache(maxsize=64)
def _channels(read: tuple[int, ...] | Literal["auto"], rhythm: frozenset[tuple[int, bool]]) -> tuple[int, ...]:
    """The channels, counted from 0, whose notes are hits.

    Args:
        read: as `reading.channels`.
        rhythm: channels that the file says it of, and whether they are drum parts.
    """
    melodic = {channel for channel, is_drums in rhythm if not is_drums}
    match read:
        case "auto":
            channels = {DRUM_CHANNEL, *(channel for channel, _ in rhythm)} - melodic
        case (channel,) if channel == DRUM_CHANNEL:
            channels = {channel} - melodic
        case named:
            channels = set(named)
    return tuple(sorted(channel - 1 for channel in channels))


def _check_damage(
    tracks: MidiTracks,
    reading: ReadingSettings,
    first: Int64[np.ndarray, " bound"],
    hits: Int64[np.ndarray, " hit"],
    chosen: tuple[int, ...],
    status: UInt8[np.ndarray, " event"],
    mended: UInt8[np.ndarray, " mended"],
) -> None:
    """Refuses damage that can have cost a hit, unless everything is salvaged; and a file that has no hits left.

    Args:
        first: the first event of each track, and the number of events.
        status: status byte of each event, below 128 where it has none.
        mended: channel of each mended note-on; above 15 for other events.

    Raises:
        MidiError: with the first damage.
    """
    damage = ["a hit with a data byte above 127"] if np.isin(mended, chosen).any() else []
    if tracks.missing:
        damage.append(f"{tracks.missing} tracks fewer than the header says")
    of_drums = (status >= 0x80) & np.isin(status & 0xF, chosen)
    for number, problem in tracks.broken.items():
        if DRUM_NAME.search(tracks.names[number]) or of_drums[first[number] : first[number + 1]].any():
            damage.append(problem)
    if damage and reading.salvage != "all":
        raise MidiError(damage[0])
    if not len(hits):
        raise MidiError(next(iter([*tracks.broken.values(), *damage]), "events with a data byte above 127, no hits"))


def _salvaged(tracks: MidiTracks) -> Iterator[str]:
    """Each damage that was stepped over, in words."""
    if tracks.missing:
        yield f"{tracks.missing} of the tracks that the header lists are missing"
    for number in tracks.broken:
        yield f"track {number + 1}{_quoted(tracks.names[number])} is damaged and was read up to the damage"
    of_track = Counter(bisect_right(tracks.starts, place) - 1 for place in tracks.mended)
    for number, events in of_track.items():
        yield f"track {number + 1}{_quoted(tracks.names[number])}: damaged events that were left out: {events}"


def _quoted(name: bytes) -> str:
    return f' "{text}"' if (text := _text(name)) else ""


def _text(name: bytes) -> str:
    """A track's name as it can be shown on any terminal."""
    text = name.decode(errors="replace")
    return "".join(letter for letter in text if letter.isprintable()).strip()[:SHOWN_NAME]


def _not_read(
    others: Int64[np.ndarray, " note"],
    channel: UInt8[np.ndarray, " event"],
    pitch: UInt8[np.ndarray, " event"],
    first: list[int],
    tracks: MidiTracks,
) -> tuple[ChannelNotes, ...]:
    """What is known of the notes that were not read, by channel.

    Args:
        others: their events.
        channel, pitch: of every event.
        first: the first event of each track.
    """
    channel_of_note = channel[others].astype(np.int64)
    notes, at_kit = (
        np.bincount(channel_of_note, minlength=16),
        np.bincount(channel_of_note, IS_KIT_PITCH[pitch[others]], 16),
    )
    track = np.searchsorted(first, others, side="right") - 1
    names: dict[int, list[str]] = {}
    for place in np.bincount(channel_of_note * len(first) + track).nonzero()[0].tolist():
        number, of_track = divmod(place, len(first))
        if name := _text(tracks.names[of_track]):
            names.setdefault(number, []).append(name)
    by_channel = [
        ChannelNotes(number + 1, int(notes[number]), int(at_kit[number]), tuple(dict.fromkeys(names.get(number, ()))))
        for number in notes.nonzero()[0].tolist()
    ]
    return tuple(sorted(by_channel, key=lambda counts: (-counts.at_kit_pitches / counts.notes, -counts.notes)))


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
