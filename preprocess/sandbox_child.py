"""The child's side of `preprocess.sandbox`: reads jobs from stdin, works on them within limits, answers on stdout."""

import ctypes
import functools
import gc
import mmap
import os
import pickle
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from preprocess.sandbox import LENGTH, OUT_OF_MEMORY, PLACE, Allowance, Job

PR_SET_PDEATHSIG = 1
STATM = Path("/proc/self/statm")
STATM_BYTES = 256
DATA_PAGES = 5
"""Field of /proc/self/statm that RLIMIT_DATA is compared with."""
LIVING_OBJECTS = 10_000
"""New objects after which garbage is looked for: as many as a chunk keeps, since only an exception leaves cycles."""


def main() -> None:
    """Works until stdin ends, which it does when the parent does."""
    place_handle, parent = int(sys.argv[1]), int(sys.argv[2])
    gc.set_threshold(LIVING_OBJECTS)
    _die_with(parent)
    # A Ctrl-C or a scheduler's signal to the whole group is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whatever prints must not print into the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    place = mmap.mmap(place_handle, PLACE.size)
    jobs = sys.stdin.buffer
    while header := jobs.read(LENGTH.size):
        job: Job = pickle.loads(jobs.read(LENGTH.unpack(header)[0]))
        try:
            _work(job, place, answers)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:
            _answer(answers, error)


def _work(job: Job, place: mmap.mmap, answers: BinaryIO) -> None:
    last = len(job.items) - 1
    for number, item in enumerate(job.items):
        place[:] = PLACE.pack(number)
        _allow(job.allowance)
        if job.work.do(item) or number == last:
            _answer(answers, (job.work.hand_over(), number + 1))


def _answer(answers: BinaryIO, answer: Any) -> None:
    data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    answers.write(LENGTH.pack(len(data)))
    answers.write(data)
    answers.flush()


def _allow(allowance: Allowance) -> None:
    """Sets the kernel's limits for the next item. The soft ones: a hard one could not be raised for the item after."""
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + allowance.cpu_seconds)
    if (statm := _statm()) is not None:
        data = int(os.pread(statm, STATM_BYTES, 0).split()[DATA_PAGES]) * resource.getpagesize()
        _limit(resource.RLIMIT_DATA, data + allowance.memory_bytes)


@functools.cache
def _statm() -> int | None:
    """A handle of `STATM`, kept open, as opening it takes most of the time that an item costs here; its content is made
    anew for each reader."""
    return os.open(STATM, os.O_RDONLY | os.O_CLOEXEC) if STATM.exists() else None


def _limit(what: int, soft: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
