"""What was read of a MIDI file and what was not, in figures and in words for musicians.

Every command that reads a file shows these words; a build adds the figures up.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar, get_args

import numpy as np
from jaxtyping import Int64

from musicvae.data.windows import OFFSET_UNITS
from musicvae.groove.drum_map import DrumMap, pitch_name
from musicvae.midi.parser import ChannelNotes, FileFindings
from musicvae.midi.performance import Performance
from musicvae.midi.quantize import QuantizedSong, bar_of
from musicvae.midi.settings import DRUM_CHANNEL, Metre, ReadingSettings
from musicvae.settings import apply_overrides

PLACES = 96
"""Places of a beat that hits are counted by: a multiple of 3 and of 4."""
FROM_BEAT = np.minimum(np.arange(PLACES), PLACES - np.arange(PLACES))
OFF_BEAT = FROM_BEAT > PLACES // 6
"""Halfway to the first triplet; what is nearer to the beat is on it."""
NEARER_TO_TRIPLETS = OFF_BEAT & (abs(FROM_BEAT - PLACES // 3) < np.minimum(abs(FROM_BEAT - 24), abs(FROM_BEAT - 48)))
TURNS = 2 * np.pi * np.outer(np.arange(1, 5), np.arange(PLACES)) / PLACES
MEASURES = np.concatenate([np.cos(TURNS), np.sin(TURNS), [OFF_BEAT, NEARER_TO_TRIPLETS]])
"""What the hits at each place add to: a point of a circle that is a beat, a half, a third and a quarter of one round,
as four abscissas and four ordinates; hits off the beat; and of these those nearer to triplets."""
FEWEST_OFF_BEAT = 16
"""Hits off the beat that a file needs to be called mostly triplets."""
DRUM_LIKE = 0.9
"""Share at the pitches of a drum kit from which a channel probably has drums."""
MOST_NAMED, METRES_NAMED = 4, 5
"""Channels or pitches, and metres, that a line names."""
Key = TypeVar("Key", int, str)
Hint = Callable[[str], str]
"""How the command that shows a report writes a setting of `reading`, such as `channels=1`."""


class DroppedBars(StrEnum):
    """Why bars of a file stand in no window. Silent bars after the last hit of a section are not counted."""

    METRE = "other metre"
    PARTIAL = "cut by a change of metre"
    UNFINISHED = "cut by the end of the file"
    SHORT = "section shorter than a window"
    HOP = "between windows, or after the last one"


def as_setting(setting: str) -> str:
    """As `jobs.show` and `jobs.build_shards` take it."""
    return f"reading.{setting}"


def as_option(setting: str) -> str:
    """As `jobs.sample` and `musicvae` take it."""
    return f"--reading {setting}"


def as_argument(setting: str) -> str:
    """As `DrumGroove.from_midi` takes it."""
    return f"reading={apply_overrides({}, [setting])}"


@dataclass(frozen=True, slots=True)
class UsedBars:
    """The bars that were used of a file that somebody named.

    Attributes:
        first: the bar, counted from 0, that the first window begins at.
        bars: bars of a window that the file has; a loop has fewer than the window.
        windows: how many windows were used.
    """

    first: int
    bars: int
    windows: int = 1

    def __str__(self) -> str:
        if self.windows > 1:
            return f"{self.windows:,} windows from bar {self.first + 1} on are used"
        if self.bars > 1:
            return f"bars {self.first + 1} to {self.first + self.bars} are used"
        return f"bar {self.first + 1} is used"


@dataclass(frozen=True, eq=False)
class ReadingReport:
    """What a reading came to, all pieces of a file together; each figure is worked out when it is asked for.

    `hits` is the sum of `merged`, `outside`, unknown ones where these are left out, and hits on the grid.

    Attributes:
        songs: the pieces that have hits, or one that has none.
        drum_map: the map that they were read by.
        used: the bars that were used; None where nothing was chosen, as in a build.
    """

    songs: Sequence[QuantizedSong]
    drum_map: DrumMap
    used: UsedBars | None = None

    @property
    def findings(self) -> FileFindings:
        """Notes on other channels, salvaged damage, bytes after the last track."""
        return self.songs[0].performance.findings

    @property
    def bars(self) -> int:
        """Bars on the grid."""
        return sum(song.bars for song in self.songs)

    @property
    def first_bar(self) -> int:
        """The bar of the first hit on the grid, counted from 0."""
        return self.songs[0].first_bar

    @property
    def hits(self) -> int:
        """Note-ons of the channels and tracks that were read."""
        return sum(len(song.performance.tick) for song in self.songs)

    @property
    def merged(self) -> int:
        """Hits left out because another has their step and drum."""
        return sum(song.doubled_hits for song in self.songs)

    @property
    def outside(self) -> int:
        """Hits left out because they lie in no whole bar in 4/4."""
        return sum(song.outside_hits for song in self.songs)

    @property
    def unknown(self) -> Mapping[int, int]:
        """Hits of pitches that the drum map does not know, by pitch."""
        return _summed([song.unknown_pitches for song in self.songs])

    @property
    def other_metres(self) -> Mapping[str, int]:
        """Bars in each metre that was not read, such as `3/4`."""
        return _summed([song.bar_counts.other_metres for song in self.songs])

    @cached_property
    def pitches(self) -> Int64[np.ndarray, " pitch"]:
        """Hits of each MIDI pitch."""
        return np.bincount(_joined([song.performance.pitch for song in self.songs]), minlength=128)

    @property
    def kept(self) -> int:
        """Hits on the grid."""
        return sum(len(song.step) for song in self.songs)

    @property
    def on_grid(self) -> Int64[np.ndarray, " drum"]:
        """Hits on the grid of each class."""
        return np.bincount(_joined([song.drum for song in self.songs]), minlength=self.drum_map.num_drums)

    @property
    def has_metre(self) -> bool:
        """Whether the file says a metre."""
        return any(song.performance.has_metre for song in self.songs)

    @property
    def late_tempo(self) -> tuple[int, float] | None:
        """The bar, counted from 0, and the value of the first tempo, where it comes after the first hit."""
        return next(filter(None, (_late_tempo(song.performance) for song in self.songs)), None)

    @property
    def on_beats(self) -> float:
        """The longest resultant of the hits' places against beats, and halves, thirds and quarters of beats.

        1 if all hits are on one of them, 0 if they are spread evenly.
        """
        *points, _, _ = self._measures
        return max(map(math.hypot, points[:4], points[4:])) / self.kept if self.kept else 1.0

    @property
    def off_beat(self) -> int:
        """Hits off the beat."""
        return round(self._measures[-2])

    @property
    def triplets(self) -> int:
        """Of the hits off the beat, those nearer to eighth triplets than to sixteenths; 0 on a grid of triplets."""
        return round(self._measures[-1]) if self.songs[0].grid.steps_per_beat % 3 else 0

    @cached_property
    def _measures(self) -> list[float]:
        beat = self.songs[0].grid.steps_per_beat * OFFSET_UNITS
        place = _joined([song.step * OFFSET_UNITS + song.offset for song in self.songs])
        # In place, as every file of a build comes here.
        place *= PLACES
        place += beat // 2
        place //= beat
        place %= PLACES
        return (MEASURES @ np.bincount(place, minlength=PLACES).astype(np.float64)).tolist()

    @property
    def mostly_triplets(self) -> bool:
        """Whether sixteenths straighten most of what is played off the beat."""
        return self.off_beat >= FEWEST_OFF_BEAT and 2 * self.triplets > self.off_beat

    @property
    def makeshift(self) -> dict[int, int]:
        """Hits of pitches whose class is another drum's, by pitch."""
        makeshift_hits = self.pitches * self.drum_map.makeshift
        return {pitch: int(makeshift_hits[pitch]) for pitch in makeshift_hits.nonzero()[0].tolist()}

    def lines(self, hint: Hint = as_setting) -> Iterator[tuple[str, str]]:
        """What is worth knowing, each with a word for its kind; the setting that would change it is named.

        Args:
            hint: how the reader of the lines writes such a setting.
        """
        findings = self.findings
        silence = f", the first hit is in bar {self.first_bar + 1}" if self.first_bar else ""
        yield "bars", f"{self.bars:,}{silence}" + (f"; {self.used}" if self.used else "")
        yield "hits", f"{self.hits:,} found, {self.kept:,} kept"
        if self.merged:
            yield "merged", f"{self.merged:,} left out: a louder hit of that drum is on the same step (32nds, flams)"
        if self.outside:
            yield "outside", f"{self.outside:,} left out: in bars that are not used"
        if self.unknown:
            nearest = self.kept + self.merged + self.outside == self.hits
            fate = "; the nearest is used" if nearest else ""
            yield "unknown", f"{named_pitches(self.unknown)}: drum map {self.drum_map.name} has no drum for them{fate}"
        if makeshift := self.makeshift:
            yield "makeshift", _named_classes(makeshift, self.drum_map)
        yield from (("not read", line) for line in not_read_lines(findings, hint))
        for metre, bars in self.other_metres.items():
            as_4_4 = f"; to read them as 4/4: {hint(f'metres={metre}')}" if metre in get_args(Metre) else ""
            yield "metre", f"{bars:,} bars in {metre} are not read{as_4_4}"
        if self.late_tempo:
            bar, tempo = self.late_tempo
            yield "tempo", f"{tempo:.4g} bpm starts in bar {bar + 1} only; before it 120 bpm, the MIDI default"
        if self.mostly_triplets:
            share = self.triplets / self.off_beat
            yield "triplets", f"{share:.0%} of the hits off the beat are nearer to triplets than to sixteenths"
        yield from (("damaged", text) for text in findings.salvaged)
        if findings.extra_bytes:
            yield "extra", f"{findings.extra_bytes:,} bytes after the last track are not read"

    def text(self, name: object, hint: Hint = as_setting) -> str:
        """The lines below the name of what was read."""
        return "\n".join([f"{name}", *(f"  {kind:<12}{line}" for kind, line in self.lines(hint))])

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {
            "bars": self.bars,
            "first_bar": self.first_bar,
            "hits": self.hits,
            "merged": self.merged,
            "outside": self.outside,
            "unknown": {str(pitch): hits for pitch, hits in self.unknown.items()},
            "makeshift": {str(pitch): hits for pitch, hits in self.makeshift.items()},
            "not_read": [
                {
                    "channel": channel.channel,
                    "notes": channel.notes,
                    "at_kit_pitches": channel.at_kit_pitches,
                    "tracks": channel.tracks,
                }
                for channel in self.findings.not_read
            ],
            "other_metres": dict(self.other_metres),
            "late_tempo": self.late_tempo,
            "has_metre": self.has_metre,
            "on_beats": round(self.on_beats, 4),
            "off_beat": self.off_beat,
            "triplets": self.triplets,
            "salvaged": self.findings.salvaged,
            "extra_bytes": self.findings.extra_bytes,
        }


def not_read_lines(findings: FileFindings, hint: Hint = as_setting) -> Iterator[str]:
    """Where the notes are that were not read, the channels that look like drums first."""
    if findings.melodic:
        yield "channel 10: a message in the file makes it melodic"
    for channel in findings.not_read[:MOST_NAMED]:
        share = channel.at_kit_pitches / channel.notes
        like_drums = f"; to read them: {hint(f'channels={channel.channel}')}" if share >= DRUM_LIKE else ""
        yield f"{_named_channel(channel)}: {channel.notes:,} notes, {share:.0%} at drum pitches{like_drums}"
    if more := findings.not_read[MOST_NAMED:]:
        yield f"{len(more)} more channels: {sum(channel.notes for channel in more):,} notes"


def channels_read(reading: ReadingSettings) -> str:
    """Where the notes are that a reading takes for hits."""
    channels = (DRUM_CHANNEL,) if reading.channels == "auto" else reading.channels
    named = " or tracks named like drums" if reading.drum_tracks else ""
    return f"channel{'s' * (len(channels) > 1)} {', '.join(map(str, channels))}{named}"


def named_metres(metres: Mapping[str, int], hint: Hint) -> str:
    """Metres that were not read, and how those are read that are 4/4 for a listener."""
    named = sorted(metres)
    text = ", ".join(named[:METRES_NAMED]) + ", ..." * (len(named) > METRES_NAMED)
    as_4_4 = [metre for metre in named if metre in get_args(Metre)]
    cure = hint(f"metres=[{','.join(as_4_4)}]")
    return f"{text}; to read {' and '.join(as_4_4)} as 4/4: {cure}" if as_4_4 else text


def named_pitches(pitches: Mapping[int, int]) -> str:
    """Pitches with their hits, the most frequent first."""
    most = sorted(pitches.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(most) - MOST_NAMED} more" if len(most) > MOST_NAMED else ""
    return "pitch " + ", ".join(f"{pitch} ({hits:,})" for pitch, hits in most[:MOST_NAMED]) + more


def _named_classes(makeshift: Mapping[int, int], drum_map: DrumMap) -> str:
    most = sorted(makeshift.items(), key=lambda item: (-item[1], item[0]))
    named = [
        f"{pitch_name(pitch)} as {drum_map.classes[drum_map.class_of_pitch[pitch]].replace('_', ' ')} ({hits:,} hits)"
        for pitch, hits in most[:MOST_NAMED]
    ]
    more = f" and {sum(hits for _, hits in most[MOST_NAMED:]):,} hits of other drums" if most[MOST_NAMED:] else ""
    return ", ".join(named) + more


def _named_channel(channel: ChannelNotes) -> str:
    tracks = ", ".join(f'"{name}"' for name in channel.tracks[:2]) + (", ..." if len(channel.tracks) > 2 else "")
    return f"channel {channel.channel}" + (f" {tracks}" if tracks else "")


def _late_tempo(performance: Performance) -> tuple[int, float] | None:
    tick = performance.first_tempo
    if not tick or not len(performance.tick) or performance.tick[0] >= tick:
        return None
    return bar_of(performance, tick)[0], float(performance.tempo_at(np.array([tick]))[0])


def _summed(counts: list[Mapping[Key, int]]) -> Mapping[Key, int]:
    return counts[0] if len(counts) == 1 else dict(sum(map(Counter, counts), Counter()))


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def count_dropped_bars(songs: Iterable[QuantizedSong], window_bars: int, hop_bars: int) -> dict[str, int]:
    """Bars that stand in no window, by `DroppedBars`."""
    dropped: dict[str, int] = {}

    def drop(reason: DroppedBars, bars: int) -> None:
        if bars:
            dropped[reason.value] = dropped.get(reason.value, 0) + bars

    for song in songs:
        drop(DroppedBars.METRE, song.bar_counts.other_metre)
        drop(DroppedBars.PARTIAL, song.bar_counts.cut)
        drop(DroppedBars.UNFINISHED, song.bar_counts.unfinished)
        for section in song.sections:
            if section.bars < window_bars:
                drop(DroppedBars.SHORT, section.bars)
            else:
                hops = (section.bars - window_bars) // hop_bars
                in_windows = window_bars + hops * min(hop_bars, window_bars)
                drop(DroppedBars.HOP, section.bars - in_windows)
    return dropped
