"""One run as its folder tells it, in whatever state it is: begun a moment ago, training, failed, or copied away."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.run_report.report_series import Metrics, read_metrics, records
from musicvae.data.feel import GrooveFeel
from musicvae.errors import DataError
from musicvae.evaluation.scores import ACTIVE_VARIANCE
from musicvae.training.examples import ExampleGrooves, Examples, example_files
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder

NAMED_STEPS = 20
"""Steps without a finite gradient that a page names."""


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """What a page shows of a run.

    Attributes:
        number: its place among the runs of the page.
        nonfinite: steps whose gradient was not finite, the first of them, and how many there are.
        hosts: machines that the ranks of its last launch ran on, as far as they left a word.
        examples_step: of the examples, which are the newest; None where there are none.
        kl: nats of each latent dimension, largest first.
        active: of the same dimensions, whether they are.
        notes: what failed, and what could not be read.
    """

    number: int
    name: str
    path: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    metrics: Metrics
    nonfinite: tuple[int, ...]
    nonfinite_count: int
    hosts: tuple[str, ...]
    examples_step: int | None
    examples: ExampleGrooves | None
    kl: tuple[float, ...]
    active: tuple[bool, ...]
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        return self.status.get("state", "begun")

    @property
    def step(self) -> int:
        return max(self.metrics.last_step, self.status.get("step", 0))

    def figure(self, name: str) -> float | None:
        """The last value of a figure."""
        series = self.metrics.series.get(name)
        return series.last if series else None


def read_run(path: Path, number: int, name: str) -> RunRecord:
    """Reads a run folder; whatever of it is missing or damaged is left out and noted.

    Raises:
        ConfigError: there is no run.
        DataError: its config.yaml is damaged.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    metrics = read_metrics(folder.metrics)
    notes = []
    if metrics.damaged_lines:
        notes.append(f"{metrics.damaged_lines} lines of metrics.jsonl are damaged and left out")
    try:
        status = folder.read_status()
    except (OSError, ValueError) as error:
        status = {}
        notes.append(f"status.json cannot be read: {error}")
    launch, ranks = status.get("launch", ""), RankRecords(path / "ranks")
    notes += _failures(ranks, launch)
    steps = [record["step"] for record in records(folder.nonfinite) if record]

    examples_step, examples, grooves = None, None, None
    for step, file in reversed(example_files(folder.examples).items()):
        try:
            examples = Examples.load(file)
            examples_step = step
            break
        except DataError as error:
            notes.append(error.problem)
    if examples is not None:
        try:
            grooves = ExampleGrooves.of(examples, GrooveFeel.load(folder.feel), folder.shard_format()[1])
        except DataError as error:
            notes.append(error.problem)
    kl = np.array([]) if examples is None else examples.kl
    order = np.argsort(-kl, kind="stable")
    active = np.array([], bool) if examples is None else examples.mu_variance > ACTIVE_VARIANCE
    return RunRecord(
        number=number,
        name=name,
        path=path,
        config=config,
        status=status,
        metrics=metrics,
        nonfinite=tuple(steps[:NAMED_STEPS]),
        nonfinite_count=len(steps),
        hosts=tuple(sorted({record.host for record in ranks.of(launch)})),
        examples_step=examples_step,
        examples=grooves,
        kl=tuple(kl[order].tolist()),
        active=tuple(active[order].tolist()),
        notes=tuple(notes),
    )


def _failures(ranks: RankRecords, launch: str) -> list[str]:
    """Why ranks of the last launch failed; those that only followed from another's are left out."""
    return [
        f"rank {error.rank} on {error.host} failed at step {error.step:,} ({error.category}): {error.message}"
        for error in ranks.errors_of(launch)
        if not error.secondary
    ]
