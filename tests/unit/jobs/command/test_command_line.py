"""What a command ends with."""

import io
import os
import re
import subprocess
import sys

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from cluster.errors import ExitCode
from jobs.command.command_line import WORD_END, JobCommand, PlainConsole, console
from musicvae.errors import UserError
from musicvae.terminal import shown
from tests.support.commands import CHECKOUT, QUIET, job_command
from tests.support.midi.midi_bytes import hit, midi_file

COMMAND = """
from cluster.errors import ExitCode, TargetError
from jobs.command.command_line import run_command
def main() -> None:
    raise TargetError("it is lost", found="nothing", {argument})
run_command(main)
"""


@pytest.mark.parametrize(
    ("argument", "code"), [("", ExitCode.USAGE), ("exit_code=ExitCode.UNEXPECTED", ExitCode.UNEXPECTED)]
)
def test_an_error_of_a_target_ends_with_its_own_code_and_no_traceback(argument, code):
    command = [sys.executable, "-c", COMMAND.format(argument=argument)]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert ended.returncode == code
    assert ended.stderr == "error: it is lost\n  found     nothing\n"


def test_the_docs_show_the_table_of_exit_codes():
    rows = re.findall(r"^    (\d+) +(.+)$", (CHECKOUT / "docs" / "README.md").read_text(), re.MULTILINE)
    assert rows == [(str(code.value), code.meaning) for code in ExitCode]


def test_every_error_ends_a_command_with_a_code_of_the_table():
    kinds: list[type[UserError]] = [UserError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_code for kind in kinds} <= {*ExitCode}


NAMES = ("shards [v1.0]", "[/run]", ":smile:", "a\x1b[31mb", "c\u202ed", "e\rf", "g\x9bh")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is_and_obeyed_by_no_terminal(name):
    file = io.StringIO()
    out = PlainConsole(file=file, width=80)
    out.print(name, soft_wrap=True)
    out.print(Table(name, title=name, caption=name, box=None))
    assert file.getvalue().count(shown(name)) == 4
    assert shown(name).isprintable()


def test_the_usage_texts_of_all_commands_are_listed(capsys):
    console.print("python -m jobs.status [FOLDER ...] [--watch 5]", soft_wrap=True)
    assert "[FOLDER ...] [--watch 5]" in capsys.readouterr().out


def test_a_terminal_that_cannot_show_a_character_ends_no_command(tmp_path):
    # Without UTF-8 in its place: a bare container, a cron job, ssh without a locale.
    bare = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    (tmp_path / "beat.mid").write_bytes(midi_file([event for beat in range(17) for event in hit(480 * beat, 36)]))
    command = job_command("show", tmp_path / "beat.mid")
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, env={**os.environ, **QUIET, **bare})
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"\|[:.xX-]+\|", ended.stdout)


def test_repeatable_options_take_as_many_words_as_their_metavar_has():
    given: list[object] = []

    def command(
        run: list[str] = typer.Option([]),
        label: list[str] = typer.Option([], metavar="NAME=VALUE"),
        pair: list[str] = typer.Option([], metavar="FILE FILE"),
    ) -> None:
        given.extend([run, label, pair])

    app = typer.Typer()
    app.command(cls=JobCommand)(command)
    line = ["--run", "a", "--run=b", "--label", "c=1", "--pair", "d", "e", "--pair=f", "g", "--run", "h"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert given == [["a", "b", "h"], ["c=1"], [f"d{WORD_END}e", f"f{WORD_END}g"]]
