"""Where the output of each rank goes: RUN/logs, and rank 0's also to the console."""

import faulthandler
import os
import subprocess
import sys
import time
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


def log_to_file(run: Path, *, rank: int, launch: str, attempt: int) -> None:
    """Sends what this process and its libraries write to the rank's log, without a word on the console.

    Only rank 0's standard output is shown too: a terminal gets it directly, with its live line, and not the log; a
    file or pipe gets it line by line beside the log.
    """
    path = log_of(run, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"{HEADER}{when} launch {launch}, attempt {attempt}, rank {rank}, process {os.getpid()}\n")
        file.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        if rank != 0:
            os.dup2(file.fileno(), 1)
        elif not os.isatty(1):
            # A process of its own writes on to both: what rank 0 said last is not lost when it is killed.
            # It ignores signals: SLURM sends them to every process of a step.
            tee = subprocess.Popen(
                ["sh", "-c", 'trap "" USR2 TERM INT HUP; exec tee -a "$0"', path],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            assert tee.stdin is not None
            os.dup2(tee.stdin.fileno(), 1)
            tee.stdin.close()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
