"""The examples of a run as grooves, with the training data's velocity and timing, to be drawn or heard."""

from dataclasses import dataclass

import numpy as np

from musicvae.data.feel import GrooveFeel
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.training.examples import Examples, example_files
from musicvae.training.run_folder import RunFolder


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
            return [feel.groove(one, source=name) for one, name in zip(hits, names, strict=True)]

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
