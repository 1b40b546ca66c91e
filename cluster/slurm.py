"""SLURM's client commands; the only file that knows them. An accounting database is asked, and not needed."""

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import PurePath
from typing import Any

from cluster.errors import ExitCode, TargetError
from cluster.job import Array, Job, SchedulerState, SchedulerStates
from cluster.site import Site

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")
"""What SLURM says of jobs that are not over."""
OF_A_JOB = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SQUEUE_", "PMI", "PMIX_")
"""How variables begin that a job or its user's defaults give to SLURM's commands."""
NO_ANSWER = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|timed out)|communication .*failure"
    r"|zero bytes were transmitted|in standby mode",
    re.IGNORECASE,
)
ACCOUNTED = re.compile(r"(\d+)(?:_\[?([\d,-]+)(?:%\d+)?\]?)?\|([A-Z_]+)(?: by \d+)?")
"""A line of `sacct`: 12_3|CANCELLED by 1000. What never began of an array is one line: 12_[4-6,9%2]."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between calls while no controller answers."""
STATUS_PATIENCE = 10.0
NUMBERS_OF_A_CALL = 1000

CURES = {
    "invalid account": "give one of your accounts with --account, or as account: in the site file; this shows them:\n"
    "            sacctmgr show associations user=$USER format=account,partition",
    "invalid partition": "give another one with --partition, or as partition: in the site file; `sinfo` shows all",
}
"""What helps against a refusal, by what SLURM says of it in lower case."""


class NoAnswerError(TargetError):
    """No controller of SLURM has answered; whether it did what was asked is not known."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of sbatch.

    Attributes:
        elements: which elements of the job it submits.
        first: what SLURM's numbers of them are counted from.
        options: that depend on the moment: dependencies, the elements, and whether it is held.
    """

    script: PurePath
    elements: tuple[int, ...]
    first: int
    options: tuple[str, ...]

    def argv(self, *more: str) -> list[str]:
        """The command line.

        Args:
            more: options that only this call has.
        """
        options = ["--parsable", *more, *self.options]
        return ["sbatch", *options, str(self.script), *([str(self.first)] if self.first else [])]


def calls(
    job: Job, elements: Sequence[int], script: PurePath, after: Iterable[str], *, max_array_size: int, hold: bool
) -> list[Call]:
    """The calls that submit elements of a job: one, or one for each part of an array larger than the site takes.

    Args:
        after: SLURM's numbers of the jobs that have to succeed before.
    """
    options = ["--hold"] if hold else []
    if numbers := list(after):
        # Or a job whose predecessor failed would wait for ever.
        options += [f"--dependency=afterok:{':'.join(numbers)}", "--kill-on-invalid-dep=yes"]
    if job.array is None:
        return [Call(script, tuple(elements), 0, tuple(options))]
    parts = [
        (part, tuple(part_elements))
        for part, part_elements in groupby(elements, key=lambda element: element // max_array_size)
    ]
    submit_calls = []
    for part, part_elements in parts:
        first = part * max_array_size
        throttle = _throttle(job.array, len(parts))
        array = f"--array={ranges([element - first for element in part_elements])}{throttle}"
        submit_calls.append(Call(script, part_elements, first, (*options, array)))
    return submit_calls


def _throttle(array: Array, parts: int) -> str:
    """Of one of several arrays that run beside each other."""
    return f"%{max(1, array.at_once // parts)}" if array.at_once else ""


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in SLURM's words: 0-3,7."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def submit(call: Call, *, patience: float) -> str:
    """Submits, and gives SLURM's number of the job.

    A submission whose answer was lost is looked up by a name that only it has, and is not made twice.

    Args:
        patience: seconds for which a controller that does not answer is asked again.

    Raises:
        TargetError: SLURM is absent, or refuses.
        NoAnswerError: no controller has answered.
    """
    token = secrets.token_hex(6)
    sent = False

    def once() -> str:
        nonlocal sent
        if sent and (number := _number_of(token)):
            return number
        sent = True
        return _run(call.argv(f"--comment={call.script.parent} {token}"))

    return _patiently(once, patience).partition(";")[0].strip()


def states(numbers: Sequence[str]) -> SchedulerStates:
    """What SLURM still knows of jobs, whosever, by its number of a job and of an element (0 without an array).

    None where there is no SLURM, or no controller answers.
    """
    if not installed():
        return None
    by_element = {}
    for first in range(0, len(numbers), NUMBERS_OF_A_CALL):
        # A number that SLURM has forgotten is an error where it is the only one.
        jobs = ",".join((*numbers[first : first + NUMBERS_OF_A_CALL], numbers[first]))
        try:
            output = _patiently(partial(_squeue, "%F|%K|%T|%r", f"--jobs={jobs}"), STATUS_PATIENCE)
        except TargetError:
            return None
        for line in output.splitlines():
            number, element, state, reason = line.strip().split("|", 3)
            by_element[number, int(element) if element.isdigit() else 0] = SchedulerState(state, reason)
    return by_element


def ends_accounted(numbers: Sequence[str]) -> dict[tuple[str, int], SchedulerState]:
    """How jobs ended that the controller has forgotten, by the accounting database; empty where none answers.

    Returns:
        By the number of a job and of an element (0 without an array).
    """
    which = f"--jobs={','.join(numbers)}"
    try:
        output = _run(["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", which])
    except TargetError:
        return {}
    ends = {}
    for number, elements, state in ACCOUNTED.findall(output):
        if state in (*WAITING, *RUNNING):  # of a job whose end the database has missed
            continue
        for run in elements.split(",") if elements else ["0"]:
            first, _, last = run.partition("-")
            ends |= {(number, n): SchedulerState(state, "") for n in range(int(first), int(last or first) + 1)}
    return ends


def _number_of(token: str) -> str | None:
    lines = [line.strip().split("|", 1) for line in _squeue("%F|%k", "--me").splitlines()]
    return next((number for number, comment in lines if comment.endswith(token)), None)


def _squeue(columns: str, which: str) -> str:
    return _run(["squeue", "--noheader", "--states=all", "--array", which, f"--format={columns}"])


def cancel(numbers: Sequence[str], *, patience: float) -> None:
    """Cancels jobs; those that have ended are no error.

    Args:
        patience: seconds for which a controller that does not answer is asked again.

    Raises:
        TargetError: SLURM is absent, or refuses.
        NoAnswerError: no controller has answered.
    """
    if numbers:
        _patiently(partial(_run, ["scancel", *numbers]), patience)


def would_start(script: str, call: Call) -> str:
    """When SLURM would start a job, in its own words: a partition, account or limit that it refuses is found.

    Raises:
        TargetError: it refuses.
    """
    return _run(["sbatch", "--test-only", *(o for o in call.options if not o.startswith("--dependency"))], script)


def configuration() -> dict[str, str]:
    """The controller's settings by name.

    Raises:
        TargetError: SLURM is absent, or no controller answers.
    """
    return dict(re.findall(r"^(\S+)\s+= (.*)$", _run(["scontrol", "show", "config"]), re.MULTILINE))


def partitions() -> dict[str, dict[str, str]]:
    """The settings of each partition by name.

    Raises:
        TargetError: SLURM is absent, or no controller answers.
    """
    by_name = {}
    for line in _run(["scontrol", "show", "partition", "--oneliner"]).splitlines():
        settings: dict[str, str] = dict(re.findall(r"(\S+?)=(\S*)", line))
        by_name[settings["PartitionName"]] = settings
    return by_name


def try_on_nodes(command: Sequence[str], site: Site, *, nodes: int, cpus: int, seconds: int) -> list[str]:
    """The lines that a short command prints on some nodes.

    Args:
        cpus: of each node.
        seconds: how long to wait for the nodes.

    Raises:
        TargetError: SLURM is absent or refuses, or the nodes are not free.
    """
    wishes = {"partition": site.partition, "account": site.account, "qos": site.qos, "constraint": site.constraint}
    options = [f"--{name}={value}" for name, value in wishes.items() if value]
    options += [
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus}",
        f"--immediate={seconds}",
        "--time=1",
        "--quiet",
    ]
    options += [option for option in site.srun if option.startswith("--cpu-bind")]
    return _run(["srun", *options, *command]).splitlines()


def installed() -> bool:
    """Whether there are SLURM's client commands."""
    return shutil.which("sbatch") is not None


def answers() -> bool:
    """Whether a controller answers."""
    try:
        _run(["scontrol", "ping"])
    except TargetError:
        return False
    return True


def outside_of_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables without those of the job that a command is typed in, which SLURM would take for options of the new one.

    From an interactive step, all ranks of a job would be bound to that step's CPUs.
    """
    return {name: value for name, value in environment.items() if name == "SLURM_CONF" or not name.startswith(OF_A_JOB)}


def _patiently(call: Callable[[], str], patience: float) -> str:
    """What a call gives once a controller answers.

    Args:
        patience: seconds for which it is repeated, each time after a longer pause.
    """
    until, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return call()
        except NoAnswerError:
            if time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _run(argv: Sequence[str], script: str | None = None) -> str:
    # Without a script srun would hand what is typed, or what comes by a pipe, on to its tasks.
    typed: Mapping[str, Any] = {"stdin": subprocess.DEVNULL} if script is None else {"input": script}
    try:
        result = subprocess.run(
            argv, **typed, env=outside_of_jobs(os.environ), capture_output=True, encoding="utf-8", errors="replace"
        )
    except FileNotFoundError:
        raise TargetError(
            f"{argv[0]} was not found",
            expected="SLURM's client commands",
            likely="this machine is not a login node of a cluster",
            do="log in to the cluster; to see the scripts without SLURM, add --dry-run",
        ) from None
    if result.returncode:
        message = result.stderr.strip().removeprefix(f"{argv[0]}: error: ")
        if NO_ANSWER.search(message):
            raise NoAnswerError(
                "SLURM's controller does not answer",
                found=message,
                likely="it is being restarted, or the network to it is down",
                do="run the same command again",
                exit_code=ExitCode.PREEMPTED,
            )
        checked = "correct the options or the site file; `python -m jobs.doctor --on slurm` checks the cluster"
        raise TargetError(
            f"{argv[0]} refused: {message.splitlines()[0] if message else f'exit status {result.returncode}'}",
            found=message,
            likely="a wrong partition or account, or a limit of the cluster",
            do=next((cure for words, cure in CURES.items() if words in message.lower()), checked),
        )
    return result.stdout or result.stderr if script else result.stdout
