"""Processes that multiprocessing has spawned end with the one that spawned them, however that ends."""

import os
import signal
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Called first in a spawned process: Ctrl-C is left to the parent, without which this process ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to the whole group, and the parent answers it
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = parent_process()
    assert parent is not None, "the process was spawned"
    parent.join()
    os._exit(1)
