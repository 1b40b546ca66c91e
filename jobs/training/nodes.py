"""Which machines take part in a launch, from the command line and the scheduler."""

import os
import secrets

from cluster.torchrun import Group
from musicvae.errors import ConfigError


def group_of(
    ranks: int,
    nodes: str,
    rendezvous: str | None,
    rendezvous_id: str | None,
    *,
    lanes: int,
    shutdown_seconds: int,
) -> Group:
    """The agents of a launch.

    Args:
        ranks: on each machine.
        nodes: N or MIN:MAX.
        rendezvous: HOST:PORT; needed for more than one machine.
        rendezvous_id: the same on all machines; inside a SLURM job its number and restart count, unless given.
        lanes: the largest world that the data can be shared among.

    Raises:
        ConfigError: a number out of range, or several machines and nothing that they have in common.
    """
    low, separator, high = nodes.partition(":")
    try:
        min_nodes, max_nodes = int(low), int(high if separator else low)
    except ValueError:
        min_nodes = max_nodes = 0
    if not 1 <= min_nodes <= max_nodes:
        raise ConfigError(f"--nodes {nodes} is no number of machines", expected="N or MIN:MAX", do="--nodes 2, or 1:4")
    if ranks < 1:
        raise ConfigError(f"--ranks {ranks} is no number of processes", expected="1 or more", do="--ranks 2")
    if ranks * max_nodes > lanes:
        raise ConfigError(
            f"{ranks * max_nodes} ranks cannot share the data",
            expected=f"at most data.lanes = {lanes}",
            found=f"--ranks {ranks} on {max_nodes} machine(s)",
            do="fewer ranks, or a new run with more data.lanes",
        )
    if max_nodes == 1:
        return Group(ranks, 1, 1, "localhost:0", secrets.token_hex(8), shutdown_seconds)
    identity = rendezvous_id or _slurm_launch()
    if not rendezvous or not identity:
        missing = "--rendezvous" if not rendezvous else "--rendezvous-id"
        raise ConfigError(
            f"several machines need {missing}",
            expected="--rendezvous HOST:PORT of one of them, and an identity that is new for every launch",
            do="give the same on every machine; docs/train.sbatch does",
        )
    return Group(ranks, min_nodes, max_nodes, rendezvous, identity, shutdown_seconds)


def _slurm_launch() -> str | None:
    job = os.environ.get("SLURM_JOB_ID")
    return f"{job}.{os.environ.get('SLURM_RESTART_COUNT', '0')}" if job else None
