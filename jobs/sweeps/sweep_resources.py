"""How many trials a node holds."""

from collections.abc import Mapping, Sequence

from jobs.sweeps.sweep_settings import TrialResources
from musicvae.errors import ConfigError


def room_on(node: Mapping[str, float], resources: TrialResources) -> int:
    """How many trials a node holds, by its CPU and GPU in all."""
    room = int(node.get("CPU", 0) // resources.cpus)
    if not resources.gpus:
        return room
    gpus = int(node.get("GPU", 0))
    # Trials share a GPU, or each has whole ones.
    return min(room, gpus * int(1 / resources.gpus) if resources.gpus < 1 else int(gpus // resources.gpus))


def too_small(resources: TrialResources, nodes: Sequence[Mapping[str, float]]) -> ConfigError:
    """That none of some nodes holds a trial."""
    cpus, gpus = (max((node.get(kind, 0) for node in nodes), default=0) for kind in ("CPU", "GPU"))
    return ConfigError(
        "no node can hold a trial",
        expected=f"{resources.cpus} CPU and {resources.gpus:g} GPU on one node",
        found=f"at most {cpus:g} CPU and {gpus:g} GPU",
        likely="nodes that have not joined yet, or a trial that asks for too much",
        do="start larger nodes, or lower resources.cpus or resources.gpus of the sweep",
    )
