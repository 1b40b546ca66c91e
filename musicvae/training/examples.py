"""What the model makes of a few fixed validation windows, and of noise, at each evaluation.

RUN/examples/step-<step>.npz holds tokens and the figures of each latent dimension, some kilobytes an evaluation: enough
to draw, to hear and to compare runs long after the weights of that step are gone. `ExampleGrooves` gives them
the training data's velocity and timing.
"""

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int16, Int64

from musicvae.data.feel import GrooveFeel
from musicvae.durable import write_whole
from musicvae.errors import DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.training.run_folder import RunFolder


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
                expected="examples of an evaluation, as jobs.train writes them",
                found=f"{type(error).__name__}: {error}",
                likely="an incomplete copy",
                do="copy the run folder again, or delete this file",
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


@dataclass(frozen=True, slots=True, eq=False)
class ExampleGrooves:
    """What `Examples` holds, with names.

    Attributes:
        windows, reconstructions: one after the other; a window and its reconstruction stand at the same place.
        samples: of the prior.
    """

    drum_map: DrumMap
    windows: list[DrumGroove]
    reconstructions: list[DrumGroove]
    samples: list[DrumGroove]

    @classmethod
    def load(cls, run: RunFolder, step: int) -> "ExampleGrooves":
        """The examples of a step.

        Raises:
            DataError: there are none of that step, or a file is damaged.
        """
        _, drum_map, _ = run.shard_format()
        path = example_files(run.examples).get(step, run.examples / f"step-{step:08d}.npz")
        return cls.of(Examples.load(path), GrooveFeel.load(run.feel), drum_map)

    @classmethod
    def of(cls, examples: Examples, feel: GrooveFeel, drum_map: DrumMap) -> "ExampleGrooves":
        """Tokens as grooves of a feel."""

        def grooves(tokens: np.ndarray, names: list[str]) -> list[DrumGroove]:
            hits = hits_from_tokens(tokens, drum_map.num_drums)
            return [feel.groove(groove_hits, source=name) for groove_hits, name in zip(hits, names, strict=True)]

        ids = examples.window_ids.tolist()
        return cls(
            drum_map,
            grooves(examples.windows, [f"validation {window}" for window in ids]),
            grooves(examples.reconstructions, [f"reconstruction of {window}" for window in ids]),
            grooves(examples.samples, [f"sample {number}" for number in range(len(examples.samples))]),
        )

    def pairs(self) -> list[tuple[DrumGroove, DrumGroove]]:
        """Each window beside its reconstruction."""
        return list(zip(self.windows, self.reconstructions, strict=True))
