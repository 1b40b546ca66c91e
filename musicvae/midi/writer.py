"""Many grooves as MIDI files at once: every byte of a batch is laid out by array operations.

A file holds one loop and ends exactly with it, so that it repeats without a gap in any player. A hit that comes before
the first beat is at the end of the loop, and `LOOP_MARK` tells readers of it; with a lead-in a silent bar comes first,
and such a hit is in it.

    format 0   one track: name, tempo, metre, hits
    format 1   a track with the groove's name, tempo and metre, and a track `drums` with the hits

Hits are on channel 10 and last a 32nd note, or until the next hit of their drum. A groove takes about 30 microseconds
from hits to bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove, onset_ticks
from musicvae.midi.performance import Performance
from musicvae.midi.settings import LOOP_MARK, MAX_TICKS, MIN_TICKS, TICKS_PER_QUARTER
from musicvae.midi.tracks import META, TEXT, TRACK_NAME

HIT_QUARTERS = 1 / 8
"""Written length of a hit: a 32nd note. Drums do not sustain, so it only has to be audible to samplers."""
HIT_ON, HIT_OFF = 0x99, 0x89
"""Status bytes of channel 10, counted from 1."""
DRUM_KIT = b"\xc9\x00"
"""Chooses the standard kit of channel 10."""
END_OF_TRACK = (0xFF, 0x2F, 0x00)
OFF_VELOCITY = 64
"""What the MIDI standard recommends where a release has no velocity."""
DRUM_TRACK = "drums"
GROOVE_NAME = "groove"
"""What a track is called where nobody gave it a name."""


@dataclass(frozen=True, slots=True)
class MidiLayout:
    """How grooves are written as MIDI.

    Attributes:
        pitches: the MIDI pitch 0..127 of each drum class.
        file_format: of the file, see the module.
        ticks_per_quarter: the file's division.
        lead_in: whether a silent bar comes before the groove.

    Raises:
        ValueError: a pitch or a division that MIDI does not have.
    """

    pitches: tuple[int, ...]
    file_format: Literal[0, 1] = 1
    ticks_per_quarter: int = TICKS_PER_QUARTER
    lead_in: bool = False

    def __post_init__(self) -> None:
        if not all(0 <= pitch <= 127 for pitch in self.pitches):
            raise ValueError(f"pitches lie in 0..127, found {self.pitches}")
        if not MIN_TICKS <= self.ticks_per_quarter <= MAX_TICKS:
            raise ValueError(f"ticks lie in {MIN_TICKS}..{MAX_TICKS}, found {self.ticks_per_quarter}")


def grooves_to_midi(
    hits: Bool[np.ndarray, "groove step drum"],
    velocity: Float32[np.ndarray, "groove step drum"],
    offset: Float32[np.ndarray, "groove step drum"],
    tempos: Sequence[float],
    names: Sequence[str],
    grid: GridSpec,
    layout: MidiLayout,
) -> list[bytes]:
    """The MIDI file of each groove.

    Every hit is written within its own step (`onset_ticks`), so reading the file gives the same hits.

    Args:
        velocity: in 0..1.
        offset: in steps, [-0.5, 0.5).
        tempos: quarter notes per minute.
        names: of each groove, in ASCII.
    """
    events = _events(hits, velocity, offset, grid, layout)
    sizes = events.delta_bytes + 3
    ends = np.cumsum(sizes)
    body = _laid_out(events, ends - sizes, int(ends[-1]) if len(ends) else 0)
    last = np.flatnonzero(events.is_end)
    bounds = [0, *ends[last].tolist()]
    end = _end_tick(grid, layout)
    files = []
    for number, (tempo, name) in enumerate(zip(tempos, names, strict=True)):
        notes = body[bounds[number] : bounds[number + 1]]
        mark = b"\x00" + _text(TEXT, LOOP_MARK) if events.wraps[number] else b""
        head = _name(name) + mark + _tempo(tempo) + _metre(grid)
        if layout.file_format == 0:
            tracks = [head + notes]
        else:
            tracks = [head + _variable_length(end) + bytes(END_OF_TRACK), _name(DRUM_TRACK) + notes]
        header = struct.pack(">4sIHHH", b"MThd", 6, layout.file_format, len(tracks), layout.ticks_per_quarter)
        files.append(header + b"".join(struct.pack(">4sI", b"MTrk", len(track)) + track for track in tracks))
    return files


@dataclass(frozen=True, slots=True, eq=False)
class _Events:
    """Everything that happens in the tracks of hits, grooves one after the other, each with its end of track.

    Attributes:
        delta: ticks since the event before, in the same groove.
        delta_bytes: how many bytes that takes.
        data: the three bytes of each event.
        wraps: whether a groove has a hit before its first beat, which is at its end.
    """

    delta: Int64[np.ndarray, " event"]
    delta_bytes: Int64[np.ndarray, " event"]
    data: UInt8[np.ndarray, "event 3"]
    is_end: Bool[np.ndarray, " event"]
    wraps: Bool[np.ndarray, " groove"]


def _events(
    hits: Bool[np.ndarray, "groove step drum"],
    velocity: Float32[np.ndarray, "groove step drum"],
    offset: Float32[np.ndarray, "groove step drum"],
    grid: GridSpec,
    layout: MidiLayout,
) -> _Events:
    # Drums before steps, so that the next hit of a drum is the next of the array.
    groove, drum, step = np.nonzero(hits.transpose(0, 2, 1))
    on, end = onset_ticks(step, offset[groove, step, drum], grid, layout.ticks_per_quarter), _end_tick(grid, layout)
    wraps = np.zeros(len(hits), dtype=bool)
    if layout.lead_in:
        on += _bar_ticks(grid, layout)
    elif (early := on < 0).any():
        wraps[groove[early]] = True
        on[early] += end
        in_time = np.lexsort((on, drum, groove))
        groove, drum, step, on = groove[in_time], drum[in_time], step[in_time], on[in_time]
    off = np.minimum(on + max(1, round(layout.ticks_per_quarter * HIT_QUARTERS)), end)
    same = (groove[1:] == groove[:-1]) & (drum[1:] == drum[:-1])
    off[:-1] = np.where(same, np.minimum(off[:-1], on[1:]), off[:-1])

    pitch = np.array(layout.pitches, dtype=np.int64)[drum]
    loudness = np.rint(velocity[groove, step, drum] * MAX_VELOCITY).clip(1, MAX_VELOCITY).astype(np.int64)
    every = np.arange(len(hits))
    owner = np.concatenate([groove, groove, every])
    tick = np.concatenate([on, off, np.full(len(hits), end)])
    # In one tick what ends comes before what begins, and the end of the track comes last.
    rank = np.repeat([1, 0, 2], [len(on), len(off), len(hits)])
    data = np.empty((len(owner), 3), dtype=np.uint8)
    data[: len(on)] = np.stack([np.full(len(on), HIT_ON), pitch, loudness], axis=1)
    data[len(on) : 2 * len(on)] = np.stack([np.full(len(on), HIT_OFF), pitch, np.full(len(on), OFF_VELOCITY)], axis=1)
    data[2 * len(on) :] = END_OF_TRACK
    order = np.argsort((((owner * (end + 1) + tick) * 3 + rank) << 7) + np.concatenate([pitch, pitch, 0 * every]))
    owner, tick, rank = owner[order], tick[order], rank[order]
    delta = np.diff(tick, prepend=0)
    delta[1:] = np.where(owner[1:] == owner[:-1], delta[1:], tick[1:])
    delta_bytes = 1 + (delta[:, None] >> np.array([7, 14, 21]) > 0).sum(axis=1)
    return _Events(delta, delta_bytes, data[order], rank == 2, wraps)


def _laid_out(events: _Events, starts: Int64[np.ndarray, " event"], size: int) -> bytes:
    body = np.zeros(size, dtype=np.uint8)
    for place in range(int(events.delta_bytes.max(initial=0))):
        # Most significant seven bits first; all bytes but the last have the top bit set.
        longer = np.flatnonzero(events.delta_bytes > place)
        bits = (events.delta[longer] >> (7 * place)) & 0x7F
        body[starts[longer] + events.delta_bytes[longer] - 1 - place] = bits | (0x80 if place else 0)
    for number in range(3):
        body[starts + events.delta_bytes + number] = events.data[:, number]
    return body.tobytes()


def _bar_ticks(grid: GridSpec, layout: MidiLayout) -> int:
    return grid.beats_per_bar * layout.ticks_per_quarter


def _end_tick(grid: GridSpec, layout: MidiLayout) -> int:
    return (grid.bars + layout.lead_in) * _bar_ticks(grid, layout)


def _name(text: str) -> bytes:
    return b"\x00" + _text(TRACK_NAME, text.encode("ascii", errors="replace"))


def _text(kind: int, data: bytes) -> bytes:
    """A text as an event of a kind."""
    return bytes([META, kind]) + _variable_length(len(data)) + data


def _tempo(quarters_per_minute: float) -> bytes:
    return b"\x00\xff\x51\x03" + round(60e6 / quarters_per_minute).to_bytes(3, "big")


def _metre(grid: GridSpec) -> bytes:
    # Quarters are the beat (2 to the power of 2), 24 MIDI clocks a click, eight 32nds a quarter.
    return bytes([0x00, 0xFF, 0x58, 4, grid.beats_per_bar, 2, 24, 8])


def _variable_length(number: int) -> bytes:
    data = [number & 0x7F]
    while number := number >> 7:
        data.append(number & 0x7F | 0x80)
    return bytes(reversed(data))


def performance_to_midi(performance: Performance) -> bytes:
    """A performance as the bytes of a one-track MIDI file on the drum channel, each hit a 32nd note long.

    The file ends a tick after its last event, whatever the performance's end. In one tick metre and tempo come first,
    then what ends, then what begins.
    """
    duration = round(performance.ticks_per_quarter * HIT_QUARTERS)
    events: list[tuple[int, int, bytes]] = [(0, 2, _name(DRUM_TRACK)[1:]), (0, 3, DRUM_KIT)]
    for tick, numerator, denominator in performance.metres:
        events.append((tick, 0, bytes([0xFF, 0x58, 4, numerator, denominator.bit_length() - 1, 24, 8])))
    for tick, tempo in performance.tempos:
        events.append((tick, 1, b"\xff\x51\x03" + round(60e6 / tempo).to_bytes(3, "big")))
    for place in np.lexsort((performance.velocity, performance.pitch, performance.tick)).tolist():
        tick, hit = int(performance.tick[place]), bytes([performance.pitch[place], performance.velocity[place]])
        events += [(tick, 5, bytes([HIT_ON]) + hit), (tick + duration, 4, bytes([HIT_OFF]) + hit)]
    events.sort(key=lambda event: event[:2])
    events.append((events[-1][0] + 1, 0, bytes(END_OF_TRACK)))
    track, before, status = b"", 0, 0
    for tick, _, data in events:
        # Running status: a hit after one of its kind goes without its first byte.
        track += _variable_length(tick - before) + (data[1:] if data[0] == status < 0xF0 else data)
        before, status = tick, data[0]
    header = struct.pack(">4sIHHH", b"MThd", 6, 1, 1, performance.ticks_per_quarter)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + track


def groove_to_midi(
    groove: DrumGroove,
    drum_map: DrumMap,
    *,
    midi_format: Literal[0, 1] = 1,
    ticks: int = TICKS_PER_QUARTER,
    lead_in: bool = False,
) -> bytes:
    """A groove as the bytes of a MIDI file with one track of drums, as long as the groove (`grooves_to_midi`)."""
    layout = MidiLayout(tuple(drum_map.written_pitch.tolist()), midi_format, ticks, lead_in)
    arrays = (groove.hits[None], groove.velocity[None], groove.offset[None])
    return grooves_to_midi(*arrays, [groove.tempo], [GROOVE_NAME], groove.grid, layout)[0]


def write_groove(groove: DrumGroove, path: Path, drum_map: DrumMap) -> None:
    """Writes `groove_to_midi` to a file."""
    path.write_bytes(groove_to_midi(groove, drum_map))
