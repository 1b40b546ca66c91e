"""What every command shares: exit codes, error messages, settings from file and command line, output folders.

A command replaces an output folder only when it is told to, and only a folder that it made itself.
"""

import functools
import gc
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

import typer
import yaml
from rich.console import Console

from cluster.errors import ExitCode, TargetError
from musicvae.errors import ConfigError, DataError, DivergedError, StoppedError, SupersededError, UserError
from musicvae.settings import Settings, apply_overrides, parse_settings, read_yaml

S = TypeVar("S", bound=Settings)
console = Console(highlight=False)
OptionCheck: TypeAlias = tuple[str, object, object, str]
"""The option, its value, whether it can be used (by its truth), and what can be."""
PRESETS = Path(__file__).parents[1] / "presets"


def run_command(*mains: Callable[..., Any]) -> NoReturn:
    """Runs a typer function as a command and ends the process with the status that `ExitCode` promises.

    Args:
        mains: several of them are subcommands under their own names.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    for main in mains:
        app.command()(_guarded(main))
    # `--` keeps torchrun from reading `--run` as short for an option of its own; not every Python's argparse eats it.
    app(sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:])
    raise AssertionError("typer ends the process itself after a wrong command line or --help")


def _guarded(main: Callable[..., Any]) -> Callable[..., None]:
    # Typer's versions differ in what they make of an error or a Ctrl-C, so none gets out to it.
    @functools.wraps(main)
    def guarded(*args: Any, **kwargs: Any) -> None:
        code = _exit_code(functools.partial(main, *args, **kwargs))
        sys.stdout.flush()
        gc.freeze()  # the interpreter's last collections would visit all that torch is made of, for half a second
        sys.exit(code)

    return guarded


class _Terminated(BaseException):
    """SIGTERM, as an exception: what was begun aside is cleaned up on the way out."""


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


def _exit_code(command: Callable[[], Any]) -> ExitCode:
    signal.signal(signal.SIGTERM, _terminate)  # jobs.train puts a gentler one in its place
    try:
        command()
    except _Terminated:
        print("terminated; run the same command again", file=sys.stderr)
        return ExitCode.PREEMPTED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except StoppedError as error:
        if not error.shown_elsewhere:
            print(error, file=sys.stderr)
        return ExitCode.INTERRUPTED if error.by_user else ExitCode.PREEMPTED
    except UserError as error:
        if not error.shown_elsewhere:
            print(f"error: {error}", file=sys.stderr)
        return _code_of(error)
    except TargetError as error:
        print(f"error: {ConfigError(error.problem, **error.details)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SUCCESS
    except Exception:
        traceback.print_exc()
        return ExitCode.UNEXPECTED
    return ExitCode.SUCCESS


def _code_of(error: UserError) -> ExitCode:
    match error:
        case ConfigError() | SupersededError():
            return ExitCode.USAGE
        case DataError():
            return ExitCode.DATA
        case DivergedError():
            return ExitCode.DIVERGED
        case _:
            return ExitCode.UNEXPECTED


def compose_settings(
    kind: type[S], *, preset: str | None = None, config: Path | None = None, overrides: Sequence[str] = ()
) -> S:
    """Settings from a shipped preset or a YAML file, then the overrides of the command line.

    Raises:
        ConfigError: both or no such preset, an unreadable file, an unknown key or a value out of range.
    """
    if preset and config:
        raise ConfigError("--preset and --config exclude each other", do="give one of them")
    values = read_yaml(config) if config else read_preset(preset) if preset else {}
    return parse_settings(kind, apply_overrides(values, overrides))


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a shipped preset.

    Raises:
        ConfigError: there is none of that name.
    """
    path = PRESETS / f"{name}.yaml"
    if not path.exists():
        shipped = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
        raise ConfigError(f"there is no preset {name!r}", expected=shipped, do="name one, or pass --config FILE")
    return read_yaml(path)


def settings_text(settings: Settings, *, indent: str = "") -> str:
    """Settings as the YAML that would give them again, each under its description."""
    lines = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if field.description:
            lines += [f"{indent}# {line}" for line in field.description.splitlines()]
        if isinstance(value, Settings):
            lines += [f"{indent}{name}:", settings_text(value, indent=indent + "  ").rstrip("\n")]
        else:
            plain = list(value) if isinstance(value, tuple) else value
            lines.append(textwrap.indent(yaml.safe_dump({name: plain}, sort_keys=False).rstrip("\n"), indent))
    return "\n".join(lines) + "\n"


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


def check_output(out: Path, *, option: str, maker: str, ours: str, is_ours: bool, overwrite: bool) -> None:
    """Refuses to touch what is not to be replaced.

    Args:
        option: how the command line calls the folder.
        maker: the command.
        ours: what it makes, in words.
        is_ours: whether that is what stands there.

    Raises:
        ConfigError: `out` holds something, and --overwrite is not given or the command has not made it.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (is_ours and overwrite):
        raise ConfigError(
            f"{out} exists",
            expected="a new path" + (f", or {ours}" if overwrite else ""),
            found=ours if is_ours else f"something that {maker} has not made",
            do=f"name another {option}" + (", or replace it with --overwrite" if is_ours else ""),
        )
