"""One MIDI file -> its windows, or the reason why it gives none. Pure: bytes in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from musicvae.drum_map import DrumMap
from musicvae.midi import Performance, read_performance
from musicvae.midi_events import MidiError
from musicvae.quantize import quantize
from musicvae.shards import WindowBlock
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings


@dataclass(frozen=True, slots=True)
class HitCounts:
    """What became of the drum hits of one file.

    Attributes:
        read: hits on channel 10.
        doubled: of these, left out because another has their (step, drum).
        unknown_pitches: of these, left out because the drum map has no class for them, per pitch.
    """

    read: int = 0
    doubled: int = 0
    unknown_pitches: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """What one file came to: windows or a rejection, never both, and its hits as far as it was read."""

    result: WindowBlock | Rejection
    hits: HitCounts = HitCounts()


def convert(data: bytes, settings: BuildSettings, drum_map: DrumMap, *, source: str, style: str = "") -> Conversion:
    """Reads, quantizes and cuts one MIDI file.

    Args:
        data: content of the file.
        drum_map: what `settings.drum_map` came to for this collection.
        source: name of the file, carried by its windows.
        style: style of the file, carried by its windows; empty if unknown.
    """
    try:
        performance = read_performance(data)
    except MidiError as error:
        return Conversion(Rejection(source, Reason.NOT_MIDI, str(error)))
    if not len(performance.tick):
        return Conversion(Rejection(source, Reason.NO_DRUMS, "no hits on channel 10"))
    grid = settings.window.grid
    song = quantize(performance, grid, drum_map)
    hits = HitCounts(len(performance.tick), song.doubled_hits, song.unknown_pitches)

    def rejected(reason: Reason, detail: str) -> Conversion:
        return Conversion(Rejection(source, reason, detail), hits)

    if not song.bars:
        return rejected(Reason.NO_DRUMS, f"no pitch of drum map {drum_map.name!r} in {hits.read} hits on channel 10")
    if other := _other_metres(performance):
        return rejected(Reason.METRE, other)
    if song.bars > settings.limits.max_bars:
        return rejected(Reason.TOO_LARGE, f"{song.bars} bars, limits.max_bars is {settings.limits.max_bars}")
    if song.bars < grid.bars:
        return rejected(Reason.TOO_SHORT, f"{song.bars} bars, a window has {grid.bars}")
    return Conversion(song.windows(settings.window.hop_bars, source=source, style=style), hits)


def _other_metres(performance: Performance) -> str:
    metres = {(numerator, denominator) for _, numerator, denominator in performance.metres}
    return ", ".join(f"{numerator}/{denominator}" for numerator, denominator in sorted(metres - {(4, 4)}))
