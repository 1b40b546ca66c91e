"""Charts: every curve within its space, rules at round values, and what a pointer reads."""

import re

import pytest

from jobs.run_report.page import Chart, charts
from jobs.run_report.record import read_run
from preprocess.pages.charts import number, rules
from tests.support.runs.run_folders import begun_run, trained_run


def drawn(*paths) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts([read_run(path, n, path.name) for n, path in enumerate(paths)])}


@pytest.fixture
def run(tmp_path):
    trained_run(tmp_path / "run", steps=1500)
    return tmp_path / "run"


def test_every_figure_has_its_chart_and_a_constant_beta_none(run):
    assert list(drawn(run)) == [
        *("Validation −ELBO", "Loss", "Reconstruction", "KL", "Token accuracy", "Active units"),
        *("Gradient norm", "Learning rate", "Throughput"),
    ]


def test_curves_stay_within_their_space_and_go_to_the_last_step(run):
    for chart in drawn(run).values():
        for curve in chart.curves:
            points = [tuple(map(float, pair.split())) for pair in curve.line[1:].split("L")]
            assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in points), chart.name
            assert points[-1][0] == 100
            assert bool(curve.band) == (curve.kind == "training"), "1,500 values are thinned, 75 evaluations are not"
        assert all(0 <= tick.place <= 100 for tick in (*chart.x_ticks, *chart.y_ticks))


def test_the_best_evaluation_has_a_ring_where_its_dot_is(run):
    (curve,) = drawn(run)["Validation −ELBO"].curves
    dots = [tuple(map(float, dot.split())) for dot in re.findall(r"M([\d. ]+)h0", curve.dots)]
    assert len(dots) == 75
    assert curve.best == pytest.approx((dots[-1][0], 100 - dots[-1][1]), abs=0.01)


def test_rules_are_round_and_contain_the_values(run):
    charts = drawn(run)
    assert [tick.label for tick in charts["Loss"].y_ticks] == ["0", "100", "200", "300"]
    assert [tick.label for tick in charts["Gradient norm"].y_ticks] == ["10", "20", "50"]
    assert [tick.label for tick in charts["Learning rate"].y_ticks] == ["0", "0.0002", "0.0004", "0.0006", "0.0008"]
    assert charts["Throughput"].y_ticks[0].label == "0"
    assert [tick.label for tick in charts["Loss"].x_ticks] == ["0", "500", "1000", "1500"]


def test_a_pointer_reads_means_and_extremes_with_names_where_there_are_several(run, tmp_path):
    alone = drawn(run)["KL"].readings
    assert re.search(r"^training: 40 \(40 to 40\) at step \d+\nvalidation: 41 at step \d+$", alone[10].text)
    trained_run(tmp_path / "other", steps=100)
    both = drawn(run, tmp_path / "other")["Validation −ELBO"].readings
    assert "run validation: " in both[1].text
    assert "other validation: " in both[1].text
    assert "other" not in both[-1].text


def test_one_value_and_none_can_be_drawn(tmp_path):
    begun_run(tmp_path / "begun")
    assert drawn(tmp_path / "begun") == {}
    one = begun_run(tmp_path / "one")
    one.log({"step": 1, "loss": 3.5, "gradient_norm": 0.0, "beta": 0.0})
    charts = drawn(tmp_path / "one")
    assert list(charts) == ["Loss"], "zero has no place on a logarithmic scale"
    assert charts["Loss"].curves[0].line.startswith("M100.00 ")


def test_numbers_for_people():
    assert [number(value) for value in (0.0, 0.0005, 1234.5, 20_000, 1_500_000, -2e9)] == [
        *("0", "0.0005", "1234", "20k", "1.5M", "-2G")
    ]


def test_rules_of_bars():
    assert [tick.label for tick in rules(2.6)] == ["1", "2"]
    assert rules(0.0) == ()
