"""SLURM's client commands; the only file that knows them. Needs no accounting database."""

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePath

from cluster.errors import TargetError
from cluster.job import Array, Job, SchedulerState, SchedulerStates
from cluster.site import Site

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")
"""What SLURM says of jobs that are not over."""

CURES = {
    "invalid account": "give one of your accounts with --account, or as account: in the site file; this shows them:\n"
    "            sacctmgr show associations user=$USER format=account,partition",
    "invalid partition": "give another one with --partition, or as partition: in the site file; `sinfo` shows all",
}
"""What helps against a refusal, by what SLURM says of it in lower case."""


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

    @property
    def argv(self) -> list[str]:
        return ["sbatch", "--parsable", *self.options, str(self.script), *([str(self.first)] if self.first else [])]


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


def submit(call: Call) -> str:
    """Submits, and gives SLURM's number of the job.

    Raises:
        TargetError: SLURM is absent, or refuses.
    """
    return _run(call.argv).partition(";")[0].strip()


def states() -> SchedulerStates:
    """What SLURM still knows of this user's jobs, by its number of a job and of an element (0 without an array).

    None where there is no SLURM, or no controller answers.
    """
    if not installed():
        return None
    try:
        output = _run(
            ["squeue", "--noheader", "--states=all", "--array", f"--user={getpass.getuser()}", "--format=%F|%K|%T|%r"]
        )
    except TargetError:
        return None
    by_element = {}
    for line in output.splitlines():
        number, element, state, reason = line.strip().split("|", 3)
        by_element[number, int(element) if element.isdigit() else 0] = SchedulerState(state, reason)
    return by_element


def cancel(numbers: Sequence[str]) -> None:
    """Cancels jobs; those that have ended are no error.

    Raises:
        TargetError: SLURM is absent, or refuses.
    """
    if numbers:
        _run(["scancel", *numbers])


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


def try_on_nodes(command: Sequence[str], site: Site, *, nodes: int, seconds: int) -> list[str]:
    """The lines that a short command prints on some nodes.

    Args:
        seconds: how long to wait for the nodes.

    Raises:
        TargetError: SLURM is absent or refuses, or the nodes are not free.
    """
    wishes = {"partition": site.partition, "account": site.account, "qos": site.qos, "constraint": site.constraint}
    options = [f"--{name}={value}" for name, value in wishes.items() if value]
    options += [f"--nodes={nodes}", "--ntasks-per-node=1", f"--immediate={seconds}", "--time=1", "--quiet"]
    return _run(["srun", *options, *command]).splitlines()


def installed() -> bool:
    """Whether there are SLURM's client commands."""
    return shutil.which("sbatch") is not None


def _run(argv: Sequence[str]) -> str:
    try:
        # srun would hand what is typed, or a script that comes by a pipe, on to its tasks.
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise TargetError(
            f"{argv[0]} was not found",
            expected="SLURM's client commands",
            likely="this machine is not a login node of a cluster",
            do="log in to the cluster; to see the scripts without SLURM, add --dry-run",
        ) from None
    if result.returncode:
        message = result.stderr.strip().removeprefix(f"{argv[0]}: error: ")
        checked = "correct the options or the site file; `python -m jobs.doctor --on slurm` checks the cluster"
        raise TargetError(
            f"{argv[0]} refused: {message.splitlines()[0] if message else f'exit status {result.returncode}'}",
            found=message,
            likely="a wrong partition or account, a limit of the cluster, or a controller that does not answer",
            do=next((cure for words, cure in CURES.items() if words in message.lower()), checked),
        )
    return result.stdout
