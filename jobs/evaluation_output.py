"""What jobs.evaluate shows and writes: the run and the baselines side by side, each figure under its definition."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from musicvae.baselines import BaselineReport
from musicvae.drum_map import DrumMap
from musicvae.evaluation import EvaluationReport
from musicvae.scores import MatchCounts

LEGEND = """\
nats     per window, lower is better: -ELBO = reconstruction + KL of a model, with
         one draw of z; -log p of a baseline
forced   each step predicted after the reference before it
free     each step after the predictor's own; a model decodes from mu
copying the bar is scored on all bars but the first"""
MUST_BEAT = ("silence", "most frequent")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A run, the step of its weights, the shards that it was trained on, and what it is worth."""

    run: Path
    step: int
    trained_on: str
    report: EvaluationReport


def summary(evaluated: Evaluated | None, baselines: Sequence[BaselineReport], *, title: str) -> Table:
    """One row for each baseline, weakest first, and the run."""
    table = _table(title, gap=0)
    for heading in ("nats", "recon-\nstruction", "KL\nnats", "KL\nbits", "active\nunits"):
        table.add_column(heading, justify="right")
    for heading in ("token\nforced", "acc.\nfree", "hit F1\nforced", "\nfree"):
        table.add_column(heading, justify="right")
    for baseline in baselines:
        table.add_row(baseline.name, _nats(baseline.nats), *[""] * 4, *_scores(baseline))
    if evaluated:
        report = evaluated.report
        table.add_section()
        table.add_row(
            evaluated.run.name,
            *map(_nats, (report.negative_elbo, report.reconstruction, report.kl, report.kl_bits)),
            str(report.active_units),
            *_scores(report),
            style="bold",
        )
    return table


def by_drum(evaluated: Evaluated | None, baselines: Sequence[BaselineReport], drum_map: DrumMap) -> Table:
    """Hit F1 of every drum: forced, and free where it differs."""
    table = _table("hit F1 by drum", gap=1)
    columns: list[tuple[str, MatchCounts]] = []
    for baseline in baselines:
        if baseline.teacher_forced is not baseline.free_running:
            columns.append((f"{baseline.name}\nforced", baseline.teacher_forced))
        elif baseline.free_running.hit_f1:
            columns.append((f"{baseline.name}\nfree", baseline.free_running))
    if evaluated:
        columns.append((f"{evaluated.run.name}\nforced", evaluated.report.teacher_forced))
        columns.append((f"{evaluated.run.name}\nfree", evaluated.report.free_running))
    for heading, _ in columns:
        table.add_column(heading.replace(" ", "\n"), justify="right")
    for drum, name in enumerate(drum_map.classes):
        table.add_row(name.replace("_", " "), *(_share(counts.hit_f1_by_drum[drum]) for _, counts in columns))
    return table


def verdict(evaluated: Evaluated, baselines: Sequence[BaselineReport]) -> str:
    """Whether the run beats the two baselines that know nothing of the window; and whom it does not beat in nats."""
    mine = evaluated.report.free_running.token_accuracy
    rivals = [(b.name, b.free_running.token_accuracy) for b in baselines if b.name in MUST_BEAT]
    beaten = " and ".join(f"{name} ({_share(theirs)})" for name, theirs in rivals if mine > theirs)
    unbeaten = " or ".join(f"{name} ({_share(theirs)})" for name, theirs in rivals if not mine > theirs)
    parts = [f"beats {beaten}"] * bool(beaten) + [f"does not beat {unbeaten}"] * bool(unbeaten)
    nats = evaluated.report.negative_elbo
    ahead = ", ".join(f"{b.name} ({_nats(b.nats)})" for b in baselines if b.nats < nats)
    return f"free-running token accuracy {_share(mine)}: the run {', but '.join(parts)}" + (
        f"\nnats per window {_nats(nats)}: {ahead} predicts the reference better" if ahead else ""
    )


def as_json(evaluated: Evaluated | None, baselines: Sequence[BaselineReport], drum_map: DrumMap) -> dict[str, Any]:
    """All figures in full precision; null where a figure is not defined."""
    values: dict[str, Any] = {
        "baselines": {
            b.name: {
                "nats_per_window": _defined(b.nats),
                "teacher_forced": _match_values(b.teacher_forced, drum_map),
                "free_running": _match_values(b.free_running, drum_map),
            }
            for b in baselines
        }
    }
    if evaluated:
        report = evaluated.report
        values["run"] = {
            "path": str(evaluated.run),
            "step": evaluated.step,
            "trained_on": evaluated.trained_on,
            "negative_elbo": report.negative_elbo,
            "reconstruction": report.reconstruction,
            "kl_nats": report.kl,
            "kl_bits": report.kl_bits,
            "active_units": report.active_units,
            "teacher_forced": _match_values(report.teacher_forced, drum_map),
            "free_running": _match_values(report.free_running, drum_map),
        }
    return values


def _table(title: str, *, gap: int) -> Table:
    """Narrow enough for the 80 columns that a log file gets."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, gap), pad_edge=False)
    table.add_column()
    return table


def _match_values(counts: MatchCounts, drum_map: DrumMap) -> dict[str, Any]:
    by_class = zip(drum_map.classes, counts.hit_f1_by_drum, strict=True)
    return {
        "token_accuracy": _defined(counts.token_accuracy),
        "hit_f1": _defined(counts.hit_f1),
        "hit_f1_by_drum": {drum: _defined(float(value)) for drum, value in by_class},
    }


def _scores(report: BaselineReport | EvaluationReport) -> list[str]:
    forced, free = report.teacher_forced, report.free_running
    return [_share(value) for value in (forced.token_accuracy, free.token_accuracy, forced.hit_f1, free.hit_f1)]


def _nats(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def _share(value: float) -> str:
    """.604 rather than 0.604, as the field prints shares."""
    return "" if math.isnan(value) else f"{value:.3f}".removeprefix("0")


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
