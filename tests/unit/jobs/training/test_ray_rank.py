"""A worker of Ray Train finds out whether its node sees the run that the driver has opened."""

import socket
from pathlib import Path

import pytest
import yaml

from jobs.training.messages import RankJob, StopRequest
from jobs.training.rank import check_sees_run
from musicvae.errors import ConfigError
from musicvae.training.run_folder import RunFolder
from musicvae.training.stopping import Stop

PROVENANCE = {"tracking_id": "abc"}


def job_in(run: Path, shards: str = "https://somewhere/shards") -> RankJob:
    return RankJob({}, shards, run, None, PROVENANCE, "launch", 0)


def make_run(path: Path, provenance: dict[str, str]) -> RunFolder:
    path.mkdir()
    content = {"run_id": "r", "settings": {}, "identity": {}, "shards": {}, "provenance": provenance}
    (path / "config.yaml").write_text(yaml.safe_dump(content))
    return RunFolder(path)


def test_the_run_of_the_driver_is_seen(tmp_path):
    folder = make_run(tmp_path / "run", PROVENANCE)
    check_sees_run(job_in(folder.path))


def test_a_node_without_the_run_folder_is_named_and_left_as_it_is(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ConfigError) as caught:
        check_sees_run(job_in(run))
    assert str(caught.value).startswith(f"node {socket.gethostname()} does not see the run folder")
    assert f"it does not see {run / 'config.yaml'}" in str(caught.value)
    assert not run.exists()


def test_another_run_under_the_same_path_is_not_taken_for_it(tmp_path):
    folder = make_run(tmp_path / "run", {"tracking_id": "xyz"})
    with pytest.raises(ConfigError, match="it sees another run in"):
        check_sees_run(job_in(folder.path))


def test_a_node_without_the_shards_says_so(tmp_path):
    folder = make_run(tmp_path / "run", PROVENANCE)
    assert job_in(folder.path, str(tmp_path / "shards")).blind_spot() == f"it does not see {tmp_path / 'shards'}"


@pytest.mark.parametrize(
    ("asked", "stop"),
    [
        (StopRequest(), Stop.GO_ON),
        (StopRequest(again=True), Stop.STOP_FOR_SCHEDULER),
        (StopRequest(Stop.STOP_FOR_USER, again=True), Stop.STOP_FOR_USER),
    ],
)
def test_the_strongest_request_counts(asked, stop):
    assert asked.stop == stop
