"""A trained performance model in use: it plays and humanizes grooves. Loaded from a run or an export, and exported.

An export is three files:

    model.safetensors  the run's best weights, bit for bit, or rounded to bfloat16
    performance.json   settings, grid, drum map, manners of training windows, figures, origin
    README.md          a model card
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from musicvae.data.manifest import ShardSource, read_grid
from musicvae.data.store import WindowStore
from musicvae.durable import write_json, write_whole
from musicvae.errors import DAMAGES, ConfigError, DataError, UserError
from musicvae.evaluation.elbo import spaced_windows
from musicvae.generation.settings import DEFAULT_AMOUNT
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove
from musicvae.groove.played import MANNER, TICKS_PER_STEP, PlayedHits
from musicvae.model.settings import PerformanceSettings, most_bytes
from musicvae.performance.model import PerformanceModel
from musicvae.performance.play import TOGETHER, Score, play
from musicvae.pretrained.card import ATTRIBUTIONS
from musicvae.pretrained.shipped import WEIGHTS as SHIPPED
from musicvae.randomness import Purpose, generator
from musicvae.settings import parse_settings
from musicvae.training.best_weights import BestWeights, load_best
from musicvae.training.run_folder import RunFolder

FORMAT = "musicvae-grooves performance 1"
SHIPPED_NAME = "performance"
CONFIG, WEIGHTS, CARD = "performance.json", "model.safetensors", "README.md"
FILES = re.compile("|".join(map(re.escape, (CONFIG, WEIGHTS, CARD))))
LAST_OFFSET = np.float32(0.5 - 1 / TICKS_PER_STEP)
"""The latest that a hit is played, in steps."""
KEPT_MANNERS = 256
"""Training windows whose manner an export holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Performer:
    """A performance model with trained weights, and all that playing needs beside it.

    Attributes:
        model: with its best weights, in evaluation mode, on the CPU, without gradients.
        manners: the figures of `MANNER` of some training windows; new playing has the manner of one of them. None of
            them where the model is free to choose.
        step, weights_hash: as of `TrainedModel`.
    """

    model: PerformanceModel
    settings: PerformanceSettings
    grid: GridSpec
    drum_map: DrumMap
    manners: Float32[np.ndarray, "window figure"]
    step: int
    weights_hash: str

    def humanize(
        self,
        groove: DrumGroove,
        *,
        seed: int = 0,
        timing: float = DEFAULT_AMOUNT,
        velocity: float = DEFAULT_AMOUNT,
        temperature: float = 1.0,
    ) -> DrumGroove:
        """The groove with the velocity and timing of a performance; its hits and its mean velocity stay.

        Args:
            groove: of any number of bars of this model's metre.
            timing, velocity: 0 leaves it as it was given, 1 is all of the performance.
            temperature: below 1 what is likely is likelier.

        Raises:
            ConfigError: a groove of another metre or with other drums.
            ValueError: an amount outside 0..1, a negative seed, or a temperature that is not positive.
        """
        for name, amount in (("timing", timing), ("velocity", velocity)):
            if not 0 <= amount <= 1:
                raise ValueError(f"{name} is an amount from 0 to 1, found {amount}")
        self._check_fits(groove)
        played = self.perform(groove, seed=seed, temperature=temperature)
        return replace(
            groove,
            velocity=_louder_and_softer(groove, played, velocity),
            offset=_earlier_and_later(groove, played, timing),
        )

    def perform(self, groove: DrumGroove, *, seed: int = 0, temperature: float = 1.0) -> PlayedHits:
        """A whole performance of a groove's hits, around the grid; how they were given is not looked at.

        The model plays windows of its own length. Each begins a bar after the one before and keeps what that has
        played, and the last bar of a window is played in the next one, with the bar behind it in sight: there is no
        seam. A shorter groove is played as a loop.
        """
        bar, window = self.grid.steps_per_bar, self.grid.num_steps
        loops = -(-window // len(groove.hits)) if len(groove.hits) < window else 1
        hits = np.tile(groove.hits, (loops, 1))
        tempo = np.array([groove.tempo], dtype=np.float32)
        manner = self._manner(seed, 0)[None]
        played = PlayedHits(np.zeros_like(hits), *(np.zeros(hits.shape, dtype=np.float32) for _ in range(2)))
        for first in range(0, len(hits) - window + 1, bar):
            part = slice(first, first + window)
            kept = PlayedHits(played.hits[part][None], played.velocity[part][None], played.offset[part][None])
            score = Score([first // bar], hits[part][None], tempo, manner, kept)
            now = play(self.model, score, seed=seed, temperature=temperature, together=1)
            sure = slice(first, first + (window if part.stop == len(hits) else window - bar))
            count = sure.stop - sure.start
            played.hits[sure] = hits[sure]
            played.velocity[sure], played.offset[sure] = now.velocity[0, :count], now.offset[0, :count]
        steps = len(groove.hits)
        return self._centred(PlayedHits(played.hits[:steps], played.velocity[:steps], played.offset[:steps]))

    def play_items(
        self,
        items: Sequence[int],
        hits: Bool[np.ndarray, "groove step drum"],
        tempos: Sequence[float],
        kept: PlayedHits | None = None,
        *,
        seed: int,
    ) -> PlayedHits:
        """How numbered grooves are played: each is a function of its number, its hits and the seed alone.

        Args:
            items: the numbers; groove i is always played in row i % TOGETHER of a whole batch.
            kept: hits that stay as they are, where the grooves have them.

        Raises:
            ConfigError: grooves of another length or with other drums.
        """
        if hits.shape[1:] != (self.grid.num_steps, self.drum_map.num_drums):
            raise ConfigError(
                "these grooves do not fit the performance model",
                expected=f"{self.grid.num_steps} steps and {self.drum_map.num_drums} drums",
                found=f"{hits.shape[1]} steps and {hits.shape[2]} drums",
                do="use --feel mean",
            )
        velocity, offset = (np.zeros(hits.shape, dtype=np.float32) for _ in range(2))
        batches = np.asarray(items) // TOGETHER
        for number in np.unique(batches).tolist():
            mine = np.flatnonzero(batches == number)
            rows = np.asarray(items)[mine] % TOGETHER
            numbers = range(number * TOGETHER, (number + 1) * TOGETHER)
            score = Score(
                numbers,
                np.zeros((TOGETHER, *hits.shape[1:]), dtype=bool),
                np.full(TOGETHER, 120.0, dtype=np.float32),
                np.stack([self._manner(seed, item) for item in numbers]),
            )
            score.hits[rows], score.tempo[rows] = hits[mine], np.asarray(tempos, dtype=np.float32)[mine]
            if kept is not None:
                arrays = [
                    np.zeros((TOGETHER, *hits.shape[1:]), a.dtype) for a in (kept.hits, kept.velocity, kept.offset)
                ]
                for array, given in zip(arrays, (kept.hits, kept.velocity, kept.offset), strict=True):
                    array[rows] = np.broadcast_to(given, hits.shape)[mine]
                arrays[2] = (arrays[2] + self.lean).clip(-0.5, LAST_OFFSET)  # as the model knows players
                score = replace(score, kept=PlayedHits(*arrays))
            played = play(self.model, score, seed=seed)
            velocity[mine], offset[mine] = played.velocity[rows], played.offset[rows]
        centred = self._centred(PlayedHits(hits, velocity, offset))
        if kept is None:
            return centred
        return PlayedHits(kept.hits & hits, kept.velocity, kept.offset).otherwise(centred)

    def _centred(self, played: PlayedHits) -> PlayedHits:
        """The same without the common lean of the training data, so that hits lie around the grid.

        That lean is the latency of the recording, no feel: it is the same for all drums and most players.
        """
        offset = np.rint((played.offset - self.lean) * TICKS_PER_STEP) / TICKS_PER_STEP
        return replace(played, offset=np.where(played.hits, offset.clip(-0.5, LAST_OFFSET), 0).astype(np.float32))

    @property
    def lean(self) -> np.float32:
        """How late the training data lies on the whole, in steps."""
        return self.manners[:, MANNER.index("lean")].mean() if len(self.manners) else np.float32(0)

    def _manner(self, seed: int, item: int) -> Float32[np.ndarray, " figure"]:
        if not len(self.manners):
            return np.full(len(MANNER), np.nan, dtype=np.float32)
        return self.manners[int(generator(seed, Purpose.PLAYING, 0, item, 1).integers(len(self.manners)))]

    def _check_fits(self, groove: DrumGroove) -> None:
        bars, drums = len(groove.hits) / self.grid.steps_per_bar, groove.hits.shape[1]
        mine = replace(self.grid, bars=groove.grid.bars)
        if groove.grid != mine or bars != int(bars) or drums != self.drum_map.num_drums:
            raise ConfigError(
                f"groove {groove.source!r} does not fit this model",
                expected=f"{mine} and {self.drum_map.num_drums} drums, of any number of bars",
                found=f"{groove.grid} and {drums} drums",
                do="read it with the model's grid and drum map",
            )


def _louder_and_softer(groove: DrumGroove, played: PlayedHits, amount: float) -> Float32[np.ndarray, "step drum"]:
    """Velocities between those given and those played, with the mean of those given."""
    if not amount or not groove.hits.any():
        return groove.velocity
    given = groove.velocity[groove.hits] * MAX_VELOCITY
    mixed = given + amount * (played.velocity[groove.hits] * MAX_VELOCITY - given)
    for _ in range(MAX_VELOCITY):  # what is cut off at an end of the scale is spread over the others
        missing = given.mean() - mixed.mean()
        if abs(missing) < 0.01:
            break
        mixed = (mixed + missing).clip(1, MAX_VELOCITY)
    result = np.zeros_like(groove.velocity)
    result[groove.hits] = np.rint(mixed).clip(1, MAX_VELOCITY) / MAX_VELOCITY
    return result


def _earlier_and_later(groove: DrumGroove, played: PlayedHits, amount: float) -> Float32[np.ndarray, "step drum"]:
    """Offsets between those given and those played."""
    offset = groove.offset + np.float32(amount) * (played.offset - groove.offset)
    return np.where(groove.hits, offset, 0).astype(np.float32) if amount else groove.offset


def training_manners(source: ShardSource) -> Float32[np.ndarray, "window figure"]:
    """The manners of some training windows that tell all of their figures, evenly spaced over the shards.

    Raises:
        DataError: a damaged shard.
    """
    store = WindowStore(source, source.manifest(), "train", cached_blocks=1, played=True)
    manners = store.played(spaced_windows(store.num_windows, KEPT_MANNERS)).hits().manner()
    return manners[np.isfinite(manners).all(axis=1)]


def write_performance(folder: Path, trained: Performer, best: BestWeights, origin: Mapping[str, Any]) -> None:
    """Fills a folder.

    Args:
        best: the weights of `trained` as they are to be kept, with the figures that training found.
        origin: where they come from: run id, commit, versions, data.
    """
    config = {
        "format": FORMAT,
        "step": trained.step,
        "weights": best.weights_hash,
        "performance": trained.settings.model_dump(mode="json"),
        "grid": asdict(trained.grid),
        "drum_map": {
            "name": trained.drum_map.name,
            "classes": [[drum, list(pitches)] for drum, pitches in trained.drum_map.pitches.items()],
        },
        "manners": [[round(float(figure), 4) for figure in manner] for manner in trained.manners],
        "figures": dict(best.figures),
        "origin": dict(origin),
    }
    write_whole(folder / WEIGHTS, best.exported())
    write_json(folder / CONFIG, config)
    write_whole(folder / CARD, _card(trained, best, origin))


def _card(trained: Performer, best: BestWeights, origin: Mapping[str, Any]) -> str:
    weights = sum(weight.numel() for weight in trained.model.parameters())
    rows = "\n".join(
        f"| {name.removeprefix('validation.').replace('_', ' ')} | {value:.4g} |"
        for name, value in best.figures.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in origin.get("packages", {}).items() if version)
    return f"""# Performance model for drum grooves

How hard and how early or late each hit of a groove is played, given the hits: {weights:,} weights.

| on the validation split, step {trained.step:,}, by training, before any rounding of the weights | nats per hit |
| --- | --- |
{rows}

## Use

```python
from pathlib import Path

from musicvae.pretrained.performer import load_performance

performer = load_performance(Path("."))  # the folder of this page
```

`performer.humanize(groove, seed=0, timing=0.5, velocity=0.5)` gives a groove the velocity and timing of a performance.

## Origin

Run `{origin.get("run_id", "unknown")}`, weights `{best.weights_hash}`; commit `{origin.get("commit") or "unknown"}`;
{versions or "versions unknown"}.

{ATTRIBUTIONS.get(origin.get("data") or "", "")}
"""


def load_performance(folder: Path) -> Performer:
    """Loads the best weights of a run of a performance model, or an export of one.

    Raises:
        ConfigError: there is none, or a run without trained weights yet.
        DataError: a file of it is missing, damaged, or of another export or program.
    """
    if not (folder / CONFIG).is_file():
        run = RunFolder(folder)
        given = run.read_config()["settings"].get("performance")
        if not given:
            raise ConfigError(f"{folder} holds no performance model", found="a run without the settings performance.*")
        grid, drum_map, _ = run.shard_format()
        settings = parse_settings(PerformanceSettings, given)
        return _assembled(run.best, settings, grid, drum_map, np.zeros((0, len(MANNER)), np.float32))
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']!r}, this version reads {FORMAT!r}")
        settings = parse_settings(PerformanceSettings, config["performance"])
        classes = {drum: tuple(pitches) for drum, pitches in config["drum_map"]["classes"]}
        drum_map = DrumMap(config["drum_map"]["name"], classes)
        manners = np.array(config["manners"], dtype=np.float32).reshape(-1, len(MANNER))
        trained = _assembled(folder / WEIGHTS, settings, read_grid(config["grid"]), drum_map, manners)
        if trained.weights_hash != config["weights"]:
            raise ValueError(f"weights {trained.weights_hash}, {CONFIG} says {config['weights']}")
        return trained
    except DAMAGES as error:
        problem = error.details["found"] if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise DataError(
            f"{folder} cannot be used",
            expected=f"a {FORMAT}",
            found=problem,
            likely="an incomplete copy, an edited file, or a file of another program",
            do="copy the folder again, or export the run again: python -m jobs.export RUN OUT",
        ) from None


def _assembled(
    weights: Path,
    settings: PerformanceSettings,
    grid: GridSpec,
    drum_map: DrumMap,
    manners: Float32[np.ndarray, "window figure"],
) -> Performer:
    drums = drum_map.num_drums
    model, best = load_best(weights, lambda: PerformanceModel(settings, grid, drums), most_bytes(settings, grid, drums))
    model = model.eval().requires_grad_(False)
    return Performer(model, settings, grid, drum_map, manners, best.step, best.weights_hash)


@cache
def shipped_performer() -> Performer:
    """The performance model that comes with the package.

    Raises:
        DataError: its files are missing or damaged.
    """
    return load_performance(SHIPPED / SHIPPED_NAME)
