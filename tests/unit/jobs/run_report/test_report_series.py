"""Curves of any length in bounded memory: nothing is lost but detail."""

import json
import math
import tracemalloc

import numpy as np
import pytest

from jobs.run_report.record import MOST_POINTS, Series, read_metrics
from tests.support.requirements import only_in_a_soak
from tests.support.runs.run_folders import training_line


@pytest.mark.parametrize("length", [1, 2, 399, 800, 801, 12_345])
def test_thinning_keeps_the_mean_the_extremes_and_the_last(length):
    values = np.random.default_rng(0).normal(size=length)
    series = Series()
    for step, value in enumerate(values.tolist(), start=1):
        series.add(step, value)
    points = series.points
    assert len(points) <= 2 * MOST_POINTS
    assert len(points) == length or len(points) >= MOST_POINTS
    assert sum(point.count for point in points) == length
    assert sum(point.total for point in points) == pytest.approx(values.sum())
    assert min(point.low for point in points) == values.min()
    assert max(point.high for point in points) == values.max()
    assert series.last == values[-1]
    steps = [point.step for point in points]
    assert steps == sorted(steps)
    assert steps[-1] == length
    assert {point.count for point in points[:-1]} <= {series.values_per_point}


def test_what_is_not_finite_is_not_drawn():
    series = Series()
    for step, value in enumerate([1.0, math.nan, math.inf, 3.0]):
        series.add(step, value)
    assert [point.mean for point in series.points] == [1.0, 3.0]


@pytest.mark.parametrize("lines", [8_000, pytest.param(200_000, marks=[pytest.mark.slow, only_in_a_soak])])
def test_a_file_of_any_length_costs_the_same_memory(tmp_path, lines):
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        for step in range(1, lines + 1):
            file.write(json.dumps({"step": step, **training_line(step)}) + "\n")
    tracemalloc.start()
    metrics = read_metrics(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert metrics.last_step == lines
    assert all(len(series.points) <= 2 * MOST_POINTS for series in metrics.series.values())
    assert peak < 3_000_000


def test_the_best_evaluation_is_found(tmp_path):
    path = tmp_path / "metrics.jsonl"
    losses = {10: 90.0, 20: 80.0, 30: 85.0}
    path.write_text("".join(json.dumps({"step": s, "validation.negative_elbo": v}) + "\n" for s, v in losses.items()))
    assert read_metrics(path).best == {"step": 20, "validation.negative_elbo": 80.0}


def test_torn_and_damaged_lines_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 4}\n\xff\xfe{\n[1]\n{"loss": 2}\n{"step": 2, "loss": 2}\n{"step": 3, "lo')
    metrics = read_metrics(path)
    assert metrics.last_step == 2
    assert metrics.damaged_lines == 3
    assert read_metrics(tmp_path / "absent").series == {}
