"""One MIDI file as `jobs.show` shows it: maps, pitches, what was dropped and why, and each window's drum grid."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.errors import ConfigError, DataError
from musicvae.groove.drum_map import NO_CLASS, DrumMap, pitch_name
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove
from musicvae.groove.picture import drum_grid
from musicvae.midi.groove_file import unusable
from musicvae.midi.performance import Performance
from musicvae.midi.quantize import bar_of, metre_sections
from musicvae.terminal import shown
from preprocess.checks import file_warnings
from preprocess.convert import Conversion, convert
from preprocess.rejection import Rejection
from preprocess.settings import BuildSettings
from preprocess.sources.groove import find_groove, open_groove
from preprocess.sources.listing import FilePlace, SourceFile, printable, read_source

HANDFUL = 4
"""Windows that are drawn unless one is asked for."""
MOST_MARKS = 8
"""Tempos or metres that are named."""
GROOVE_DEPTH = 4
"""How far above a file GMD's table may lie."""
UNKNOWN = "unknown"


def show_file(path: Path, settings: BuildSettings, window: int | None, *, as_json: bool) -> None:
    """Shows what a build with these settings makes of one file.

    Raises:
        ConfigError: no such file, window or drum map.
        DataError: the file is rejected, once everything that is known is shown.
    """
    if not path.exists():
        expected = "a MIDI file or a folder of shards"
        raise ConfigError(f"cannot show {path}", expected=expected, found="nothing at that path", do="correct the path")
    file, own_map = _file_of(path)
    drum_map = DrumMap.load(own_map if settings.drum_map == "auto" else settings.drum_map)
    data = read_source(file, settings.limits)
    if isinstance(data, Rejection):
        conversion = Conversion(data)
    else:
        conversion = convert(data, settings, drum_map, source=file.name, style=file.style, tempo=file.tempo)
    result = conversion.result
    windows = None if isinstance(result, Rejection) else result
    if window is not None and windows is not None and not 0 <= window < len(windows):
        likely = "windows are counted from 0"
        expected = f"0 to {len(windows) - 1}"
        raise ConfigError(f"there is no window {window} in {path}", expected=expected, found=str(window), likely=likely)
    if as_json:
        print(json.dumps(_values(file, drum_map, conversion, window, settings)))
    else:
        if window is None or windows is None:
            print(shown("\n".join(_about(path, file, drum_map, conversion, settings))))
        if windows is not None:
            print(shown("\n".join(_drawn(windows, drum_map, window, settings))))
    if isinstance(result, Rejection):
        raise unusable(path, settings.window.grid, result.reason, result.detail)


def _file_of(path: Path) -> tuple[SourceFile, str]:
    """The file as its collection lists it, and the drum map that `auto` stands for there; GMD is known by its table."""
    path = path.absolute()
    for folder in path.parents[:GROOVE_DEPTH]:
        with suppress(DataError):  # a table that cannot be used does not make its files worse
            if groove := find_groove(folder):
                source = open_groove(groove)
                for file in source.files:
                    if file.place == FilePlace(str(path)):
                        return file, source.drum_map
    return SourceFile(printable(path.name), FilePlace(str(path))), "general_midi"


def _about(
    path: Path, file: SourceFile, drum_map: DrumMap, conversion: Conversion, settings: BuildSettings
) -> Iterator[str]:
    """What is told of the file before its windows are drawn."""
    yield printable(str(path))
    match conversion.result:
        case Rejection(reason=reason, detail=detail):
            yield _line("rejected", f"{reason}: {printable(detail)}")
        case windows:
            yield _line("accepted", f"{len(windows)} windows of {settings.window.bars} bars")
    if file.style:
        yield _line("style", printable(file.style))
    chosen = "auto" if settings.drum_map == "auto" else "as set"
    yield _line("drum map", f"{drum_map.name} ({chosen})")
    for number, performance in enumerate(conversion.performances, start=1):
        piece = f" {number}" if len(conversion.performances) > 1 else ""
        yield _line(f"tempo map{piece}", _listed(_tempos(performance)))
        yield _line(f"metre map{piece}", _listed(_metres(performance)))
    counts = conversion.counts
    if counts.reading:
        yield ""
        for name, text in counts.reading.lines():
            yield _line(name, text)
        accepted = not isinstance(conversion.result, Rejection)
        for warning in file_warnings(file.name, counts.reading, counts.signs, accepted=accepted):
            yield _line("warning", f"{warning.text}; what to do: {warning.remedy}")
    if counts.reading and counts.reading.hits:
        yield ""
        yield from _pitch_lines(conversion.performances, drum_map)
    yield from _dropped("dropped bars", counts.dropped_bars)
    yield from _dropped("windows left out by filters", counts.filtered)


def _drawn(windows: WindowBlock, drum_map: DrumMap, window: int | None, settings: BuildSettings) -> Iterator[str]:
    grid = settings.window.grid
    drawn = _side_by_side(windows, grid.bars) if window is None else [window]
    for number in drawn:
        yield ""
        yield window_text(f"window {number}", windows.meta[number], windows.groove(number, grid), drum_map.classes)
    if window is None and len(windows) > len(drawn):
        yield f"\n{len(windows) - len(drawn)} more windows; to draw one, add --window 0 to {len(windows) - 1}"


def _side_by_side(windows: WindowBlock, bars: int) -> list[int]:
    """The first few windows that have no bar in common, since the next one mostly shows the same bars again."""
    drawn: list[int] = []
    for number, meta in enumerate(windows.meta):
        before = windows.meta[drawn[-1]] if drawn else None
        if before is None or meta.source != before.source or meta.bar >= before.bar + bars:
            drawn.append(number)
    return drawn[:HANDFUL]


def _tempos(performance: Performance) -> list[str]:
    return [f"{tempo:.4g} bpm{_place(performance, tick)}" for tick, tempo in performance.tempos]


def _metres(performance: Performance) -> list[str]:
    return [
        f"{section.numerator}/{section.denominator}{_place(performance, section.start)}"
        for section in metre_sections(performance.metres, performance.ticks_per_quarter)
    ]


def _place(performance: Performance, tick: int) -> str:
    """Where a mark stands, in bars counted from 1 as musicians do; nothing at the start."""
    if tick == 0:
        return ""
    bar, within = bar_of(performance, tick)
    return f" {'in' if within else 'from'} bar {bar + 1}"


def _listed(marks: Sequence[str]) -> str:
    more = len(marks) - MOST_MARKS
    return ", ".join(marks[:MOST_MARKS]) + (f", and {more} more" if more > 0 else "")


def _pitch_lines(performances: Sequence[Performance], drum_map: DrumMap) -> Iterator[str]:
    for pitch, (name, drum, hits) in _pitches(performances, drum_map).items():
        yield _line(f"pitch {pitch}", f"{hits:>6,}  {drum.replace('_', ' '):<14}{name}".rstrip())


def _pitches(performances: Sequence[Performance], drum_map: DrumMap) -> dict[int, tuple[str, str, int]]:
    """General MIDI's name, drum class and hits of each pitch that occurs."""
    hits = Counter(pitch for performance in performances for pitch in performance.pitch.tolist())
    drums = {pitch: int(drum_map.class_of_pitch[pitch]) for pitch in sorted(hits)}
    return {
        pitch: (pitch_name(pitch), UNKNOWN if drum == NO_CLASS else drum_map.classes[drum], hits[pitch])
        for pitch, drum in drums.items()
    }


def _dropped(what: str, counts: Mapping[str, int]) -> Iterator[str]:
    if any(counts.values()):
        yield ""
        yield what
    for reason, count in counts.items():
        if count:
            yield _line(f"  {count:,}", reason)


def _line(name: str, text: str) -> str:
    return f"  {name:<14}{text}"


def _values(
    file: SourceFile, drum_map: DrumMap, conversion: Conversion, window: int | None, settings: BuildSettings
) -> dict[str, Any]:
    """Everything as plain values; of one window also its hits."""
    values: dict[str, Any] = {
        "file": file.name,
        "drum_map": {"name": drum_map.name, "pitches": drum_map.pitches},
        "performances": [
            {
                "ticks_per_quarter": performance.ticks_per_quarter,
                "tempos": performance.tempos,
                "metres": performance.metres,
                "end": performance.end,
            }
            for performance in conversion.performances
        ],
        "pitches": {
            str(pitch): {"name": name, "drum": None if drum == UNKNOWN else drum, "hits": hits}
            for pitch, (name, drum, hits) in _pitches(conversion.performances, drum_map).items()
        },
        "reading": conversion.counts.reading.to_json() if conversion.counts.reading else None,
        "dropped_bars": dict(conversion.counts.dropped_bars),
        "filtered": dict(conversion.counts.filtered),
        "signs": dict(conversion.counts.signs),
    }
    match conversion.result:
        case Rejection(reason=reason, detail=detail):
            return {**values, "outcome": "rejected", "reason": reason, "detail": detail}
        case windows:
            numbers = range(len(windows)) if window is None else [window]
    grooves = [(number, windows.groove(number, settings.window.grid)) for number in numbers]
    shown = [{"window": number, **window_values(windows.meta[number], groove)} for number, groove in grooves]
    if window is not None:
        shown[0]["hits"] = hit_values(grooves[0][1], drum_map.classes)
    return {**values, "outcome": "accepted", "num_windows": len(windows), "windows": shown}


def window_text(title: str, meta: WindowMeta, groove: DrumGroove, drums: tuple[str, ...]) -> str:
    """A line about the window, and the grid as text."""
    style = f", {printable(meta.style)}" if meta.style else ""
    about = f"{title}: {printable(meta.source)}, bar {meta.bar + 1}, {meta.tempo:.4g} bpm{style}"
    return f"{about}\n{drum_grid(groove, drums)}"


def window_values(meta: WindowMeta, groove: DrumGroove) -> dict[str, Any]:
    """What is known of a window as a whole; bars are counted from 0 here, as in the shards."""
    return {
        "source": meta.source,
        "bar": meta.bar,
        "tempo": meta.tempo,
        "style": meta.style,
        "tokens": groove.tokens.tolist(),
    }


def hit_values(groove: DrumGroove, drums: Sequence[str]) -> list[dict[str, Any]]:
    """Each hit with its step, MIDI velocity, and offset in steps."""
    return [
        {
            "step": step,
            "drum": drums[drum],
            "velocity": round(float(groove.velocity[step, drum]) * MAX_VELOCITY),
            "offset": round(float(groove.offset[step, drum]), 6),
        }
        for step, drum in np.argwhere(groove.hits).tolist()
    ]
