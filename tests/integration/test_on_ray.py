"""Tasks on an embedded Ray, in processes and here: bounded, complete, and their errors arrive as they were raised."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import tasks as tasks_module
from cluster.errors import ExitCode, TargetError
from cluster.tasks import TASKS_PER_SLOT, task_runner
from musicvae.errors import DataError
from tests.support.commands import CHECKOUT
from tests.support.processes.process_tree import command_of, descendants, hosts_listened_on

NUM_TASKS = 40


class CountedTasks(list[int]):
    """Counts how many tasks were taken from it."""

    taken = 0

    def __iter__(self):
        for task in super().__iter__():
            self.taken += 1
            yield task


@pytest.fixture(scope="module")
def run_on_ray():
    with task_runner("ray", 2, code={}) as run:
        yield run


def square(task: int) -> int:
    return task * task


def vanish(task: int) -> int:
    if task == 7:
        os._exit(1)
    return task


def refuse(task: int) -> int:
    if task == 7:
        raise DataError("task 7 is bad", found="a seven", do="leave it out")
    return task


@pytest.mark.slow
def test_children_do_not_inherit_what_ray_sets_for_itself(run_on_ray):
    # Ray puts its debugger into PYTHONBREAKPOINT, which every Python process reads as it starts.
    assert "ray" in sys.modules
    assert "PYTHONBREAKPOINT" not in os.environ


@pytest.mark.slow
def test_every_answer_comes_once_with_its_number(run_on_ray):
    answers = dict(run_on_ray(square, range(NUM_TASKS)))
    assert answers == {number: number**2 for number in range(NUM_TASKS)}


@pytest.mark.slow
def test_what_signals_our_whole_group_does_not_reach_ray(run_on_ray):
    groups = {pid: os.getpgid(pid) for pid in descendants(os.getpid()) if "raylet" in command_of(pid)}
    assert groups, "Ray has come up"
    assert os.getpgid(0) not in groups.values()


@pytest.mark.slow
def test_few_tasks_are_in_flight(run_on_ray):
    tasks = CountedTasks(range(NUM_TASKS))
    for number, _ in enumerate(run_on_ray(square, tasks)):
        assert tasks.taken <= number + 1 + TASKS_PER_SLOT * 2
    assert tasks.taken == NUM_TASKS


@pytest.mark.slow
@pytest.mark.parametrize("where", ["ray", "processes"])
def test_an_error_is_raised_here_as_it_was_there(run_on_ray, where):
    with task_runner("processes", 2, code={}) as run_in_processes, pytest.raises(DataError) as caught:
        dict((run_on_ray if where == "ray" else run_in_processes)(refuse, range(NUM_TASKS)))
    assert str(caught.value) == "task 7 is bad\n  found     a seven\n  do        leave it out"


@pytest.mark.slow
def test_a_task_that_ray_loses_for_good_is_no_mistake_of_the_command_line(run_on_ray, monkeypatch):
    monkeypatch.setattr(tasks_module, "LOST_RETRIES", 0)
    with pytest.raises(TargetError, match="Ray could not finish a task") as caught:
        dict(run_on_ray(vanish, range(NUM_TASKS)))
    assert caught.value.exit_code == ExitCode.UNEXPECTED


def test_processes_give_every_answer_once_and_say_when_one_was_killed():
    with task_runner("processes", 2, code={}) as run:
        assert dict(run(square, range(NUM_TASKS))) == {number: number**2 for number in range(NUM_TASKS)}
        with pytest.raises(TargetError, match="a worker process was killed") as caught:
            dict(run(vanish, range(NUM_TASKS)))
    assert caught.value.exit_code == ExitCode.USAGE


def test_without_workers_tasks_run_here_one_by_one():
    with task_runner("here", code={}) as run:
        tasks = CountedTasks([3, 4])
        answers = run(square, tasks)
        assert next(answers) == (0, 9)
        assert tasks.taken == 1
        assert list(answers) == [(1, 16)]


@pytest.mark.slow
def test_a_ray_of_our_own_is_closed_to_other_users_and_to_the_network(run_on_ray):
    below = descendants(os.getpid())
    (raylet,) = [pid for pid in below if command_of(pid).split(" ")[0].endswith("/raylet")]
    lines = Path(f"/proc/{raylet}/environ").read_text(encoding="utf-8").split("\0")
    variables = dict(line.split("=", 1) for line in lines if line)
    assert hosts_listened_on([os.getpid(), *below]) <= {"127.0.0.1", "::1"}
    token = Path(variables["RAY_AUTH_TOKEN_PATH"])
    secret = token.read_text(encoding="utf-8")
    assert variables["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in variables
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert not [pid for pid in below if secret in command_of(pid)]
    assert f"{token.parent}/" in command_of(raylet), "sockets and logs of the session lie there too"
    stranger = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"}
    assert "Unauthenticated" in _asked_by(stranger, command_of(raylet))


def _asked_by(stranger: dict[str, str], raylet: str) -> str:
    """What a process with other variables is answered by the head of a Ray."""
    address = re.findall(r"--gcs-address=(\S+)", raylet)[0]
    ask = f"from ray._raylet import GcsClient; print(GcsClient({address!r}).internal_kv_keys(b'', timeout=20))"
    asked = subprocess.run([sys.executable, "-c", ask], env={**os.environ, **stranger}, capture_output=True, text=True)
    return asked.stdout + asked.stderr


@pytest.mark.slow
def test_a_long_tmpdir_and_one_allowed_cpu(tmp_path):
    temporary = tmp_path / ("t" * 80)
    temporary.mkdir()
    ask = """
import ray
from cluster.tasks import ray_session
with ray_session(None, cpus=None, code={}):
    print(ray.cluster_resources()["CPU"])
"""
    asked = subprocess.run(
        ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), sys.executable, "-c", ask],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    assert asked.stdout == "1.0\n", asked.stderr
