"""What is found out about an address before Ray is asked: nobody, somebody else, or nobody who answers."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cluster import ray_jobs
from cluster.errors import TargetError
from cluster.ray_jobs import GREETING, check_ray_address, no_cluster, resolve_ray_address


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """An address at which each caller gets an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            caller, _ = server.accept()
            with caller:
                answer(caller)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join()


def web_server(caller: socket.socket) -> None:
    caller.recv(100)
    caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def silent(caller: socket.socket) -> None:
    while caller.recv(100):
        pass


def hanging_up(caller: socket.socket) -> None:
    caller.recv(100)


@pytest.mark.parametrize(
    ("answer", "found"),
    [(web_server, "something else than Ray listens there"), (silent, "timed out"), (hanging_up, "closed at once")],
)
def test_a_wrong_port_is_found_out_in_seconds(monkeypatch, answer, found):
    monkeypatch.setattr(ray_jobs, "CONNECT_SECONDS", 0.2)
    with (
        listening(answer) as address,
        pytest.raises(TargetError, match=f"no Ray cluster answers at {address}") as caught,
    ):
        check_ray_address(address)
    assert found in caught.value.details["found"]


def test_who_speaks_as_ray_does_is_taken_for_it():
    with listening(lambda caller: (caller.recv(100), caller.sendall(GREETING[24:]))) as address:
        check_ray_address(address)


def test_a_mismatch_of_versions_names_both():
    there = "The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.11.2\n"
    ray_says = f"Version mismatch: {there}This process has:\n 2.60.0"
    found = no_cluster("head:6379", RuntimeError(ray_says)).details["found"]
    assert "Ray: 2.59.0 Python: 3.11.2 This process has: 2.60.0" in found


def test_auto_is_the_cluster_of_the_job_or_of_the_node(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert resolve_ray_address("auto") == "head:6379"
    assert resolve_ray_address("other:6380") == "other:6380"
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(TargetError, match="no Ray cluster is known here"):
        check_ray_address("auto")
    joined = tmp_path / "ray" / "ray_current_cluster"
    joined.parent.mkdir()
    joined.write_text("10.0.0.1:6379\n")
    assert resolve_ray_address("auto") == "10.0.0.1:6379"


@pytest.mark.parametrize(
    ("address", "kind"), [("ray://head:10001", "the address of Ray Client"), ("http://head:8265", "a URL")]
)
def test_the_address_of_another_part_of_ray_says_what_to_do(monkeypatch, address, kind):
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given in (address, "auto"):
        with pytest.raises(TargetError, match=f"{re.escape(address)} is not the address of a head node") as caught:
            check_ray_address(given)
        assert caught.value.details["found"] == kind
        assert "--ray-address auto" in caught.value.details["do"]
