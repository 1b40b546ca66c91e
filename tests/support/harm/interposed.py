"""Changes to library and reader that reach every process of a command: a `sitecustomize` on PYTHONPATH."""

import os
from pathlib import Path

from tests.support.commands import CHECKOUT

MARKER = b"poisoned: "
"""A reader that is poisoned does what stands after it in a file."""
POISONED_READER = f"""
import ctypes, os, time
import musicvae.midi.groove_file as groove_file

read = groove_file.read_performances

def poisoned(data, *arguments, **options):
    harm = data.partition({MARKER!r})[2][:8]
    match harm.strip(b"\\xff\\x00"):
        case b"segfault":
            ctypes.string_at(0)
        case b"allocate":
            kept = []
            while True:
                kept.append(bytes(10_000_000))
        case b"sleeping":
            time.sleep(3600)
        case b"spinning":
            while True:
                pass
        case b"os._exit":
            os._exit(1)
    return read(data, *arguments, **options)

groove_file.read_performances = poisoned
"""
SLOW_READER = """
import time
import musicvae.midi.groove_file as groove_file

read = groove_file.read_performances

def slow(data, *arguments, **options):
    if len(data) % 7 == 0:
        time.sleep(3)
    return read(data, *arguments, **options)

groove_file.read_performances = slow
"""
SHUFFLED_LISTING = """
import os, random

scandir = os.scandir

class Shuffled:
    def __init__(self, *arguments):
        with scandir(*arguments) as entries:
            found = list(entries)
        random.shuffle(found)
        self.entries = iter(found)
    def __enter__(self):
        return self
    def __exit__(self, *error):
        return None
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.entries)
    def close(self):
        pass

os.scandir = Shuffled
os.listdir = lambda path=".": [entry.name for entry in Shuffled(path)]
"""


POISONED_STEP = 5
POISONED_NOISE = f"""
import musicvae.data.loader as loader

normals = loader.normals

def poisoned(seed, purpose, step, first_place, num_places, draws):
    noise = normals(seed, purpose, step, first_place, num_places, draws)
    if step == {POISONED_STEP} - 1 and first_place + num_places == 16:
        noise[-1, 0] = float("inf")
    return noise

loader.normals = poisoned
"""
"""Spoils the noise of the last of 16 windows of one global batch, which only the last rank has."""


MARKED_PHASES = """
import os, pathlib, time
import musicvae.training.checkpoints as writer
import musicvae.training.state as training, musicvae.evaluation.elbo as validation

def marked(phase, action, seconds):
    def slow(*arguments, **options):
        pathlib.Path(os.environ["PHASE_MARKS"], phase).touch()
        time.sleep(seconds)
        return action(*arguments, **options)
    return slow

training.train_step = marked("training", training.train_step, 0.02)
validation.evaluate_batch = marked("evaluating", validation.evaluate_batch, 0.1)
writer.write_checkpoint = marked("saving", writer.write_checkpoint, 0.2)
"""
"""Tells in the folder PHASE_MARKS what a run is doing, and makes it slow enough to be hit at it."""


NEW_INTERPRETERS = """
import sys, threading

if sys.orig_argv[1:3] == ["-m", "jobs.training.torchrun_agent"]:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
"""A thread that a fork would lose, so that an agent forks no ranks."""


def interposed(folder: Path, code: str) -> dict[str, str]:
    """The variables under which every Python process runs some code before anything else.

    Ranks have what it did in their agent, or run it themselves if it asks which rank they are.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text((NEW_INTERPRETERS if "RANK" in code else "") + code)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(CHECKOUT)])}


def harm_at_step(harm: str, *, rank: int, step: int, attempts: int = 1) -> str:
    """Code under which a rank does something in its main thread before a step, in its first attempts."""
    return f"""
import ctypes, os, signal, time

if os.environ.get("RANK") == "{rank}" and int(os.environ["TORCHELASTIC_RESTART_COUNT"]) < {attempts}:
    import musicvae.training.step as module

    real = module.train_step

    def harmed(*arguments, **options):
        if options["step"] == {step}:
            {harm}
        return real(*arguments, **options)

    module.train_step = harmed
"""


def pause_in_phase(phase: str, marker: Path, *, seconds: float = 2.0) -> str:
    """Code under which rank 0 leaves a mark and waits a moment when it first enters a phase."""
    return f"""
import os, pathlib, time

if os.environ.get("RANK", "0") == "0":
    from musicvae.training.heartbeat import Heartbeat

    real, marker = Heartbeat.beat, pathlib.Path({str(marker)!r})

    def pausing(self, step, phase):
        real(self, step, phase)
        if phase == {phase!r} and not marker.exists():
            marker.touch()
            time.sleep({seconds})

    Heartbeat.beat = pausing
"""
