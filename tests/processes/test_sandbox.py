"""A child process that takes what hostile input does, and the answers that come back all the same."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from preprocess.sandbox import Allowance, Failure, Sandbox, SandboxError
from tests.support.harm.harmful_work import FailsOnce, Work

ALLOWANCE = Allowance(cpu_seconds=1, wall_seconds=60.0, memory_bytes=256 << 20)
IMPATIENT = Allowance(cpu_seconds=60, wall_seconds=0.4, memory_bytes=256 << 20)


@pytest.fixture
def sandbox():
    own = Sandbox()
    yield own
    own.close()


def answers(sandbox: Sandbox, *items: str, allowance: Allowance = ALLOWANCE) -> list[str]:
    """Every item in order, failed ones as `item: reason, detail`. A detail names a limit, never a measured number."""
    result = []
    for answer in sandbox.run(Work(), items, allowance):
        result += [f"{answer.item}: {answer.reason}, {answer.detail}"] if isinstance(answer, Failure) else answer
    return result


def test_answers_come_in_order_and_in_bounded_portions(sandbox):
    portions = list(sandbox.run(Work(), list("abcdefgh"), ALLOWANCE))
    assert portions == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]


def test_no_items_give_no_answers(sandbox):
    assert list(sandbox.run(Work(), [], ALLOWANCE)) == []


@pytest.mark.parametrize(
    ("harm", "allowance", "detail"),
    [
        ("segfault", ALLOWANCE, "segfault: worker-died, killed by SIGSEGV"),
        ("exit", ALLOWANCE, "exit: worker-died, ended with status 7"),
        ("allocate", ALLOWANCE, "allocate: memory, more than 256 MiB, limits.memory_mib"),
        pytest.param(
            *("spin", ALLOWANCE, "spin: timeout, more than 1 s of CPU time, limits.cpu_seconds"), marks=pytest.mark.slow
        ),
        ("sleep", IMPATIENT, "sleep: timeout, more than 0.4 s, limits.wall_seconds"),
    ],
)
def test_harm_costs_its_own_item_alone(sandbox, harm, allowance, detail):
    assert answers(sandbox, "a", "b", harm, "c", allowance=allowance) == ["a", "b", detail, "c"]


@pytest.mark.parametrize("place", [0, 3, 6])
def test_harm_may_stand_anywhere(sandbox, place):
    items = list("abcdef")
    items.insert(place, "segfault")
    assert answers(sandbox, *items) == [
        item.replace("segfault", "segfault: worker-died, killed by SIGSEGV") for item in items
    ]


def test_one_harm_after_another(sandbox):
    assert answers(sandbox, "a", "exit", "segfault", "b", "exit") == [
        "a",
        "exit: worker-died, ended with status 7",
        "segfault: worker-died, killed by SIGSEGV",
        "b",
        "exit: worker-died, ended with status 7",
    ]


def test_a_process_killed_by_somebody_else_rejects_nothing(sandbox, tmp_path):
    work = FailsOnce(tmp_path / "marker")
    answers = list(sandbox.run(work, ["a", "unlucky", "b"], ALLOWANCE))
    assert not [answer for answer in answers if isinstance(answer, Failure)]
    assert (tmp_path / "marker").exists()


def test_an_idle_child_that_somebody_kills_is_replaced(sandbox):
    for _ in range(3):
        assert answers(sandbox, "a", "b") == ["a", "b"]
        assert sandbox._child is not None
        os.kill(sandbox._child.process.pid, signal.SIGKILL)


def test_a_child_that_cannot_start_is_an_error_with_its_output(sandbox, monkeypatch, tmp_path):
    (tmp_path / "pickle.py").write_text("raise ImportError('no such thing')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(SandboxError, match="no such thing"):
        answers(sandbox, "a")


def test_what_the_work_raises_is_raised_here_and_the_next_run_is_sound(sandbox):
    with pytest.raises(ValueError, match="no such thing"):
        answers(sandbox, "a", "raise", "b")
    assert answers(sandbox, "a") == ["a"]


def test_what_is_printed_does_not_get_into_the_answers(sandbox):
    assert answers(sandbox, "a", "print", "b") == ["a", "print", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems end the child when its pipe closes")
def test_the_child_dies_with_its_parent(sandbox):
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        own = Sandbox()
        list(own.run(Work(), ["a"], ALLOWANCE))
        assert own._child is not None
        os.write(write, str(own._child.process.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    child = int(os.read(read, 20))
    os.waitpid(parent, 0)
    status = Path(f"/proc/{child}/status")
    deadline = time.monotonic() + 10
    while _runs(status) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(status)


def _runs(status: Path) -> bool:
    """Whether the process of a status file still runs; one that only waits to be collected does not."""
    try:
        return "(zombie)" not in status.read_text(encoding="utf-8")
    except OSError:
        return False
