"""The settings of `jobs.sample` that decide what is made, and which of them can be used together; no torch.

Each is a flag of the command and a key of the file that `--config` names.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, model_validator

from jobs.command.command_line import WORD_END, WORK, check_options, flag
from musicvae.errors import ConfigError, NotThereError
from musicvae.generation.settings import BATCH, DEFAULT_BEST_OF, MEAN, PLAIN, PLAYED
from musicvae.midi.settings import MAX_TICKS, MIN_TICKS, TICKS_PER_QUARTER, ReadingSettings, first_bars
from musicvae.model.settings import DecodingPrecision
from musicvae.settings import Settings, apply_overrides, parse_settings

PRECISIONS: tuple[DecodingPrecision, ...] = get_args(DecodingPrecision)
PICKED = re.compile(r"groove-([0-9]{5,15})", re.ASCII)
DEFAULT_BARS = 1
"""Of --continue."""
DEFAULT_STEPS = 9
"""Of --interpolate."""
STYLE = "style"
"""In place of a range of tempos: those of the style of --feel."""
REFILL_LIMIT = 20
"""Times the count that --refill makes at most: a model that hardly makes anything new is told, not waited for."""
NOT_HUMANIZED = (
    *("like", "continued", "source", "interpolate", "first_bar", "temperature", "density", "must_have", "forbid"),
    *("move", "bar_temperature", "top_p", "tempo", "tempo_range", "pitches", "drop_duplicates", "refill"),
)
"""Settings that --humanize cannot have: hits, tempo and all else of a file stay as they are."""
RANKED = ("quality", "hits_per_bar", "syncopation", "log_likelihood", "nearest_training", "steered")
"""Figures that `--best` can go by."""
MODES = (
    *("steps", "move", "continued", "bars", "source", "keep", "keep_bars", "must_have", "forbid"),
    *("density", "bar_temperature", "top_p", "tempo_range", "precision"),
)
"""Settings that a record of a sampling holds in a group of their own."""
YOUNGER = (
    *("reading", "first_bar", "like_player", "humanize", "timing", "velocity", "around", "lead_in", "centred"),
    *("best_of", "unchosen", "style"),
)
"""Settings that the first samplings did not have; a record has them where they are given."""


class OutputFormat(StrEnum):
    """What grooves are handed over as, beside the manifest."""

    FILES = "files"
    TAR = "tar"
    ZIP = "zip"
    NONE = "none"


class Audio(StrEnum):
    """Sound files beside the MIDI files."""

    NONE = "none"
    WAV = "wav"
    FLAC = "flac"


def _absolute(value: Any) -> Any:
    """Paths that any process may use, whatever its working folder."""
    return tuple(map(_absolute, value)) if isinstance(value, tuple) else value and str(Path(value).absolute())


def _words(value: Any) -> Any:
    """The words of each time that the option is given."""
    return tuple(word for words in value for word in words.split(WORD_END)) if isinstance(value, list) else value


def _ascending(items: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return tuple(sorted(items)) if items else None


def reading_of(overrides: tuple[str, ...]) -> ReadingSettings:
    """How MIDI files are read, by the values of --reading.

    Raises:
        ConfigError: no such setting, or a value out of range.
    """
    return parse_settings(ReadingSettings, apply_overrides({}, overrides))


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value  # as YAML reads a single number


def _readable(overrides: tuple[str, ...]) -> tuple[str, ...]:
    reading_of(overrides)
    return overrides


Text: TypeAlias = str | None
Place: TypeAlias = Annotated[str | None, AfterValidator(_absolute)]


class Execution(Settings):
    """How grooves are made; nothing of it changes the output."""

    chunk: int = flag("Grooves that are made and saved at once.", 4 * BATCH, panel=WORK)
    workers: int | None = flag("Processes (1); with --ray-address: chunks at a time (all CPUs of the cluster).")
    ray_address: str = flag("A running Ray cluster whose nodes see --out under the same path.", "", metavar="HOST:PORT")

    @model_validator(mode="after")
    def _of_something(self) -> "Execution":
        check_options(
            ("--chunk", self.chunk, self.chunk >= 1, "1 or more"),
            ("--workers", self.workers, self.workers is None or self.workers >= 1, "1 or more"),
        )
        return self


class SampleSettings(Settings):
    """What `jobs.sample` makes; None is a setting that is not given.

    Raises:
        ConfigError: settings that cannot be used, or that exclude or need each other (see `parse_settings`).
    """

    model_config = ConfigDict(populate_by_name=True)

    count: int = flag("Number of grooves. You can raise it later; finished grooves are kept.", ...)
    seed: int = flag("Groove i of a seed is the same with any --count, --shard and --workers.", 0)

    run: Place = flag("A run folder or an export.", metavar="FOLDER", panel="Model")
    preset: Text = flag(
        "A shipped model (generation; with --like, --from and --interpolate: reconstruction).", metavar="NAME|FOLDER"
    )

    like: Place = flag(
        "Make variations of MIDI files, of their windows in turn.", metavar="FILE|FOLDER", panel="From your grooves"
    )
    distance: float | None = flag("From 0 (the reconstruction of the given groove) to 1 (unrelated to it) (0.3).")
    continued: Place = flag(
        "Keep the first bars of a MIDI file; the model adds the others.", metavar="FILE", alias="continue"
    )
    bars: int | None = flag("Number of bars that --continue keeps (1).")
    source: Place = flag("Make variations of a MIDI file that keep some drums or bars.", metavar="FILE", alias="from")
    keep: Text = flag("Drums that --from keeps.", metavar="DRUM,...")
    keep_bars: Text = flag("Bars that --from keeps, counted from 1.", metavar="N,...")
    interpolate: Annotated[tuple[str, ...] | None, BeforeValidator(_words), AfterValidator(_absolute)] = flag(
        "Interpolate between two MIDI files, both included; given twice: between four, the corners of a square.",
        metavar="FILE FILE",
        kind=list[str],
    )
    humanize: Place = flag(
        "Play MIDI files of any length as a drummer might: their hits stay. Makes --count takes of each file.",
        metavar="FILE|FOLDER",
    )
    timing: float | None = flag("How far --humanize moves hits: 0 (not at all) to 1 (as the drummer plays) (0.5).")
    velocity: float | None = flag("How far --humanize changes velocities, from 0 to 1 (0.5).")
    around: bool = flag("With --humanize: keep the accents and the timing of the file, and play around them.", False)
    reading: Annotated[tuple[str, ...], AfterValidator(_readable)] = flag(
        "How MIDI files are read, such as channels=1; repeatable.", (), metavar="KEY=VALUE", kind=list[str]
    )
    first_bar: Annotated[str | None, BeforeValidator(_as_text)] = flag(
        "Bar, from 1, that a given file is used from (the first with hits); N,N for --interpolate.", metavar="N"
    )
    steps: int | None = flag("Grooves of --interpolate (9), of a square on each side; a larger --count repeats them.")

    temperature: float | None = flag(
        "Below 1: more likely grooves, above 1: wilder ones (1; with --like and --interpolate: the most likely hits).",
        panel="Properties of the grooves",
    )
    style: Text = flag(
        "Style of the hits and the playing of new grooves, or a mixture of several.", metavar="NAME[:SHARE],..."
    )
    density: Text = flag("Hits per bar, all drums together.", metavar="LEAST:MOST")
    must_have: Text = flag("Drums that every groove contains.", metavar="DRUM,...")
    forbid: Text = flag("Drums that no groove contains.", metavar="DRUM,...")
    move: tuple[str, ...] = flag(
        "Raise or lower an attribute, in standard deviations; repeatable.", (), metavar="NAME=AMOUNT", kind=list[str]
    )
    bar_temperature: Text = flag("A temperature for each bar, instead of --temperature.", metavar="T,T,T,T")
    top_p: float | None = flag("Nucleus sampling: draw among the most likely tokens with this total probability (1).")
    precision: Text = flag("Precision of decoding (bfloat16 if the CPU supports it).", metavar="float32|bfloat16")

    feel: Text = flag(
        "Velocity and timing of new hits (played, by the performance model). mean: the mean of the training data, or "
        "that of one of its styles. plain: one velocity for all hits, exactly on the sixteenths. Hits kept from a file "
        "stay as played, except with plain.",
        metavar="played|mean|STYLE|plain",
        panel="How the grooves are played",
    )
    centred: bool | None = flag("Play new hits around the grid, without the latency of the training data (if played).")
    like_player: Place = flag(
        "Play with the level, lean, swing and spread of a performance, such as a take of your own.", metavar="FILE"
    )
    tempo: float | None = flag("Tempo (of the given groove, or the median of --feel, --style or all).", metavar="BPM")
    tempo_range: Text = flag("Draw a tempo for each groove; style: from those of --feel.", metavar="LEAST:MOST|style")

    pack: OutputFormat = flag(
        "MIDI files, WebDataset tars or a zip; none: manifest, tokens and codes only.",
        OutputFormat.FILES,
        panel="Output",
    )
    audio: Audio = flag("Add a loop of sound to each MIDI file, played by a synthesised kit.", Audio.NONE)
    lead_in: bool = flag("Begin each file with a silent bar, which has the hits before the first beat.", False)
    gallery: bool = flag("Write a page to see, hear and choose the grooves.", True)
    pitches: Text = flag(
        "Drum map that MIDI pitches are written with (that of the model).", metavar="roland|general_midi|FILE"
    )
    midi_format: int = flag("0: one track; 1: one track for the tempo and one for the drums.", 1)
    ticks: int = flag("MIDI ticks of a quarter note.", TICKS_PER_QUARTER)

    shards: Text = flag(
        "The shards that the model was trained on.", metavar="FOLDER|URL", panel="Which grooves are kept"
    )
    drop_duplicates: bool = flag("Leave out duplicates of an earlier groove.", False)
    drop_memorised: bool = flag("Leave out copies of a training window.", False)
    refill: bool = flag("Make more grooves until --count of them are kept.", False)
    best_of: int | None = flag("Make N for each new groove and keep the one of the highest quality (4).", metavar="N")
    unchosen: bool = flag("Keep all new grooves, as --best-of 1.", False, alias="all")
    best: int | None = flag("Keep the K best, by the figure of --by.", metavar="K")
    by: Text = flag(f"{', '.join(RANKED)}; -FIGURE keeps the lowest.", metavar="FIGURE")
    pick: Annotated[tuple[int, ...] | None, AfterValidator(_ascending)] = flag(
        "Make only the grooves in a list that was saved by a gallery.", metavar="LIST", kind=str
    )

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The list that is picked from, read, and how many grooves belong together where no number is given."""
        pick, count = values.get("pick"), values.get("count")
        if isinstance(pick, str):
            pick = read_pick(Path(pick))
            count = max(pick) + 1 if count is None else count
        if count is None and (ends := _words(values.get("interpolate"))):
            count = (values.get("steps") or DEFAULT_STEPS) ** (len(ends) // 2)
        if count is None:
            raise ConfigError("--count is missing", expected="the number of grooves", do="add --count N")
        return {**values, "count": count, "pick": pick}

    @model_validator(mode="after")
    def _go_together(self) -> "SampleSettings":
        if self.continued and self.source:
            cure = "choose one; --from FILE --keep-bars 1 continues a groove too"
            raise ConfigError("--continue and --from exclude each other", do=cure)
        if self.run is not None and self.preset is not None:
            raise ConfigError("two models are given", do="give only one of --run, --preset and --weights")
        temperature, tempo, distance, by, steps = self.temperature, self.tempo, self.distance, self.by, self.steps
        bar, folder = self.first_bars[0], self.like is not None and Path(self.like).is_dir()
        kept, player = self.keep is not None or self.keep_bars is not None, self.like_player
        drops, near = self.drop_duplicates or self.drop_memorised, self.like or self.continued or self.source
        ends, silent, whole = self.interpolate, self.audio is Audio.NONE, self.must_have or self.density
        timing, velocity, several, fields = self.timing, self.velocity, self.candidates, type(self).model_fields
        last, reach = max(self.pick or [0]), self.count * (REFILL_LIMIT if self.refill else 1)
        check_options(
            ("--interpolate", ends, ends is None or len(ends) in (2, 4), "two files, or two and two"),
            ("--steps", steps, steps is None or steps >= 2, "2 or more, as both ends are included"),
            ("--steps", steps, steps is None or self.interpolate, "--interpolate A B with it"),
            ("--bars", self.bars, self.bars is None or self.continued, "--continue FILE with it"),
            ("--keep", self.keep, self.keep is None or self.source, "--from FILE with it"),
            ("--keep-bars", self.keep_bars, self.keep_bars is None or self.source, "--from FILE with it"),
            ("--from", self.source, self.source is None or kept, "--keep or --keep-bars with it"),
            ("--top-p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0, up to 1"),
            ("--precision", self.precision, self.precision in (None, *PRECISIONS), " or ".join(PRECISIONS)),
            ("--count", self.count, self.count >= 1, "1 or more"),
            ("--seed", self.seed, 0 <= self.seed < 2**64, "0 to 2^64 - 1"),
            ("--temperature", temperature, temperature is None or 0 < temperature < math.inf, "a number above 0"),
            ("--tempo", tempo, tempo is None or 4 <= tempo <= 1000, "4 to 1000 quarter notes a minute"),
            ("--distance", distance, distance is None or 0 <= distance <= 1, "0 (the same) to 1 (unrelated)"),
            ("--distance", distance, distance is None or near, "--like, --continue or --from with it"),
            ("--distance", distance, distance is None or not self.interpolate, "no --interpolate with it"),
            ("--like", self.like, self.like is None or not self.interpolate, "no --interpolate with it"),
            ("--first-bar", self.first_bar, bar is None or near or self.interpolate, "an option that names a file"),
            ("--first-bar", self.first_bar, bar is None or not folder, "a MIDI file for --like, not a folder"),
            ("--temperature", temperature, not (temperature and self.bar_temperature), "no --bar-temperature with it"),
            ("--timing", timing, timing is None or self.humanize, "--humanize FILE with it"),
            ("--velocity", velocity, velocity is None or self.humanize, "--humanize FILE with it"),
            ("--around", self.around, not self.around or self.humanize, "--humanize FILE with it"),
            ("--timing", timing, 0 <= (timing or 0) <= 1, "0 (as in the file) to 1"),
            ("--velocity", velocity, 0 <= (velocity or 0) <= 1, "0 (as in the file) to 1"),
            ("--feel", self.feel, self.humanize is None or self.feel in (None, PLAYED), "no --humanize with it"),
            *(
                (f"--{fields[name].alias or name}".replace("_", "-"), value, not self.humanize, "no --humanize with it")
                for name in NOT_HUMANIZED
                if (value := getattr(self, name))
            ),
            ("--like-player", player, player is None or self.feel in (None, PLAYED), "--feel played with it"),
            ("--tempo", tempo, tempo is None or not self.tempo_range, "no --tempo-range with it"),
            ("--tempo-range", STYLE, self.tempo_range != STYLE or self.feel_style, "--feel STYLE with it"),
            ("--style", self.style, self.style is None or self.makes_new, "new grooves"),
            ("--midi-format", self.midi_format, self.midi_format in (0, 1), "0 (one track) or 1"),
            ("--ticks", self.ticks, MIN_TICKS <= self.ticks <= MAX_TICKS, f"{MIN_TICKS} to {MAX_TICKS} a quarter note"),
            ("--audio", self.audio, silent or self.pack is not OutputFormat.NONE, "no --no-files with it"),
            ("--best-of", several, several >= 1 and (several == 1 or self.makes_new), "1, or more for new grooves"),
            ("--best-of", several, several == 1 or not self.unchosen, "no --all with it"),
            ("--best", self.best, self.best is None or 1 <= self.best <= self.count, f"1 to {self.count} (--count)"),
            ("--best", self.best, (self.best is None) == (by is None), "both --best and --by, or neither"),
            ("--by", by, by is None or by.removeprefix("-") in RANKED, f"{', '.join(RANKED)}; with - for the lowest"),
            ("--by", by, "steered" not in (by or "") or whole, "--must-have or --density with it"),
            ("--pick", f"groove-{last:05d}", last < reach, f"ids below {reach:,}, for --count {self.count}"),
            ("--refill", self.refill, drops or not self.refill, "--drop-duplicates or --drop-memorised with it"),
        )
        return self

    @property
    def feel_style(self) -> str | None:
        """The style of --feel."""
        return None if self.feel in (PLAIN, PLAYED, MEAN) else self.feel

    @property
    def makes_new(self) -> bool:
        """Whether grooves come from no file."""
        return not (self.like or self.continued or self.source or self.interpolate or self.humanize)

    @property
    def candidates(self) -> int:
        """How many grooves are made for each."""
        if self.best_of is None:
            return DEFAULT_BEST_OF if self.makes_new and not self.unchosen else 1
        return self.best_of

    @property
    def wanted(self) -> int:
        """How many grooves are made, before --refill makes more."""
        return self.count if self.pick is None else len(self.pick)

    @property
    def first_bars(self) -> tuple[int | None, ...]:
        """The bars, counted from 0, that the given files are used from: one, or those of --interpolate."""
        return first_bars(self.first_bar, len(self.interpolate or [1]))

    @property
    def reading_settings(self) -> ReadingSettings:
        """How given files are read."""
        return reading_of(self.reading)

    def record(self) -> dict[str, Any]:
        """Plain values, in the form that every version of sampling-work/job.json has; exact inverse of `of_record`."""
        unset = {name for name in YOUNGER if getattr(self, name) == type(self).model_fields[name].default}
        values = self.model_dump(mode="json", exclude=unset)
        start, end, *others = values.pop("interpolate") or (None, None)
        modes = {"start": start, "end": end, **{name: values.pop(name) for name in MODES}}
        modes |= {"others": others} if others else {}
        feel = None if self.feel == PLAIN else self.feel
        return values | {"form": values.pop("pack"), "feel": feel, "dry": self.feel == PLAIN, "modes": modes}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "SampleSettings":
        """What `record` gave, through JSON; settings that an earlier version did not have are not given.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        values = {**record, **record["modes"], "pack": record["form"]}
        values["interpolate"] = values["start"] and (values["start"], values["end"], *values.get("others", ()))
        values["feel"] = PLAIN if record["dry"] else record.get("feel")
        return cls(**{name: values[name] for name in cls.model_fields if name in values})


def read_pick(path: Path) -> list[int]:
    """The numbers of the items that a list names, in its order. An id that occurs again counts once.

    Raises:
        NotThereError: there is no list.
        ConfigError: the list cannot be read, names nothing, or has a line that is no id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a file that is not text"
        kind = NotThereError if isinstance(error, FileNotFoundError) else ConfigError
        raise _refused(path, f"{reason}", "give a list that a gallery has saved", kind) from None
    picked: dict[int, None] = {}
    for number, line in enumerate(lines, start=1):
        if not (text := line.strip()):
            continue
        if not (match := PICKED.fullmatch(text)):
            raise _refused(path, f"{_short(text)} in line {number}", "remove it, or give a list that a gallery saved")
        picked[int(match[1])] = None
    if not picked:
        raise _refused(path, "no ids", "mark favourites in a gallery and save the list")
    return list(picked)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _refused(path: Path, problem: str, do: str, kind: type[ConfigError] = ConfigError) -> ConfigError:
    expected = "one id on each line, such as groove-00012"
    return kind(f"--pick {path} cannot be used", expected=expected, found=problem, do=do)
