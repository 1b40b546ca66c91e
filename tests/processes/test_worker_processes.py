"""The processes that tasks run in: forks of a fork server where that is safe, and new interpreters elsewhere."""

import os
import signal
import sys
import time
from importlib import import_module

import pytest

from cluster.errors import TargetError
from cluster.tasks import task_runner
from tests.support.processes.process_tree import fork_server_of

LOADED_BY = os.getpid()
WITH_A_THREAD = """
import os, sys, threading
if sys.orig_argv[1] == "-c":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
def parent_of_worker(task):
    return os.getppid()
"""


def parent_and_loader(task: int) -> tuple[int, int]:
    """The parent of the process that runs a task, and who has loaded this file for it."""
    return os.getppid(), LOADED_BY


def kill_parent(task: int) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)  # the worker is killed meanwhile


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
def test_several_are_forks_of_a_process_that_has_loaded_their_code_and_one_is_a_new_interpreter():
    with task_runner("processes", 2, code={}) as run:
        ((server, loaded_by),) = {answer for _, answer in run(parent_and_loader, range(8))}
        assert server == loaded_by != os.getpid()
        assert fork_server_of(os.getpid()) is None, "it ends with the tasks"
        ((_, (driver, loaded_by)),) = run(parent_and_loader, [0])
    assert driver == os.getpid() != loaded_by


def test_a_fork_server_with_a_thread_that_a_fork_would_lose_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "with_a_thread.py").write_text(WITH_A_THREAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    parent_of_worker = import_module("with_a_thread").parent_of_worker
    with task_runner("processes", 2, code={}) as run:
        assert {parent for _, parent in run(parent_of_worker, range(4))} == {os.getpid()}


def test_workers_end_with_their_fork_server_and_the_caller_hears_of_it():
    with task_runner("processes", 2, code={}) as run, pytest.raises(TargetError, match="a worker process was killed"):
        list(run(kill_parent, range(4)))
    assert fork_server_of(os.getpid()) is None
