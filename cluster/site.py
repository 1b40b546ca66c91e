"""What is special about a cluster, in one YAML file for each: partition, account, modules, container, limits.

Secrets are refused in whatever is written down: scripts, plans and logs contain their names at most.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from cluster.errors import TargetError
from cluster.job import MEMORY

SECRET_NAME = re.compile(r"(?i)(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)($|_)")
SECRET_IN_URL = re.compile(
    r"://[^/\s?#@]+@|[?&](?:[\w-]*(?:signature|token|secret|password|credential|key)|sig)=", re.I
)
YOUNGER = ("srun", "cpus_per_gpu", "mem_per_gpu", "exclusive", "stagger_seconds")
"""Settings that the first submissions did not have: at their default they change no submission's name."""
ADDRESSES = ("_PATH", "_FILE")
"""Names that end so hold where a secret is, not the secret."""
Memory = Annotated[str, Field(pattern=f"^(?:{MEMORY.pattern})$")]
SITES = Path(__file__).with_name("sites")


class Site(BaseModel):
    """One site; every setting may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str | None = None
    """Partition of SLURM. Without it, the cluster chooses; the same holds for the next three settings."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: tuple[str, ...] = ()
    """More options of sbatch, as on its command line."""
    srun: tuple[str, ...] = ()
    """Options of the srun that starts the command on the nodes: a container, its mounts, how CPUs are bound."""
    cpus_per_gpu: PositiveInt | None = None
    """CPUs that come with each GPU of a job without --cpus-per-node."""
    mem_per_gpu: Memory | None = None
    """Memory that comes with each GPU of a job without --mem, such as 64G."""
    exclusive: bool = False
    """Whether a job gets whole nodes, with all their CPUs."""
    modules: tuple[str, ...] = ()
    """Arguments of `module load`."""
    setup: tuple[str, ...] = ()
    """Lines of bash that run before the command; the first that fails ends the job."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of each job. Never put a secret here: the values are copied into scripts."""
    container: str | None = None
    """A command that runs `python` in a container, in bash: apptainer exec --nv IMAGE."""
    python: str | None = None
    """The Python interpreter on the nodes. Without it, the interpreter of jobs.submit."""
    scratch: str | None = None
    """A folder of each node for temporary files, in bash: /scratch/$USER."""
    notice_seconds: Annotated[int, Field(ge=10)] = 120
    """Seconds before the time limit at which a job is signalled to save; at most the notice of a preemption."""
    max_array_size: PositiveInt = 1001
    """MaxArraySize of `scontrol show config`; larger arrays are split."""
    stagger_seconds: NonNegativeInt = 0
    """Seconds between the starts of the elements of an array that may start at once, for a file system's sake."""
    ask_above_gpu_hours: float = 16.0
    """jobs.submit asks before a submission that may use more GPU-hours, unless --yes is given."""
    ask_above_jobs: int = 100
    """jobs.submit asks before a submission of more jobs; each element of an array is one job."""


def read_site(name: str | None, load_yaml: Callable[[str], Any]) -> Site:
    """A site by its name in cluster/sites, or by the path of a YAML file; without either, one without wishes.

    Args:
        load_yaml: reads YAML as all settings are read.

    Raises:
        TargetError: there is none, or its file cannot be used.
    """
    if name is None:
        return Site()
    path = Path(name) if name.endswith((".yaml", ".yml")) else SITES / f"{name}.yaml"
    try:
        site = Site.model_validate(load_yaml(path.read_text(encoding="utf-8")) or {})
    except OSError:
        known = ", ".join(sorted(site.stem for site in SITES.glob("*.yaml")))
        raise TargetError(
            f"there is no site {name}",
            expected=known,
            do=f"choose one, or give the path of a YAML file such as those in {SITES}",
        ) from None
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise TargetError(
            f"the site in {path} cannot be used",
            expected=f"some of the keys {', '.join(Site.model_fields)}",
            found=_found(error),
            do="correct the file; memory, time and nodes are options of jobs.submit",
        ) from None
    check_environment(site.environment, where=str(path))
    return site


def _found(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(_named(".".join(map(str, item["loc"])), item["type"], item["msg"]) for item in error.errors())
    return str(error)


def _named(key: str, kind: str, message: str) -> str:
    if kind != "extra_forbidden":
        return f"{key}: {message}"
    near = get_close_matches(key, Site.model_fields, n=1)
    return f"unknown key {key}" + (f" (did you mean {near[0]}?)" if near else "")


def check_environment(environment: Mapping[str, str], *, where: str) -> None:
    """Lets pass what may be written down.

    Raises:
        TargetError: a variable is named like a secret and has a value.
    """
    for name, value in environment.items():
        if value and SECRET_NAME.search(name) and not name.endswith(ADDRESSES):
            raise TargetError(
                f"{name} in {where} looks like a secret",
                expected="values without secrets; they are written into scripts and plans",
                do=f"export {name} before you submit (SLURM passes your environment to jobs), or use ~/.netrc",
            )


def check_arguments(arguments: Iterable[str]) -> None:
    """Lets pass what may be written down.

    Raises:
        TargetError: a URL holds a password or a signature.
    """
    for argument in arguments:
        if SECRET_IN_URL.search(argument):
            raise TargetError(
                f"an argument contains a secret: {argument.partition('://')[0]}://...",
                expected="URLs without user, password or signature; arguments are written into scripts and plans",
                do="use the environment variables and configuration files of the fsspec driver, or ~/.netrc",
            )
