"""One process at a time works on a folder."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from musicvae.errors import ConfigError
from musicvae.folder_lock import DEAD_SECONDS, LOCK_NAME, hold_folder


def hold(folder: Path) -> bool:
    with hold_folder(folder):
        return json.loads((folder / LOCK_NAME).read_text())["pid"] == os.getpid()


def claim(folder: Path, host: str, *, seconds_ago: float) -> None:
    """Leaves the folder as a holder on some machine would."""
    (folder / LOCK_NAME).write_text(json.dumps({"host": host, "pid": 4}))
    then = time.time() - seconds_ago
    os.utime(folder / LOCK_NAME, (then, then))


def test_it_can_be_held_again_and_again(tmp_path):
    assert hold(tmp_path)
    assert hold(tmp_path)


def test_within_one_process_too_only_once(tmp_path):
    with hold_folder(tmp_path), pytest.raises(ConfigError, match="in use"):
        hold(tmp_path)


@pytest.fixture
def fast_beat(monkeypatch):
    """Signs of life every tenth of a second, so that a test need not wait for them."""
    monkeypatch.setattr("musicvae.folder_lock.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("musicvae.folder_lock.DEAD_SECONDS", 1.0)


@pytest.fixture
def patient(monkeypatch, fast_beat):
    """For tests whose holder lives: a busy machine may keep it from its next sign of life for a while."""
    monkeypatch.setattr("musicvae.folder_lock.DEAD_SECONDS", 60.0)


def test_a_holder_on_another_machine_that_gives_signs_of_life_is_alive(tmp_path, fast_beat, patient):
    claim(tmp_path, "another-machine", seconds_ago=0.5)
    beat = threading.Timer(0.2, os.utime, [tmp_path / LOCK_NAME])
    beat.start()
    with pytest.raises(ConfigError, match="process 4 on another-machine"):
        hold(tmp_path)
    beat.join()


def test_a_holder_on_another_machine_that_falls_silent_is_gone(tmp_path, fast_beat):
    claim(tmp_path, "another-machine", seconds_ago=0.5)
    assert hold(tmp_path)
    claim(tmp_path, "another-machine", seconds_ago=DEAD_SECONDS + 1)
    assert hold(tmp_path)


def test_a_holder_that_was_taken_over_neither_beats_nor_clears_for_the_new_one(tmp_path, fast_beat):
    lock = tmp_path / LOCK_NAME
    with hold_folder(tmp_path):
        claim(tmp_path, "another-machine", seconds_ago=100)
        touched = lock.stat().st_mtime
        time.sleep(0.3)
        assert lock.stat().st_mtime == touched
    assert json.loads(lock.read_text())["host"] == "another-machine"


def test_where_the_file_system_knows_no_locks_the_sign_of_life_decides(tmp_path, monkeypatch, fast_beat, patient):
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with hold_folder(tmp_path), pytest.raises(ConfigError, match=f"process {os.getpid()} on "):
        hold(tmp_path)
    assert hold(tmp_path)


def test_a_torn_claim_is_no_claim(tmp_path):
    (tmp_path / LOCK_NAME).write_text('{"host": "anoth')
    assert hold(tmp_path)


def test_the_others_of_a_group_are_let_in_and_nobody_else(tmp_path):
    with hold_folder(tmp_path, group="tonight"):
        with hold_folder(tmp_path, group="tonight"):
            pass
        with pytest.raises(ConfigError, match="in use"), hold_folder(tmp_path, group="tomorrow"):
            pass
        with pytest.raises(ConfigError, match="in use"):
            hold(tmp_path)
    assert hold(tmp_path)
