"""Pictures of models: what is read from runs and files of figures, and where it is drawn."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from musicvae.errors import ConfigError, DataError
from musicvae.groove.picture import DRUM_COLOURS
from musicvae.training.best_weights import save_best
from musicvae.training.run_folder import RunFolder
from tests.experiments.chart_picture import HEIGHT, LEFT, MARGIN, TITLE, WIDTH, Axis, Chart, Curve, Level, draw_charts
from tests.experiments.model_pictures import MOST_POINTS, labelled, learning_curves, table_rows, tabled_curves
from tests.experiments.rate_distortion import ModelPoint, distortion_charts, read_figures
from tests.support.runs.run_folders import begun_run, training_line, validation_line

EVALUATION = {
    "models": {
        "b": {"latent": 8, "figures": {"kl": 30.0, "negative_elbo": 90.0, "free_running.token_accuracy": 0.8}},
        "a": {"latent": 8, "figures": {"kl": 10.0, "negative_elbo": 80.0, "free_running.token_accuracy": 0.6}},
    },
    "baselines": {
        "latent_free": {"latent": 0, "figures": {"kl": 0.0, "negative_elbo": 78.5}},
        "copy the bar": {"figures": {"free_running.token_accuracy": 0.3}},
    },
}
MEANS = {"kl": 71.0, "negative_elbo": 113.0, "token_accuracy_free_running": 0.896}


@pytest.fixture
def evaluation(tmp_path):
    models = {
        group: {
            name: model | {"figures": {figure: {"value": value} for figure, value in model["figures"].items()}}
            for name, model in members.items()
        }
        for group, members in EVALUATION.items()
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(models))
    return tmp_path / "evaluation.json"


def test_points_are_joined_by_their_kl_and_models_without_a_latent_are_levels(evaluation, tmp_path):
    ablation = tmp_path / "ablation.json"
    figures = {name: {"mean": value, "deviation": None} for name, value in MEANS.items()}
    ablation.write_text(json.dumps({"variants": {"base": {"figures": figures}}}))
    assert read_figures(ablation).points == (ModelPoint("base", 71.0, 113.0, 0.896),)
    files = [("ours", read_figures(evaluation)), ("feed-forward", read_figures(ablation))]
    nats, accuracy = distortion_charts(files)
    assert [curve.points for curve in nats.curves] == [((10.0, 80.0), (30.0, 90.0)), ((71.0, 113.0),)]
    assert [curve.points for curve in accuracy.curves] == [((10.0, 0.6), (30.0, 0.8)), ((71.0, 0.896),)]
    assert nats.levels == (Level("latent_free", 78.5),)


def test_runs_of_a_label_are_one_curve(tmp_path):
    runs = [RunFolder(tmp_path / name) for name in ("a", "b", "halfway")]
    for run, kl in zip(runs, (30.0, 15.0, 10.0), strict=True):
        figures = {"kl_nats": kl, "negative_elbo": 90.0, "token_accuracy_free_running": kl / 100}
        if run.path.name == "halfway":
            del figures["token_accuracy_free_running"]
        run.best.parent.mkdir(parents=True, exist_ok=True)
        weights = {"w": torch.zeros(1)}
        save_best(run.best, weights, 10, {f"validation.{name}": value for name, value in figures.items()})
    nats, accuracy = distortion_charts([("ours", read_figures(run.path)) for run in runs[:2]])
    assert [curve.points for curve in nats.curves] == [((15.0, 90.0), (30.0, 90.0))]
    assert [curve.points for curve in accuracy.curves] == [((15.0, 0.15), (30.0, 0.3))]
    with pytest.raises(DataError, match="no figures of free running"):
        read_figures(runs[2].path)
    with pytest.raises(ConfigError, match="no trained weights"):
        read_figures(tmp_path)


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"models": {}}', '{"variants": {"a": {}}}'])
def test_a_file_that_holds_no_figures_is_refused(tmp_path, text):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(DataError, match="has no figures"):
        read_figures(tmp_path / "file.json")
    with pytest.raises(ConfigError, match="cannot read"):
        read_figures(tmp_path / "absent.json")
    with pytest.raises(ConfigError, match="LABEL=PATH"):
        labelled("file.json")


def test_learning_curves_leave_out_the_beginning_and_show_means_of_many_steps(tmp_path):
    run = begun_run(tmp_path / "run")
    for step in range(1, 501):
        run.log({"step": step, **training_line(step), "kl_nats": 30.0, **(evaluated(step) if step % 50 == 0 else {})})
    elbo, reconstruction, kl = (chart for chart in learning_curves(tmp_path / "run"))
    (validation,) = elbo.curves
    assert [step for step, _ in validation.points] == list(range(50, 501, 50))
    training = reconstruction.curves[0].points
    assert training[0][0] >= 50
    assert training[-1][0] == 500
    assert len(training) <= MOST_POINTS
    assert 50 + 300 / training[0][0] < training[0][1] < 50 + 300 / 50, "a mean over the steps before"
    assert kl.title == "run: KL, nats per window"
    page = tmp_path / "page.md"
    head = "| stage | step | -ELBO | reconstruction | KL |\n|---|---|---|---|---|\n"
    page.write_text("\n# Curves\n\n" + head + "\n".join(table_rows(tmp_path / "run")) + "\n")
    for tabled, chart in zip(tabled_curves(page, "# Curves"), (elbo, reconstruction, kl), strict=True):
        assert tabled.title == chart.title
        np.testing.assert_allclose(tabled.curves[0].points, chart.curves[-1].points, atol=0.005)
    begun_run(tmp_path / "begun")
    with pytest.raises(ConfigError, match="no evaluation"):
        learning_curves(tmp_path / "begun")


def evaluated(step):
    return validation_line(step, 70.0) | {"validation.kl_nats": 28.0}


def test_every_point_is_drawn_where_its_value_is():
    points = ((0.0, 3.0), (50.0, 7.0), (100.0, 5.0))
    charts = [Chart("first", "steps", (Curve("a", points, 1, dots=True),), (Level("far", 99.0),))] * 3
    picture = np.asarray(Image.open(io.BytesIO(draw_charts(charts, columns=2))))
    x_axis, y_axis = Axis.over((0, 100), MARGIN + LEFT, WIDTH), Axis.over((3, 7), MARGIN + TITLE + HEIGHT, -HEIGHT)
    for x, y in points:
        assert tuple(picture[round(y_axis.place(y)), round(x_axis.place(x))]) == DRUM_COLOURS[1], (x, y)
    assert y_axis.place(7) < y_axis.place(3), "up is more"
    assert picture.shape[1] == 2 * (LEFT + WIDTH + MARGIN) + MARGIN


def test_rules_are_round_and_within_the_axis():
    assert Axis.over((76.3, 80.1), 0, 100).rules() == [77, 78, 79, 80]
    assert Axis.over((5.0, 5.0), 0, 100).place(5.0) == 50
