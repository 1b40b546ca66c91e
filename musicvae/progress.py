"""What a run writes down about itself while it trains: metrics.jsonl, status.json and the trackers."""

import math
import time
from collections.abc import Mapping

from musicvae.evaluation import EvaluationReport
from musicvae.run_folder import RunFolder, State
from musicvae.tracker import Tracker

STATUS_SECONDS = 5.0
"""Between two writes of status.json, which are synced to disk."""


class RunProgress:
    """The record of one launch of a run.

    Args:
        run: None on every rank but the main one, where nothing is written.
        tracker: told what is logged.
        first_step: where this launch begins.
        total: the step that ends the run.
        global_batch: windows per step, for the rate.
    """

    def __init__(
        self, run: RunFolder | None, tracker: Tracker, *, first_step: int, total: int, global_batch: int
    ) -> None:
        self.run = run
        self.tracker = tracker
        self.total = total
        self.global_batch = global_batch
        self.restarts = run.read_status().get("restarts", -1) + 1 if run else 0
        self.last_status = 0.0
        self.start_clock(first_step)
        self.rate = 0.0

    def state(self, state: State, step: int) -> None:
        """Writes status.json."""
        if self.run is None:
            return
        self.last_status = time.monotonic()
        eta = (self.total - step) * self.global_batch / self.rate if self.rate else None
        self.run.write_status(
            state, step, self.total, windows_per_second=self.rate, eta_seconds=eta, restarts=self.restarts
        )

    def start_clock(self, step: int) -> None:
        """Counts time from here; what happened since the last figures (starting, evaluating) is not training."""
        self.logged_step, self.logged_at = step, time.monotonic()

    def measure_rate(self, step: int) -> None:
        """Takes the rate since the clock was started, before an evaluation adds its time."""
        if step > self.logged_step:
            self.rate = (step - self.logged_step) * self.global_batch / (time.monotonic() - self.logged_at)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes the figures of a step, if there are any: one line a step, so that each step stands once."""
        if not figures or self.run is None:
            return
        figures = {**figures, "windows_per_second": self.rate}
        self.run.log({"step": step, **figures})
        self.tracker.log(step, figures)
        if time.monotonic() - self.last_status > STATUS_SECONDS:
            self.state("running", step)
        self.start_clock(step)


def validation_figures(report: EvaluationReport) -> dict[str, float]:
    """An evaluation as flat figures; what was not measured is left out."""
    figures = {
        "validation.negative_elbo": report.negative_elbo,
        "validation.reconstruction": report.reconstruction,
        "validation.kl_nats": report.kl,
        "validation.kl_bits": report.kl_bits,
        "validation.active_units": float(report.active_units),
        "validation.token_accuracy_teacher_forced": report.teacher_forced.token_accuracy,
        "validation.token_accuracy_free_running": report.free_running.token_accuracy,
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}
