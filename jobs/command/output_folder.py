"""Folders that a command makes: what stands there is replaced only when told, and only if the command made it."""

from pathlib import Path

from musicvae.errors import ConfigError


def check_output(out: Path, *, option: str, maker: str, ours: str, is_ours: bool, overwrite: bool) -> None:
    """Refuses to touch what is not to be replaced.

    Args:
        option: how the command line calls the folder.
        maker: the command.
        ours: what it makes, in words.
        is_ours: whether that is what stands there.

    Raises:
        ConfigError: `out` holds something, and --overwrite is not given or the command has not made it.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (is_ours and overwrite):
        raise ConfigError(
            f"{out} exists",
            expected="a new path" + (f", or {ours}" if overwrite else ""),
            found=ours if is_ours else f"something that {maker} has not made",
            do=f"name another {option}" + (", or replace it with --overwrite" if is_ours else ""),
        )
