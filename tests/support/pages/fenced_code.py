"""The code blocks of a Markdown page, as a reader copies them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.commands import CHECKOUT, SOAK
from tests.support.processes.warm_python import shell_variables, starts_alike


def fenced(page: Path, language: str) -> list[str]:
    """The blocks of a language on a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_shell_blocks(page: Path, folder: Path, **variables: str) -> str:
    """Runs every shell command of a page as it stands there, in a folder; returns what they printed.

    Args:
        variables: more of the environment.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **variables}
    with TemporaryDirectory() as stand_in:
        if SOAK:  # a reader's shell does not limit the threads, which beside other tests cost more than they bring
            environment.pop("OMP_NUM_THREADS", None)
        elif starts_alike(environment):
            client = Path(stand_in, "python")
            client.write_text(
                f'#!/bin/sh\nexec {sys.executable} -I -S {CHECKOUT}/tests/support/processes/warm_client.py "$@"\n',
                encoding="utf-8",
            )
            client.chmod(0o755)
            environment.update(shell_variables(), PATH=f"{stand_in}:{environment['PATH']}")
        shell = subprocess.run(
            ["bash", "-ex"],
            input="\n".join(fenced(page, "sh")),
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )
    assert shell.returncode == 0, shell.stdout[-3000:] + shell.stderr[-3000:]
    return shell.stdout
