"""What every command shares: exit codes, error messages, settings from file and command line."""

import difflib
import functools
import gc
import importlib
import inspect
import shlex
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias, TypeVar, cast, get_args

import typer
import yaml
from pydantic import Field
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from cluster.errors import ExitCode, TargetError
from jobs.command.paths import url_of, wrong_with_path
from jobs.command.stop_signals import HANDLED
from jobs.command.streams import LostOutputError, ending_quietly
from musicvae.errors import ConfigError, StoppedError, UserError
from musicvae.settings import Settings, apply_overrides, field_docs, parse_settings, read_yaml
from musicvae.terminal import degrade_to_ascii, shown

S = TypeVar("S", bound=Settings)
C = TypeVar("C", bound=Callable[..., Any])


class PlainConsole(Console):
    """Prints texts as they are, in tables too: names of files and runs are no markup and no commands to a terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)


console, error_console = PlainConsole(), PlainConsole(stderr=True)
OptionCheck: TypeAlias = tuple[str, object, object, str]
"""The option, its value, whether it can be used (by its truth), and what can be."""
SETTINGS, WORK = "Settings", "How the work is done"
"""Headings of groups of options that several commands have."""
HELP_WIDTH = 100
LARGEST_NUMBER = 2**64
"""That an option may have: a seed has so many values."""
WORD_END = "\0"
"""Between words of a repeatable option that takes several each time; no word of a command line has it."""
PRESETS = Path(__file__).parents[1] / "presets"

_ONLY_CHECKED: ContextVar[bool] = ContextVar("only checked", default=False)


class _Checked(BaseException):
    """The end of the checks, where they are all that is wanted."""


def end_of_checks() -> None:
    """Where a command has checked its arguments, and neither loaded torch nor changed anything."""
    if _ONLY_CHECKED.get():
        raise _Checked


def check_command(module: str, arguments: Sequence[str], *, function: str = "main") -> None:
    """Runs a command up to its `end_of_checks`: options by its own parser, the rest by its own code.

    Args:
        module: of `jobs`.
        function: the subcommand.

    Raises:
        UserError: as the command does.
        SystemExit: an option is wrong, which is shown; or the arguments ask for nothing but `--help` or the like.
        ImportError: this environment lacks what a check needs.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(cls=JobCommand)(getattr(importlib.import_module(f"jobs.{module}"), function))
    listening = {number: signal.getsignal(number) for number in HANDLED}
    token = _ONLY_CHECKED.set(True)
    try:
        with suppress(_Checked):
            app(list(arguments), prog_name=f"python -m jobs.{module}")
    finally:
        _ONLY_CHECKED.reset(token)
        for number, handler in listening.items():
            signal.signal(number, handler)


def run_command(*mains: Callable[..., Any]) -> NoReturn:
    """Runs a typer function as a command and ends the process with the status that `ExitCode` promises.

    Args:
        mains: several of them are subcommands under their own names.
    """
    with ending_quietly():
        _run_command(*mains)
    raise AssertionError("a command ends the process itself")


def _run_command(*mains: Callable[..., Any]) -> None:
    degrade_to_ascii()
    text, width = mains[0].__globals__["__doc__"], {"max_content_width": HELP_WIDTH}
    app = typer.Typer(
        cls=_Group,
        help=text,
        context_settings=width,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for main in mains:
        app.command(cls=JobCommand, context_settings=width)(_guarded(main))
    # `--` keeps torchrun from reading `--run` as short for an option of its own; not every Python's argparse eats it.
    app(sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:])


def _write_help(text: str, formatter: Any) -> None:
    """The docstring of a command: paragraphs are wrapped, examples are shown as they are."""
    write_wrapped = formatter.write_text
    for block in inspect.cleandoc(text).split("\n\n"):
        formatter.write_paragraph()
        with formatter.indentation():
            if block.lstrip().startswith("python -m "):
                formatter.write(textwrap.indent(f"{textwrap.dedent(block)}\n", " " * (formatter.current_indent + 2)))
            else:
                write_wrapped(block)


class _Group(TyperGroup):
    """Several commands, whose --help begins with the docstring of their file."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        _write_help(self.help or "", formatter)


class JobCommand(TyperCommand):
    """A command whose --help has a heading over each group of options.

    An option with a `rich_help_panel` begins the group of that name, and those after it belong to the same group.
    An empty word is an error: scripts make it of a variable that is not set, and as a path it is the current folder.
    Only options whose default is empty may have it.
    An option that may be repeated takes as many words each time as its metavar has.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        defaults = {name: parameter.default for parameter in self.get_params(ctx) for name in parameter.opts}
        for before, word in pairwise(["", *args]):
            name = word.removesuffix("=") if word else before
            if (not word or (word.endswith("=") and name in defaults)) and defaults.get(name) != "":
                ctx.fail(f"{name if name in defaults else 'An argument'} is empty.")
        rest = super().parse_args(ctx, self._with_joined_words(ctx, args))
        for name, value in ctx.params.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and not abs(value) < LARGEST_NUMBER:  # not a number is neither
                ctx.fail(f"--{name.strip('_').replace('_', '-')} {value} is out of range.")
        for parameter in self.get_params(ctx):
            self._refuse_urls(ctx, parameter)
        return rest

    def _with_joined_words(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer has no repeatable options of several words; each of ours becomes one, joined by WORD_END."""
        listed = [parameter for parameter in self.get_params(ctx) if getattr(parameter, "multiple", False)]
        counts = {name: len((option.metavar or "WORD").split()) for option in listed for name in option.opts}
        joined, coming = [], iter(args)
        for arg in coming:
            name, equals, first = arg.partition("=")
            if counts.get(name, 1) == 1:
                joined.append(arg)
                continue
            words = [*([first] if equals else []), *islice(coming, counts[name] - bool(equals))]
            if len(words) < counts[name] or any(word.startswith("--") for word in words):
                ctx.fail(f"Option '{name}' requires {counts[name]} arguments.")
            joined += [name, WORD_END.join(words)]
        return joined

    def _refuse_urls(self, ctx: Any, parameter: Any) -> None:
        """Options that read URLs are no paths; a path that is a URL would make a folder `s3:` here."""
        given = ctx.params.get(parameter.name)
        for value in given if isinstance(given, list | tuple) else [given]:
            if isinstance(value, Path) and (url := url_of(value)):
                name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar
                ctx.fail(f"{name} {url} is a URL, and only paths can be used. Copy the files, or mount the store.")

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        _write_help(self.help or "", formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        panel = "Options"
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None) or panel
                heading = "Arguments" if parameter.param_type_name == "argument" else panel
                groups.setdefault("Options" if parameter.name == "help" else heading, []).append(record)
        for heading, records in sorted(groups.items(), key=lambda group: group[0] != "Arguments"):
            with formatter.section(heading):
                formatter.write_dl(records)


def flag(text: str, default: Any = None, *, alias: str | None = None, **option: Any) -> Any:
    """A setting that is a flag of a command (`flags_of`).

    Args:
        text: of --help.
        alias: the name of flag and key, where Python has other uses for it.
        option: `metavar` as in --help, `panel`, the heading of the group that begins with it (as `rich_help_panel` of
            other options), and `kind`, the type that is read from the command line where it is not the setting's.
    """
    return Field(default, description=text, alias=alias, json_schema_extra=option)


def flags_of(kind: type[Settings]) -> Callable[[C], C]:
    """Gives a command a flag for each setting of a kind, as keyword arguments; None is a flag that is not given.

    A setting that is empty by default may be given empty.

    They come after the command's own options, and before those that the command declares behind `*`.
    """
    flags = []
    for name, field in kind.model_fields.items():
        option, default = cast(dict[str, Any], field.json_schema_extra), field.default
        spelled = f"--{field.alias or name}".replace("_", "-")
        is_said = field.is_required() or isinstance(default, bool) or default in (None, (), "")
        declared = typer.Option(
            f"{spelled}/--no-{spelled[2:]}" if bool in (field.annotation, *get_args(field.annotation)) else spelled,
            metavar=option.get("metavar"),
            help=f"{field.description}" + ("" if is_said else f" [{default}]"),
            rich_help_panel=option.get("panel"),
        )
        of_type = Annotated[(option.get("kind") or field.annotation) | None, declared]
        absent = "" if default == "" else None
        flags.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=of_type))

    def with_flags(main: C) -> C:
        main_parameters = [
            parameter
            for parameter in inspect.signature(main).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        before = [parameter for parameter in main_parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        parameters = [*before, *flags, *main_parameters[len(before) :]]
        main.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return main

    return with_flags


def _guarded(main: Callable[..., Any]) -> Callable[..., None]:
    # Typer's versions differ in what they make of an error or a Ctrl-C, so none gets out to it.
    @functools.wraps(main)
    def guarded(*args: Any, **kwargs: Any) -> None:
        code = _exit_code(functools.partial(main, *args, **kwargs))
        gc.freeze()  # the interpreter's last collections would visit all that torch is made of, for half a second
        sys.exit(code)

    return guarded


class _Terminated(BaseException):
    """SIGTERM, as an exception: what was begun aside is cleaned up on the way out."""


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


def _exit_code(command: Callable[[], Any]) -> int:
    signal.signal(signal.SIGTERM, _terminate)  # jobs.train puts a gentler one in its place
    try:
        command()
    except _Terminated:
        _tell("terminated; run the same command again")
        return ExitCode.PREEMPTED
    except KeyboardInterrupt:
        _tell("interrupted")
        return ExitCode.INTERRUPTED
    except StoppedError as error:
        if not error.shown_elsewhere:
            _tell(str(error))
        return ExitCode.INTERRUPTED if error.by_user else ExitCode.PREEMPTED
    except UserError as error:
        if not error.shown_elsewhere:
            _tell(shown(f"error: {error}"))
        return error.exit_code
    except TargetError as error:
        show_error(error)
        return error.exit_code
    except OSError as error:
        wrong = wrong_with_path(error)
        _tell(shown(f"error: {wrong}") if wrong else traceback.format_exc().rstrip())
        return wrong.exit_code if wrong else ExitCode.UNEXPECTED
    except Exception:
        _tell(traceback.format_exc().rstrip())
        return ExitCode.UNEXPECTED
    return ExitCode.SUCCESS


def show_error(error: TargetError, *, about: str = "") -> None:
    """Shows an error on stderr as commands end with it.

    Args:
        about: what it concerns, where a command goes on with other things.
    """
    _tell(shown(f"error: {about}{ConfigError(error.problem, **error.details)}"))


def _tell(text: str) -> None:
    with suppress(LostOutputError):  # why a command ends is its exit code too
        print(text, file=sys.stderr)


def show_next(*words: object) -> None:
    """Ends the output of a long command: what most people run next."""
    console.print(f"next: python -m jobs.{shlex.join(map(str, words))}", soft_wrap=True)


def compose_settings(
    kind: type[S],
    *,
    preset: str | None = None,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> S:
    """Settings from a shipped preset or a YAML file, then the overrides or flags (`flags_of`) of the command line.

    Raises:
        ConfigError: both or no such preset, an unreadable file, an unknown key or a value out of range. Beside a
            misspelt preset, what is wrong with the overrides is in the same message.
    """
    if preset is not None and config is not None:
        raise ConfigError("--preset and --config exclude each other", do="give only one of them")
    try:
        values = read_yaml(config) if config is not None else {} if preset is None else read_preset(preset)
    except ConfigError as unknown:
        if near := preset and _nearest_preset(preset):
            try:
                compose_settings(kind, preset=near, overrides=overrides)
            except ConfigError as wrong:
                raise ConfigError(f"{unknown}\n{wrong}") from None
        raise
    given_flags = {
        name: value for name, value in (flags or {}).items() if value is not None and name in kind.model_fields
    }
    given = {kind.model_fields[name].alias or name: value for name, value in given_flags.items()}
    return parse_settings(kind, {**apply_overrides(values, overrides), **given})


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a shipped preset.

    Raises:
        ConfigError: there is none of that name.
    """
    path = PRESETS / f"{name}.yaml"
    if not path.exists():
        shipped, near = ", ".join(_presets()), _nearest_preset(name)
        problem = f"there is no preset {name!r}" + (f" (did you mean {near}?)" if near else "")
        raise ConfigError(problem, expected=shipped, do="choose one, or use --config FILE")
    return read_yaml(path)


def settings_source(preset: str | None, config: Path | None, overrides: Sequence[str]) -> str:
    """Where the settings of a training come from, for its first line."""
    changed = f", {len(overrides)} of them changed" if overrides else ""
    if preset or config:
        return f"settings: {f'preset {preset}' if preset else config}{changed}"
    return f"settings: defaults{changed}, as no --preset is given; presets: {', '.join(_presets())}"


def _presets() -> list[str]:
    return sorted(preset.stem for preset in PRESETS.glob("*.yaml"))


def _nearest_preset(name: str) -> str | None:
    return next(iter(difflib.get_close_matches(name, _presets(), n=1)), None)


def settings_text(settings: Settings, *, indent: str = "") -> str:
    """Settings as the YAML that would give them again, each under its description."""
    lines, docs = [], field_docs(type(settings))
    for name, field in type(settings).model_fields.items():
        value, about = getattr(settings, name), field.description or docs.get(name, "")
        lines += [f"{indent}# {line}" for line in about.splitlines()]
        if isinstance(value, Settings):
            lines += [f"{indent}{name}:", settings_text(value, indent=indent + "  ").rstrip("\n")]
        else:
            plain = {field.alias or name: settings.model_dump(mode="json", include={name})[name]}
            lines.append(textwrap.indent(yaml.safe_dump(plain, sort_keys=False).rstrip("\n"), indent))
    return "\n".join(lines) + "\n"


def option_error(option: str, value: object, expected: str, *, do: str = "correct the command line") -> ConfigError:
    """What to say of an option whose value cannot be used."""
    return ConfigError(f"{option} {value} cannot be used", expected=expected, found=repr(value), do=do)


def check_options(*checks: OptionCheck) -> None:
    """Goes through checks in order.

    Raises:
        ConfigError: an option cannot be used; the first of them.
    """
    for option, value, usable, expected in checks:
        if not usable:
            raise ConfigError(
                f"{option} {value} cannot be used", expected=expected, found=f"{value}", do="correct the command line"
            )
