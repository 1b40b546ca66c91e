"""What the model makes of a few fixed validation windows, and of noise, as training goes on.

RUN/examples/step-<step>.npz holds tokens and the figures of each latent dimension, some kilobytes an evaluation: enough
to draw, to hear and to compare runs long after the weights of that step are gone.
"""

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int16, Int64

from musicvae.durable import write_whole
from musicvae.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What an evaluation leaves to be looked at.

    Attributes:
        window_ids: of the validation windows, the same at every step.
        windows: their tokens.
        reconstructions: the same windows decoded free-running from mu, the likeliest token at every step.
        samples: decoded from the prior at temperature 1.
        kl: KL(q(z | x) || p(z)) of each latent dimension over the whole split, nats per window.
        mu_variance: of each dimension's posterior mean over the split; above .01 the dimension is active.
    """

    window_ids: Int64[np.ndarray, " window"]
    windows: Int16[np.ndarray, "window step"]
    reconstructions: Int16[np.ndarray, "window step"]
    samples: Int16[np.ndarray, "sample step"]
    kl: Float32[np.ndarray, " latent"]
    mu_variance: Float32[np.ndarray, " latent"]

    def save(self, folder: Path, step: int) -> None:
        """Writes `folder/step-<step>.npz`, whole or not at all."""
        folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_whole(_file(folder, step), buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Examples":
        """Reads what `save` wrote.

        Raises:
            DataError: the file is damaged or not one of ours.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{field.name: arrays[field.name] for field in fields(cls)})
        except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} cannot be used",
                expected="examples of an evaluation, as training writes them",
                found=f"{type(error).__name__}: {error}",
                likely="a copy that broke off",
                do="copy the run folder again, or remove this file",
            ) from None


def example_files(folder: Path) -> dict[int, Path]:
    """The examples of a run by step, oldest first."""
    return {int(path.stem.removeprefix("step-")): path for path in sorted(folder.glob("step-*.npz"))}


def cut_examples(folder: Path, step: int) -> None:
    """Removes what was made after a step: a run that goes back to it will make it again."""
    for made_at, path in example_files(folder).items():
        if made_at > step:
            path.unlink()


def _file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.npz"
