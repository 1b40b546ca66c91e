"""Every command that README and docs show is one that its program takes: options, settings, presets and values.

Nothing is run: `make test-slow` and `make soak` run the pages themselves.
"""

import shlex
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
import typer

from jobs.command.command_line import JobCommand, check_command
from musicvae.errors import NotThereError
from tests.support.commands import CHECKOUT
from tests.support.pages.fenced_code import fenced

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
CHECKS_AND_ENDS = {"build_shards", "evaluate", "report", "sample", "sweep", "train", "train_on_ray"}
"""Commands that can check more than their options without doing anything (`end_of_checks`)."""
SUBCOMMANDS = {"best", "compare", "dashboard", "merge", "report", "run", "status"}
AFTER = {"|", "&&", "||", ";", ">", ">>", "2>", "<", "&"}
"""What ends a command in a line of a shell."""


def documented(page: Path) -> list[tuple[str, ...]]:
    """The words after `python -m jobs.` of each command of a page, in order."""
    commands = []
    for block in fenced(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for place, word in enumerate(words):
                if word.startswith("jobs.") and words[place - 1] == "-m":
                    rest = words[place + 1 :]
                    end = next((at for at, later in enumerate(rest) if later in AFTER), len(rest))
                    commands.append((word.removeprefix("jobs."), *rest[:end]))
    return commands


def check(name: str, *arguments: str) -> None:
    """Parses the options of a command, and lets it check the rest if it can without doing anything."""
    module, function, words = import_module(f"jobs.{name}"), "main", list(arguments)
    if words and words[0] in SUBCOMMANDS & vars(module).keys():
        function = words.pop(0)
    if name == "train" and "--ranks" not in words:
        words = ["--ranks", "1", *words]  # the launcher checks the settings, a rank would have to train
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=JobCommand)(vars(module)[function])
    try:
        typer.main.get_command(app).make_context(name, list(words))
        if name in CHECKS_AND_ENDS and function in ("main", "run", "merge"):
            check_command(name, words, function=function)
    except SystemExit as shown:  # --help and --show-config
        if shown.code:
            raise


@pytest.mark.parametrize("page", [page for page in PAGES if documented(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_taken(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a command that ran after all would not write into the checkout
    for name, *arguments in documented(page):
        with suppress(NotThereError):  # an earlier command of the page makes it
            check(name, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("sample --coutn 3", "coutn"),
        ("sample --count three", "valid integer"),
        ("train --preset demo --shards shards --run run train.stepz=3", "train.steps"),
    ],
)
def test_a_wrong_command_would_be_found(command, named):
    with pytest.raises(Exception, match=named):
        check(*command.split())
