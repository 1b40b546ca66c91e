"""The command line of a torchrun agent: which flags it needs so that ranks can save, leave and come back."""

import os
import sys
from dataclasses import dataclass

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"
"""Without SIGUSR2 in its list the agent dies of it and leaves its ranks running."""
MAX_RESTARTS = 1000
"""torchrun counts every restart; restarts without progress are counted by the launcher, which ends the agent."""

JOIN_SECONDS = 600
"""For which the agents of a launch wait for each other."""
CUT_SECONDS = 3600
"""For which an agent may be cut off from the others; once they answer again, it goes on with them."""

RENDEZVOUS_LOST = 3
"""What our agent ends with where it has lost the machine at which the agents meet."""
MEETING_VARIABLE = "GROOVES_MEETING"
"""Names a folder in which each launcher makes the file `met` once it has met those of all other machines."""
ONE_MACHINE = "one-machine"
"""The rendezvous of a launch on a single machine: our agent brings it, and it listens to nobody."""
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
ON_LOOPBACK = {"GLOO_SOCKET_IFNAME": LOOPBACK, "NCCL_SOCKET_IFNAME": f"={LOOPBACK}"}
"""Variables of ranks that are all on one machine; gloo and NCCL else listen on the address of the host name."""


@dataclass(frozen=True, slots=True)
class Group:
    """The agents that form one launch.

    Attributes:
        ranks: processes on each node.
        min_nodes, max_nodes: how many agents it takes, and how many may take part.
        endpoint: HOST:PORT where they meet; empty for a single node, which meets nobody.
        identity: names the launch; the same for all its agents, another for the next launch.
        shutdown_seconds: what ranks get to save after a signal.
    """

    ranks: int
    min_nodes: int
    max_nodes: int
    endpoint: str
    identity: str
    shutdown_seconds: int

    @property
    def elastic(self) -> bool:
        """Whether nodes may leave and join."""
        return self.min_nodes != self.max_nodes


def agent_command(agent: str, group: Group, module: str, *arguments: object) -> list[str]:
    """The argv of `python -m agent`, running `module` on the ranks of this node.

    Read from torch.distributed.run of torch 2.13.

    Args:
        agent: takes torchrun's flags, and knows the rendezvous `ONE_MACHINE`.
    """
    nodes = f"{group.min_nodes}:{group.max_nodes}"
    backend = "c10d" if group.max_nodes > 1 else ONE_MACHINE
    return [
        *(sys.executable, "-m", agent),
        *("--nnodes", nodes, "--nproc-per-node", str(group.ranks), "--max-restarts", str(MAX_RESTARTS)),
        *("--rdzv-backend", backend, "--rdzv-endpoint", group.endpoint, "--rdzv-id", group.identity),
        *("--rdzv-conf", f"join_timeout={JOIN_SECONDS},read_timeout={CUT_SECONDS}"),
        *("--signals-to-handle", SIGNALS, "--shutdown-timeout", str(group.shutdown_seconds)),
        # `--`, or torchrun takes options that begin like its own for abbreviations of them.
        *("-m", module, "--", *map(str, arguments)),
    ]


def agent_environment(group: Group) -> dict[str, str]:
    """Variables that the agent needs."""
    if group.max_nodes == 1:
        environment = dict(ON_LOOPBACK)
    else:
        # torch 2.13 else gives all attempts one store without a prefix: after an attempt that failed while its ranks
        # were joining, the next ones find addresses of dead ranks there and hang; so does a node that joins later.
        environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        # The agent else prints the frames of C++ when it loses the machine of the rendezvous; its log has the error.
        environment["TORCH_CPP_LOG_LEVEL"] = os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")
    if group.ranks > 1:
        environment["OMP_NUM_THREADS"] = "1"  # torchrun's own choice, which it makes with seven lines of warning
    return environment
