"""What is settled before the ranks of a launch begin: their devices, their versions, how long they wait."""

import json
import shutil
import threading
from dataclasses import asdict
from datetime import timedelta

import pytest
import torch

from jobs.training import rank, same_everywhere
from jobs.training.same_everywhere import check_same_everywhere, version_of_rank
from jobs.training.settings import ResourceSettings
from musicvae.errors import AbsentRanksError, ConfigError
from musicvae.training.heartbeat import HEARTBEAT_SECONDS, MISSED_HEARTBEATS, START_FACTOR, group_seconds
from musicvae.training.world import Meeting


@pytest.mark.parametrize(
    ("device", "count", "found"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:1"), ("auto", 3, "cuda:1"), ("cuda", 2, "cuda:1"), ("cpu", 2, "cpu")],
)
def test_each_rank_has_a_device_of_its_own_or_all_use_the_cpu(device, count, found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert str(rank._device(ResourceSettings(device=device), 1, 2)) == found


@pytest.mark.parametrize(("device", "count"), [("auto", 1), ("cuda", 0), ("cuda", 1)])
def test_fewer_devices_than_ranks_are_refused(device, count, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for local_rank in (0, 1):
        with pytest.raises(ConfigError, match="one for each of the 2 rank"):
            rank._device(ResourceSettings(device=device), local_rank, 2)


def test_ranks_on_other_kinds_of_devices_are_named_before_they_begin(monkeypatch):
    monkeypatch.setattr(same_everywhere.socket, "gethostname", lambda: "node1")
    this = version_of_rank(torch.device("cpu"), manifest="m", run="r")
    other = {**asdict(this), "host": "node2", "device": "cuda", "cuda": "12.8"}
    for number in (0, 1):
        with pytest.raises(ConfigError, match="different versions") as refused:
            check_same_everywhere(lambda text: [text, json.dumps(other)], this, rank=number)
        assert refused.value.shown_elsewhere == (number == 1)
    assert "device: cpu on rank 0 (node1), cuda on rank 1 (node2)" in str(refused.value)
    assert "CUDA: - on rank 0 (node1), 12.8 on rank 1 (node2)" in str(refused.value)
    check_same_everywhere(lambda text: [text, text], this, rank=0)


@pytest.mark.parametrize("hang_seconds", [6.0, 600.0, 7200.0])
def test_no_collective_gives_up_before_the_heartbeats_have_named_the_absent_rank(hang_seconds):
    named_after = START_FACTOR * hang_seconds + 2 * MISSED_HEARTBEATS * HEARTBEAT_SECONDS
    assert group_seconds(hang_seconds) > named_after


def test_a_rank_whose_launch_has_ended_waits_for_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(AbsentRanksError, match="the launch has ended"):
        Meeting.in_file(tmp_path / "gone" / "attempt-1", timedelta(minutes=10))
    stores = tmp_path / "stores"
    stores.mkdir()
    end_of_launch = threading.Timer(0.1, shutil.rmtree, [stores])
    end_of_launch.start()
    with pytest.raises(AbsentRanksError, match="before all of its 2 ranks have met"):
        Meeting.in_file(stores / "attempt-1", timedelta(minutes=10))
    end_of_launch.join()
