"""A second reading of drum MIDI files, written apart: pretty_midi and mido, plain loops, a pitch table of its own.

It follows the dataset's description alone and imports nothing of the project, so that an error in either shows.
"""

from pathlib import Path

import mido
import pretty_midi

TD11 = {
    "kick": [36],
    "snare": [38, 40, 37],
    "closed hi-hat": [42, 22, 44],
    "open hi-hat": [46, 26],
    "low tom": [43, 58],
    "mid tom": [47, 45],
    "high tom": [50, 48],
    "crash": [49, 55, 57, 52],
    "ride": [51, 59, 53],
}
"""What the Roland TD-11 of the Groove MIDI Dataset sends, in the order of the token's bits."""
BIT = {pitch: bit for bit, pitches in enumerate(TD11.values()) for pitch in pitches}
STEPS_A_BAR, BARS = 16, 4


Onset = tuple[int, int]
"""Tick and pitch."""


def onsets_by_pretty_midi(path: Path) -> set[Onset]:
    """The onsets that pretty_midi returns: it leaves out hits whose note-off stands in the tick of their note-on."""
    midi = pretty_midi.PrettyMIDI(str(path))
    drums = [instrument for instrument in midi.instruments if instrument.is_drum]
    return {(midi.time_to_tick(note.start), note.pitch) for instrument in drums for note in instrument.notes}


def onsets_by_mido(path: Path) -> set[Onset]:
    """Every note-on of the drum channel."""
    onsets = set()
    for track in mido.MidiFile(path).tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "note_on" and message.channel == 9 and message.velocity:
                onsets.add((tick, message.note))
    return onsets


def four_bar_windows(path: Path, onsets: set[Onset]) -> dict[int, list[int]]:
    """First bar -> 64 tokens, for every 4-bar window of a file in 4/4; empty for other and for shorter files."""
    midi = mido.MidiFile(path)
    metres = [message for track in midi.tracks for message in track if message.type == "time_signature"]
    if not onsets or any((metre.numerator, metre.denominator) != (4, 4) for metre in metres):
        return {}
    sixteenth = midi.ticks_per_beat / 4
    sounding = {(round_half_up(tick / sixteenth), BIT[pitch]) for tick, pitch in onsets}
    bars = max(step for step, _ in sounding) // STEPS_A_BAR + 1
    tokens = [0] * (bars * STEPS_A_BAR)
    for step, bit in sounding:
        tokens[step] |= 1 << bit
    return {bar: tokens[bar * STEPS_A_BAR : (bar + BARS) * STEPS_A_BAR] for bar in range(bars - BARS + 1)}


def round_half_up(value: float) -> int:
    whole = int(value)
    return whole + 1 if value - whole >= 0.5 else whole
