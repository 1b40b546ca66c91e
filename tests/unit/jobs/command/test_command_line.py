"""What a command ends with."""

import subprocess
import sys

import pytest

from cluster.errors import ExitCode
from tests.support.commands import CHECKOUT

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
