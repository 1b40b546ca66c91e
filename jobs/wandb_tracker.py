"""W&B as a view of a run: the only file that knows wandb. Whatever goes wrong here, training goes on."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PositiveFloat

from musicvae.settings import Settings


def _yaml_off(value: object) -> object:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


class TrackingSettings(Settings):
    """Where figures go beside the run folder's own metrics.jsonl."""

    wandb: Annotated[Literal["off", "auto", "offline", "online"], BeforeValidator(_yaml_off)] = "off"
    """`auto`: online when a key is configured, else offline; offline files are sent later by `wandb sync`."""
    project: str = "musicvae-grooves"
    init_timeout: PositiveFloat = 30
    """Seconds that W&B may take to answer before the run goes on without it."""


class WandbTracker:
    """Sends figures to W&B under the run folder's own id, with our step as the axis.

    Args:
        run: the run folder, where W&B's files are put.
        tracking_id: of this run folder alone, stable over restarts, so that a resumed run continues its curves.
        warn: told, once, when W&B fails; it is then left alone.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        run: Path,
        tracking_id: str,
        config: Mapping[str, Any],
        warn: Callable[[str], object],
    ) -> None:
        self.warn = warn
        self.run: Any = None
        mode = settings.wandb
        if mode == "auto":
            mode = "online" if _has_key() else "offline"
        self._guarded(lambda: self._init(settings, run, tracking_id, config, mode))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self.run is not None:
            self._guarded(lambda: self.run.log({"step": step, **{k.replace(".", "/"): v for k, v in values.items()}}))

    def say(self, text: str) -> None:
        """Sentences are for people at a terminal."""

    def close(self, state: str) -> None:
        if self.run is not None:
            self._guarded(lambda: self.run.finish(exit_code=0 if state == "finished" else 1))

    def _init(
        self, settings: TrackingSettings, run: Path, tracking_id: str, config: Mapping[str, Any], mode: str
    ) -> None:
        import wandb

        self.run = wandb.init(
            project=settings.project,
            id=tracking_id,
            name=run.name,
            dir=run,
            config=dict(config),
            mode="online" if mode == "online" else "offline",
            resume="allow",
            settings=wandb.Settings(init_timeout=settings.init_timeout, silent=True, console="off"),
        )
        self.run.define_metric("*", step_metric="step")

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # a view of the run must never end it, whatever its library raises
            self.run = None
            self.warn(f"W&B is left out from here on: {type(error).__name__}: {error}")


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return netrc.exists() and "wandb" in netrc.read_text(errors="replace")
