"""Tasks on an embedded Ray, in processes and here: bounded, complete, and their errors arrive as they were raised."""

import os
import sys

import pytest

from cluster import tasks as tasks_module
from cluster.errors import ExitCode, TargetError
from cluster.tasks import TASKS_PER_SLOT, task_runner
from musicvae.errors import DataError

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


def test_children_do_not_inherit_what_ray_sets_for_itself(run_on_ray):
    # Ray puts its debugger into PYTHONBREAKPOINT, which every Python process reads as it starts.
    assert "ray" in sys.modules
    assert "PYTHONBREAKPOINT" not in os.environ


def test_every_answer_comes_once_with_its_number(run_on_ray):
    answers = dict(run_on_ray(square, range(NUM_TASKS)))
    assert answers == {number: number**2 for number in range(NUM_TASKS)}


def test_few_tasks_are_in_flight(run_on_ray):
    tasks = CountedTasks(range(NUM_TASKS))
    for number, _ in enumerate(run_on_ray(square, tasks)):
        assert tasks.taken <= number + 1 + TASKS_PER_SLOT * 2
    assert tasks.taken == NUM_TASKS


@pytest.mark.parametrize("where", ["ray", "processes"])
def test_an_error_is_raised_here_as_it_was_there(run_on_ray, where):
    with task_runner("processes", 2, code={}) as run_in_processes, pytest.raises(DataError) as caught:
        dict((run_on_ray if where == "ray" else run_in_processes)(refuse, range(NUM_TASKS)))
    assert str(caught.value) == "task 7 is bad\n  found     a seven\n  do        leave it out"


def test_a_task_that_ray_loses_for_good_is_no_mistake_of_the_command_line(run_on_ray, monkeypatch):
    monkeypatch.setattr(tasks_module, "LOST_RETRIES", 0)
    with pytest.raises(TargetError, match="Ray lost a task for good") as caught:
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
