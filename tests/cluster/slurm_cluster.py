"""A throw-away SLURM cluster of virtual nodes on this machine: real munged, slurmctld and slurmd, no systemd."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.commands import SOAK
from tests.support.processes.process_tree import kill_tree, processes_with
from tests.support.services.free_ports import free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "sinfo")
START_SECONDS = 60
CPUS_OF_NODE, GPUS_OF_NODE = 2, 2
GRACE_SECONDS = 60
JOBS_OF_A_PROCESS = 1000
"""How far apart the numbers of the jobs of two processes of tests begin."""
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
# Jobs derive ports from their numbers, and several clusters of tests run on one machine at once.
FirstJobId={first_job}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for its credentials to expire before it may start again; the default is two minutes.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool/%n
ProctrackType=proctrack/linuxproc
# As real clusters do, it binds tasks to the CPUs that they were given, and counts memory and GPUs.
TaskPlugin=task/affinity
{autobind}
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
# Virtual nodes claim more CPUs and memory than the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerNode=1500
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=300
# A node that does not answer for so long is down, and its jobs are requeued.
SlurmdTimeout=15
{nodes}
# A job in `urgent` takes the nodes of jobs in `all`; these get a notice, and are requeued if they do not leave.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{notice}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime={grace}
# What does not fit into `short` waits for ever; `closed` is for others.
PartitionName=short Nodes=ALL MaxTime=5 State=UP PriorityTier=1 GraceTime=0
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 AllowGroups=nogroup
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing_programs() -> list[str]:
    """SLURM's programs that this machine lacks."""
    return [name for name in PROGRAMS if not shutil.which(name)]


@dataclass(frozen=True, slots=True)
class SlurmCluster:
    """A running cluster; its clients find it through `environment`."""

    folder: Path
    environment: Mapping[str, str]
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    controllers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_controller(self) -> None:
        """Starts the controller, for the first time or after `stop_controller`."""
        log = (self.folder / "slurmctld.out").open("ab")
        command = ["slurmctld", "-D", "-f", self.environment["SLURM_CONF"]]
        environment = {**os.environ, **self.environment}
        self.controllers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def stop_controller(self) -> None:
        """Ends the controller; what runs goes on."""
        _end(self.controllers.pop())

    def start_node(self, name: str) -> None:
        """Starts a node, for the first time or after it was lost."""
        (self.folder / "spool" / name).mkdir(exist_ok=True)
        log = (self.folder / f"slurmd-{name}.out").open("ab")
        command = ["slurmd", "-D", "-f", self.environment["SLURM_CONF"], "-N", name]
        environment = {**os.environ, **self.environment}
        self.nodes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def lose_node(self, name: str) -> None:
        """Ends a node and all that runs on it at once, as a power cut does."""
        lost = self.nodes.pop(name)
        running = self.processes(name)
        kill_tree(lost.pid)
        for pid in running:
            kill_tree(pid)
        lost.wait()

    def processes(self, name: str) -> list[int]:
        """What runs on a node; other tests have clusters whose nodes have the same names."""
        ours = {*processes_with(f"SLURM_CONF={self.environment['SLURM_CONF']}\0")}
        return [pid for pid in processes_with(f"SLURMD_NODENAME={name}\0") if pid in ours]

    def client(self, *command: object) -> str:
        """Runs a SLURM client command and gives what it printed."""
        result = subprocess.run(
            [*map(str, command)], env={**os.environ, **self.environment}, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout.strip()

    def job_state(self, job: str) -> str:
        """SLURM's word for the state of a job."""
        fields = dict(
            field.split("=", 1) for field in self.client("scontrol", "show", "job", job).split() if "=" in field
        )
        return fields["JobState"]


@contextmanager
def slurm_cluster(nodes: int = 2, *, autobind: bool = SOAK) -> Iterator[SlurmCluster]:
    """Starts munged, a controller and `nodes` virtual nodes, each a slurmd with a port of its own.

    The nodes share this machine's CPUs: ranks of two nodes are bound to the same ones.

    Args:
        autobind: whether a task that says nothing of its CPUs is bound to one core.
    """
    # munged wants a socket that everyone may reach, which the test runner's own temporary folders do not allow.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        yield from _running(Path(folder), nodes, autobind)


def _running(folder: Path, nodes: int, autobind: bool) -> Iterator[SlurmCluster]:
    folder.chmod(0o755)
    for name, mode in (("munge", 0o711), ("state", 0o755), ("spool", 0o755)):
        (folder / name).mkdir(mode=mode)
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    config = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    ports = free_ports(nodes + 1)
    lines = [
        f"NodeName=node{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[n]} "
        f"CPUs={CPUS_OF_NODE} RealMemory=16000 Gres=gpu:{GPUS_OF_NODE}"
        for n in range(1, nodes + 1)
    ]
    config.write_text(
        CONFIG.format(
            host=host,
            port=ports[0],
            folder=folder,
            nodes="\n".join(lines),
            autobind="TaskPluginParam=autobind=cores" if autobind else "",
            first_job=1 + JOBS_OF_A_PROCESS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
            notice=_notice_setting(),
            grace=GRACE_SECONDS,
        )
    )
    for gpu in range(GPUS_OF_NODE):
        (folder / f"nvidia{gpu}").touch()
    (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={folder}/nvidia[0-{GPUS_OF_NODE - 1}]\n")
    munge = folder / "munge"
    cluster = SlurmCluster(folder, {"SLURM_CONF": str(config)})
    files = {"key-file": key, "socket": munge / "socket", "pid-file": munge / "pid", "log-file": munge / "log"}
    files["seed-file"] = munge / "seed"
    command = ["munged", "--foreground", *(f"--{name}={path}" for name, path in files.items())]
    with (folder / "munged.out").open("wb") as log:
        munged = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until((munge / "socket").exists, "munged", folder)
        cluster.start_controller()
        for n in range(1, nodes + 1):
            cluster.start_node(f"node{n}")
        _wait_until(lambda: _idle_nodes(cluster) == nodes, "its nodes", folder)
        yield cluster
    finally:
        with suppress(AssertionError):
            cluster.client("scancel", "--user=root")
            time.sleep(1)
        for daemon in [*cluster.nodes.values(), *cluster.controllers, munged]:
            _end(daemon)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(timeout=10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _notice_setting() -> str:
    """Lets a preempted job have the signal of its --signal; another setting since 23.02."""
    said = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout
    major = int(said.split()[1].partition(".")[0])
    return "PreemptParameters=send_user_signal" if major >= 23 else "SlurmctldParameters=preempt_send_user_signal"


def _idle_nodes(cluster: SlurmCluster) -> int:
    try:
        return int(cluster.client("sinfo", "--noheader", "--states=idle", "--format=%D") or 0)
    except AssertionError:
        return 0  # the controller is not up yet


def _wait_until(condition, what: str, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.[lo][ou][gt]"))
        assert time.monotonic() < deadline, f"SLURM is not up: waited for {what}\n{logs}"
        time.sleep(0.2)
