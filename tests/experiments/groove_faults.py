"""What a drummer would object to, counted in grooves from the prior beside what drummers played.

    python -m tests.experiments.groove_faults --shards SHARDS --run RUN [--run RUN ...] [--count 1000]

Each figure is a mean over windows of 4 bars: of grooves, of all training windows, and of all validation windows, whose
distance to the training windows is what people differ by among themselves.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import typer
from jaxtyping import Bool, Float64
from rich.table import Table

from jobs.command.command_line import console, run_command
from jobs.evaluation.results import load_models
from musicvae.data.manifest import open_shards
from musicvae.data.shards import read_tokens
from musicvae.generation.generate import generate
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.groove.features import fill
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens

Hits = Bool[np.ndarray, "window step drum"]
Values = Float64[np.ndarray, " window"]

HANDS = 2
FEET = ("kick",)
"""What no hand is needed for. A closed hi-hat may be the pedal's, so three hands can be real: compare with the data."""
TIMEKEEPERS = ("closed_hihat", "open_hihat", "ride")
KEEPS_TIME = 4
"""Hits in a bar from which on a drum keeps time in it."""
RUSH = 6
"""Sixteenths in a row that nobody plays with one foot."""


class Faults:
    """The figures for one grid and drum map.

    Args:
        drums: names of the classes, those of the shipped drum maps.
    """

    def __init__(self, grid: GridSpec, drums: Sequence[str]) -> None:
        self._grid = grid
        self._drums = list(drums)

    def all(self) -> dict[str, Callable[[Hits], Values]]:
        """Every figure by what it says."""
        return {
            "steps struck by three hands or more, of those struck": self.three_hands,
            "steps with open and closed hi-hat at once, of those struck": self.both_hats,
            "windows with an empty bar between bars": self.lone_empty_bar,
            "windows with a bar of three times the hits of the one before, or a third": self.density_jump,
            "windows whose timekeeper (closed, open hi-hat, ride) changes": self.timekeeper_changes,
            "windows with a backbeat in two bars or more that another one lacks, no fill in it": self.lost_backbeat,
            "windows with a kick run of six sixteenths": self.kick_run,
            "crashes that are on no eighth, of windows with crashes": self.crash_between_eighths,
            "bars with a kick on one": self.kick_on_one,
            "bars with a snare on two and on four": self.backbeat,
            "bars that repeat the one before exactly": self.exact_repeat,
            "bars whose kick repeats that of the bar before exactly": self.kick_repeat,
            "bars whose snare repeats that of the bar before exactly": self.snare_repeat,
            "bars that share less than a fifth of their hits with the one before": self.unlike_bars,
            "beats of fills": self.fills,
            "beats of fills in the bar of most of them, of windows with fills": self.fills_together,
        }

    def three_hands(self, hits: Hits) -> Values:
        hands = [number for number, drum in enumerate(self._drums) if drum not in FEET]
        return _share((hits[..., hands].sum(axis=2) > HANDS).sum(axis=1), hits.any(axis=2).sum(axis=1))

    def both_hats(self, hits: Hits) -> Values:
        both = self._of(hits, "closed_hihat") & self._of(hits, "open_hihat")
        return _share(both.sum(axis=1), hits.any(axis=2).sum(axis=1))

    def lone_empty_bar(self, hits: Hits) -> Values:
        struck = self._bars(hits).any(axis=(2, 3))
        before, after = np.logical_or.accumulate(struck, axis=1), np.logical_or.accumulate(struck[:, ::-1], axis=1)
        return (~struck & before & after[:, ::-1]).any(axis=1).astype(float)

    def density_jump(self, hits: Hits) -> Values:
        counts = self._bars(hits).sum(axis=(2, 3))
        before, after = counts[:, :-1], counts[:, 1:]
        return ((3 * before <= after) | (3 * after <= before)).any(axis=1).astype(float)

    def timekeeper_changes(self, hits: Hits) -> Values:
        counts = np.stack(
            [self._bars(self._of(hits, drum)[..., None]).sum(axis=(2, 3)) for drum in TIMEKEEPERS], axis=2
        )
        keeper = np.where(counts.max(axis=2) >= KEEPS_TIME, counts.argmax(axis=2), -1)
        before, after = keeper[:, :-1], keeper[:, 1:]
        return ((before != after) & (before >= 0) & (after >= 0)).any(axis=1).astype(float)

    def lost_backbeat(self, hits: Hits) -> Values:
        snare = self._snare_on_beats(hits)
        has, lacks = snare[..., [1, 3]].all(axis=2), ~snare[..., [1, 3]].any(axis=2)
        filled = self._filled(hits) > 0
        return ((has.sum(axis=1) >= 2) & (lacks & ~filled).any(axis=1)).astype(float)

    def kick_run(self, hits: Hits) -> Values:
        kick = self._of(hits, "kick")
        return np.lib.stride_tricks.sliding_window_view(kick, RUSH, axis=1).all(axis=2).any(axis=1).astype(float)

    def crash_between_eighths(self, hits: Hits) -> Values:
        crash = self._of(hits, "crash")
        between = np.arange(hits.shape[1]) % (self._grid.steps_per_beat // 2) != 0
        return _share((crash & between).sum(axis=1), crash.sum(axis=1))

    def kick_on_one(self, hits: Hits) -> Values:
        return self._of(self._bars(hits), "kick")[:, :, 0].mean(axis=1)

    def backbeat(self, hits: Hits) -> Values:
        return self._snare_on_beats(hits)[..., [1, 3]].all(axis=2).mean(axis=1)

    def exact_repeat(self, hits: Hits) -> Values:
        bars = self._bars(hits)
        return (bars[:, 1:] == bars[:, :-1]).all(axis=(2, 3)).mean(axis=1)

    def kick_repeat(self, hits: Hits) -> Values:
        return self._repeats(hits, "kick")

    def snare_repeat(self, hits: Hits) -> Values:
        return self._repeats(hits, "snare")

    def unlike_bars(self, hits: Hits) -> Values:
        bars = self._bars(hits)
        shared, either = ((f(bars[:, 1:], bars[:, :-1])).sum(axis=(2, 3)) for f in (np.logical_and, np.logical_or))
        return (5 * shared < either).mean(axis=1)

    def fills(self, hits: Hits) -> Values:
        return fill(hits, self._grid, self._drums)

    def fills_together(self, hits: Hits) -> Values:
        in_bar = self._filled(hits)
        return _share(in_bar.max(axis=1), in_bar.sum(axis=1))

    def _repeats(self, hits: Hits, drum: str) -> Values:
        bars = self._of(self._bars(hits), drum)
        same, struck = (bars[:, 1:] == bars[:, :-1]).all(axis=2), bars[:, :-1].any(axis=2)
        return _share((same & struck).sum(axis=1), struck.sum(axis=1))

    def _filled(self, hits: Hits) -> Float64[np.ndarray, "window bar"]:
        """Share of each bar's beats that are fills."""
        bar = GridSpec(1, self._grid.beats_per_bar, self._grid.steps_per_beat)
        return np.stack([fill(bars, bar, self._drums) for bars in self._bars(hits).swapaxes(0, 1)], axis=1)

    def _of(self, hits: Bool[np.ndarray, "*place drum"], drum: str) -> Bool[np.ndarray, "*place"]:
        return hits[..., self._drums.index(drum)]

    def _bars(self, hits: Hits) -> Bool[np.ndarray, "window bar step drum"]:
        return hits.reshape(len(hits), self._grid.bars, self._grid.steps_per_bar, -1)

    def _snare_on_beats(self, hits: Hits) -> Bool[np.ndarray, "window bar beat"]:
        return self._of(self._bars(hits), "snare")[:, :, :: self._grid.steps_per_beat]


def _share(part: np.ndarray, whole: np.ndarray) -> Values:
    """NaN where there is nothing to have a share of."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def main(
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="What the grooves are compared with."),
    run: list[Path] = typer.Option(..., help="A run folder or an export; repeatable."),
    count: int = typer.Option(1000, min=1, help="Grooves of each."),
    seed: int = typer.Option(0, min=0, help="Of the grooves."),
    temperature: float = typer.Option(1.0, min=0.01, help="Below 1 likelier grooves."),
) -> None:
    """Count what is wrong with grooves."""
    source = open_shards(shards)
    manifest = source.manifest()
    grid, num_drums = manifest.grid, manifest.drum_map.num_drums
    sets = {split: read_tokens(source, manifest, split).tokens for split in ("train", "validation")}
    for candidate in load_models(run, []):
        made = generate(candidate.trained.model, GenerationSettings(PriorSource(), seed, temperature), count)
        sets[candidate.name] = np.concatenate(list(made))
    hits = {name: hits_from_tokens(tokens, num_drums) for name, tokens in sets.items()}
    table = Table(title=f"{count:,} grooves at temperature {temperature:g}; percent", title_justify="left")
    table.add_column()
    for name, of in hits.items():
        table.add_column(f"{name}\n{len(of):,}", justify="right")
    for name, measure in Faults(grid, manifest.drum_map.classes).all().items():
        table.add_row(name, *(f"{100 * np.nanmean(measure(of)):.1f}" for of in hits.values()))
    console.print(table)


if __name__ == "__main__":
    run_command(main)
