"""What a performance model's playing of human hits is like, beside the human playing of the same hits, as a table.

    python -m tests.experiments.playing --shards shards/groove [--model RUN_OR_EXPORT] [--windows 200] [--seed 1]

The hits are those of validation windows, evenly spaced. The model plays them at temperature 1: free, and with the
manner (level, spread, lean, looseness, swing) of a training window drawn for each. A control row is the human playing
with its offsets shuffled within each window: what it shares with the human row, no timing is needed for.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from musicvae.data.manifest import open_shards
from musicvae.data.store import WindowStore
from musicvae.evaluation.elbo import spaced_windows
from musicvae.groove.played import MANNER, PlayedHits
from musicvae.performance.play import Score, play
from musicvae.pretrained.performer import load_performance
from musicvae.pretrained.shipped import WEIGHTS

MS_OF_STEP = 15_000
"""Milliseconds of a sixteenth, times quarter notes per minute."""
PAIRS = (("kick", "closed_hihat"), ("snare", "closed_hihat"), ("kick", "ride"), ("snare", "ride"))
GHOST = 40
"""A snare hit below this velocity is a soft one."""


def playing_figures(played: PlayedHits, tempo: np.ndarray, drums: tuple[str, ...], bar: int) -> dict[str, float]:
    """What the playing of some windows is like.

    Args:
        tempo: of each window, quarter notes per minute.
        drums: names of the drum classes.
        bar: steps of a bar.
    """
    hits, velocity, offset, manner = played.hits, played.velocity, played.offset, played.manner()
    both = hits[:, bar:] & hits[:, :-bar]
    figures = {
        "offset: standard deviation, steps": float(offset[hits].std()),
        "velocity: standard deviation, of 1": float(velocity[hits].std()),
        "offset: standard deviation within a window": float(np.nanmean(manner[:, MANNER.index("looseness")])),
        "velocity: standard deviation within a window": float(np.nanmean(manner[:, MANNER.index("spread")])),
        "velocity: correlation with the same cell a bar later": _correlation(velocity, both, bar),
        "offset: correlation with the same cell a bar later": _correlation(offset, both, bar),
        "swing: standard deviation over windows, steps": float(np.nanstd(manner[:, MANNER.index("swing")])),
        "velocities of exactly 127, %": 100 * float((played.midi_velocity()[hits] == 127).mean()),
    }
    snare = drums.index("snare")
    soft = played.midi_velocity()[:, :, snare][hits[:, :, snare]] < GHOST
    figures[f"snare hits below {GHOST}, %"] = 100 * float(soft.mean())
    milliseconds = offset * (MS_OF_STEP / tempo)[:, None, None]
    for first, second in PAIRS:
        a, b = drums.index(first), drums.index(second)
        gaps = np.abs(milliseconds[:, :, a] - milliseconds[:, :, b])[hits[:, :, a] & hits[:, :, b]]
        name = f"median gap on a step, ms: {first} and {second}".replace("_", " ")
        figures[name] = float(np.median(gaps)) if len(gaps) else np.nan
    return figures


def shuffled_offsets(played: PlayedHits, rng: np.random.Generator) -> PlayedHits:
    """The same with the offsets of each window given to others of its hits."""
    offset = played.offset.copy()
    for window, hits in enumerate(played.hits):
        offset[window][hits] = rng.permutation(offset[window][hits])
    return replace(played, offset=offset)


def _correlation(values: np.ndarray, both: np.ndarray, bar: int) -> float:
    return float(np.corrcoef(values[:, bar:][both], values[:, :-bar][both])[0, 1])


def main() -> None:
    arguments = _arguments()
    source = open_shards(arguments.shards)
    manifest, performer = source.manifest(), load_performance(arguments.model)
    store = WindowStore(source, manifest, "validation", cached_blocks=4, played=True)
    windows = store.played(spaced_windows(store.num_windows, arguments.windows))
    human, count = windows.hits(), len(windows)
    rng = np.random.default_rng(arguments.seed)
    free = np.full((count, len(MANNER)), np.nan, dtype=np.float32)
    manners = {"free": free}
    if len(performer.manners):
        manners["manners of training windows"] = performer.manners[rng.integers(len(performer.manners), size=count)]
    rows = {"human": human, "human, offsets shuffled": shuffled_offsets(human, rng)}
    for name, manner in manners.items():
        score = Score(range(count), human.hits, windows.tempo, manner)
        rows[name] = play(performer.model, score, seed=arguments.seed)
    drums = tuple(manifest.drum_map.classes)
    found = {
        name: playing_figures(played, windows.tempo, drums, manifest.grid.steps_per_bar)
        for name, played in rows.items()
    }
    print(f"{count} validation windows, seed {arguments.seed}, weights {performer.weights_hash}\n")
    print(_table(found))


def _table(found: Mapping[str, Mapping[str, float]]) -> str:
    names = next(iter(found.values()))
    lines = [f"| figure | {' | '.join(found)} |", "| --- |" + " --- |" * len(found)]
    lines += [f"| {name} | {' | '.join(f'{figures[name]:.3g}' for figures in found.values())} |" for name in names]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--model", type=Path, default=WEIGHTS / "performance")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
