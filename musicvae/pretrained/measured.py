"""Figures that `jobs.evaluate` measured of an exported model, as its card keeps them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicvae.errors import ConfigError, DataError, UserError


@dataclass(frozen=True, slots=True)
class Measured:
    """What an evaluation found.

    Attributes:
        about: what it was measured on: split, windows, shards, seed.
        figures: value and 95% interval of each figure.
        samples: what grooves from the prior are like, beside the data.
    """

    about: Mapping[str, Any]
    figures: Mapping[str, tuple[float, float, float]]
    samples: Mapping[str, Any]

    def values(self) -> dict[str, Any]:
        """As JSON."""
        figures = {name: list(figure) for name, figure in self.figures.items()}
        return {"about": dict(self.about), "figures": figures, "samples": dict(self.samples)}


def read_measured(file: Path, weights_hash: str) -> Measured:
    """The figures of the model with these weights from what `jobs.evaluate --json` wrote.

    Raises:
        ConfigError: there is no such file, or it does not hold this model.
        DataError: it is no such file.
    """
    try:
        content = json.loads(file.read_text())
        models = content["models"].values()
        about = {name: value for name, value in content.items() if not isinstance(value, dict)}
        found = next((model for model in models if model["weights"] == weights_hash), None)
        if found and about["quick"]:
            raise ConfigError(
                f"{file} is of a --quick evaluation", do="evaluate without --quick: these are to be quoted"
            )
        if found:
            figures = {
                name: (figure["value"], *figure["interval"])
                for name, figure in found["figures"].items()
                if None not in (figure["value"], *figure["interval"])
            }
            kept = ("overlap", "mean_overlap", "median_distance", "memorised", "near", "duplicates", "empty")
            samples = {name: found.get("samples", {})[name] for name in kept if name in found.get("samples", {})}
            return Measured(about, figures, samples)
    except OSError as error:
        cure = "name what jobs.evaluate --json wrote"
        raise ConfigError(f"cannot read {file}", found=error.strerror or str(error), do=cure) from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} holds no figures",
            expected="what jobs.evaluate --json writes",
            found=f"{type(error).__name__}: {error}",
            do="measure the export anew and name that file",
        ) from None
    raise ConfigError(
        f"{file} is about other weights",
        expected=f"weights {weights_hash}",
        found=", ".join(str(model["weights"]) for model in models) or "no model",
        likely="an evaluation of the run, or of an export with another --dtype",
        do="evaluate the export itself: python -m jobs.evaluate --run OUT --shards SHARDS --json FILE",
    )
