"""A throw-away Ray cluster of several nodes on this machine, as a user would start one by hand.

Its nodes have all packages and cannot import the project: what runs there has been sent.
"""

import json
import os
import secrets
import signal
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.support.processes.process_tree import kill_tree
from tests.support.services.free_ports import HOST, free_ports

UP = "Ray runtime started"
HEAD_ID = f"{'f' * 51}00000"
"""That Ray's own fake of a cloud expects."""
AUTOSCALER = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}
IDLE_MINUTES = 0.1
START_SECONDS = 60
STORE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where a cluster listens, and the variables that a client needs.

    Attributes:
        ray_jobs: the URL that jobs are submitted to, where it has a dashboard.
        folder: of the nodes' files.
        start: starts the node of a number.
    """

    address: str
    ray_jobs: str
    environment: dict[str, str]
    nodes: list[subprocess.Popen[bytes]]
    folder: Path
    start: Callable[[int], subprocess.Popen[bytes]]

    @property
    def python(self) -> Path:
        """That of the nodes."""
        return self.folder / "python" / "bin" / "python"

    def sent_packages(self) -> list[str]:
        """What each node has unpacked of the code that was sent to it, in Ray's names."""
        unpacked = self.folder.glob("tmp*/session_2*/runtime_resources/working_dir_files/_ray_pkg_*")
        return sorted(path.name for path in unpacked if path.is_dir())

    def lose_node(self, number: int) -> None:
        """Ends a node and all that runs on it at once, as a power cut does; 0 is the head."""
        kill_tree(self.nodes[number].pid)
        self.nodes[number].wait()

    def replace_node(self, number: int) -> None:
        """Starts another node in the place of one that was lost."""
        self.nodes[number] = self.start(number)


@contextmanager
def ray_cluster(
    nodes: int = 2,
    cpus: int = 1,
    *,
    dashboard: bool = False,
    grows_by: int = 0,
    variables: Mapping[int, Mapping[str, str]] = MappingProxyType({}),
) -> Iterator[RayCluster]:
    """Starts a head and `nodes - 1` more nodes, and ends exactly those: `ray stop` would end every Ray of the machine.

    A head asks its clients for a token from 2.60 on. Each node has a temporary folder of its own, since two nodes of
    one machine that share one disturb each other; a short one, since the paths of Ray's sockets may have 107 bytes.

    Args:
        cpus: of each node.
        grows_by: nodes of one CPU that Ray's autoscaler adds at most, for what waits; they are children of the head.
        variables: of the environment of nodes, by their numbers.
    """
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        if grows_by:
            variables = {**variables, 0: {**variables.get(0, {}), **AUTOSCALER}}
        yield from _ray_cluster(Path(folder), nodes, cpus, dashboard, grows_by, variables)


def _ray_cluster(
    folder: Path, nodes: int, cpus: int, dashboard: bool, grows_by: int, variables: Mapping[int, Mapping[str, str]]
) -> Iterator[RayCluster]:
    python = _foreign_python(folder / "python")
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    port, jobs_port = free_ports(2)
    address, head = f"{HOST}:{port}", ["--head", "--include-dashboard", str(dashboard).lower(), "--port", str(port)]
    head += ["--dashboard-port", str(jobs_port)] if dashboard else []
    if grows_by:
        cloud = folder / "cloud.json"
        cloud.write_text(json.dumps(_cloud(address, grows_by)), encoding="utf-8")
        head += ["--autoscaling-config", str(cloud)]
    processes: list[subprocess.Popen[bytes]] = []

    def start(node: int) -> subprocess.Popen[bytes]:
        place = ["--address", address] if node else head
        temporary = Path(tempfile.mkdtemp(prefix="tmp", dir=folder))
        log = temporary.with_suffix(".log")
        own = {**environment, **variables.get(node, {})}
        process = _start_node(python, [*place, "--num-cpus", str(cpus)], temporary, log, own)
        try:
            _wait_until_up(process, log)
        except BaseException:
            _end(process)
            raise
        return process

    try:
        for node in range(nodes):
            processes.append(start(node))
        yield RayCluster(address, f"http://{HOST}:{jobs_port}", environment, processes, folder, start)
    finally:
        for process in reversed(processes):
            _end(process)


def _cloud(address: str, most_nodes: int) -> dict[str, object]:
    """What an autoscaler is told of a cloud, here Ray's own fake: its nodes are processes of this machine."""
    fake = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    provider = {"type": "external", "module": fake, "gcs_address": address, "launch_multiple": True}
    node = {"node_config": {}, "min_workers": 0}
    commands = ("setup", "head_setup", "worker_setup", "initialization", "head_start_ray", "worker_start_ray")
    return {
        **{f"{name}_commands": [] for name in commands},
        "cluster_name": "fake",
        "cluster_synced_files": [],
        "file_mounts": {},
        "max_workers": most_nodes,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": {**provider, "head_node_id": HEAD_ID},
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "worker": {**node, "resources": {"CPU": 1, "object_store_memory": STORE_BYTES}, "max_workers": most_nodes},
        },
        "head_node_type": "ray.head.default",
    }


def _foreign_python(folder: Path) -> Path:
    """A Python with the packages of this one, that knows nothing of the checkout."""
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder)})
    # A folder that a .pth file names is searched, but its own .pth files, one of which names the checkout, are not.
    Path(packages, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def _start_node(
    python: Path, options: list[str], temporary: Path, log: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    command = [str(python), "-c", "from ray.scripts.scripts import main; main()", "start", *options]
    command += ["--block", "--node-ip-address", HOST]
    command += ["--object-store-memory", str(STORE_BYTES), "--temp-dir", str(temporary)]
    # Without a port of its own for its agent, a head beside another Ray of this machine takes no jobs.
    command += ["--dashboard-agent-listen-port", str(*free_ports(1))]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--disable-usage-stats"],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **environment},
            start_new_session=True,
        )


def _wait_until_up(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while UP not in log.read_text(encoding="utf-8", errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(
                f"a Ray node did not come up:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}"
            )
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a node, and what it left of its process group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
