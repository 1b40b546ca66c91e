"""What training sees of W&B: messages taken at once, a bounded queue, one word about trouble, a bounded end."""

import os
import time
from pathlib import Path

import pytest

from jobs.training import tracking
from jobs.training.settings import TrackingSettings
from jobs.training.tracking import WandbTracker
from tests.support.runs.run_folders import begun_run


def tracker_with(
    library: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, finish_timeout: float = 60.0
) -> tuple[WandbTracker, list[str]]:
    """A tracker whose process finds this in place of wandb, and what it warns of."""
    hook = folder / "hook"
    hook.mkdir()
    (hook / "wandb.py").write_text(library)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")]))
    begun_run(folder / "run")
    said: list[str] = []
    settings = TrackingSettings(wandb="online", finish_timeout=finish_timeout)
    return WandbTracker(settings, folder / "run", said.append), said


def test_a_library_that_hangs_costs_messages_and_one_word_but_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "QUEUED", 50)
    tracker, said = tracker_with("import time\ntime.sleep(1000)\n", tmp_path, monkeypatch, finish_timeout=1.0)
    values = {f"figure-{number}": float(number) for number in range(50)}
    for step in range(500):
        tracker.log(step, values)
    assert len(said) == 1
    assert "W&B is too slow" in said[0]
    assert tracker.dropped > 300
    started = time.monotonic()
    tracker.close("finished")
    assert time.monotonic() - started < 30
    assert "W&B did not receive everything within 1 s" in said[-1]


def test_a_library_that_ends_its_process_is_told_with_the_status(tmp_path, monkeypatch):
    tracker, said = tracker_with("import os\nos._exit(9)\n", tmp_path, monkeypatch)
    tracker.log(1, {"loss": 1.0})
    deadline = time.monotonic() + 60
    while not said and time.monotonic() < deadline:
        time.sleep(0.05)
    tracker.log(2, {"loss": 1.0})
    tracker.close("finished")
    assert len(said) == 1
    assert "its process ended with status 9" in said[0]
    assert tracker.dropped == 0


def test_a_library_that_raises_is_told_with_its_words(tmp_path, monkeypatch):
    tracker, said = tracker_with("raise RuntimeError('broken install')\n", tmp_path, monkeypatch)
    tracker.log(1, {"loss": 1.0})
    tracker.close("finished")
    assert said == ["W&B is not used: RuntimeError: broken install"]
