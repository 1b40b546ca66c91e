"""Figures of what a sampling made, beside those of the training data, and the page that shows them.

The page is `report.html`; it loads nothing from elsewhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from rich.table import Table

from jobs.sampler.job import SampleJob
from jobs.sampler.manifest import CheckedBlock
from jobs.sampler.selection import NO_ITEM, Selected
from musicvae.evaluation.samples import (
    BINS,
    NEAR_CELLS,
    FeatureHistograms,
    bounds_of,
    count_features,
    structure_features,
    window_features,
)
from musicvae.groove.features import GrooveStatistics, count_grooves
from musicvae.groove.groove import MAX_VELOCITY
from musicvae.groove.played import PlayedHits
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord
from preprocess.pages.charts import Histogram, histogram, number, rule_distance
from preprocess.pages.page import page_environment, render_report

BARS = " ▁▂▃▄▅▆▇█"
UNKNOWN = "unknown"
TEMPLATE = Path(__file__).with_name("sample_report_page.html.jinja")
STYLE = Path(__file__).with_name("sample_report_page.css")
MADE, TRAINING = "made", "training"
"""Series of the histograms; the style has a colour for each."""
ABOUT = {
    "hits per bar": "of all drums",
    "syncopation": "after Longuet-Higgins and Lee, per bar",
    "polyphony": "hits on a step that has any",
    "self-similarity": "of bars to each other",
    "mean onset": "step of the bar, mean over a groove's hits",
    "onset step": "step of the bar, all hits",
    "different bars": "of the bars of a groove",
    "time kept": "share of beats whose timekeeping two bars have in common",
    "backbeat": "share of bars with a snare on every other beat",
    "ending": "fill of the last bar, less that of the others",
}


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over grooves; see `jobs.sampler.manifest`. None where something is unknown."""

    grooves: GrooveStatistics
    features: FeatureHistograms
    structure: FeatureHistograms
    log_likelihood: float
    duplicates: int
    memorised: int | None
    near_training: int | None
    near_each_other: int
    steered: int | None = None
    playing: "PlayingSums | None" = None

    @property
    def mean_log_likelihood(self) -> float | None:
        """Of a groove, in nats; None where hits were given."""
        mean = round(self.log_likelihood / max(1, self.grooves.windows), 4)
        return None if mean != mean else mean

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.grooves + other.grooves,
            self.features + other.features,
            self.structure + other.structure,
            self.log_likelihood + other.log_likelihood,
            self.duplicates + other.duplicates,
            _sum(self.memorised, other.memorised),
            _sum(self.near_training, other.near_training),
            self.near_each_other + other.near_each_other,
            _sum(self.steered, other.steered),
            None if self.playing is None or other.playing is None else self.playing + other.playing,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PlayingSums:
    """How hits are played: sums that blocks add up.

    Attributes:
        sums: number of hits; of MIDI velocities and of their squares; of offsets in steps and of their squares; number
            of velocities of 127.
    """

    sums: Float64[np.ndarray, " sum"]

    @classmethod
    def of(cls, heard: PlayedHits) -> "PlayingSums":
        """Of the hits of some grooves."""
        velocity = heard.midi_velocity()[heard.hits].astype(np.float64)
        offset = heard.offset[heard.hits].astype(np.float64)
        loudest = (velocity == MAX_VELOCITY).sum()
        sums = (len(velocity), velocity.sum(), (velocity**2).sum(), offset.sum(), (offset**2).sum(), loudest)
        return cls(np.array(sums, dtype=np.float64))

    def __add__(self, other: "PlayingSums") -> "PlayingSums":
        return PlayingSums(self.sums + other.sums)

    def figures(self) -> dict[str, float]:
        """Means and standard deviations of velocity, 1 to 127, and offset, in steps, and the share of 127."""
        _, velocity, of_square, offset, of_offset_square, loudest = self.sums / max(1, self.sums[0])
        return {
            "velocity_mean": round(float(velocity), 2),
            "velocity_deviation": round(float(np.sqrt(max(0.0, of_square - velocity**2))), 2),
            "offset_mean": round(float(offset), 4),
            "offset_deviation": round(float(np.sqrt(max(0.0, of_offset_square - offset**2))), 4),
            "loudest_share": round(float(loudest), 4),
        }


def tally(block: CheckedBlock, trained: TrainedModel, heard: PlayedHits | None = None) -> Tally:
    """The sums over a block; with those of how it is played, where it is `heard`."""
    near, of_block = block.rows.nearest_training, (block.rows.tokens, trained.grid, trained.drum_map)
    return Tally(
        grooves=count_grooves(block.hits, trained.grid),
        features=count_features(window_features(*of_block), trained.grid),
        structure=count_features(structure_features(*of_block), trained.grid),
        log_likelihood=float(block.rows.log_likelihood.sum()),
        duplicates=int((block.duplicate_of != NO_ITEM).sum()),
        memorised=None if block.memorised is None else int(block.memorised.sum()),
        near_training=int((near <= NEAR_CELLS).sum()) if len(near) else None,
        steered=int((block.rows.steered > 0).sum()) if len(block.rows.steered) else None,
        near_each_other=0 if block.nearest_groove is None else int((block.nearest_groove <= NEAR_CELLS).sum()),
        playing=None if heard is None else PlayingSums.of(heard),
    )


def report(total: Tally, selected: Selected, trained: TrainedModel, training: TrainingRecord | None) -> dict[str, Any]:
    """Everything in plain values, as report.json keeps it."""
    return {
        "grooves": total.grooves.windows,
        "looked_at": selected.looked_at,
        "dropped": selected.dropped,
        "lacking": selected.lacking,
        "empty": total.grooves.empty,
        "duplicates": total.duplicates,
        "memorised": total.memorised,
        "near_training": total.near_training,
        "near_each_other": total.near_each_other,
        "near_cells": NEAR_CELLS,
        **({} if total.steered is None else {"steered": total.steered}),
        "log_likelihood": total.mean_log_likelihood,
        "hits": dict(zip(trained.drum_map.classes, total.grooves.hits.tolist(), strict=True)),
        **({} if total.playing is None else {"playing": total.playing.figures()}),
        "features": _features(total.features, training and training.histograms),
        "structure": _features(total.structure, training and training.structure),
    }


def _features(made: FeatureHistograms, data: FeatureHistograms | None) -> dict[str, dict[str, Any]]:
    overlaps = None if data is None else made.overlaps(data).round(4).tolist()
    return {
        name: {
            "mean": round(float(made.means[row]), 4),
            "counts": made.counts[row].tolist(),
            "training_mean": None if data is None else round(float(data.means[row]), 4),
            "training_counts": None if data is None else data.counts[row].tolist(),
            "overlap": None if overlaps is None else overlaps[row],
        }
        for row, name in enumerate(made.names)
    }


def comparison(total: Tally, trained: TrainedModel) -> Table:
    """The grooves made beside the windows trained on."""
    table = Table(title="grooves and training data", title_justify="left")
    table.add_column()
    for heading in headings(total, trained):
        table.add_column(heading, justify="right")
    for section in sections(total, trained):
        for row in section:
            table.add_row(*row)
        table.add_section()
    return table


def headings(total: Tally, trained: TrainedModel) -> tuple[str, str]:
    """What is made and what it is compared with."""
    return f"{total.grooves.windows:,} grooves", f"{trained.feel.statistics.windows:,} training windows"


def sections(total: Tally, trained: TrainedModel) -> list[list[tuple[str, str, str]]]:
    """Lines of the comparison that belong together: a figure, its value of what was made, and of the training data."""
    made, data, count = total.grooves, trained.feel.statistics, max(1, total.grooves.windows)
    likelihood = UNKNOWN if total.mean_log_likelihood is None else f"{total.log_likelihood / count:.1f}"
    return [
        [
            ("empty", f"{made.empty_share:.1%}", f"{data.empty_share:.1%}"),
            ("hits per bar", f"{made.hits_per_bar:.2f}", f"{data.hits_per_bar:.2f}"),
            ("log p(x | z), nats", likelihood, ""),
        ],
        [
            (words, UNKNOWN if number is None else f"{number / count:.1%}", "")
            for words, number in (
                ("contained in the training set", total.memorised),
                (f"differ from one in {NEAR_CELLS} hits at most", total.near_training),
                ("duplicates of an earlier groove", total.duplicates),
                (f"differ from another in {NEAR_CELLS} hits at most", total.near_each_other),
            )
        ]
        + (
            []
            if total.steered is None
            else [("with hits that a constraint decided", f"{total.steered / count:.1%}", "")]
        ),
        [
            (f"{drum.replace('_', ' ')}, share of hits", f"{mine:.1%}", f"{theirs:.1%}")
            for drum, mine, theirs in zip(trained.drum_map.classes, made.class_shares, data.class_shares, strict=True)
        ],
        *([] if total.playing is None else [_playing_rows(total.playing.figures())]),
    ]


def _playing_rows(figures: dict[str, float]) -> list[tuple[str, str, str]]:
    velocity, deviation, offset, offset_deviation, loudest = figures.values()
    return [
        ("velocity, mean ± standard deviation", f"{velocity:.0f} ± {deviation:.0f}", ""),
        ("offset in steps, mean ± standard deviation", f"{offset:+.3f} ± {offset_deviation:.3f}", ""),
        (f"velocities of {MAX_VELOCITY}", f"{loudest:.1%}", ""),
    ]


def distributions(total: Tally, training: TrainingRecord) -> Table:
    """How features are distributed, beside the training data."""
    made, data = total.features, training.histograms
    table = Table(title="distributions of features and their overlap", title_justify="left")
    for name in ("", "grooves, mean", "", "training data, mean", ""):
        table.add_column(name, justify="right" if "mean" in name else "left")
    table.add_column("overlap", justify="right")
    overlaps = made.overlaps(data)
    for row, name in enumerate(made.names):
        pictures = [_picture(histograms.counts[row]) for histograms in (made, data)]
        means = [f"{histograms.means[row]:.2f}" for histograms in (made, data)]
        table.add_row(name, means[0], pictures[0], means[1], pictures[1], f"{overlaps[row]:.3f}")
    return table


def _picture(counts: np.ndarray) -> str:
    """A histogram in half as many characters as it has bins."""
    pairs = counts.reshape(-1, 2).sum(axis=1)
    heights = np.ceil(pairs / max(1, pairs.max()) * (len(BARS) - 1)).astype(int)
    return "".join(BARS[height] for height in heights)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def sample_report_page(
    job: SampleJob,
    total: Tally,
    selected: Selected,
    trained: TrainedModel,
    training: TrainingRecord | None,
    beside: Sequence[str],
) -> str:
    """The page as HTML.

    Args:
        beside: files in its folder that it links to.
        training: what the distributions are drawn beside, where it is known.
    """
    return render_report(
        page_environment(TEMPLATE.parent),
        TEMPLATE,
        [STYLE],
        title=f"{total.grooves.windows:,} grooves of seed {job.made.recipe.seed}",
        result=_result(total),
        beside=beside,
        command="jobs.sample",
        job=job,
        looked_at=selected.looked_at,
        lost=", ".join(f"{count:,} {reason}" for reason, count in selected.dropped.items()),
        headings=headings(total, trained),
        sections=sections(total, trained),
        training=training is not None,
        histograms=[
            *_histograms(total.features, training and training.histograms, trained),
            *_histograms(total.structure, training and training.structure, trained),
        ],
    )


def _result(total: Tally) -> str:
    """What is kept, in a sentence."""
    copies = "" if total.memorised is None else f", {total.memorised:,} copies of a training window"
    return f"{total.grooves.windows:,} grooves: {total.grooves.empty:,} empty, {total.duplicates:,} duplicates{copies}."


def _histograms(made: FeatureHistograms, data: FeatureHistograms | None, trained: TrainedModel) -> Iterator[Histogram]:
    """One for each feature; the training data's is the area behind, where it is known."""
    overlaps = None if data is None else made.overlaps(data)
    for row, name in enumerate(made.names):
        low, high = bounds_of(name, trained.grid)
        series = {MADE: made} if data is None else {TRAINING: data, MADE: made}
        means = ", ".join(
            f"{which} {number(round(float(histograms.means[row]), 2))}" for which, histograms in series.items()
        )
        about = [_about(name), f"mean: {means}"]
        if overlaps is not None:
            about.append(f"overlap {overlaps[row]:.3f}")
        by_step = name == "onset step" and trained.grid.steps_per_bar <= BINS
        bins = trained.grid.steps_per_bar if by_step else BINS // 2
        rule, length = rule_distance(high - low), high - low
        yield histogram(
            name.replace("_", " "),
            "; ".join(about),
            {which: _shown(histograms.counts[row], bins, by_step=by_step) for which, histograms in series.items()},
            [f"step {place}" if by_step else _words(place, bins, low, high) for place in range(bins)],
            [
                (place * rule / length * bins + by_step / 2, number(low + place * rule))
                for place in range(round(length / rule) + 1)
            ],
            trim=True,
        )


def _shown(counts: Int64[np.ndarray, " bin"], bins: int, *, by_step: bool) -> Int64[np.ndarray, " shown"]:
    """The same counts in fewer bins: a pair in each, or those that whole steps fall into, as all between are empty."""
    if by_step:
        return counts[(np.arange(bins) / bins * BINS).astype(np.int64)]
    return counts.reshape(bins, -1).sum(axis=1)


def _about(name: str) -> str:
    if name.endswith(" apart"):
        return "likeness (F1) of two bars, mean over pairs"
    return "likeness (F1) to the nearest bar" if name.endswith(" repeated") else ABOUT.get(name, "hits per bar")


def _words(place: int, bins: int, first: float, end: float) -> str:
    low, high = (number(round(first + edge / bins * (end - first), 3)) for edge in (place, place + 1))
    return f"{low} or more" if place == bins - 1 else f"{low} to {high}"
