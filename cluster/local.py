"""Runs command lines, and the jobs of a submission one after the other, on this machine.

A submission has the records and logs that it has on any other target.
"""

import ctypes
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import assert_never

from cluster.attempts import begin, finish
from cluster.errors import ExitCode
from cluster.job import Job, Word
from cluster.submission import Submission, log_name

PR_SET_PDEATHSIG = 1
ASKING = (signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
STOP_SIGNALS = {"USR2": signal.SIGUSR2, "TERM": signal.SIGTERM}
CHUNK_BYTES = 1 << 16


def python_module(module: str, *arguments: object) -> list[str]:
    """The argv of `python -m module arguments` with this very interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Runs a command to its end, its output on ours, and gives its exit status.

    Ctrl-C reaches the command by itself, as one of the terminal's foreground processes; it is waited for.
    """
    process = subprocess.Popen(argv, env={**os.environ, **(environment or {})})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def start_guarded(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    when_orphaned: signal.Signals,
    folder: Path | None = None,
    output: int | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, which a terminal's Ctrl-C does not reach: the caller hands signals on.

    On Linux it gets a signal when the caller dies, be it of SIGKILL; elsewhere it lives on.

    Args:
        folder: where it works; ours if not given.
        output: a file handle or subprocess.PIPE for what it says; ours if not given.
    """
    return subprocess.Popen(
        argv,
        env={**os.environ, **environment},
        start_new_session=True,
        cwd=folder,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        preexec_fn=_signal_when_parent_dies(when_orphaned) if sys.platform == "linux" else None,
    )


def _signal_when_parent_dies(number: signal.Signals) -> Callable[[], None]:
    library = ctypes.CDLL(None)  # loaded here: between fork and exec little is allowed
    parent = os.getpid()

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)

    return prepare


class _Asked:
    """Which signals have asked this process to stop; each is handed on to the command that runs, in its own words."""

    def __init__(self) -> None:
        self.heard: list[signal.Signals] = []
        self.child: subprocess.Popen[bytes] | None = None
        self.stop_signal = signal.SIGTERM

    def hear(self, number: int, frame: object) -> None:
        again = signal.SIGINT in self.heard and number == signal.SIGINT
        self.heard.append(signal.Signals(number))
        if self.child is None:
            return
        if again:
            signal_tree(self.child.pid, signal.SIGKILL)
        elif self.child.poll() is None:
            self.child.send_signal(signal.SIGINT if number == signal.SIGINT else self.stop_signal)

    @property
    def code(self) -> ExitCode:
        return ExitCode.INTERRUPTED if signal.SIGINT in self.heard else ExitCode.PREEMPTED


def run_here(
    submission: Submission, missing: Mapping[str, Sequence[int]], launch: str, tell: Callable[[str], None]
) -> ExitCode:
    """Runs elements of jobs in the order of the plan, until one fails or this process is told to stop.

    Args:
        missing: the elements to run, by the name of the job.
        launch: the number that they were taken under.
        tell: gets a line ahead of each of them.

    Returns:
        What the last command ended with; INTERRUPTED or PREEMPTED after a signal, which ended it too.
    """
    with _listening() as asked:
        for job in submission.jobs:
            for element in missing.get(job.name, ()):
                tell(f"{job.name}, {job.share(element)}" if job.array else job.name)
                code = _run_element(submission, job, element, launch, asked)
                if code != ExitCode.SUCCESS:
                    return code
    return ExitCode.SUCCESS


def new_launch() -> str:
    """A number for what this process takes."""
    return f"{os.getpid()}-{secrets.token_hex(3)}"


def runner_of(number: str) -> int:
    """The process that runs what was taken under a number here."""
    return int(number.partition("-")[0])


@contextmanager
def _listening() -> Iterator[_Asked]:
    asked = _Asked()
    before = {number: signal.signal(number, asked.hear) for number in ASKING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_element(submission: Submission, job: Job, element: int, launch: str, asked: _Asked) -> ExitCode:
    """One element, started again as long as it saves and gets further."""
    restart = 0
    log = submission.logs / log_name(job, launch, element)
    while not asked.heard:
        opening = begin(submission.folder, job, element, launch=launch, restart=restart, pid=os.getpid())
        if opening != "go":
            return ExitCode.SUCCESS if opening == "done" else ExitCode.UNEXPECTED
        code = _run(submission, job, element, f"{launch}.{restart}", log, asked)
        verdict = finish(submission.folder, job, element, code=code, asked=bool(asked.heard))
        if verdict != "again" and not asked.heard:
            return ExitCode(code) if code in [*ExitCode] else ExitCode.UNEXPECTED
        restart += 1
    return asked.code


def _run(submission: Submission, job: Job, element: int, start: str, log: Path, asked: _Asked) -> int:
    """Runs the command to its end, its output to the log and to ours, and gives its status as a shell would."""
    site = submission.site
    words = [_word(word, job, element, start, python=site.python or sys.executable) for word in job.command]
    environment = {**site.environment, **dict(job.environment)}
    modules = os.pathsep.join(filter(None, [str(submission.code), os.environ.get("PYTHONPATH")]))
    code = {"PYTHONSAFEPATH": "1", "PYTHONPATH": modules}
    asked.stop_signal = STOP_SIGNALS[job.stop_signal]
    child = start_guarded(
        words,
        {**environment, **code},
        when_orphaned=asked.stop_signal,
        folder=submission.working_folder,
        output=subprocess.PIPE,
    )
    asked.child = child
    try:
        if asked.heard:
            child.send_signal(asked.stop_signal)
        _copy(child, log)
        status = child.wait()
    finally:
        asked.child = None
        if child.poll() is None:
            signal_tree(child.pid, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _copy(child: subprocess.Popen[bytes], log: Path) -> None:
    assert child.stdout is not None
    with log.open("ab", buffering=0) as file:
        while chunk := os.read(child.stdout.fileno(), CHUNK_BYTES):
            file.write(chunk)
            with suppress(BrokenPipeError):  # whoever read our output has gone; the log goes on
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()


def _word(word: str | Word, job: Job, element: int, start: str, *, python: str) -> str:
    match word:
        case str():
            return word
        case Word.PYTHON:
            return python
        case Word.SHARE:
            return job.share(element)
        case Word.START:
            return start
        case Word.RAY_ADDRESS:
            return os.environ.get("RAY_ADDRESS", "")
        case Word.MEETING_POINT:
            return "localhost:0"  # one machine: any free port
        case _:
            assert_never(word)


def descendants(pid: int) -> list[int]:
    """Every process below one, parents before children; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name stands in brackets and may hold anything; the parent is the second field after it.
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found, waiting = [], [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process and all below it."""
    for process in [pid, *descendants(pid)]:
        with suppress(ProcessLookupError):
            os.kill(process, number)
