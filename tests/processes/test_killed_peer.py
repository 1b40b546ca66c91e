"""A rank whose main thread waits for a killed one, in a backend that notices nothing."""

import socket
import subprocess
import sys
import time

import pytest

from musicvae.training.rank_records import RankRecord, RankRecords
from tests.support.commands import CHECKOUT

SURVIVOR = """
import sys
from pathlib import Path
from musicvae.training.heartbeat import Heartbeat
from musicvae.training.rank_records import RankRecords
heartbeat = Heartbeat(RankRecords(Path(sys.argv[1])), rank=0, world_size=2, launch_id="launch", attempt=0)
heartbeat.start()
heartbeat.beat(7, "training")
exec(compile("import time; time.sleep(60)", "/torch/distributed/collective.py", "exec"))
"""


@pytest.mark.slow
def test_it_leaves_at_once_and_says_who_has_died(tmp_path):
    killed = subprocess.Popen(["true"])
    killed.wait()
    place = (1, 2, socket.gethostname(), killed.pid, 7, "training")
    RankRecords(tmp_path).write(RankRecord(*place, "launch", 0, time.time(), 9, False, False))
    survivor = subprocess.run([sys.executable, "-c", SURVIVOR, tmp_path], cwd=CHECKOUT, timeout=90)
    assert survivor.returncode == 1, "it waits for the end of the collective"
    (error,) = RankRecords(tmp_path).errors_of("launch")
    assert error.message.startswith(f"rank 1 on {socket.gethostname()} (process {killed.pid}) has died")
    assert error.secondary
