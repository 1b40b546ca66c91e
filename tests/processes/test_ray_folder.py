"""The folder of a Ray of ours, and who removes it."""

import os
import signal
import time
from pathlib import Path

from cluster.ray_node import ray_folder
from tests.support.processes.process_tree import command_of, descendants


def ignored(pid: int) -> int:
    """The signals that a process ignores, as bits."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("SigIgn:")[1].split()[0], 16)


def test_it_is_removed_though_every_process_of_a_step_was_signalled():
    """srun forwards SIGUSR1 to all of them, and scancel SIGTERM; the node's own process answers."""
    with ray_folder("ray-test-") as folder:
        (folder / "session").mkdir()
        (guard,) = [pid for pid in descendants(os.getpid()) if str(folder) in command_of(pid)]
        # Not SIGHUP and SIGINT: a test run under nohup, or in the background of a shell, ignores them from the start.
        while not ignored(guard) >> (signal.SIGTERM - 1) & 1:
            time.sleep(0.01)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.kill(guard, number)
    assert not folder.exists()
