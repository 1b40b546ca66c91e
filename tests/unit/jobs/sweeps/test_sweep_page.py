"""The page, the tables and the winner of a sweep show what its ledger says."""

import csv
import re

import pyarrow.parquet as pq
import pytest
import yaml

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Start, SweepState
from jobs.sweeps.page import MOST_LINES, curves, drawn, metric_scale, parallel, slices, sweep_page
from jobs.sweeps.results import rows, write_best, write_tables
from jobs.sweeps.settings import SweepSettings, random_values
from jobs.sweeps.status import outcomes, ranking, status_text
from preprocess.pages.charts import Scale
from tests.support.pages.parsed_page import Page
from tests.support.sweeps.played_sweep import SPACE, played_sweep, with_runs
from tests.support.sweeps.sweep_ledgers import METRIC, begun, end, state_of, sweep_settings
from tests.support.sweeps.sweep_ledgers import drawn as drawn_line


@pytest.fixture(scope="module")
def swept() -> tuple[SweepSettings, SweepState]:
    return played_sweep()


@pytest.fixture
def folder(swept, tmp_path) -> SweepFolder:
    return with_runs(swept[1], tmp_path)


def test_the_page_shows_the_figures_of_the_ledger(swept, folder):
    sweep, state = swept
    text = sweep_page(folder, sweep, state)
    page = Page(text)
    assert page.loads_nothing()
    for one in ranking(sweep, state):
        assert one.id in page.text
        assert one.text in page.text
    became = list(outcomes(sweep, state).values())
    for outcome in ("finished", "stopped", "failed", "diverged"):
        assert re.search(rf"{outcome} {became.count(outcome)} ", page.text), outcome
    assert "<b>why</b> hang" in page.text
    assert "<b>why</b>" not in text, "messages are escaped"


def test_the_page_of_a_sweep_that_has_just_begun(tmp_path):
    sweep = sweep_settings()
    page = Page(sweep_page(SweepFolder(tmp_path), sweep, state_of(begun(sweep))))
    assert "No results yet" in page.text
    assert "sweep test: not done; nothing started, 12 to be drawn" in status_text(
        SweepFolder(tmp_path), sweep, state_of(begun(sweep))
    )


def ended(sweep: SweepSettings, results: list[tuple[dict, float]]) -> SweepState:
    """A sweep whose trials have come to these results."""
    state = state_of(begun(sweep))
    for number, (values, result) in enumerate(results):
        line = drawn_line(number, seed=values.get("train.seed", 0), **values)
        for record in (line, Start(line.trial, 0, 90, 2.0), end(line.trial, 0, result)):
            state.add(record)
    return state


def test_importance_shows_what_stands_out_of_the_noise_alone(swept, folder, tmp_path):
    page = Page(sweep_page(folder, *swept))
    assert re.search(r"number of settings\) objective\.beta 0\.\d+ Cost", page.text), "nothing else decides anything"
    noise = sweep_settings(space=SPACE)
    values = [random_values(noise.space, seed=0, number=number) for number in range(12)]
    state = ended(noise, [(own, 37 * number % 101 / 10) for number, own in enumerate(values)])
    assert "No setting has a significant effect." in Page(sweep_page(SweepFolder(tmp_path), noise, state)).text


def test_seeds_are_compared_in_pairs(tmp_path):
    sweep = sweep_settings(space={"train.seed": {"grid": [0, 1]}, "model.latent": {"grid": [8, 16]}}, search="grid")
    results = {(0, 8): 70.0, (1, 8): 74.0, (0, 16): 71.0, (1, 16): 77.0}
    state = ended(sweep, [({"train.seed": s, "model.latent": n}, value) for (s, n), value in results.items()])
    assert "72 ± 2.8 2 90 8" in Page(text := sweep_page(SweepFolder(tmp_path), sweep, state)).text
    assert "74 ± 4.2 2 90 +2 ± 1 16" in Page(text).text


def test_slices_show_the_known_answer(swept):
    sweep, state = swept
    ranked = [one for one in ranking(sweep, state) if one.steps == 10]
    beta = next(figure for figure in slices(sweep, ranked) if figure.axis.name == "objective.beta")
    ordered = sorted(beta.dots, key=lambda dot: dot.x)
    inside = [dot.y for dot in ordered if dot.y < 100]
    assert inside == sorted(inside), "the metric rises with beta and with nothing else"
    scale = Scale(
        min(o.values["objective.beta"] for o in ranked),
        max(o.values["objective.beta"] for o in ranked),
        logarithmic=False,
    )
    for dot in beta.dots:
        one = next(one for one in ranked if one.id == dot.text.partition(":")[0])
        assert dot.x == pytest.approx(scale.place(one.values["objective.beta"]))
        assert dot.y == pytest.approx(metric_scale(sweep, [o.mean for o in ranked]).place(one.mean))


def test_parallel_coordinates_have_a_line_for_each_configuration(swept):
    sweep, state = swept
    ranked = ranking(sweep, state)
    figure = parallel(sweep, ranked)
    assert [name for _, name, _ in figure.axes] == [*SPACE, METRIC]
    assert len(figure.lines) == len(ranked) == 12
    assert [line.kind for line in figure.lines].count("winner") == 1
    assert figure.lines[-1].kind == "winner"
    for line in figure.lines:
        hierarchical = "model.decoder = hierarchical" in line.text
        assert line.path.count(" ") == (5 if hierarchical else 4), "an axis that a trial does not have is passed by"


def test_curves_end_where_trials_were_stopped(swept, folder):
    sweep, state = swept
    figure = curves(folder, sweep, ranking(sweep, state), outcomes(sweep, state))
    assert figure is not None
    assert [tick.label for tick in figure.cuts] == ["10", "30"]
    reached = [trial.reached for trial in state.trials.values() if trial.reached and not trial.drawn.repeat_of]
    assert sorted(line.end[0] for line in figure.lines) == pytest.approx(sorted(100 * step / 90 for step in reached))


def test_of_many_the_best_and_evenly_spaced_others_are_drawn(swept):
    sweep, state = swept
    one = ranking(sweep, state)[0]
    many = [one] * 10_000
    assert len(drawn(many, MOST_LINES)) == MOST_LINES
    assert drawn(list(range(10)), 6) == [0, 1, 2, 4, 6, 8]


def test_tables_have_a_row_for_each_trial(swept, folder):
    sweep, state = swept
    write_tables(folder, sweep, state)
    with folder.table("csv").open() as file:
        found = list(csv.DictReader(file))
    expected = list(rows(sweep, state))
    assert len(found) == len(state.trials) == len(expected)
    assert pq.read_table(folder.table("parquet")).to_pylist() == expected
    for row in found:
        trial = state.trials[row["trial"]]
        assert row["value"] == ("" if trial.value is None else repr(trial.value))
        assert row["model.decoder"] == trial.drawn.values.get("model.decoder", "")
    assert found[0]["trial"] == ranking(sweep, state)[0].id


def test_best_yaml_holds_the_settings_of_the_winner(swept, folder):
    sweep, state = swept
    best = ranking(sweep, state)[0]
    command = write_best(folder, state.begun, sweep, best)
    settings = yaml.safe_load(folder.best.read_text())
    assert settings["objective"]["beta"] == 0.5
    assert settings["tracking"]["group"] is None
    assert f"{best.mean:.6g}" in folder.best.read_text()
    assert command.startswith(f"python -m jobs.train --config {folder.best} --shards /shards --run ")


def test_status_tells_of_failures_and_of_the_best(swept, folder):
    sweep, state = swept
    text = status_text(folder, sweep, state)
    assert "1 diverged, 1 failed" in text
    assert "failed worse at step 3: hang: <b>why</b> hang" in text
    assert f"best: {ranking(sweep, state)[0].id}, {METRIC}" in text


def test_a_trial_that_was_drawn_after_the_ledger_was_read_does_not_disturb_status(swept, folder):
    sweep, state = swept
    folder.write_live({"running": ["t3", "drawn-since"], "waiting": ""})
    text = status_text(folder, sweep, state)
    assert "running t3: step" in text
    assert "drawn-since" not in text
