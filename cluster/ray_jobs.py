"""A Ray cluster spoken to without Ray: whether its head answers at an address, and Ray Jobs over their HTTP interface.

A login node without Ray can submit to a cluster. The cluster asks for a token where RAY_AUTH_MODE is `token`, as Ray
does by default from 2.60 on; it is found where Ray's own clients find it. Read from ray.dashboard.modules.job of Ray.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.errors import TargetError
from cluster.job import SchedulerState, SchedulerStates

ANSWER_SECONDS = 30.0
AGENT_SECONDS, AGENT_PAUSE = 60.0, 1.0
"""A head's dashboard answers before the agent that takes jobs has started."""
NO_AGENT = "No available agent"
"""What it says meanwhile."""
DEFAULT_TOKEN = Path(".ray") / "auth_token"
CONNECT_SECONDS = 8.0
LOOK_SECONDS = 2.0
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""HTTP/2, which Ray speaks: its preface and an empty frame of settings, which is the first that a server answers."""
SETTINGS_FRAME = 4
AUTO = "auto"


def resolve_ray_address(address: str) -> str:
    """HOST:PORT of what `--ray-address` names; for `auto` what RAY_ADDRESS says, or where `ray start` has joined.

    Raises:
        TargetError: `auto` without either, or the URL of another part of Ray.
    """
    if address == AUTO:
        # As Ray does, but for its search among all processes of the machine.
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        joined = Path(folder, "ray", "ray_current_cluster")
        address = os.environ.get("RAY_ADDRESS", "")
        if not address and joined.is_file():
            address = joined.read_text(encoding="utf-8").strip()
        if address in ("", AUTO):
            raise TargetError(
                "--ray-address auto: no Ray cluster is known here",
                expected=f"RAY_ADDRESS=HOST:PORT, or {joined}, which `ray start` writes on each node",
                found="neither",
                likely="this machine is no node of the cluster, or the cluster has ended",
                do="run the command on a node of the cluster, or give --ray-address HOST:PORT",
            )
    if "://" in address:
        raise TargetError(
            f"{address} is not the address of a head node",
            expected="HOST:PORT of the head, as `ray start --head` prints it (port 6379), or auto on a node",
            found="the address of Ray Client" if address.startswith("ray://") else "a URL",
            likely="the command is run outside of the cluster",
            do="run it on a node with --ray-address auto, or send it there: python -m jobs.submit KIND --on ray "
            "--ray-jobs http://HEAD:8265 -- ARGUMENTS",
        )
    return address


def check_ray_address(address: str | None) -> None:
    """Makes sure that Ray may listen at an address, if one is given; for commands that have not written anything yet.

    Raises:
        TargetError: nobody listens there, or something else than Ray.
    """
    if not address:
        return
    address = resolve_ray_address(address)
    deadline = time.monotonic() + CONNECT_SECONDS
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS) as probe:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                _greet(probe, deadline)
    except (OSError, ValueError, OverflowError) as error:  # UnicodeError of names that are none is a ValueError
        raise no_cluster(address, error) from None


def _greet(probe: socket.socket, deadline: float) -> None:
    """Ray itself would wait many minutes for an answer in its own protocol.

    Raises:
        OSError: none comes.
    """
    probe.sendall(GREETING)
    answer = b""
    while len(answer) < 9:
        probe.settimeout(max(0.01, deadline - time.monotonic()))
        received = probe.recv(64)
        if not received:
            break
        answer += received
    if answer[3:4] != bytes([SETTINGS_FRAME]):
        raise OSError("something else than Ray listens there" if answer else "the connection is closed at once")


def no_cluster(address: str, error: Exception) -> TargetError:
    """That Ray cannot be reached at an address."""
    text = str(error)
    return TargetError(
        f"no Ray cluster answers at {address}",
        expected="HOST:PORT of a running head node, as `ray start --head` prints it",
        # A mismatch of versions names both on lines of their own.
        found=" ".join(text.split()) if text.startswith("Version mismatch") else text.partition("\n")[0],
        likely="a wrong port, another version of Ray, a cluster that has ended, or a missing token (RAY_AUTH_MODE)",
        do="start the cluster, or leave --ray-address out to use this machine",
    )


def answers(address: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        socket.create_connection((host, int(port)), timeout=LOOK_SECONDS).close()
        return True
    return False


def refuses(address: str) -> bool:
    """Whether nobody listens there for sure; a head that is busy may be slow to answer."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=LOOK_SECONDS).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def submit(url: str, number: str, entrypoint: str, about: Mapping[str, str]) -> None:
    """Submits a line of shell, which the cluster's head runs; a head that has just come up is given `AGENT_SECONDS`.

    Args:
        url: of the cluster's dashboard: http://HEAD:8265
        number: names the job, and must be new to the cluster.
        about: shown on the dashboard.

    Raises:
        TargetError: no cluster answers, or it refuses.
    """
    job = {"entrypoint": entrypoint, "submission_id": number, "metadata": dict(about)}
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            _ask(url, "POST", "/api/jobs/", job)
        except TargetError as error:
            if NO_AGENT not in error.details["found"]:
                raise
            if time.monotonic() > deadline:
                raise _no_agent(url, error.details["found"]) from None
            time.sleep(AGENT_PAUSE)
        else:
            return


def states(url: str) -> SchedulerStates:
    """What the cluster says of its jobs, by their numbers; None where no cluster answers."""
    try:
        jobs = list_jobs(url)
    except TargetError:
        return None
    return {
        (job["submission_id"], 0): SchedulerState(job["status"], job.get("message") or "")
        for job in jobs
        if job["submission_id"]
    }


def list_jobs(url: str) -> list[dict[str, Any]]:
    """What the cluster says of its jobs, in its own words; those that were not submitted have no number.

    Raises:
        TargetError: no cluster answers, or it refuses.
    """
    return _ask(url, "GET", "/api/jobs/")


def version(url: str) -> str:
    """Of the Ray that the cluster runs.

    Raises:
        TargetError: no cluster answers, or it refuses.
    """
    return str(_ask(url, "GET", "/api/version")["ray_version"])


def stop(url: str, number: str) -> None:
    """Ends a job; one that has ended is no error.

    Raises:
        TargetError: no cluster answers, or it refuses.
    """
    _ask(url, "POST", f"/api/jobs/{number}/stop")


def _ask(url: str, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
    import urllib.error  # which loads half of the standard library, for commands that mostly ask no cluster
    import urllib.request

    headers = {"Content-Type": "application/json"}
    if token := _token():
        headers["Authorization"] = f"Bearer {token}"
    data = None if content is None else json.dumps(content).encode()
    try:
        request = urllib.request.Request(url.rstrip("/") + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        answer = error.read().decode(errors="replace").strip()
        refused = error.code in (401, 403)
        raise TargetError(
            f"the Ray cluster at {url} refuses the request: {error.code} {error.reason}",
            found=answer.splitlines()[-1] if answer else "",
            likely="a missing or wrong token (RAY_AUTH_TOKEN_PATH names its file)"
            if refused
            else "an error on the head node, or another version of Ray",
            do="export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE, as on the head node"
            if refused
            else "look at the dashboard and its logs, then submit again",
        ) from None
    except (OSError, ValueError) as error:
        raise TargetError(
            f"no Ray cluster answers at {url}",
            expected="the dashboard's address, as `ray start --head` prints it: http://HEAD:8265",
            found=str(error),
            likely="the cluster has ended, has another port, or has no dashboard (pip install 'ray[default]')",
            do="start the cluster or correct --ray-jobs, then submit again to resume",
        ) from None


def _no_agent(url: str, answer: str) -> TargetError:
    return TargetError(
        f"the Ray cluster at {url} accepts no jobs",
        expected=f"an answer of its job agent within {AGENT_SECONDS:.0f} seconds",
        found=answer,
        likely="another Ray on the head node uses the port of the agent (52365)",
        do="stop that Ray, or start the head with another --dashboard-agent-listen-port; then submit again",
    )


def _token() -> str | None:
    """As Ray finds it: the variable, the file that a variable names, the file in the home folder."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / DEFAULT_TOKEN
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
