"""What an ablation compares: a preset, and variants that each change some of its settings."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from jobs.command.command_line import compose_settings
from jobs.training.settings import TrainConfig
from musicvae.errors import ConfigError
from musicvae.settings import Settings, parse_settings, read_yaml

BASE = "base"
"""The preset itself."""

Name = Annotated[str, Field(pattern=re.compile(r"^[a-z0-9][a-z0-9.-]*$"))]
"""Names a folder too."""
Metric = Literal["negative_elbo", "objective", "token_accuracy_free_running"]
"""`objective`: reconstruction + beta KL with the preset's last beta for all, where both are of worth."""


class Variant(Settings):
    """What differs from the preset."""

    name: Name
    settings: tuple[str, ...] = Field(min_length=1)
    """`key.sub=value` each."""


class AblationFile(Settings):
    """What the file of an ablation holds."""

    preset: str
    metric: Metric
    """The figure that variants are compared by."""
    variants: tuple[Variant, ...] = Field(min_length=1)
    everywhere: tuple[str, ...] = ()
    """Settings of the base and of all variants, as they are given on the command line."""

    @model_validator(mode="after")
    def _names_differ(self) -> "AblationFile":
        counts = Counter([BASE, *(variant.name for variant in self.variants)])
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"names of variants differ, found twice: {', '.join(twice)}; {BASE} is the preset itself")
        return self

    def settings_of(self, name: str) -> tuple[str, ...]:
        """What differs from the preset: what differs everywhere, and what a variant changes."""
        changed = next((variant.settings for variant in self.variants if variant.name == name), ())
        return (*self.everywhere, *changed)

    def names(self, only: Iterable[str] = ()) -> list[str]:
        """The base and all variants, or those asked for; one that the preset has become by now is the base itself.

        Raises:
            ConfigError: there is none of such a name.
        """
        every = [BASE, *(variant.name for variant in self.variants)]
        asked = list(only)
        if unknown := [name for name in asked if name not in every]:
            raise ConfigError(f"no variant {', '.join(unknown)}", expected=", ".join(every), do="name some of these")
        same = self.config(BASE).result_settings()
        chosen = [name for name in every[1:] if not asked or name in asked]
        return [BASE, *(name for name in chosen if self.config(name).result_settings() != same)]

    def config(self, name: str, more: Iterable[str] = ()) -> TrainConfig:
        """All settings of a variant; `more` is applied last.

        Raises:
            ConfigError: settings that cannot be used.
        """
        return compose_settings(TrainConfig, preset=self.preset, overrides=[*self.settings_of(name), *more])

    def in_steps(self, name: str, steps: int) -> list[str]:
        """What makes a run of so many steps of it: schedules keep their share of the run."""
        config = self.config(name)
        warmup = round(config.objective.beta_warmup_steps * steps / config.train.steps)
        return [
            f"train.steps={steps}",
            f"optimizer.restart_steps={steps}",
            f"objective.beta_warmup_steps={warmup}",
        ]


def read_ablation(path: Path, everywhere: Iterable[str] = ()) -> AblationFile:
    """Reads the file of an ablation and tries every variant of it.

    Args:
        everywhere: settings of all runs beside those of the file.

    Raises:
        ConfigError: the file or the settings of a variant cannot be used, or two variants are the same.
    """
    ablation = parse_settings(AblationFile, read_yaml(path))
    ablation = ablation.model_copy(update={"everywhere": (*ablation.everywhere, *everywhere)})
    seen: dict[str, str] = {}
    for name in ablation.names():
        result = repr(ablation.config(name).result_settings())
        if result in seen:
            raise ConfigError(f"{path}: {name} trains the same as {seen[result]}", do="leave one of them out")
        seen[result] = name
    return ablation
