"""Wrong command lines, from a seed: each is a sound line of a command with one thing in it that cannot be used.

What can be wrong with an option is found by its type, its name and what --help calls its value. A new option that none
of these knows is an error of the tests, so that every option of every command is tried.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, islice
from random import Random
from typing import Annotated, Any, get_args, get_origin

import typer

from jobs.command.command_line import JobCommand
from musicvae.command_line import _parser
from tests.support.commands import CHECKOUT

LOOP = "{root}/loop.mid"
ABSENT, FILE, EMPTY, NEW, BELOW_A_FILE = "{root}/absent", "{root}/file", "{root}/empty", "{root}/new", "{root}/file/x"
TOO_LONG = "{root}/" + "x" * 300
MUCH_TOO_LONG = "{root}/" + "x/" * 3000
BRACKETS = "[" * 3000
NO_NUMBERS = ("", "x", "nan", "1e999", "-1", "--", "\n", "-99999999999999999999999")
INPUTS = (ABSENT, EMPTY, FILE, BELOW_A_FILE, TOO_LONG, MUCH_TOO_LONG, "")
STORE = "s3://bucket/x"
NEW_FOLDERS = (FILE, BELOW_A_FILE, TOO_LONG, MUCH_TOO_LONG, STORE, "")
NEW_FILES = (EMPTY, f"{ABSENT}/x", BELOW_A_FILE, TOO_LONG, MUCH_TOO_LONG, "/sys/x", STORE, "")
READ_FILES = (ABSENT, EMPTY, BELOW_A_FILE, TOO_LONG, MUCH_TOO_LONG, "{root}/brackets.yaml", "{root}/bytes", "")
NAMES = ("nonsense", "", "../demo", "\n", "x" * 5000)
SHARES = ("x", "0/0", "3/3", "-1/4", "0/99999999999", "")
ADDRESSES = ("nowhere", "127.0.0.1:1", "127.0.0.1:x", "127.0.0.1:99999999", "x" * 300 + ":1")
SETTINGS = ("nonsense=1", "=1", "x", f"{BRACKETS}=1", f"demo.seed={BRACKETS}", "a.b.c=1", "")
OF_TRAINING = (
    "model=3",
    "model.latent=99999999999",
    "model.latent=0x",
    "train.steps=.inf",
    "optimizer.learning_rate=.nan",
)

BY_NAME: Mapping[str, Sequence[str]] = {
    "--account": ("a\nb", ""),
    "--array": ("0", "-1", "99999999999", "3%0", "x", "1e3", ""),
    "--audio": NAMES,
    "--bar-temperature": ("0,1,1,1", "1,1", "nan,1,1,1", "x", ""),
    "--best": ("0", "-1", "x", "3"),
    "--by": NAMES,
    "--data": NAMES,
    "--density": ("6:3", "x", "nan", "1e999", "-3:-1", ""),
    "--dtype": NAMES,
    "--env": ("x", "=1", "A B=1", "API_KEY=secret", ""),
    "--feel": ("nonsense", "\n", ""),
    "--style": ("nonsense", "funk:0", "\n", ""),
    **dict.fromkeys(("--sync-to", "--resume-from"), ("runs/one", "pipe:cat", "")),
    "--figures": READ_FILES,
    "--first-bar": ("1", "0", "-1", "1,x", "1,2,3", "1.5", ""),
    "--forbid": NAMES,
    "--from": READ_FILES,
    "--interpolate": (ABSENT, ""),
    "--job": (),
    "--keep": ("kick",),
    "--keep-bars": ("1",),
    "--bars": ("1", "0", "x"),
    "--steps": ("3", "1", "x"),
    "--like": READ_FILES,
    "--humanize": READ_FILES,
    "--like-player": READ_FILES,
    "--continue": READ_FILES,
    "--mem": ("4G\nx", "x", "-4G", "4 G", "1e3", ""),
    "--move": ("x", "nonsense=1", "density=nan", "density=x", ""),
    "--must-have": NAMES,
    "--nodes": ("0", "x", "-1", "", "3:1"),
    "--notify": (),
    "--on": NAMES,
    "--pack": NAMES,
    "--partition": ("a\nb", ""),
    "--qos": ("a\nb", ""),
    "--constraint": ("a\nb", ""),
    "--exclude": ("a\nb", ""),
    "--reservation": ("a\nb", ""),
    "--sbatch": ("nice=5", "--nice=5\nx", ""),
    "--after": ("x", "1 2", "-1", ""),
    "--name": ("a b", "../x", "a\nb", ""),
    "--pick": READ_FILES,
    "--pitches": READ_FILES,
    "--precision": NAMES,
    "--preset": NAMES,
    "--ray-jobs": (),
    "--reading": ("x", "nonsense=1", f"channels={BRACKETS}", "channels=17", ""),
    "--rendezvous": ("nowhere", "127.0.0.1:x", ""),
    "--rendezvous-id": ("",),
    "--retry": NAMES,
    "--share": SHARES,
    "--shard": SHARES,
    "--site": (ABSENT, "nonsense", "{root}/brackets.yaml", "{root}/list.yaml", "{root}/bytes.yaml", TOO_LONG, ""),
    "--split": NAMES,
    "--stop-before": ("nan", "1e999", "-1e300", "x", "0001-01-01", ""),
    "--submissions": (FILE, BELOW_A_FILE, MUCH_TOO_LONG, "{root}/a\nb", ""),
    "--tempo-range": ("9:3", "x", "nan:nan", "0:1", "style", ""),
    "--time": ("x", "0", "-1", "1:2:3:4", ""),
    "--workers": ("-1", "x", "", "nan", "99999999999999999999999"),
    "--shared": (FILE, BELOW_A_FILE, TOO_LONG, MUCH_TOO_LONG, ""),
}
"""What cannot be used as the value of an option; empty where anything can."""
BY_METAVAR: Mapping[str, Sequence[str]] = {
    "FOLDER|URL": (*INPUTS, "nothing://x/y"),
    "FILE.yaml": READ_FILES,
    "RUN": INPUTS,
    "HOST:PORT": ADDRESSES,
    "key.sub=value": SETTINGS,
}
BY_COMMAND: Mapping[tuple[str, str], Sequence[str]] = {
    **{(command, "--run"): NEW_FOLDERS for command in ("train", "train_on_ray")},
    **{(command, "--run"): INPUTS for command in ("evaluate", "latent", "map", "sample")},
    **{(command, "--out"): NEW_FOLDERS for command in ("build_shards", "sample", "sweep run", "demo")},
    **{(command, "--out"): NEW_FILES for command in ("map", "report")},
    **{(command, "--json"): NEW_FILES for command in ("evaluate", "latent")},
    **{(command, "overrides"): (*SETTINGS, *OF_TRAINING) for command in ("train", "train_on_ray")},
    ("build_shards", "--source"): (ABSENT, EMPTY, FILE, TOO_LONG, MUCH_TOO_LONG, ""),
    ("export", "out"): NEW_FOLDERS,
    ("export", "run"): INPUTS,
    ("export renew", "out"): INPUTS,
    ("report", "runs"): INPUTS,
    ("show", "location"): (ABSENT, EMPTY, TOO_LONG, MUCH_TOO_LONG, ""),
    ("submit", "kind"): NAMES,
    ("submit", "arguments"): ("--nonsense", "--retry=x", "s3://user:secret@host/x"),
    ("sweep run", "sweep"): ("nonsense", ABSENT, "{root}/brackets.yaml", TOO_LONG, ""),
    ("sample", "--weights"): INPUTS,
    ("latent", "--preset"): NAMES,
    ("sample", "--preset"): NAMES,
    ("doctor", "--ray-jobs"): (),
    ("cancel", "folders"): INPUTS,
    ("clean", "submissions"): INPUTS,
    ("retry", "submissions"): INPUTS,
    ("logs", "folders"): INPUTS,
    ("status", "folders"): (TOO_LONG, ""),
    ("sweep status", "folder"): INPUTS,
    ("sweep compare", "folders"): INPUTS,
    ("sweep report", "folder"): INPUTS,
    ("sweep best", "folder"): INPUTS,
    ("sweep dashboard", "folder"): INPUTS,
    ("sample merge", "--out"): INPUTS,
    ("evaluate", "--cache-dir"): (),
}
TRAINING = ("--shards", "{shards}", "--run", NEW, "--preset", "demo")
BASES: Mapping[str, Sequence[str]] = {
    "build_shards": ("--source", "demo", "--out", NEW, "--workers", "0"),
    "cancel": (ABSENT,),
    "clean": (EMPTY,),
    "demo": ("--out", FILE),
    "doctor": ("--shared", FILE),
    "evaluate": ("--shards", "{shards}", "--run", "{run}"),
    "export": ("{run}", NEW),
    "export renew": (ABSENT, "--shards", "{shards}"),
    "latent": ("--shards", "{shards}", "--run", "{run}"),
    "logs": (EMPTY,),
    "map": ("--shards", "{shards}", "--run", "{run}", "--out", f"{NEW}.png"),
    "report": ("{run}",),
    "retry": (EMPTY,),
    "sample": ("--run", "{run}", "--count", "2", "--out", NEW),
    "sample merge": ("--out", ABSENT),
    "show": ("{shards}",),
    "status": (),
    "submit": ("train", "--on", "slurm", "--dry-run", "--", *TRAINING),
    "sweep run": ("demo", "--shards", "{shards}", "--out", NEW, "--dry-run"),
    "sweep status": (ABSENT,),
    "sweep compare": (ABSENT,),
    "sweep report": (ABSENT,),
    "sweep best": (ABSENT,),
    "sweep dashboard": (ABSENT,),
    "train": TRAINING,
    "train_on_ray": TRAINING,
    "musicvae new": ("--count", "1", "--out", NEW),
    "musicvae vary": (LOOP, "--count", "1", "--out", NEW),
    "musicvae continue": (LOOP, "--count", "1", "--out", NEW),
    "musicvae humanize": (LOOP, "--count", "1", "--out", NEW),
    "musicvae interpolate": (LOOP, LOOP, "--count", "2", "--out", NEW),
    "musicvae show": (LOOP,),
}
"""A sound line of each command; or one that is wrong already, where a sound one would start an hour's work.
"""
NO_MIDI = (ABSENT, EMPTY, FILE, BELOW_A_FILE, TOO_LONG, MUCH_TOO_LONG, "", "{root}/bytes", "/dev/zero", "{root}/pipe")
PLACES = {"file": 0, "files": 0, "start": 0, "end": 1}
OF_MUSICVAE: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("count", "seed", "best_of", "temperature", "tempo", "distance", "timing", "velocity"), NO_NUMBERS),
    "bars": ("0", "4", "x", "1.5", ""),
    "first_bar": ("0", "-1", "x", "1,2,3", "9999", ""),
    "model": (ABSENT, EMPTY, FILE, "nonsense", TOO_LONG, MUCH_TOO_LONG, ""),
    "style": ("nonsense", "funk:0", "\n", ""),
    "out": (FILE, BELOW_A_FILE, TOO_LONG, MUCH_TOO_LONG, "/sys/x", STORE, ""),
    "reading": ("x", "nonsense=1", f"channels={BRACKETS}", "channels=17", ""),
    **dict.fromkeys((*PLACES, "like_player"), NO_MIDI),
}
"""What cannot be used, by the name of the option or argument of the command `musicvae`."""
CONTRADICTIONS: Mapping[str, Sequence[Sequence[str]]] = {
    "build_shards": (("--config", ABSENT), ("split.group=column",)),
    "evaluate": (("--no-models", "--no-baselines"), ("--split", "test")),
    "latent": (("--preset", "generation"),),
    "map": (("--preset", "generation"),),
    "sample": (
        ("--preset", "generation"),
        ("--pack", "none", "--no-files"),
        ("--no-files", "--audio", "wav"),
        ("--temperature", "1", "--bar-temperature", "1,1,1,1"),
        ("--tempo", "100", "--tempo-range", "90:100"),
        ("--continue", FILE, "--from", FILE, "--keep", "kick"),
        ("--refill",),
        ("--resume",),
    ),
    "submit": (("--array", "3"), ("--nodes", "0"), ("--cpus-per-node", "0")),
    "sweep run": (("--share", "0/2", "--ray-address", "127.0.0.1:1"),),
    "train": (
        ("--config", "{root}/list.yaml"),
        ("--nodes", "2"),
        ("--rendezvous", "127.0.0.1:29500"),
        ("--ranks", "99999999999"),
    ),
    "train_on_ray": (("--config", "{root}/list.yaml"), ("--workers", "3:1"), ("--workers", "99999999999")),
}


@dataclass(frozen=True, slots=True)
class WrongLine:
    """A command and its arguments, in which `{root}`, `{shards}` and `{run}` stand for folders; and what is wrong."""

    command: str
    arguments: tuple[str, ...]
    wrong: str

    def argv(self) -> list[str]:
        """Module and arguments."""
        name, *subcommand = self.command.split()
        return [name if name == "musicvae" else f"jobs.{name}", *subcommand, *self.arguments]


def wrong_lines(count: int | None, seed: int) -> list[WrongLine]:
    """Some lines, `count` of them or all that have one thing wrong; each comes once before two things are wrong."""
    rng, lines = Random(seed), list(chain.from_iterable(map(lines_of, BASES)))
    rng.shuffle(lines)
    while count is not None and len(lines) < count:
        first, second = rng.sample(lines, 2)
        # Two things wrong at once: the second one's words lie behind the sound line of the first.
        if first.command == second.command and "--" not in first.arguments:
            added = second.arguments[len(BASES[second.command]) :]
            lines.append(WrongLine(first.command, first.arguments + added, f"{first.wrong}; {second.wrong}"))
    return list(islice(lines, count))


def lines_of(command: str) -> Iterator[WrongLine]:
    """One line for each thing that can be wrong."""
    base = tuple(BASES[command])
    yield WrongLine(command, ("--nonsense", *base), "an unknown option")
    if command.startswith("musicvae "):
        yield from _lines_of_musicvae(command, base)
        return
    for parameter in click_command(command).params:
        for value in wrong_values(command, parameter):
            option = parameter.opts[0]
            if not option.startswith("-"):
                yield WrongLine(command, _with_argument(command, option, base, value), f"{option} {value[:40]!r}")
            else:
                yield WrongLine(command, _with_option(base, option, value), f"{option} {value[:40]!r}")
        if parameter.opts[0].startswith("-") and getattr(parameter, "is_flag", False) and parameter.name != "help":
            yield WrongLine(command, (f"{parameter.opts[0]}=1", *base), f"{parameter.opts[0]} with a value")
    for words in CONTRADICTIONS.get(command, ()):
        yield WrongLine(command, (*words, *base), " ".join(words)[:60])


def _lines_of_musicvae(command: str, base: tuple[str, ...]) -> Iterator[WrongLine]:
    for action in musicvae_commands()[command.removeprefix("musicvae ")]._actions:
        if action.nargs == 0:  # a flag
            continue
        for value in OF_MUSICVAE[action.dest]:
            if action.option_strings:
                arguments = _with_option(base, action.option_strings[0], value)
            else:
                place = PLACES[action.dest]
                arguments = (*base[:place], value, *base[place + 1 :])
            yield WrongLine(command, arguments, f"{action.dest} {value[:40]!r}")


def musicvae_commands() -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of the command `musicvae`."""
    subparsers = [action.choices for action in _parser()._actions if isinstance(action.choices, dict)]
    return subparsers[0]


def commands() -> set[str]:
    """All commands and subcommands, by what their files run."""
    found = {f"musicvae {name}" for name in musicvae_commands()}
    for path in (CHECKOUT / "jobs").glob("[a-z]*.py"):
        for names in re.findall(r"^ +run_command\((.+)\)$", path.read_text(), re.MULTILINE):
            found |= {path.stem if name == "main" else f"{path.stem} {name}" for name in names.split(", ")}
    return found


def _with_option(base: Sequence[str], option: str, value: str) -> tuple[str, ...]:
    """The wrong value in place of the sound one, or before all others."""
    place = base.index(option) if option in base else 0
    rest = (*base[:place], *base[place + 2 :]) if option in base else base
    if value and not value.startswith("-"):
        added = (option, value, value) if option == "--interpolate" else (option, value)
    else:
        added = (f"{option}={value}",)
    return (*rest[:place], *added, *rest[place:])


def _with_argument(command: str, name: str, base: Sequence[str], value: str) -> tuple[str, ...]:
    first = {"runs", "run", "location", "kind", "sweep", "folders", "submissions", "folder"}
    if name in first or (name, command) == ("out", "export renew"):
        return (value, *base[1:])
    return (base[0], value, *base[2:]) if name == "out" else (*base, value)


def wrong_values(command: str, parameter: Any) -> Sequence[str]:
    """What cannot be the value of an option or argument.

    Raises:
        LookupError: an option that the tables do not know.
    """
    option, metavar = parameter.opts[0], parameter.metavar or ""
    if parameter.name == "help" or getattr(parameter, "is_flag", False):
        return ()
    known = (BY_COMMAND.get((command, option)), BY_NAME.get(option), BY_METAVAR.get(metavar))
    for values in known:
        if values is not None:
            return [value for value in values if value or parameter.default != ""]
    if {int, float} & _types(command, parameter.name):
        return NO_NUMBERS
    if option in ("--shards",):
        return (*INPUTS, "nothing://x/y")
    raise LookupError(f"{command} {option} {metavar}: tests/support/harm/wrong_lines.py does not know what is wrong")


def _types(command: str, name: str) -> set[Any]:
    """The types of a parameter, as the signature of the command has them."""
    waiting, types = [inspect.signature(function_of(command)).parameters[name].annotation], set()
    while waiting:
        types.add(kind := waiting.pop())
        waiting += get_args(kind)[: 1 if get_origin(kind) is Annotated else None]
    return types


def click_command(command: str) -> Any:
    """The parser of a command or subcommand."""
    app = typer.Typer()
    app.command(cls=JobCommand)(function_of(command))
    return typer.main.get_command(app)


def function_of(command: str) -> Callable[..., Any]:
    """What a command or subcommand calls."""
    name, *subcommand = command.split()
    return getattr(import_module(f"jobs.{name}"), subcommand[0] if subcommand else "main")
