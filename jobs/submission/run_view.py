"""A run folder at a glance, for tables over thousands of them: a few small reads each, without torch or numpy.

A folder that is being written to, torn or half gone is shown as far as it can be read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicvae.durable import open_regular
from musicvae.errors import DAMAGES
from musicvae.training.settings import main_figure

LARGEST_HEADER = 1_000_000
"""Bytes of status.json, and of a safetensors header; what is longer is damaged."""
LARGEST_NUMBER, MOST_CHARACTERS = 1e18, 100
"""Of a figure that is shown, and of a word."""


@dataclass(frozen=True, slots=True)
class RunView:
    """What a run says about itself.

    Attributes:
        state: of status.json; `unknown` where it cannot be read.
        rate: windows per second.
        validation: the lowest so far of the figure that the run is summed up by, in nats.
        figure: which figure that is, one of `MAIN_FIGURES`.
        heartbeat: seconds since the epoch.
        failure: the launcher's verdict on which rank failed first, and why.
        problems: what of the folder cannot be read.
    """

    path: Path
    state: str
    step: int
    total: int
    rate: float | None
    eta_seconds: float | None
    restarts: int
    heartbeat: float | None
    launch: str | None
    failure: Mapping[str, Any] | None
    validation: float | None
    figure: str | None
    problems: tuple[str, ...]


def is_run(path: Path) -> bool:
    """Whether a folder is a run, be it a damaged one."""
    return (path / "config.yaml").exists() or (path / "status.json").exists()


def read_run_view(path: Path) -> RunView:
    """The view of a run folder, whatever state it is in."""
    problems: list[str] = []
    status = _status(path / "status.json", problems)
    figure, validation = _validation(path / "best.safetensors", problems)
    return RunView(
        path=path,
        state=str(status.get("state", "unknown" if problems else "starting"))[:MOST_CHARACTERS],
        step=_number(status, "step", problems) or 0,
        total=_number(status, "total", problems) or 0,
        rate=_number(status, "windows_per_second", problems),
        eta_seconds=_number(status, "eta_seconds", problems),
        restarts=_number(status, "restarts", problems) or 0,
        heartbeat=_number(status, "heartbeat", problems),
        launch=launch if isinstance(launch := status.get("launch"), str) else None,
        failure=_plain(status.get("failure")),
        validation=validation,
        figure=figure,
        problems=tuple(problems),
    )


def _status(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            text = file.read(LARGEST_HEADER + 1)
        values = json.loads(text) if len(text) <= LARGEST_HEADER else None
        if isinstance(values, dict):
            return values
        problems.append("status.json is damaged")
    except FileNotFoundError:
        problems.append("status.json is missing")
    except DAMAGES:
        problems.append("status.json is damaged")
    return {}


def _plain(failure: Any) -> dict[str, Any] | None:
    """A failure without what no launcher writes, such as a list a thousand deep."""
    if not isinstance(failure, dict):
        return None
    return {name: value for name, value in failure.items() if value is None or isinstance(value, str | int | float)}


def _number(status: dict[str, Any], name: str, problems: list[str]) -> Any:
    value = status.get(name)
    if value is None or (isinstance(value, int | float) and -LARGEST_NUMBER < value < LARGEST_NUMBER):
        return value
    problems.append(f"status.json has {name} = {repr(value)[:MOST_CHARACTERS]}")
    return None


def _validation(path: Path, problems: list[str]) -> tuple[str | None, float | None]:
    """From the header of the best weights alone: the weights are not read."""
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LARGEST_HEADER:
                raise ValueError
            best = json.loads(json.loads(file.read(length))["__metadata__"]["best"])
            figure = main_figure(best["figures"])
            return figure, None if figure is None else float(best["figures"][figure])
    except FileNotFoundError:
        return None, None
    except DAMAGES:
        problems.append("best.safetensors is damaged")
        return None, None
