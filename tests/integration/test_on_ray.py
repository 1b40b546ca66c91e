"""Tasks on an embedded Ray: bounded, complete, and their errors arrive as they were raised."""

import os
import sys

import pytest

from musicvae.errors import DataError
from preprocess.on_ray import TASKS_PER_SLOT, task_runner

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
    with task_runner(2) as run:
        yield run


def square(task: int) -> int:
    return task * task


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


def test_an_error_is_raised_here_as_it_was_there(run_on_ray):
    with pytest.raises(DataError) as caught:
        dict(run_on_ray(refuse, range(NUM_TASKS)))
    assert str(caught.value) == "task 7 is bad\n  found     a seven\n  do        leave it out"


def test_without_workers_tasks_run_here_one_by_one():
    with task_runner(0) as run:
        tasks = CountedTasks([3, 4])
        answers = run(square, tasks)
        assert next(answers) == (0, 9)
        assert tasks.taken == 1
        assert list(answers) == [(1, 16)]
