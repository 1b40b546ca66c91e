"""Where the output of each rank goes: RUN/logs, and rank 0's also to the console."""

import faulthandler
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

HEADER = "--- "
LAST_WORDS_BYTES = 20_000


def logs_of(run: Path) -> Path:
    """The folder of all logs of a run."""
    return run / "logs"


def log_of(run: Path, rank: int) -> Path:
    """The log of a rank over all launches of a run."""
    return logs_of(run) / f"rank-{rank:05d}.log"


def last_words(log: Path, lines: int = 8) -> list[str]:
    """The end of what the last process that wrote to a log had to say; empty if it said nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_WORDS_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    said = text.splitlines()
    headers = [number for number, line in enumerate(said) if line.startswith(HEADER)]
    return said[headers[-1] + 1 if headers else 0 :][-lines:]


def log_to_file(run: Path, *, rank: int, launch_id: str, attempt: int) -> None:
    """Sends what this process and its libraries write to the rank's log, without a word on the console.

    Only rank 0's standard output is shown too: a terminal gets it directly, with its live line, and not the log; a
    file or pipe gets it line by line beside the log. A log that cannot be written ends nothing; without one, what it
    would hold stays on the console.
    """
    path = log_of(run, rank)
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    header = f"{HEADER}{when} launch {launch_id}, attempt {attempt}, rank {rank}, process {os.getpid()}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(file.fileno(), 2)
            if rank != 0:
                os.dup2(file.fileno(), 1)
            with suppress(OSError):
                file.write(header.encode())
            if rank == 0 and not os.isatty(1):
                _write_to_both(path)
    except OSError as error:
        print(f"rank {rank} has no log: {error}", file=sys.stderr)
    faulthandler.enable()


def _write_to_both(path: Path) -> None:
    """Has standard output go to a log and to where it went before.

    A process of its own writes on to both: what rank 0 said last is not lost when it is killed. It ignores signals:
    SLURM sends them to every process of a step. It goes on with the log if nobody reads the rest any more.
    """
    tee = subprocess.Popen(
        ["sh", "-c", 'trap "" USR2 TERM INT HUP PIPE; exec tee -a "$0" 2>/dev/null', path],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert tee.stdin is not None
    os.dup2(tee.stdin.fileno(), 1)
    tee.stdin.close()
