"""How people, the mean of the training data and performance models play the same hits, in figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from cluster.local import usable_cpus
from jobs.evaluation.results import EvaluationData, check_format, defined, interval_values, names_of
from musicvae.data.feel import measure_feel
from musicvae.data.manifest import ShardManifest, ShardSource
from musicvae.data.shards import read_blocks
from musicvae.data.store import WindowStore
from musicvae.data.windows import PlayedWindows, SplitTokens
from musicvae.evaluation.bootstrap import ResampledFigure, Resamples
from musicvae.evaluation.elbo import spaced_windows
from musicvae.evaluation.playing import (
    PlayingScale,
    nats_of_hits,
    playing_figures,
    published_values,
    shuffled_offsets,
)
from musicvae.evaluation.two_sample import playing_auc
from musicvae.groove.played import MANNER, PlayedHits
from musicvae.performance.play import Score, play
from musicvae.pretrained.performer import Performer, load_performance
from musicvae.randomness import Purpose, generator

HUMAN, SHUFFLED, MEAN = "human", "offsets shuffled", "mean"
HALVES = ("train, one half", "train, the other")
TOLD_APART = "classifier's AUC"
CACHED_BLOCKS = 4
"""Of shards, while windows of people are read."""
LEGEND = """\
played          hits of the same windows: by people (human), with the offsets of people shuffled within each window, by
                the mean of the training data, and by models; `free`: without the manner of a training window
train           training performances, split in two at random: what people differ in
AUC             of a classifier between a set and the people above (between both halves of train); .5: it cannot tell
                them apart. It judges performances that it has not learnt on; three seeds.
Below each figure is its 95% interval, bootstrapped over performances."""
GROOVE_EVALUATOR = {
    "swing": 0.335,
    "timing accuracy": 0.153,
    "offset: mean": -0.064,
    "offset: standard deviation": 0.169,
    "velocity: mean": 0.606,
    "velocity: standard deviation": 0.240,
    "autocorrelation maximum": 13.42,
    "laid-backness": 0.006,
}
"""Of people, by the beginning of a figure's name: `absolute_measures.csv` of its branch
MonotonicGrooveTransformer_mgeval."""
COLUMNS = 4
"""Sets beside each other in a table of playing."""


@dataclass(frozen=True, slots=True, eq=False)
class PlayedSet:
    """How some windows are played.

    Attributes:
        figures: `musicvae.evaluation.playing`, with nats per hit of a model and how well a classifier tells the
            set from people who play the same hits.
        published: the figures of GrooveEvaluator, means over the windows.
        resamples: that the intervals are from.
    """

    windows: int
    figures: dict[str, ResampledFigure]
    published: dict[str, ResampledFigure]
    resamples: Resamples


Playing = dict[str, PlayedSet]
"""By name: people on the split, two controls, the mean of the training data, and models that play the same hits."""


def published_note(sets: Playing) -> str:
    """How the figures of GrooveEvaluator are to be read."""
    swing = next(iter(sets[HUMAN].published))
    human, shuffled = (sets[name].published[swing].value for name in (HUMAN, SHUFFLED))
    return (
        "published: its figures of people, windows of two bars of GMD's test split. "
        f"note: its swing is mostly jitter: shuffled human offsets score {shuffled:.3f} of {human:.3f}. "
        "Its autocorrelation maximum is loudness."
    )


def load_performers(paths: list[Path], shards: ShardSource, manifest: ShardManifest) -> dict[str, Performer]:
    """Loads performance models, each under the name of its folder.

    Raises:
        ConfigError: none there, one path twice, or another grid or drum map than that of the shards.
        DataError: a damaged file.
    """
    performers = {name: load_performance(path) for name, path in names_of(paths, []).items()}
    for name, performer in performers.items():
        check_format(paths[[*performers].index(name)], performer, shards, manifest)
    return performers


def evaluate_playing(
    performers: dict[str, Performer],
    evaluation: EvaluationData,
    source: ShardSource,
    split: str,
    train: SplitTokens,
    beat: Callable[[str], None],
) -> Playing:
    """How people, the mean and models play the hits of the windows evaluated; `beat` is told what is done."""
    seed, windows = evaluation.seed, evaluation.windows
    played, owner = _played_windows(source, evaluation.manifest, split, windows.ids), windows.split.performance
    resamples = Resamples(int(owner.max(initial=-1)) + 1, replicates=evaluation.protocol.replicates, seed=seed)
    scale, human, bar = PlayingScale(owner, resamples), played.hits(), evaluation.grid.steps_per_bar
    train_blocks = read_blocks(source, evaluation.manifest, evaluation.manifest.split("train").shards)
    feel = measure_feel(train_blocks, evaluation.grid)
    ways = {SHUFFLED: shuffled_offsets(human, seed), MEAN: PlayedHits(human.hits, *feel.play(human.hits))}
    nats: dict[str, dict[str, ResampledFigure]] = {}
    for name, performer in performers.items():
        beat(f"{name} plays {len(played):,} windows")
        manners = _manners(name, performer, len(played), seed)
        for way, manner in manners.items():
            score = Score(range(len(played)), human.hits, played.tempo, manner)
            ways[way] = play(performer.model, score, seed=seed)
        of_hits = nats_of_hits(performer.model, played)
        window, free = of_hits.window.numpy(), [*manners][-1]
        nats[free] = {
            "velocity: nats per hit": scale.mean(of_hits.velocity.numpy(), window),
            "offset: nats per hit": scale.mean(of_hits.offset.numpy(), window),
        }
    beat("people")
    sets = {HUMAN: _played_set(human, played.tempo, evaluation, scale, resamples)}
    for way, hits in ways.items():
        beat(f"a classifier learns to tell {way} from people")
        apart = {TOLD_APART: playing_auc(human, hits, (owner, owner), resamples, bar=bar, threads=usable_cpus())}
        sets[way] = _played_set(hits, played.tempo, evaluation, scale, resamples, nats.get(way, {}) | apart)
    beat("a classifier learns to tell people from people")
    return sets | _train_halves(train, evaluation, source, most=len(played))


def _manners(name: str, performer: Performer, count: int, seed: int) -> dict[str, Float32[np.ndarray, "window figure"]]:
    """What the model is given of the manner of each window: that of a training window, where it has some; nothing."""
    free = np.full((count, len(MANNER)), np.nan, dtype=np.float32)
    if not len(performer.manners):
        return {name: free}
    drawn = generator(seed, Purpose.RESAMPLE, 4).integers(len(performer.manners), size=count)
    return {name: performer.manners[drawn], f"{name}, free": free}


def _train_halves(train: SplitTokens, evaluation: EvaluationData, source: ShardSource, *, most: int) -> Playing:
    """Training performances, split in two at random; no more windows of each half than are evaluated.

    What two sets of people differ in is what no model need do better.
    """
    seed, bar = evaluation.seed, evaluation.grid.steps_per_bar
    half = generator(seed, Purpose.RESAMPLE, 5).permutation(int(train.performance.max(initial=-1)) + 1) % 2
    by_performance = np.argsort(train.performance, kind="stable")
    ids = [by_performance[half[train.performance[by_performance]] == which] for which in (0, 1)]
    ids = [np.sort(rows[spaced_windows(len(rows), most)]) for rows in ids]
    if not all(map(len, ids)):
        return {}
    _, owner = np.unique(train.performance[np.concatenate(ids)], return_inverse=True)
    owners = np.split(owner.astype(np.int64), [len(ids[0])])
    resamples = Resamples(int(owner.max()) + 1, replicates=evaluation.protocol.replicates, seed=seed)
    played = [_played_windows(source, evaluation.manifest, "train", rows) for rows in ids]
    first, second = (windows.hits() for windows in played)
    of_people = playing_auc(first, second, (owners[0], owners[1]), resamples, bar=bar, threads=usable_cpus())
    apart = {TOLD_APART: of_people}
    return {
        name: _played_set(
            windows.hits(), windows.tempo, evaluation, PlayingScale(owned, resamples), resamples, dict(apart)
        )
        for name, windows, owned in zip(HALVES, played, owners, strict=True)
    }


def _played_windows(
    source: ShardSource, manifest: ShardManifest, split: str, ids: Int64[np.ndarray, " window"]
) -> PlayedWindows:
    return WindowStore(source, manifest, split, cached_blocks=CACHED_BLOCKS, played=True).played(ids)


def _played_set(
    played: PlayedHits,
    tempo: Float32[np.ndarray, " window"],
    evaluation: EvaluationData,
    scale: PlayingScale,
    resamples: Resamples,
    others: dict[str, ResampledFigure] | None = None,
) -> PlayedSet:
    """All figures of a set.

    Args:
        others: figures that more than the playing itself is needed for.
    """
    drums, bar, every = list(evaluation.drum_map.classes), evaluation.grid.steps_per_bar, np.arange(len(tempo))
    published = {}
    for name, values in published_values(played, tempo, drums, bar).items():
        known = np.isfinite(values)
        published[name] = scale.mean(values[known], every[known])
    figures = playing_figures(played, tempo, drums, bar, scale) | (others or {})
    return PlayedSet(len(tempo), figures, published, resamples)


def playing_json(sets: Playing) -> dict[str, Any]:
    """All figures of how hits are played, by set."""

    def of_set(played: PlayedSet, figures: Mapping[str, ResampledFigure]) -> dict[str, Any]:
        intervals = {name: played.resamples.percentiles(figure.replicates) for name, figure in figures.items()}
        return {
            name: {"value": defined(figure.value), "interval": interval_values(intervals[name])}
            for name, figure in figures.items()
        }

    return {
        name: {
            "windows": played.windows,
            "figures": of_set(played, played.figures),
            "groove_evaluator": of_set(played, played.published),
        }
        for name, played in sets.items()
    }
