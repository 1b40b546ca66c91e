"""Values of options that cannot be used, refused in one way."""

from typing import TypeAlias

from musicvae.errors import ConfigError

OptionCheck: TypeAlias = tuple[str, object, object, str]
"""The option, its value, whether it can be used (by its truth), and what can be."""


def check_options(*checks: OptionCheck) -> None:
    """Goes through checks in order.

    Raises:
        ConfigError: an option cannot be used; the first of them.
    """
    for option, value, usable, expected in checks:
        if not usable:
            raise ConfigError(
                f"{option} {value} cannot be used", expected=expected, found=f"{value}", do="correct the command line"
            )
