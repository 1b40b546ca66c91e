"""The command `musicvae`: drum grooves as MIDI files, for people without a checkout.

musicvae new | vary | continue | humanize | interpolate | show; `musicvae COMMAND --help` shows an example of each.

The files of a folder that the command writes are listed in its `musicvae.json` with their hashes. Only a file that is
listed there and still has its hash is ever replaced.
"""

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import musicvae
from musicvae import terminal
from musicvae.durable import write_files
from musicvae.errors import ConfigError, DataError, UserError
from musicvae.generation.settings import DEFAULT_AMOUNT, DEFAULT_BEST_OF, DEFAULT_DISTANCE

if TYPE_CHECKING:
    from musicvae.data.windows import WindowBlock
    from musicvae.groove.drum_map import DrumMap
    from musicvae.groove.grid import GridSpec
    from musicvae.groove.groove import DrumGroove
    from musicvae.midi.groove_file import WholeFile
    from musicvae.pretrained.model import TrainedModel
    from musicvae.pretrained.performer import Performer

RECORD, PICTURE = "musicvae.json", "picture.png"
GRIDS_SHOWN, GROOVES_ON_PICTURE = 2, 16
MIDI_SUFFIXES = (".mid", ".midi")
INTERRUPTED, LOST_READER = 130, 141
"""As shells report SIGINT and SIGPIPE."""
RANGES: dict[str, tuple[int | float, int | float]] = {
    "count": (1, 10_000),
    "best_of": (1, 1000),
    "seed": (0, 2**64 - 1),
    "temperature": (0.01, 100),
    "tempo": (4, 1000),
    "distance": (0, 1),
    "timing": (0, 1),
    "velocity": (0, 1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line, that of the process unless given.

    Returns:
        What the process ends with: 0, the `exit_code` of a `UserError`, 130 after Ctrl-C, or 141 where nobody reads.

    Raises:
        SystemExit: after --help (0), and after an option that does not exist or has no value (2).
    """
    terminal.degrade_to_ascii()
    parser, words = _parser(), [*(sys.argv[1:] if arguments is None else arguments)]
    if no_value := next((word for word in words if word.endswith("=--")), ""):  # argparse drops the two dashes
        parser.error(f"{no_value}: -- is no value")
    options = parser.parse_args(words)
    try:
        for name, (least, most) in RANGES.items():
            _check(options, name, least, most)
        options.run(options)
        sys.stdout.flush()
    except UserError as error:
        print(terminal.shown(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return LOST_READER
    except OSError as error:
        if error.filename is None:
            raise
        print(terminal.shown(f"error: cannot use {error.filename}\n  found     {error.strerror}"), file=sys.stderr)
        return ConfigError.exit_code
    return 0


def _say(text: str) -> None:
    print(terminal.shown(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "musicvae",
        description="Make drum grooves of four bars as MIDI files, with the trained models of this package.",
        epilog="example: musicvae new",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    new, _ = _maker(commands, _new, "new", "make new grooves", "musicvae new --count 16 --seed 1", count=16)
    new.add_argument("--style", type=_word, metavar="NAME[:SHARE],...", help="style of hits and playing")
    text = "make N grooves for each, and keep the one of the highest quality (%(default)s)"
    new.add_argument("--best-of", type=int, default=DEFAULT_BEST_OF, metavar="N", help=text)
    new.add_argument("--tempo", type=float, metavar="BPM", help="tempo (the median of the style or the training data)")

    example = "musicvae vary loop.mid --distance 0.2"
    vary, vary_more = _maker(commands, _vary, "vary", "make variations of a groove", example)
    vary.add_argument("file", type=Path, metavar="FILE.mid", help="a MIDI file with drums on channel 10, in 4/4")
    text = "from 0 (as close as the model can) to 1 (unrelated) (%(default)s)"
    vary.add_argument("--distance", type=float, default=DEFAULT_DISTANCE, help=text)

    does = "keep the first bars of a groove and make new ones after them"
    go_on, go_on_more = _maker(commands, _continue, "continue", does, "musicvae continue loop.mid --bars 2")
    go_on.add_argument("file", type=Path, metavar="FILE.mid", help="a MIDI file with drums on channel 10, in 4/4")
    go_on.add_argument("--bars", type=int, default=1, help="number of bars to keep (%(default)s)")
    for given in (vary, go_on):
        given.add_argument("--tempo", type=float, metavar="BPM", help="tempo (that of the file)")
    for drawn in (new, go_on):
        text = "below 1: more likely grooves, above 1: wilder ones (%(default)s)"
        drawn.add_argument("--temperature", type=float, default=1.0, help=text)

    does = "play a groove as a drummer might: other velocities and timing, the same hits"
    example = "musicvae humanize loop.mid --count 4 --timing 0.7"
    humanize, humanize_more = _maker(commands, _humanize, "humanize", does, example)
    humanize.add_argument("file", type=Path, metavar="FILE.mid", help="a MIDI file with drums on channel 10, in 4/4")
    for name in ("timing", "velocity"):
        text = "from 0 (as in the file) to 1 (as the drummer plays) (%(default)s)"
        humanize.add_argument(f"--{name}", type=float, default=DEFAULT_AMOUNT, metavar="AMOUNT", help=text)
    text = "keep the accents and the timing of the file, and play around them"
    humanize.add_argument("--around", action="store_true", help=text)
    humanize.add_argument("--like-player", type=Path, metavar="FILE.mid", help="play as this file is played")

    does, example = "interpolate between two grooves", "musicvae interpolate mine.mid yours.mid --count 9"
    between, between_more = _maker(commands, _interpolate, "interpolate", does, example, count=9, seed=False)
    between.add_argument("start", type=Path, metavar="START.mid", help="a MIDI file with drums on channel 10, in 4/4")
    between.add_argument("end", type=Path, metavar="END.mid", help="a second MIDI file, as the first")

    show = commands.add_parser("show", help="show MIDI files as drum grids", epilog="example: musicvae show loop.mid")
    show.description = "Show the drums of MIDI files as drum grids. Time runs to the right; darker is louder."
    text, some = "MIDI files, or folders of them", "FILE.mid|FOLDER"
    show.add_argument("files", type=lambda word: Path(_word(word)), nargs="+", metavar=some, help=text)
    show.add_argument(
        "--out", type=_path, metavar="PICTURE.png", help=f"write a picture of the first {GROOVES_ON_PICTURE} grooves"
    )
    show.set_defaults(run=_show)
    for maker in (vary_more, go_on_more):
        maker.add_argument("--first-bar", metavar="N", help="bar to use the file from, from 1 (the first with hits)")
    text = "bar to use the files from, from 1 (the first with hits); N,N: one for each"
    between_more.add_argument("--first-bar", metavar="N", help=text)
    for reader in (vary_more, go_on_more, humanize_more, between_more, show):
        text = "how MIDI files are read, such as channels=1; repeatable"
        reader.add_argument("--reading", action="append", default=[], metavar="KEY=VALUE", help=text)
    return parser


def _maker(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    run: Callable[[argparse.Namespace], None],
    name: str,
    does: str,
    example: str,
    count: int = 8,
    *,
    seed: bool = True,
) -> "tuple[argparse.ArgumentParser, argparse._ArgumentGroup]":
    """A command that writes grooves, with the options that all of these have; and its group of rarer options."""
    parser = commands.add_parser(name, help=does, description=f"{does.capitalize()}.", epilog=f"example: {example}")
    out = Path("grooves", name)
    parser.add_argument("--count", type=int, default=count, help="number of grooves (%(default)s)")
    parser.add_argument("--out", type=_path, default=out, metavar="FOLDER", help="folder for the files (%(default)s)")
    more = parser.add_argument_group("more options")
    more.add_argument("--overwrite", action="store_true", help="replace files that musicvae wrote to --out")
    if seed:
        more.add_argument("--seed", type=int, default=0, help="another seed gives other grooves (%(default)s)")
    if run is not _humanize:
        model = "generation" if run in (_new, _continue) else "reconstruction"
        text = "generation, reconstruction or an export (%(default)s)"
        more.add_argument("--model", type=_word, default=model, metavar="NAME|FOLDER", help=text)
    parser.set_defaults(run=run, command=name)
    return parser, more


def _word(text: str) -> str:
    """Scripts make an empty word of a variable that is not set; as a path it is the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _path(text: str) -> Path:
    """A URL would be a folder `s3:` here."""
    from musicvae.data.manifest import is_url

    if is_url(text):
        raise argparse.ArgumentTypeError(f"{text} is a URL, and only paths can be used")
    return Path(_word(text))


def _check(options: argparse.Namespace, name: str, least: int | float, most: int | float) -> None:
    """Raises a ConfigError where an option that the command has is out of range."""
    value = getattr(options, name, None)
    if value is not None and not least <= value <= most:
        problem, expected = f"--{name} {value} cannot be used".replace("_", "-"), f"{least:,} to {most:,}"
        raise ConfigError(problem, expected=expected, found=str(value), do="correct the command line")


def _new(options: argparse.Namespace) -> None:
    names = _names(options, "groove")
    model = musicvae.load(options.model)
    how = {name: getattr(options, name) for name in ("seed", "temperature", "tempo", "style", "best_of")}
    grooves = model.sample(options.count, **how)
    _finish(options, model, names, grooves, [], "vary", options.out / names[0])


def _vary(options: argparse.Namespace) -> None:
    names, (bar,) = _names(options, "variation"), _first_bars(options, 1)
    model = musicvae.load(options.model)
    given = _read(options.file, model, options, bar)
    grooves = model.vary(given, options.distance, options.count, seed=options.seed)
    _finish(options, model, names, grooves, [given], "continue", options.out / names[0])


def _continue(options: argparse.Namespace) -> None:
    names, (bar,) = _names(options, "continued"), _first_bars(options, 1)
    model = musicvae.load(options.model)
    _check(options, "bars", 1, model.grid.bars - 1)
    given = _read(options.file, model, options, bar)
    grooves = model.continued(given, options.bars, options.count, seed=options.seed, temperature=options.temperature)
    _finish(options, model, names, grooves, [given], "interpolate", options.file, options.out / names[0])


def _humanize(options: argparse.Namespace) -> None:
    from musicvae.pretrained.performer import shipped_performer

    names, performer = _names(options, "played"), shipped_performer()
    file, player = _whole_file(options.file, performer, options), options.like_player
    player = player and _whole_file(player, performer, options).groove()
    how = {name: getattr(options, name) for name in ("timing", "velocity", "around")} | {"like_player": player}
    takes = [performer.humanize_file(file, seed=(options.seed + take) % 2**64, **how) for take in range(options.count)]
    given, *played = (take.first_window().groove(0, performer.grid) for take in (file, *map(file.again, takes)))
    _finish(options, performer, names, played, [given], "vary", options.out / names[0], contents=takes)


def _interpolate(options: argparse.Namespace) -> None:
    _check(options, "count", 2, RANGES["count"][1])
    names, (first, second) = _names(options, "between"), _first_bars(options, 2)
    model = musicvae.load(options.model)
    start, end = _read(options.start, model, options, first), _read(options.end, model, options, second)
    grooves = model.interpolate(start, end, options.count)
    _finish(options, model, names, grooves, [start, end], "show", options.out)


def _show(options: argparse.Namespace) -> None:
    from musicvae.groove.groove import DEFAULT_DRUM_MAP
    from musicvae.groove.picture import drum_grid, drum_sheet

    if options.out is not None and options.out.exists():
        raise ConfigError(f"{options.out} exists", expected="a new file", do="choose another --out")
    if options.out is not None and options.out.suffix.lower() != ".png":
        raise ConfigError(f"{options.out} is no name of a picture", expected="a name that ends in .png")
    grid, drum_map = musicvae.GridSpec(), musicvae.DrumMap.load(DEFAULT_DRUM_MAP)
    files, shown, grooves = _midi_files(options.files), [], []
    for file in files:
        try:
            windows = _windows(file, grid, drum_map, options)
        except DataError as error:
            if not shown and file == files[-1]:
                raise
            _say(f"{file} is skipped: {error.details['found']}\n")
            continue
        shown.append(file)
        for number, meta in enumerate(windows.meta):
            groove = windows.groove(number, grid)
            _say(f"{file}, from bar {meta.bar + 1}, {groove.tempo:.0f} bpm\n{drum_grid(groove, drum_map.classes)}\n")
            grooves.append(groove)
    if options.out is not None:
        write_files({options.out: drum_sheet(grooves[:GROOVES_ON_PICTURE], drum_map.classes)})
        _say(f"picture: {options.out.resolve()}")
    reading = [word for setting in options.reading for word in ("--reading", setting)]
    _say(f"next: musicvae {shlex.join(['vary', str(shown[0]), *reading])}")


def _midi_files(paths: Sequence[Path]) -> list[Path]:
    midi_files = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in MIDI_SUFFIXES and file.is_file())
        if not files:
            expected = f"files named {' or '.join(f'*{suffix}' for suffix in MIDI_SUFFIXES)}"
            raise ConfigError(f"there are no MIDI files in {path}", expected=expected, do="choose another folder")
        midi_files += files
    return midi_files


def _read(path: Path, model: "TrainedModel", options: argparse.Namespace, bar: int | None) -> "DrumGroove":
    """The window of a file that begins at a bar, or at the first one with hits; what was read of the file is shown."""
    windows = _windows(path, model.grid, model.drum_map, options, bar=bar, first_only=True)
    groove, tempo = windows.groove(0, model.grid), getattr(options, "tempo", None)
    return groove if tempo is None else replace(groove, tempo=tempo)


def _whole_file(path: Path, performer: "Performer", options: argparse.Namespace) -> "WholeFile":
    from musicvae.midi.groove_file import WholeFile

    file = WholeFile.read(path, performer.grid, performer.drum_map, **_how_read(options))
    _say(file.report.text(path, _how_read(options)["hint"]))
    return file


def _how_read(options: argparse.Namespace) -> dict[str, Any]:
    from musicvae.midi.reading_report import as_option
    from musicvae.midi.settings import ReadingSettings
    from musicvae.settings import apply_overrides, parse_settings

    return {"reading": parse_settings(ReadingSettings, apply_overrides({}, options.reading)), "hint": as_option}


def _windows(
    path: Path,
    grid: "GridSpec",
    drum_map: "DrumMap",
    options: argparse.Namespace,
    *,
    bar: int | None = None,
    first_only: bool = False,
) -> "WindowBlock":
    from musicvae.midi.groove_file import read_windows

    how = _how_read(options)
    windows, report = read_windows(path, grid, drum_map, bar=bar, first_only=first_only, **how)
    _say(report.text(path, how["hint"]))
    return windows


def _first_bars(options: argparse.Namespace, files: int) -> tuple[int | None, ...]:
    from musicvae.midi.settings import first_bars

    return first_bars(options.first_bar, files)


def _names(options: argparse.Namespace, kind: str) -> list[str]:
    """What the files will be called.

    Raises:
        ConfigError: one of them exists already, and is not to be replaced.
    """
    digits = max(2, len(str(options.count - 1)))
    names = [f"{kind}-{number:0{digits}}.mid" for number in range(options.count)]
    there = [name for name in (*names, PICTURE, RECORD) if (options.out / name).exists()]
    foreign = [name for name in there if name not in _written_before(options.out)]
    if foreign:
        raise ConfigError(
            f"{options.out / foreign[0]} exists",
            expected="a new file, or an unchanged one that musicvae wrote",
            found="a file that musicvae did not write, or that was changed later",
            do="choose another --out",
        )
    if there and not options.overwrite:
        raise ConfigError(
            f"{options.out} contains files that musicvae wrote earlier",
            expected="a new folder",
            found=f"{there[0]} and {len(there) - 1} other files",
            do="choose another --out, or replace them with --overwrite",
        )
    return names


def _written_before(out: Path) -> set[str]:
    """The files of a folder that are as an earlier command wrote them."""
    try:
        hashes = json.loads((out / RECORD).read_text(encoding="utf-8"))["files"]
        return {RECORD, *(file.name for file in out.iterdir() if hashes.get(file.name) == _hash(file.read_bytes()))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _finish(
    options: argparse.Namespace,
    model: "TrainedModel | Performer",
    names: Sequence[str],
    grooves: "Sequence[DrumGroove]",
    given: "Sequence[DrumGroove]",
    *next_words: object,
    contents: Sequence[bytes] | None = None,
) -> None:
    """Writes the files, and says where they are and what to run next.

    Args:
        given: what the grooves were made from; drawn ahead of them.
        contents: of the files, where a groove is not all of it.
    """
    from musicvae.groove.picture import drum_grid, drum_sheet
    from musicvae.midi.writer import groove_to_midi

    drums, out = model.drum_map.classes, options.out
    named = [replace(groove, source=name) for name, groove in zip(names, grooves, strict=True)]
    contents = contents or [groove_to_midi(groove, model.drum_map) for groove in named]
    files = dict(zip(names, contents, strict=True))
    files[PICTURE] = drum_sheet([*given, *named][:GROOVES_ON_PICTURE], drums)
    asked = {name: value for name, value in vars(options).items() if name not in ("run", "overwrite")}
    record = {
        "made": {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()},
        "weights": model.weights_hash,
        "files": {name: _hash(data) for name, data in files.items()},
    }
    # Whenever this is stopped, every file that is there has its hash in the record.
    before = _written_before(out) - {RECORD}
    write_files({out / name: None for name in before} | {out / RECORD: json.dumps(record, indent=1).encode()})
    write_files({out / name: data for name, data in files.items()})
    for groove in named[:GRIDS_SHOWN]:  # after the work, as a reader may leave
        _say(f"{groove.source}, {groove.tempo:.0f} bpm\n{drum_grid(groove, drums)}\n")
    files_made = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    _say(f"{len(named)} MIDI file{'s' * (len(named) > 1)} in {out.resolve()}: {files_made}; {PICTURE} shows them")
    _say(f"next: musicvae {shlex.join(map(str, next_words))}")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
