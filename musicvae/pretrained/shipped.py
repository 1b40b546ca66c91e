"""The trained models that come with the package, by name.

Each is a folder below `musicvae/weights` as `python -m jobs.export` writes it, and part of the wheel.
"""

from pathlib import Path

from musicvae.errors import ConfigError

WEIGHTS = Path(__file__).parents[1] / "weights"
PERFORMANCE = "performance.json"
"""Of an export of a performance model."""


def shipped_models() -> tuple[str, ...]:
    """Names of the models that are there, in alphabetical order."""
    return tuple(sorted(folder.parent.name for folder in WEIGHTS.glob("*/config.json")))


def model_folder(name: str | Path) -> Path:
    """The folder that a name or a path stands for.

    A `str` that names a shipped model is that model, whatever lies in the current folder; `./generation` or a `Path`
    is always a folder.

    Raises:
        ConfigError: a plain name that is neither a shipped model nor a folder.
    """
    if isinstance(name, str) and name in shipped_models():
        return WEIGHTS / name
    folder = Path(name)
    if isinstance(name, str) and len(folder.parts) == 1 and not folder.exists():
        known = shipped_models()
        raise ConfigError(
            f"there is no model {name!r}",
            expected=f"{', '.join(known)}, or a folder that jobs.export wrote" if known else "an exported folder",
            found=f"no shipped model and no folder of that name in {Path.cwd()}",
            likely="a misspelt name" if known else "a checkout or package without weights",
            do="choose one of them, or give the path of a folder" if known else "give the path of a folder",
        )
    return folder


def shipped_performances() -> tuple[str, ...]:
    """Names of the performance models that are there, in alphabetical order."""
    return tuple(sorted(folder.parent.name for folder in WEIGHTS.glob(f"*/{PERFORMANCE}")))


def is_performance(folder: Path) -> bool:
    """Whether a folder is an export of a performance model, or a run that trains one.

    Raises:
        DataError: the settings of a run are damaged.
    """
    if (folder / PERFORMANCE).is_file():
        return True
    from musicvae.training.run_folder import RunFolder  # needs YAML, which an exported model does not

    run = RunFolder(folder)
    return run.config.is_file() and bool(run.read_config()["settings"].get("performance"))


def check_model_is_there(folder: Path) -> None:
    """Whether a folder can be a trained run or an export; what it holds is not read.

    Raises:
        NotThereError: it is neither.
    """
    if not (folder / "config.json").is_file() and not (folder / PERFORMANCE).is_file():
        from musicvae.training.run_folder import RunFolder  # needs YAML, which an exported model does not

        RunFolder(folder).read_config()
