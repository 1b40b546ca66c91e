"""Secrets stay out of what is written: scripts, plans and logs name them at most."""

import re
from collections.abc import Iterable, Mapping

from cluster.errors import TargetError

SECRET_NAME = re.compile(r"(?i)(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)($|_)")
SECRET_IN_URL = re.compile(
    r"://[^/\s?#@]+@|[?&](?:[\w-]*(?:signature|token|secret|password|credential|key)|sig)=", re.I
)
ADDRESSES = ("_PATH", "_FILE")
"""Names that end so hold where a secret is, not the secret."""


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
