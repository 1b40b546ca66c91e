"""`gallery.html` of a sampling, made from its manifest: the same page whatever else the grooves are handed over as."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jobs.sampler.gallery import FigureColumn, GalleryGroove, write_gallery
from jobs.sampler.job import SampleJob
from musicvae.pretrained.model import TrainedModel

DUPLICATE = FigureColumn("duplicate", "duplicate", "an earlier groove has the same hits", kind="flag")
COLUMNS = (
    FigureColumn("hits_per_bar", "hits per bar", "of all drums", decimals=2),
    FigureColumn("syncopation", "syncopation", "after Longuet-Higgins and Lee, per bar", decimals=2),
    FigureColumn("log_likelihood", "log p(x | z)", "in nats: how likely the model finds its own draw", decimals=1),
    FigureColumn("nearest_training", "from training", "hits that differ from the nearest training window", decimals=0),
    FigureColumn("nearest_groove", "from the others", "hits that differ from the nearest other groove", decimals=0),
    FigureColumn("empty", "empty", "without a hit", kind="flag"),
    FigureColumn("memorised", "memorised", "is a training window", kind="flag"),
    DUPLICATE,
)
"""What the manifest says of a groove; a figure that is not known of a job's grooves has no column."""


def write_sample_gallery(page: Path, manifest: Path, job: SampleJob, trained: TrainedModel) -> None:
    """Writes the page from manifest.jsonl, of which no more is read than the page shows.

    Raises:
        OSError: it cannot be written.
    """
    with manifest.open() as lines:
        records = map(json.loads, lines)
        first = next(records)
        write_gallery(
            page,
            _grooves(chain([first], records), job, trained),
            title=f"Grooves of seed {job.made.recipe.seed}",
            grid=trained.grid,
            drum_map=job.drum_map,
            figures=[column for column in COLUMNS if column is DUPLICATE or first[column.name] is not None],
            ticks_per_quarter=job.layout.ticks_per_quarter,
        )


def _grooves(records: Iterator[dict[str, Any]], job: SampleJob, trained: TrainedModel) -> Iterator[GalleryGroove]:
    for record in records:
        groove = job.groove(trained, record["index"], np.array(record["tokens"], dtype=np.int16))
        figures = record | {DUPLICATE.name: record["duplicate_of"] is not None}
        yield GalleryGroove.of(record["id"], groove, figures)
