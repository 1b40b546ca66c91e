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
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32

from musicvae.data.feel import GrooveFeel
from musicvae.data.manifest import ShardSource, read_grid
from musicvae.data.store import WindowStore
from musicvae.durable import write_json, write_whole
from musicvae.errors import DAMAGES, ConfigError, DataError, UserError
from musicvae.evaluation.elbo import spaced_windows
from musicvae.generation.settings import DEFAULT_AMOUNT, PLAYED
from musicvae.groove import played as playing
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.groove.played import LAST_OFFSET, MANNER, TICKS_PER_STEP, PlayedHits
from musicvae.midi.groove_file import WholeFile
from musicvae.model.settings import DecodingPrecision, PerformanceSettings, most_bytes
from musicvae.performance.model import PerformanceModel
from musicvae.performance.play import Score, perform, play
from musicvae.pretrained.card import ATTRIBUTIONS
from musicvae.pretrained.shipped import PERFORMANCE
from musicvae.pretrained.shipped import WEIGHTS as SHIPPED
from musicvae.randomness import Purpose, generator
from musicvae.settings import parse_settings
from musicvae.training.best_weights import BestWeights, load_best
from musicvae.training.run_folder import RunFolder

FORMAT = "musicvae-grooves performance 1"
SHIPPED_NAME = "performance"
CONFIG, WEIGHTS, CARD = PERFORMANCE, "model.safetensors", "README.md"
FILES = re.compile("|".join(map(re.escape, (CONFIG, WEIGHTS, CARD))))
KEPT_MANNERS = 256
"""Training windows whose manner an export holds."""
Manner: TypeAlias = Float32[np.ndarray, " figure"]
"""The figures of `MANNER`; NaN where the model is free."""


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
        like_player: DrumGroove | Manner | None = None,
        around: bool = False,
        tempos: Sequence[float] | None = None,
        first_bar: int = 0,
    ) -> DrumGroove:
        """The groove with the velocity and timing of a performance; its hits and its mean velocity stay.

        Args:
            groove: of any number of bars of this model's metre.
            timing, velocity: 0 leaves it as it was given, 1 is all of the performance.
            temperature: below 1 what is likely is likelier.
            like_player: a performance, or its `manner_of`, whose level, lean, swing and spread are taken; the mean
                velocity goes to its level as `velocity` goes to 1.
            around: whether the groove's accents and timing are kept, as `mixed` does.
            tempos: of each bar, quarter notes per minute; the groove's if not given.
            first_bar: number of its first bar, for the random numbers of grooves that follow each other.

        Raises:
            ConfigError: a groove of another metre or with other drums.
            ValueError: an amount outside 0..1, a negative seed, or a temperature that is not positive.
        """
        for name, amount in (("timing", timing), ("velocity", velocity)):
            if not 0 <= amount <= 1:
                raise ValueError(f"{name} is an amount from 0 to 1, found {amount}")
        self._check_fits(groove)
        manner = self.manner_of(like_player)
        figures = self._manner(seed, 0) if manner is None else self._as_trained(manner)
        tempos = [groove.tempo] * groove.grid.bars if tempos is None else tempos
        how: dict[str, Any] = {"seed": seed, "temperature": temperature, "first_bar": first_bar}
        played = self._centred(perform(self.model, groove.hits, tempos, figures, **how))
        if manner is not None:
            played = playing.brought_to(played, playing.manner_of(played, self.grid.num_steps), manner)
        how = {"timing": timing, "velocity": velocity, "level": playing.level_of(manner), "around": around}
        return playing.mixed(groove, played, **how)

    def humanize_file(self, file: WholeFile, **how: Any) -> bytes:
        """The file with all hits on its grid humanized, `how` as for `humanize`; all else in it stays as it is."""
        return file.played_by(
            lambda groove, tempos, first_bar: self.humanize(groove, tempos=tempos, first_bar=first_bar, **how)
        )

    def manner_of(self, player: DrumGroove | Manner | None) -> Manner | None:
        """The manner of a performance; of one that is a manner, the same.

        Raises:
            ConfigError: a performance of another metre or with other drums.
        """
        if not isinstance(player, DrumGroove):
            return player
        self._check_fits(player)
        return playing.manner_of(PlayedHits.of(player), self.grid.num_steps)

    def play_items(
        self,
        items: Sequence[int],
        hits: Bool[np.ndarray, "groove step drum"],
        tempos: Sequence[float],
        kept: PlayedHits | None = None,
        *,
        seed: int,
        centred: bool = True,
        manner: Manner | None = None,
        exactly: bool = True,
        precision: DecodingPrecision = "float32",
        wanted: slice = slice(None),
    ) -> PlayedHits:
        """How numbered grooves are played, around the grid: each by itself, but a manner is met by the whole batch.

        Args:
            items: the numbers; with the seed they decide what is drawn.
            hits: of grooves of this model's length and drums.
            kept: hits that stay as they are, where the grooves have them: of each, or one for all.
            manner: that of the player; each groove has that of some training window if not given.
            exactly: whether the batch meets the manner; else each groove is played with it in mind.
            centred: whether other hits lie around the grid, without the latency of the training data.
            wanted: places in the batch of the grooves that are given.
        """
        if kept is not None:
            kept = PlayedHits(*(np.broadcast_to(a, hits.shape) for a in (kept.hits, kept.velocity, kept.offset)))
        if manner is None or not exactly:
            items, hits, tempos, kept = items[wanted], hits[wanted], tempos[wanted], kept and kept[wanted]
            wanted = slice(None)
        figures = [self._manner(seed, item) if manner is None else self._as_trained(manner) for item in items]
        score = Score(items, hits, np.array(tempos, dtype=np.float32), np.stack(figures))
        lean = self.lean if centred else np.float32(0)
        if kept is not None:
            # As the model knows players.
            leaning = replace(kept, offset=(kept.offset + lean).clip(-0.5, LAST_OFFSET).astype(np.float32))
            score = replace(score, kept=leaning)
        played = self._centred(play(self.model, score, seed=seed, precision=precision), lean)
        if manner is not None and exactly:
            played = playing.brought_to(played, playing.mean_manner(played.manner()), manner)
        return (played if kept is None else replace(kept, hits=kept.hits & hits).otherwise(played))[wanted]

    def _centred(self, played: PlayedHits, lean: np.float32 | None = None) -> PlayedHits:
        """The same without the common lean of the training data, so that hits lie around the grid.

        That lean is the latency of the recording, no feel: it is the same for all drums and most players.
        """
        offset = np.rint((played.offset - (self.lean if lean is None else lean)) * TICKS_PER_STEP) / TICKS_PER_STEP
        return replace(played, offset=np.where(played.hits, offset.clip(-0.5, LAST_OFFSET), 0).astype(np.float32))

    @property
    def lean(self) -> np.float32:
        """How late the training data lies on the whole, in steps."""
        return self.manners[:, MANNER.index("lean")].mean() if len(self.manners) else np.float32(0)

    def _as_trained(self, manner: Manner) -> Manner:
        """A manner of playing around the grid, with the common lean of the training data."""
        return manner + np.where(np.array(MANNER) == "lean", self.lean, np.float32(0))

    def _manner(self, seed: int, item: int) -> Manner:
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


def performer_for(feel: str | None, grid: GridSpec, drum_map: DrumMap) -> Performer | None:
    """The shipped performance model, if it is to play grooves of a grid and a drum map.

    Args:
        feel: `PLAYED`; None, which is the same wherever the model fits; or another one, which needs no model.

    Raises:
        ConfigError: `PLAYED`, and the model does not fit.
    """
    if feel not in (None, PLAYED):
        return None
    performer = shipped_performer()
    if (performer.grid, performer.drum_map.classes) == (grid, drum_map.classes):
        return performer
    if feel is None:
        return None
    raise ConfigError(
        "the performance model does not fit these grooves",
        expected=f"{performer.grid}, drums {', '.join(performer.drum_map.classes)}",
        found=f"{grid}, drums {', '.join(drum_map.classes)}",
        do='use --feel mean, or feel="mean" in Python',
    )


@dataclass(frozen=True, slots=True, eq=False)
class Playing:
    """How hits are played that nobody gave.

    Attributes:
        feel: the mean velocity and timing, where no `performer` plays.
        manner, exactly: as `Performer.play_items` takes them.
        keeps: whether given hits stay as they were played.
        precision: of the performer's layers.
    """

    feel: GrooveFeel
    performer: Performer | None = None
    manner: Manner | None = None
    exactly: bool = True
    keeps: bool = True
    precision: DecodingPrecision = "float32"

    def grooves(
        self,
        items: Sequence[int],
        hits: Bool[np.ndarray, "groove step drum"],
        tempo: float | None,
        kept: PlayedHits | None,
        *,
        source: str,
        seed: int,
        wanted: int | None = None,
    ) -> list[DrumGroove]:
        """The grooves of a batch.

        Args:
            items: their numbers.
            kept: what stays as it was played.
            wanted: no groove from this number on is given.
        """
        places = slice(None if wanted is None else max(0, wanted - items[0]))
        tempo = self.feel.tempo if tempo is None else tempo
        kept = kept if self.keeps else None
        of_all = None
        if self.performer is not None:
            how = {"seed": seed, "manner": self.manner, "exactly": self.exactly, "precision": self.precision}
            of_all = self.performer.play_items(items, hits, [tempo] * len(items), kept, wanted=places, **how)
        several = len(items) > 1
        return [
            self.feel.groove(
                hits[row],
                tempo=tempo,
                source=f"{source} {item}" if several else source,
                kept=kept if of_all is None else of_all[row],
            )
            for row, item in enumerate(items[places])
        ]
