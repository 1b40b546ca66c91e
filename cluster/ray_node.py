"""The folder of each Ray of ours, and Ray inside an allocation: nodes that begin and end with a job of a scheduler.

python -m cluster.ray_node begin HOST:PORT       on each node: Ray runs until SIGUSR1 or SIGTERM, or until it ends
python -m cluster.ray_node wait HOST:PORT N PID  until N nodes are there, as long as a process runs that holds them

The first node of the step (SLURM_NODEID 0) is the head. Several such clusters may share a machine: all ports but the
head's own are whichever are free, and each node has a temporary folder of its own. Clients are asked for the token in
RAY_AUTH_TOKEN_PATH.
"""

import argparse
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.code import CHECKOUT
from cluster.errors import ExitCode, TargetError
from cluster.local import is_alive, start_guarded, usable_cpus

WAIT_SECONDS = 180.0
"""For all nodes; a slow shared file system is read by all of them at once."""
LOOK_SECONDS = 0.5
STORE_BYTES = 200_000_000
"""Of the object store: what travels through Ray here are names, numbers and settings."""
LONGEST_PARENT = 18
"""In bytes. The paths of Ray's sockets are up to 89 bytes longer and may have 107."""
RAYS_OWN = "r"
"""Ray's temporary folder, within the folder that is closed to others."""
OWNER = "GROOVES_RAY_FOLDER"
"""The variable by which all processes of one Ray know its folder, and the guard of the folder knows them."""
ROUNDS, ROUND_SECONDS = 100, 0.1
"""Of the guard, which looks again for what a dying process has started."""


def begin(address: str, environment: Mapping[str, str]) -> int:
    """Runs one node; what it leaves on the machine goes with it.

    Args:
        environment: what SLURM tells a task of a step.
    """
    signals: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(number))
    with ray_folder(f"ray-{environment.get('SLURM_JOB_ID', '')}-", environment) as folder:
        ray = start_guarded(
            ray_command(address, folder / RAYS_OWN, environment),
            {"RAY_USAGE_STATS_ENABLED": "0", OWNER: str(folder)},
            when_orphaned=signal.SIGTERM,
        )
        while not signals and ray.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                ray.wait(LOOK_SECONDS)
        # At once, as its folder takes the rest of it: SLURM kills what is left of a step soon after its signal.
        ray.kill()
    return ExitCode.SUCCESS if signals else ray.wait()


@contextmanager
def ray_folder(prefix: str, environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """A folder for one Ray, which no other user can enter. Ray opens its own temporary folder to everybody.

    The folder and all processes that have it in `OWNER` end with the block, or with this process, however it ends: the
    agents of a Ray whose driver was killed as it started else wait minutes for their head.

    Raises:
        TargetError: it cannot be made.
    """
    parent = ray_parent(environment)
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise TargetError(
            "Ray has no folder for its sockets",
            expected=f"a writable folder {parent}",
            found=error.strerror or str(error),
            likely="a full disk, or a container without /tmp",
            do=f"set TMPDIR to a writable folder whose path has at most {LONGEST_PARENT} characters",
        ) from None
    guard = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import guard_folder; guard_folder({str(folder)!r})"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        guard.communicate()


def guard_folder(folder: str) -> None:
    """Waits until whoever holds our standard input has ended; then ends the Ray of a folder, and removes the folder."""
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # srun and scancel signal every process; who holds our input answers
    sys.stdin.read()
    mark = f"{OWNER}={folder}\0".encode()
    for _ in range(ROUNDS):
        marked = [path.parent for path in Path("/proc").glob("[0-9]*/environ") if mark in _bytes_of(path)]
        for process in marked:
            with suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
        # A process that is still dying may write into the folder while it is removed.
        shutil.rmtree(folder, ignore_errors=True)
        if not marked and not Path(folder).exists():
            return
        time.sleep(ROUND_SECONDS)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


def ray_parent(environment: Mapping[str, str] = os.environ) -> Path:
    """Where Ray's folders are made: TMPDIR if it can be written to and its path is short enough, else /tmp."""
    folder = environment.get("TMPDIR", "")
    usable = Path(folder).is_absolute() and len(os.fsencode(folder)) <= LONGEST_PARENT and os.access(folder, os.W_OK)
    return Path(folder if usable else "/tmp")


def ray_command(address: str, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """The argv of Ray on one node.

    Args:
        address: HOST:PORT of the head.
        folder: for its sockets and logs.
    """
    port = address.rpartition(":")[2]
    is_head = environment.get("SLURM_NODEID", "0") == "0"
    head = ["--head", "--port", port, "--ray-client-server-port", str(_free_port()), "--include-dashboard", "false"]
    return [
        *(sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"),
        *(head if is_head else ["--address", address]),
        *("--block", "--disable-usage-stats", "--temp-dir", str(folder)),
        # Zero: whichever are free. Ray's own range is the same for every cluster of a machine.
        *("--min-worker-port", "0", "--max-worker-port", "0"),
        # Else the agent of another Ray on this machine, which takes its jobs, would find its port taken.
        *("--dashboard-agent-listen-port", str(_free_port())),
        *("--object-store-memory", str(STORE_BYTES)),
        *("--num-cpus", str(usable_cpus(environment))),
    ]


def wait(address: str, nodes: int, *, seconds: float, holder: int) -> str:
    """Waits for nodes; gives what is wrong in the end, nothing if all is well.

    Args:
        holder: process without which there are no nodes to wait for; 0 for none.
    """
    view = ClusterView(address)
    # Asked in the background: Ray may take ten minutes over a port where something else answers.
    threading.Thread(target=view.look, args=(nodes,), daemon=True).start()
    began = time.monotonic()
    while not view.over.wait(LOOK_SECONDS):
        gone, ended = time.monotonic() - began, bool(holder) and not is_alive(holder)
        if ended or gone >= seconds:
            view.over.set()
            progress = f"{view.alive_nodes} of {nodes} nodes have joined after {gone:.0f} seconds"
            return (
                progress + (", and Ray has ended" if ended else "") + ("" if view.alive_nodes else f": {view.trouble}")
            )
    return ""


class ClusterView:
    """What a client sees of a Ray cluster that comes up.

    Attributes:
        found: nodes, as last counted.
        trouble: why none was found.
        over: set once all are there, or nobody waits any more.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.alive_nodes, self.trouble = 0, "nothing listens"
        self.over = threading.Event()

    def look(self, nodes: int) -> None:
        """Looks until so many nodes are there."""
        host, _, port = self.address.rpartition(":")
        while not self.over.is_set():
            try:
                # Ray waits many minutes for a port where nobody listens, and says nothing.
                socket.create_connection((host, int(port)), timeout=LOOK_SECONDS).close()
                import ray

                if not ray.is_initialized():
                    ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
                self.alive_nodes = sum(node["Alive"] for node in ray.nodes())
                if self.alive_nodes >= nodes:
                    ray.shutdown()
                    self.over.set()
            except (OSError, RuntimeError) as error:
                self.trouble = str(error).partition("\n")[0]
            self.over.wait(LOOK_SECONDS)


def main() -> int:
    """What a script calls."""
    parser = argparse.ArgumentParser(prog="python -m cluster.ray_node")
    parser.add_argument("what", choices=["begin", "wait"])
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("nodes", type=int, nargs="?", default=1)
    parser.add_argument("holder", metavar="PID", type=int, nargs="?", default=0)
    options = parser.parse_args()
    if options.what == "begin":
        return begin(options.address, os.environ)
    if trouble := wait(options.address, options.nodes, seconds=WAIT_SECONDS, holder=options.holder):
        print(f"error: Ray did not start in this allocation at {options.address}", file=sys.stderr)
        print(f"  found     {trouble}", file=sys.stderr)
        print(
            "  do        read ray-JOB-NUMBER-NODE.log in the folder of the job's log; the job requeues itself",
            file=sys.stderr,
        )
        return ExitCode.PREEMPTED
    return ExitCode.SUCCESS


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a thread that still asks a port would hold up an exit
