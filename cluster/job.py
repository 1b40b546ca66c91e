"""A job: a command line, what it needs, what comes before it; and how a scheduler describes it, on every target."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from cluster.errors import TargetError

PROGRESS_NAME = "progress.json"
"""Of a `Job.status` that is not the status.json of a run."""
StopSignal = Literal["USR2", "TERM"]
MOST_ELEMENTS = 100_000
"""Of an array, and so shares of a job. Each has files of its own."""
START_VARIABLE = "GROOVES_START"
"""Tells the command of a submission which start of its job it is: `Word.START`. It names the launch of a training."""
MEMORY = re.compile(r"[0-9]+[KMGTkmgt]?")


class Word(Enum):
    """A part of a command line that only the target knows."""

    PYTHON = "python"
    """The interpreter, in its container where there is one."""
    SHARE = "share"
    """K/M: the number of an array's element, and how many there are."""
    MEETING_POINT = "meeting point"
    """HOST:PORT on the first node, the same on all nodes of one start, another for the next."""
    RAY_ADDRESS = "ray address"
    """HOST:PORT of the Ray cluster that the job runs on."""
    START = "start"
    """An identity that is new for every start of the job."""


Words: TypeAlias = tuple[str | Word, ...]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job, or each element of an array, takes.

    Attributes:
        cpus_per_node, memory, minutes: None leaves it to the site; memory is a node's, in SLURM's words: 16G.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_node: int | None = None
    memory: str | None = None
    minutes: int | None = None

    def __post_init__(self) -> None:
        numbers = {"--nodes": (self.nodes, 1), "--gpus-per-node": (self.gpus_per_node, 0)}
        numbers["--cpus-per-node"] = (1 if self.cpus_per_node is None else self.cpus_per_node, 1)
        for option, (value, least) in numbers.items():
            if not least <= value <= MOST_ELEMENTS:
                expected = f"{least} to {MOST_ELEMENTS:,}"
                raise TargetError(f"{option} {value} cannot be used", expected=expected, found=str(value))
        if self.memory is not None and not MEMORY.fullmatch(self.memory):
            expected = "a number of megabytes, or a number with K, M, G or T, such as 64G"
            raise TargetError(f"--mem {self.memory} cannot be used", expected=expected, found=repr(self.memory))

    @property
    def gpu_hours(self) -> float:
        """The most it may use; infinite with GPUs and no limit of time."""
        gpus = self.nodes * self.gpus_per_node
        return gpus * (math.inf if self.minutes is None else self.minutes / 60) if gpus else 0.0


@dataclass(frozen=True, slots=True)
class Array:
    """The same command for each of `elements` shares, `at_once` of them at a time if that is limited."""

    elements: int
    at_once: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.elements <= MOST_ELEMENTS or (self.at_once is not None and self.at_once < 1):
            raise TargetError(
                f"--array {self.elements}{'' if self.at_once is None else f'%{self.at_once}'} cannot be used",
                expected=f"ELEMENTS or ELEMENTS%AT_ONCE, ELEMENTS from 1 to {MOST_ELEMENTS:,}, AT_ONCE 1 or more",
                do="--array 100%10",
            )


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a submission.

    Attributes:
        name: unique in its submission.
        command: argv.
        environment: variables for it; secrets are refused by `cluster.site`.
        after: names of jobs that have to succeed before.
        stop_signal: at which the command saves and ends with 75.
        on_every_node: whether each node runs the command, not the first alone.
        own_ray: whether a Ray cluster of the job's own nodes begins and ends with it, where the target gives nodes.
        status: a JSON file that the command writes: `step` grows with what is saved; `failure`, see `cluster.attempts`.
        retries: starts in a row that may end without a greater `step`; where there is no `status`, starts.
    """

    name: str
    command: Words
    resources: Resources = Resources()
    environment: tuple[tuple[str, str], ...] = ()
    after: tuple[str, ...] = ()
    array: Array | None = None
    stop_signal: StopSignal = "TERM"
    on_every_node: bool = False
    own_ray: bool = False
    status: str | None = None
    retries: int = 3

    @property
    def elements(self) -> range:
        """The numbers of its elements; a job without an array has one, number 0."""
        return range(self.array.elements if self.array else 1)

    def share(self, element: int) -> str:
        """`Word.SHARE` of an element."""
        return f"{element}/{len(self.elements)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, of which `job_from_json` makes the job again."""
        return asdict(self) | {"command": [{"word": w.value} if isinstance(w, Word) else w for w in self.command]}


def job_from_json(values: Mapping[str, Any]) -> Job:
    """The job that `Job.to_json` was called on."""
    array = values["array"]
    return Job(
        **{
            **values,
            "command": tuple(w if isinstance(w, str) else Word(w["word"]) for w in values["command"]),
            "resources": Resources(**values["resources"]),
            "environment": tuple((name, value) for name, value in values["environment"]),
            "after": tuple(values["after"]),
            "array": Array(**array) if array else None,
        }
    )


def parse_minutes(text: str) -> int:
    """Minutes of a limit in SLURM's words: M, H:M:S, M:S, D-H, D-H:M; seconds are rounded up.

    Raises:
        TargetError: none of these.
    """
    days, dash, rest = text.rpartition("-")
    try:
        words = rest.split(":")
        if len(words) > 3 or not all(map(str.isdecimal, [*words, *([days] if dash else [])])):  # int() takes +1 and 1_0
            raise ValueError
        parts = [int(word) for word in words]
        # With days the first part is hours; without, one part is minutes, two are minutes and seconds.
        parts = parts + [0] * (3 - len(parts)) if dash else {1: [0, *parts, 0], 2: [0, *parts], 3: parts}[len(parts)]
        hours, minutes, seconds = parts
        total = int(days or 0) * 1440 + hours * 60 + minutes + (seconds + 59) // 60
        if total < 1:
            raise ValueError
    except ValueError:
        raise TargetError(
            f"--time {text} is not a time limit", expected="minutes, H:MM:SS or D-HH:MM", do="--time 4:00:00, or 240"
        ) from None
    return total


def parse_array(text: str) -> Array:
    """The array of `--array ELEMENTS[%AT_ONCE]`.

    Raises:
        TargetError: no such array.
    """
    elements, percent, at_once = text.partition("%")
    try:
        given = int(elements), int(at_once) if percent else None
    except ValueError:
        raise TargetError(
            f"--array {text} cannot be used",
            expected="ELEMENTS or ELEMENTS%AT_ONCE, both 1 or more",
            do="--array 100%10",
        ) from None
    return Array(*given)


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """What it says of one element, in its own words: its state, and why it waits or ended."""

    state: str
    reason: str


SchedulerStates: TypeAlias = Mapping[tuple[str, int], SchedulerState] | None
"""By the scheduler's number of a job and of an element (0 without an array); None where no scheduler answers."""
