"""`report.html`: how what was sampled is distributed, beside the training data, on one page that loads nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from jobs.sampler.sample_job import SampleJob
from jobs.sampler.sample_report import Tally, headings, sections
from jobs.sampler.selection import Selected
from musicvae.evaluation.samples import BINS, ENDS, FeatureHistograms
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord
from preprocess.pages.charts import Histogram, histogram, number, rule_distance
from preprocess.pages.page import page_environment, style

TEMPLATE = Path(__file__).with_name("sample_report_page.html.jinja")
STYLE = Path(__file__).with_name("sample_report_page.css")
MADE, TRAINING = "made", "training"
"""Series of the histograms; the style has a colour for each."""
ABOUT = {
    "hits per bar": "of all drums",
    "syncopation": "after Longuet-Higgins and Lee, per bar",
    "polyphony": "hits of a step that has any",
    "self-similarity": "of bars to each other",
    "mean onset": "step of the bar, mean over a groove's hits",
    "onset step": "step of the bar, all hits",
}


def sample_report_page(
    job: SampleJob, found: Tally, selected: Selected, trained: TrainedModel, training: TrainingRecord | None
) -> str:
    """The page as HTML.

    Args:
        training: what the distributions are drawn beside, where it is known.
    """
    return (
        page_environment(TEMPLATE.parent)
        .get_template(TEMPLATE.name)
        .render(
            title=f"{found.grooves.windows:,} grooves of seed {job.made.recipe.seed}",
            css=style(STYLE),
            job=job,
            looked_at=selected.looked_at,
            lost=", ".join(f"{count:,} {reason}" for reason, count in selected.dropped.items()),
            headings=headings(found, trained),
            sections=sections(found, trained),
            training=training is not None,
            histograms=list(_histograms(found.features, training and training.histograms, trained)),
        )
    )


def _histograms(made: FeatureHistograms, data: FeatureHistograms | None, trained: TrainedModel) -> Iterator[Histogram]:
    """One for each feature; the training data's is the area behind, where it is known."""
    overlaps = None if data is None else made.overlaps(data)
    for row, name in enumerate(made.names):
        end = ENDS.get(name, float(trained.grid.steps_per_bar))
        series = {MADE: made} if data is None else {TRAINING: data, MADE: made}
        means = ", ".join(f"{which} {number(round(float(of.means[row]), 2))}" for which, of in series.items())
        about = [ABOUT.get(name, "hits per bar"), f"mean: {means}"]
        if overlaps is not None:
            about.append(f"overlap {overlaps[row]:.3f}")
        by_step = name == "onset step" and trained.grid.steps_per_bar <= BINS
        bins = trained.grid.steps_per_bar if by_step else BINS // 2
        rule = rule_distance(end)
        yield histogram(
            name.replace("_", " "),
            "; ".join(about),
            {which: _shown(of.counts[row], bins, by_step=by_step) for which, of in series.items()},
            [f"step {place}" if by_step else _words(place, bins, end) for place in range(bins)],
            [(place * rule / end * bins + by_step / 2, number(place * rule)) for place in range(round(end / rule) + 1)],
            trim=True,
        )


def _shown(counts: Int64[np.ndarray, " bin"], bins: int, *, by_step: bool) -> Int64[np.ndarray, " shown"]:
    """The same counts in fewer bins: a pair in each, or those that whole steps fall into, as all between are empty."""
    if by_step:
        return counts[(np.arange(bins) / bins * BINS).astype(np.int64)]
    return counts.reshape(bins, -1).sum(axis=1)


def _words(place: int, bins: int, end: float) -> str:
    low, high = (number(round(edge / bins * end, 3)) for edge in (place, place + 1))
    return f"{low} or more" if place == bins - 1 else f"{low} to {high}"
