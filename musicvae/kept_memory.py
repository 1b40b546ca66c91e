"""How this process keeps its memory: for the next step of a training, and while much is read that stays."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Of <malloc.h>.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST_KEPT = 1 << 30
"""Bytes; what is larger is mapped and given back each time, as glibc does from 32 MiB on."""
NEVER = -1


def keep_freed_memory() -> bool:
    """Has glibc keep freed memory instead of giving it back to the system; False where another C library is used.

    A step takes the same tens of megabytes as the step before. By default each of these blocks is mapped, touched page
    by page and unmapped again, which took a third of the time of a training step on the CPU. The price is that the
    process stays at the size of its largest step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


def give_back_freed_memory() -> None:
    """Returns to the system what is free, so that what comes next finds memory as a new process does."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def without_collections() -> Iterator[None]:
    """For a block that makes a great many objects and no garbage. Python's collections would visit all of them again
    and again: a third of the time of reading a hundred thousand trials."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
