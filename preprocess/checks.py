"""Checks of what was read over a whole collection: signs that a file shows, and the warnings that they come to.

Thresholds are chosen so that none of the Groove MIDI Dataset's files shows a sign that makes a warning.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from musicvae.data.windows import WindowBlock
from musicvae.groove.drum_map import OWN_PITCHES
from musicvae.midi.reading_report import DRUM_LIKE, ReadingReport
from musicvae.midi.settings import DRUM_CHANNEL

FEWEST_HITS = 32
"""Below, shares of a file say nothing."""
ONE_DRUM, NEARLY_ONE_DRUM = 0.995, 0.95
"""Share of a file's hits from which one class holds all, and nearly all: one solo may, but not half of the files."""
OFF_GRID, FEWEST_OFF_GRID = 0.15, 64
"""`ReadingReport.on_beats` below which hits are spread evenly, and the hits that it takes to tell. The Groove MIDI
Dataset has 0.21 and more in files of so many hits; that of hits that mean nothing shrinks with their number."""
NOT_READ = 0.95
"""Share of notes that were not read from which it is nearly all."""
FEWEST_WINDOWS = 20
"""Of a file, from which it can repeat a few."""
MOST_DIFFERENT = 0.1
"""Different windows, as a share of a file's, up to which it repeats a few."""
MOST_NAMES = 20
"""Files that a warning names."""
OCTAVES = (-12, 12, -24, 24, -36, 36, -48, 48)
CORE_PITCHES = ((35, 36), (37, 38, 40), (42, 44, 46, 49, 51, 57, 59))
KICKS, SNARES, CYMBALS = (np.isin(np.arange(128), pitches).astype(np.int64) for pitches in CORE_PITCHES)
KICKS_AND_SNARES = KICKS + SNARES


class Sign(StrEnum):
    """What a file may show, with its figure."""

    SHIFTED = "shifted"
    """The semitones by which the kit has to be moved to fit the map."""
    ONE_DRUM = "one_drum"
    NEARLY_ONE_DRUM = "nearly_one_drum"
    """The class that holds all or nearly all hits, its share, and channels that were not read and look like drums."""
    OFF_GRID = "off_grid"
    """`ReadingReport.on_beats` of hits that are spread evenly over the beat."""
    REPEATS = "repeats"
    """Windows, and how many of them are different."""
    NOT_READ = "not_read"
    """The channel that looks like drums where nearly all notes are on channels that were not read."""
    NO_KICK = "no_kick"
    NO_SNARE = "no_snare"
    NO_METRE = "no_metre"


def signs_of(report: ReadingReport, windows: WindowBlock | None) -> dict[str, Any]:
    """The signs that a file shows, with their figures.

    Args:
        windows: what the file gave; None if it is rejected.
    """
    signs: dict[str, Any] = {}
    if move := _octaves_off(report):
        signs[Sign.SHIFTED] = move
    not_read = report.findings.not_read
    notes = sum(channel.notes for channel in not_read)
    if notes and notes >= NOT_READ * (notes + report.hits):
        like_drums = (
            channel
            for channel in not_read
            if channel.notes >= FEWEST_HITS / 2 and channel.at_kit_pitches >= DRUM_LIKE * channel.notes
        )
        if likeliest := next(like_drums, None):
            signs[Sign.NOT_READ] = likeliest.channel
    if windows is None:
        return signs
    on_grid, drums = report.on_grid.tolist(), report.drum_map.classes
    hits, most = report.kept, max(on_grid)
    if hits >= FEWEST_HITS:
        share = most / hits
        if share >= NEARLY_ONE_DRUM:
            sign = Sign.ONE_DRUM if share >= ONE_DRUM else Sign.NEARLY_ONE_DRUM
            like_drums = [
                channel.channel for channel in not_read if channel.at_kit_pitches >= DRUM_LIKE * channel.notes
            ]
            signs[sign] = [drums[on_grid.index(most)], round(share, 3), sorted(like_drums)]
    if hits >= FEWEST_OFF_GRID and report.on_beats < OFF_GRID:
        signs[Sign.OFF_GRID] = round(report.on_beats, 3)
    for sign, drum in ((Sign.NO_KICK, "kick"), (Sign.NO_SNARE, "snare")):
        if drum in drums and not on_grid[drums.index(drum)]:
            signs[sign] = True
    if not report.has_metre:
        signs[Sign.NO_METRE] = True
    if len(windows) >= FEWEST_WINDOWS:
        different: set[bytes] = set()
        for tokens in windows.tokens:
            different.add(tokens.tobytes())
            if len(different) > MOST_DIFFERENT * len(windows):
                break
        else:
            signs[Sign.REPEATS] = [len(windows), len(different)]
    return signs


def _octaves_off(report: ReadingReport) -> int:
    """The octaves, in semitones, that make a kit of pitches that have no kick and no snare; 0 if none do."""
    hits, pitches = report.hits, report.pitches
    if hits < FEWEST_HITS or pitches.dot(KICKS_AND_SNARES) > 0.05 * hits:
        return 0
    if report.drum_map.name not in OWN_PITCHES or pitches.dot(CYMBALS) > 0.25 * hits:
        return 0

    def fit(move: int) -> float:
        moved = np.roll(pitches, move)
        kicks, snares, cymbals = (float(moved @ class_pitches) / hits for class_pitches in (KICKS, SNARES, CYMBALS))
        return kicks + snares + cymbals if min(kicks, snares, cymbals) > 0.02 else 0.0

    best = max(OCTAVES, key=fit)
    return best if fit(best) >= 0.75 else 0


@dataclass(slots=True)
class SignSums:
    """Adds up signs as the records of files go by.

    Attributes:
        files: files that show a sign.
        first: of these the first few, with the figures that they show.
        figures: how often each figure occurs, as JSON.
        odd_kits: accepted files whose drums are accounted for by being shifted or one drum.
    """

    files: Counter[str] = field(default_factory=Counter)
    first: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: dict[str, Counter[str]] = field(default_factory=dict)
    odd_kits: int = 0

    def add(self, name: str, signs: Mapping[str, Any]) -> None:
        """Counts the signs of one file."""
        self.odd_kits += bool(signs.keys() & {Sign.SHIFTED, Sign.ONE_DRUM, Sign.NEARLY_ONE_DRUM})
        for sign, figure in signs.items():
            self.files[sign] += 1
            first = self.first.setdefault(sign, {})
            if len(first) < MOST_NAMES:
                first[name] = figure
            self.figures.setdefault(sign, Counter())[json.dumps(figure)] += 1

    def most_frequent(self, sign: Sign) -> Any:
        """The figure that most files with a sign show."""
        return json.loads(self.figures[sign].most_common(1)[0][0])


@dataclass(frozen=True, slots=True)
class CollectionWarning:
    """Something that is probably wrong with a collection, or with some of its files.

    Attributes:
        check: the sign behind it, or `not_read`, `no_drum`, `no_metre` for the whole collection.
        files: files that it concerns.
        names: the first few of them.
        text: what is wrong, with its figures.
        remedy: what to do.
    """

    check: str
    files: int
    names: tuple[str, ...]
    text: str
    remedy: str


def collection_warnings(sums: SignSums, *, accepted: int, hits: int, not_read: int) -> Iterator[CollectionWarning]:
    """The warnings of a collection.

    Args:
        accepted: files that gave windows.
        hits: hits that were read in all files.
        not_read: notes on other channels in all files.
    """
    one_drum = sums.files[Sign.ONE_DRUM] + sums.files[Sign.NEARLY_ONE_DRUM]
    for sign, (text, remedy) in _IN_FILES.items():
        if (files := sums.files[sign]) and (sign != Sign.NEARLY_ONE_DRUM or 2 * one_drum >= accepted):
            names = sums.first[sign]
            shown = "; ".join(f"{name}: {_figure(sign, figure)}" for name, figure in list(names.items())[:3])
            counted = f"{files:,} file{'s' * (files > 1)}"
            likeliest = remedy(sums.most_frequent(sign))
            others = any(remedy(figure) != likeliest for figure in map(json.loads, sums.figures[sign]))
            more = "; some of them need another value, which python -m jobs.show FILE names" if others else ""
            yield CollectionWarning(sign, files, tuple(names), f"{counted}: {text} ({shown})", likeliest + more)
    if not sums.files[Sign.NOT_READ] and not_read and not_read >= NOT_READ * (not_read + hits):
        share = f"{not_read:,} of {not_read + hits:,} notes"
        yield CollectionWarning(
            Sign.NOT_READ,
            0,
            (),
            f"nearly all notes are on channels that were not read ({share})",
            "python -m jobs.show FILE shows the channels of a file; choose others with reading.channels and "
            "reading.drum_tracks",
        )
    drums = [sign for sign in (Sign.NO_KICK, Sign.NO_SNARE) if sums.files[sign] == accepted]
    if accepted and drums and sums.odd_kits < accepted:
        named = " and no ".join(sign.removeprefix("no_") for sign in drums)
        yield CollectionWarning(
            "no_drum",
            accepted,
            tuple(sums.first[drums[0]]),
            f"no {named} in any of {accepted:,} files",
            "python -m jobs.show FILE shows the pitches and channels of a file; choose others with a drum_map or "
            "reading.channels",
        )
    if accepted and sums.files[Sign.NO_METRE] == accepted and sums.files[Sign.OFF_GRID] < accepted:
        yield CollectionWarning(
            Sign.NO_METRE,
            accepted,
            tuple(sums.first[Sign.NO_METRE]),
            f"none of {accepted:,} files has a metre; all were read as 4/4 from their start",
            "check some of them with python -m jobs.show FILE, and leave out files that are not in 4/4",
        )


def file_warnings(
    name: str, report: ReadingReport, signs: Mapping[str, Any], *, accepted: bool
) -> list[CollectionWarning]:
    """The warnings of one file, as of a collection of that file alone."""
    sums = SignSums()
    sums.add(name, signs)
    not_read = sum(channel.notes for channel in report.findings.not_read)
    return list(collection_warnings(sums, accepted=int(accepted), hits=report.hits, not_read=not_read))


def _figure(sign: str, figure: Any) -> str:
    match sign:
        case Sign.SHIFTED:
            return f"{figure:+} semitones"
        case Sign.ONE_DRUM | Sign.NEARLY_ONE_DRUM:
            return f"{figure[0].replace('_', ' ')} {figure[1]:.0%}"
        case Sign.OFF_GRID:
            return f"{figure:.2f} of 1; 1: exactly on beats, or on halves, thirds or quarters of them"
        case Sign.REPEATS:
            return f"{figure[0]:,} windows, {figure[1]:,} different"
        case _:
            return f"channel {figure}"


def _read_more(one_drum: tuple[str, float, list[int]]) -> str:
    if channels := one_drum[2]:
        return f"reading.channels=[{','.join(map(str, [*channels, DRUM_CHANNEL]))}] reads the other drums too"
    return (
        "python -m jobs.show FILE shows where other notes are; choose them with reading.channels or reading.drum_tracks"
    )


_IN_FILES: Mapping[Sign, tuple[str, Callable[[Any], str]]] = {
    Sign.SHIFTED: (
        "no kick and no snare, but a whole kit if the pitches are moved by octaves",
        lambda move: f"build these files alone with reading.transpose={move}",
    ),
    Sign.ONE_DRUM: ("one drum has all hits", _read_more),
    Sign.NEARLY_ONE_DRUM: ("one drum has nearly all hits", _read_more),
    Sign.OFF_GRID: (
        "hits are spread evenly over the beat, so the grid does not fit them",
        lambda _: (
            "leave these files out, or set the tempo and bars in which they were played; their ticks are probably "
            "fractions of a second, not of a quarter note"
        ),
    ),
    Sign.REPEATS: (
        "a few windows are repeated many times",
        lambda _: "filters.drop_repeated=true keeps each window once",
    ),
    Sign.NOT_READ: (
        "nearly all notes are on channels that were not read, and one of these looks like drums",
        lambda channel: f"build these files alone with reading.channels={channel}",
    ),
}
"""What a file that shows a sign is like, and what to do; the sign is a warning where one file shows it."""
