"""What is special about a cluster, in one YAML file for each: partition, account, modules, container, limits.

Secrets are refused in whatever is written down: scripts, plans and logs contain their names at most.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from cluster.errors import TargetError

SECRET_NAME = re.compile(r"(?i)(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)($|_)")
SECRET_IN_URL = re.compile(
    r"://[^/\s?#@]+@|[?&](?:[\w-]*(?:signature|token|secret|password|credential|key)|sig)=", re.I
)
ADDRESSES = ("_PATH", "_FILE")
"""Names that end so hold where a secret is, not the secret."""
SITES = Path(__file__).with_name("sites")


class Site(BaseModel):
    """One site; every setting may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    partition: str | None = None
    """Of SLURM; without it, the cluster's own choice, as for the next three."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: tuple[str, ...] = ()
    """More options of sbatch, each as it would stand on its command line."""
    modules: tuple[str, ...] = ()
    """What `module load` is given."""
    setup: tuple[str, ...] = ()
    """Lines of bash that run before the command."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables of every job. Never a secret: this file is copied into scripts."""
    container: str | None = None
    """What stands before `python`, as a line of bash: apptainer exec --nv IMAGE."""
    python: str | None = None
    """The interpreter on the nodes; without it, the one that submits."""
    scratch: str | None = None
    """A folder of each node for temporary files, as a line of bash: /scratch/$USER."""
    notice_seconds: Annotated[int, Field(ge=10)] = 120
    """How long ahead of the time limit a job is told to save; not more than the notice of a preemption."""
    max_array_size: PositiveInt = 1001
    """As `scontrol show config` says; larger arrays are split."""
    ask_above_gpu_hours: float = 16.0
    """A plan that may use more is confirmed by hand, or by --yes."""
    ask_above_jobs: int = 100
    """The same for a plan of more jobs, each element of an array counting as one."""


def read_site(name: str | None) -> Site:
    """A site by its name in cluster/sites, or by the path of a YAML file; without either, one without wishes.

    Raises:
        TargetError: there is none, or its file cannot be used.
    """
    if name is None:
        return Site()
    path = Path(name) if name.endswith((".yaml", ".yml")) else SITES / f"{name}.yaml"
    try:
        site = Site.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError:
        known = ", ".join(sorted(site.stem for site in SITES.glob("*.yaml")))
        raise TargetError(
            f"there is no site {name}", expected=known, do=f"name one, or the path of a YAML file; {SITES} has examples"
        ) from None
    except (yaml.YAMLError, ValidationError) as error:
        raise TargetError(f"the site in {path} cannot be used", found=_found(error), do="correct the file") from None
    check_environment(site.environment, where=str(path))
    return site


def _found(error: yaml.YAMLError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return str(error)


def check_environment(environment: Mapping[str, str], *, where: str) -> None:
    """Lets pass what may be written down.

    Raises:
        TargetError: a variable is named like a secret and has a value.
    """
    for name, value in environment.items():
        if value and SECRET_NAME.search(name) and not name.endswith(ADDRESSES):
            raise TargetError(
                f"{name} in {where} looks like a secret",
                expected="values that anyone may read: they are written into scripts and plans",
                do=f"export {name} before submitting (SLURM hands your environment on), or use ~/.netrc",
            )


def check_arguments(arguments: Iterable[str]) -> None:
    """Lets pass what may be written down.

    Raises:
        TargetError: a URL holds a password or a signature.
    """
    for argument in arguments:
        if SECRET_IN_URL.search(argument):
            raise TargetError(
                f"an argument holds a secret: {argument.partition('://')[0]}://...",
                expected="URLs without user, password or signature: arguments are written into scripts and plans",
                do="leave them to the driver: its environment variables and configuration files, ~/.netrc",
            )
