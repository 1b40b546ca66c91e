"""A folder that another process works on is refused until that process ends."""

import json
import os
import signal
import subprocess
import sys

import pytest

from musicvae.errors import ConfigError
from musicvae.folder_lock import LOCK_NAME, hold_folder

HOLD = """
import sys, time
from pathlib import Path
from musicvae.folder_lock import hold_folder
with hold_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path, holder):
    with pytest.raises(ConfigError, match=f"process {holder.pid} on "), hold_folder(tmp_path):
        pass


def test_a_killed_holder_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with hold_folder(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
