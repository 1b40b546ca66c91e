"""Runs command lines, and the jobs of a submission one after the other, on this machine.

A submission has the records and logs that it has on any other target. Here is too which CPUs this process may use.
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
from cluster.job import START_VARIABLE, Job, Word
from cluster.submission import Submission, log_name

PR_SET_PDEATHSIG = 1
ASKING = (signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
STOP_SIGNALS = {"USR2": signal.SIGUSR2, "TERM": signal.SIGTERM}
CHUNK_BYTES = 1 << 16
CGROUPS, CGROUPS_OF_THIS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


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
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, which a terminal's Ctrl-C does not reach: the caller hands signals on.

    On Linux it gets a signal when the caller dies, be it of SIGKILL; elsewhere it lives on.

    Args:
        folder: where it works; ours if not given.
        output: a file handle or subprocess.PIPE for what it says; ours if not given.
        pass_fds: file handles of ours that it has too, under the same numbers.
    """
    return subprocess.Popen(
        argv,
        env={**os.environ, **environment},
        start_new_session=True,
        cwd=folder,
        pass_fds=pass_fds,
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


class _StopRequest:
    """The signals that have asked this process to stop; each is forwarded to the command that runs."""

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []
        self.child: subprocess.Popen[bytes] | None = None
        self.stop_signal = signal.SIGTERM

    def receive(self, number: int, frame: object) -> None:
        again = signal.SIGINT in self.signals and number == signal.SIGINT
        self.signals.append(signal.Signals(number))
        if self.child is None:
            return
        if again:
            signal_tree(self.child.pid, signal.SIGKILL)
        elif self.child.poll() is None:
            self.child.send_signal(signal.SIGINT if number == signal.SIGINT else self.stop_signal)

    @property
    def code(self) -> ExitCode:
        return ExitCode.INTERRUPTED if signal.SIGINT in self.signals else ExitCode.PREEMPTED


def run_here(
    submission: Submission, missing: Mapping[str, Sequence[int]], launch_id: str, emit: Callable[[str], None]
) -> ExitCode:
    """Runs elements of jobs in the order of the plan, until one fails or this process is told to stop.

    Args:
        missing: the elements to run, by the name of the job.
        launch_id: the number that they were taken under.
        emit: gets a line ahead of each of them.

    Returns:
        What the last command ended with; INTERRUPTED or PREEMPTED after a signal, which ended it too.
    """
    with _listening() as stop:
        for job in submission.jobs:
            for element in missing.get(job.name, ()):
                emit(f"{job.name}, {job.share(element)}" if job.array else job.name)
                code = _run_element(submission, job, element, launch_id, stop)
                if code != ExitCode.SUCCESS:
                    return code
    return ExitCode.SUCCESS


def new_launch_id() -> str:
    """A number for what this process takes: its process number, when it started, and a random part."""
    return f"{os.getpid()}-{started(os.getpid())}-{secrets.token_hex(3)}"


def runner_of(number: str) -> int | None:
    """The process that runs what was taken under a number here; None once it has ended, whoever has its number now."""
    pid, *began, _ = number.split("-")  # numbers of earlier versions do not say when it started
    if began and began[0] != started(int(pid)):
        return None
    return int(pid) if is_alive(int(pid)) else None


@contextmanager
def _listening() -> Iterator[_StopRequest]:
    stop = _StopRequest()
    before = {number: signal.signal(number, stop.receive) for number in ASKING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_element(submission: Submission, job: Job, element: int, launch_id: str, stop: _StopRequest) -> ExitCode:
    """One element, started again as long as it saves and gets further."""
    restart = 0
    log = submission.logs / log_name(job, launch_id, element)
    while not stop.signals:
        opening = begin(submission.folder, job, element, launch_id=launch_id, restart=restart, pid=os.getpid())
        if opening != "go":
            return ExitCode.SUCCESS if opening == "done" else ExitCode.UNEXPECTED
        code = _run(submission, job, element, f"{launch_id}.{restart}", log, stop)
        verdict = finish(submission.folder, job, element, code=code, asked=bool(stop.signals))
        if verdict != "again" and not stop.signals:
            return ExitCode(code) if code in [*ExitCode] else ExitCode.UNEXPECTED
        restart += 1
    return stop.code


def _run(submission: Submission, job: Job, element: int, start: str, log: Path, stop: _StopRequest) -> int:
    """Runs the command to its end, its output to the log and to ours, and gives its status as a shell would."""
    site = submission.site
    words = [text_of(word, job, element, start, python=site.python or sys.executable) for word in job.command]
    environment = {**site.environment, **dict(job.environment)}
    modules = os.pathsep.join(filter(None, [str(submission.code), os.environ.get("PYTHONPATH")]))
    code = {"PYTHONSAFEPATH": "1", "PYTHONPATH": modules, START_VARIABLE: start}
    stop.stop_signal = STOP_SIGNALS[job.stop_signal]
    child = start_guarded(
        words,
        {**environment, **code},
        when_orphaned=stop.stop_signal,
        folder=submission.working_folder,
        output=subprocess.PIPE,
    )
    stop.child = child
    try:
        if stop.signals:
            child.send_signal(stop.stop_signal)
        _copy(child, log)
        status = child.wait()
    finally:
        stop.child = None
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


def text_of(word: str | Word, job: Job, element: int, start: str, *, python: str) -> str:
    """A part of a command line as it is on this machine."""
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
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children.setdefault(int(_stat_fields(folder.name)[1]), []).append(int(folder.name))
    pids, waiting = [], [pid]
    while waiting:
        child_pids = children.get(waiting.pop(), [])
        pids += child_pids
        waiting += child_pids
    return pids


def _stat_fields(pid: int | str) -> list[str]:
    """What the kernel says of a process, from its state on; its name, before it in brackets, may hold anything."""
    return Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace").rpartition(")")[2].split()


def started(pid: int) -> str:
    """When a process began, in clock ticks of the machine; empty if it has ended, or where there is no /proc."""
    try:
        return _stat_fields(pid)[19]
    except OSError:
        return ""


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


def usable_cpus(environment: Mapping[str, str] = os.environ) -> int:
    """How many CPUs this process may keep busy, at least one."""
    return max(1, min(cpu_limits(environment).values()))


def cpu_limits(environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """How many CPUs this process may use, by what limits them: its affinity, SLURM, the quota of its cgroups."""
    limits = {"affinity": len(os.sched_getaffinity(0))}
    slurm = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE") or ""
    if slurm.isdecimal():
        limits["SLURM"] = int(slurm)
    if quotas := [quota for folder in _cgroups("cpu") for quota in _quota_of(folder)]:
        limits["cgroup"] = int(min(quotas))
    return limits


def usable_memory(environment: Mapping[str, str] = os.environ) -> int:
    """How many bytes of memory this process and its children may use: of the machine, by SLURM, and by its cgroups."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    slurm = environment.get("SLURM_MEM_PER_NODE") or ""
    if slurm.isdecimal() and int(slurm):  # in megabytes; 0 is all of the node
        limits.append(int(slurm) << 20)
    for folder in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # there is none, or the word "max"
                limits.append(int((folder / name).read_text(encoding="utf-8")))
    return min(limits)


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of the cgroups of this process that may limit something, and of those above them."""
    try:
        lines = CGROUPS_OF_THIS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controllers  # version 2 has one tree for all controllers, and no name for it
        group = root / name.lstrip("/")
        for folder in [group, *group.parents]:  # in a container only the root may be there
            if folder.is_relative_to(root):
                yield folder


def _quota_of(cgroup: Path) -> Iterator[float]:
    """How many CPUs a cgroup may keep busy, if it has a limit."""
    with suppress(OSError, ValueError):  # there is none, or the word "max"
        quota, period = map(int, (cgroup / "cpu.max").read_text(encoding="utf-8").split())
        yield quota / period
    with suppress(OSError):
        files = (cgroup / "cpu.cfs_quota_us", cgroup / "cpu.cfs_period_us")
        quota, period = (int(file.read_text(encoding="utf-8")) for file in files)
        if quota > 0:
            yield quota / period
