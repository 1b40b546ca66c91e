"""The whole command jobs.evaluate: figures, table, JSON and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from tests.support.commands import ok, run_job
from tests.support.requirements import only_in_a_soak

TINY = [
    *("--preset", "demo", "data.lanes=8", "train.global_batch=16", "train.steps=3", "resources.threads=1"),
    *("model.latent=8", "model.encoder_hidden=8", "model.conductor_hidden=8", "model.decoder_hidden=8"),
]


@pytest.fixture(scope="module")
def run(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of training: enough to have weights and figures."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    ok(run_job("train", "--shards", small_shards, "--run", folder, *TINY))
    return folder


def figures(*arguments: object, to: Path) -> dict[str, Any]:
    ok(run_job("evaluate", *arguments, "--json", to))
    return json.loads(to.read_text(encoding="utf-8"))


def value(predictor: dict[str, Any], figure: str) -> float:
    return predictor["figures"][figure]["value"]


def refused(*arguments: object, code: int = 2) -> str:
    result = run_job("evaluate", *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.slow
@only_in_a_soak
def test_baselines_of_gmd_are_those_known(groove_shards: Path, tmp_path: Path) -> None:
    """The data's page gives them to three digits, counted by another program on the same validation windows.

    The back-off chain is a stronger one than that page's (113.9 nats, .572): its interpolation is tuned, on train.
    """
    found = figures("--shards", groove_shards, "--no-models", to=tmp_path / "figures.json")
    assert found["windows"] == 1939
    assert found["performances"] == 46
    assert not found["models"]
    baselines = found["baselines"]
    assert round(value(baselines["silence"], "free_running.token_accuracy"), 3) == 0.256
    assert round(value(baselines["most frequent"], "free_running.token_accuracy"), 3) == 0.300
    assert round(value(baselines["copy the bar"], "teacher_forced.token_accuracy"), 3) == 0.604
    assert round(value(baselines["copy the bar"], "teacher_forced.hit_f1"), 3) == 0.730
    assert "free_running.token_accuracy" not in baselines["copy the bar"]["figures"]
    assert round(value(baselines["position bigram"], "negative_elbo"), 1) == 156.6
    assert value(baselines["position bigram"], "teacher_forced.token_accuracy") == pytest.approx(0.3625, abs=5e-4)
    assert value(baselines["back-off Markov"], "negative_elbo") == pytest.approx(104.3, abs=0.2)
    assert value(baselines["back-off Markov"], "teacher_forced.token_accuracy") == pytest.approx(0.582, abs=0.002)
    # Train against validation, the human reference; and a chain that writes worse than people play.
    assert found["data"]["train"]["mean_overlap"] == pytest.approx(0.87, abs=0.01)
    assert found["data"]["validation"]["memorised"] == 0
    assert baselines["back-off Markov"]["samples"]["mean_overlap"] < 0.75


@pytest.mark.slow
def test_a_run_stands_beside_the_baselines_with_the_figures_of_its_training(
    run: Path, small_shards: Path, tmp_path: Path
) -> None:
    result = ok(run_job("evaluate", "--run", run, "--shards", small_shards, "--json", tmp_path / "figures.json"))
    for row in (
        "silence",
        "most frequent",
        "copy the bar",
        "position bigram",
        "back-off Markov",
        "tiny",
    ):
        assert f"\n {row} " in result.stdout
    assert "-ELBO" in result.stdout
    assert "tiny, OA of prior samples: " in result.stdout
    assert "does not beat back-off Markov (worse)" in result.stdout
    found = json.loads((tmp_path / "figures.json").read_text())
    (logged,) = [
        record
        for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if "validation.negative_elbo" in record
    ]
    tiny = found["models"]["tiny"]
    assert value(tiny, "negative_elbo") == pytest.approx(logged["validation.negative_elbo"], rel=1e-6)
    assert value(tiny, "kl") == pytest.approx(logged["validation.kl_nats"], rel=1e-6)
    accuracy = value(tiny, "free_running.token_accuracy")
    assert accuracy == pytest.approx(logged["validation.token_accuracy_free_running"], abs=1e-3)


@pytest.mark.slow
def test_the_json_lets_anyone_compute_the_figures_anew(run: Path, small_shards: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(run, tmp_path / "twin")
    found = figures("--run", run, "--run", twin, "--shards", small_shards, to=tmp_path / "figures.json")
    predictors = found["baselines"] | found["models"]
    assert len(predictors["tiny"]["figures"]) == 5 + 2 * (2 + 2 * 4 + 9)
    for predictor in predictors.values():
        for figure in predictor["figures"].values():
            assert len(figure["numerator"]) == len(figure["denominator"]) == found["performances"]
            if figure["value"] is not None:
                assert figure["value"] == pytest.approx(sum(figure["numerator"]) / sum(figure["denominator"]))
    less = predictors["tiny"]["less"]["back-off Markov"]["negative_elbo"]
    of_both = (value(predictors[name], "negative_elbo") for name in ("tiny", "back-off Markov"))
    assert less["value"] == pytest.approx(next(of_both) - next(of_both))
    assert less["interval"][0] < less["value"] < less["interval"][1]
    assert less["verdict"] == "worse"  # three steps of training
    assert "twin" not in predictors["tiny"]["less"]
    to_twin = predictors["twin"]["less"]["tiny"]["negative_elbo"]
    assert (to_twin["value"], to_twin["interval"], to_twin["verdict"]) == (0, [0, 0], "open")


@pytest.mark.slow
def test_quick_says_that_it_is(run: Path, small_shards: Path, tmp_path: Path) -> None:
    result = ok(run_job("evaluate", "--run", run, "--shards", small_shards, "--quick", "--json", tmp_path / "q.json"))
    assert "quick evaluation, do not quote" in result.stdout
    assert json.loads((tmp_path / "q.json").read_text())["quick"]


@pytest.mark.slow
def test_ranks_that_share_an_evaluation_find_the_figures_of_the_command(small_shards: Path, tmp_path: Path) -> None:
    """41 windows over 3 ranks in rounds of 4: the last round is short on one rank and empty on another."""
    shared = tmp_path / "shared"
    ok(run_job("train", "--shards", small_shards, "--run", shared, *TINY, "train.evaluation_batch=4", ranks=3))
    found = figures("--run", shared, "--shards", small_shards, "--no-baselines", to=tmp_path / "a.json")["models"][
        "shared"
    ]
    logged = json.loads((shared / "metrics.jsonl").read_text().splitlines()[-1])
    for name, figure in {"negative_elbo": "negative_elbo", "reconstruction": "reconstruction", "kl_nats": "kl"}.items():
        assert logged[f"validation.{name}"] == pytest.approx(value(found, figure), rel=1e-6), name
    assert logged["validation.active_units"] == found["active_units"]
    for way in ("teacher_forced", "free_running"):
        accuracy = value(found, f"{way}.token_accuracy")
        assert logged[f"validation.token_accuracy_{way}"] == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.slow
def test_batch_size_changes_no_figure_and_the_seed_only_the_draw_of_z(
    run: Path, small_shards: Path, tmp_path: Path
) -> None:
    arguments = ("--run", run, "--shards", small_shards, "--no-baselines")
    found, in_sevens, other_draw = (
        figures(*arguments, *options, to=tmp_path / "a.json")["models"]["tiny"]
        for options in ((), ("--batch", 7), ("--seed", 1))
    )
    for name in ("negative_elbo", "importance_bound", "mutual_information"):
        assert value(in_sevens, name) == pytest.approx(value(found, name), rel=1e-6)
        assert value(other_draw, name) != value(found, name)
    for name in ("kl", "free_running.token_accuracy", "teacher_forced.hit_f1"):
        assert value(other_draw, name) == value(found, name)


@pytest.mark.slow
def test_other_shards_of_the_same_format_are_noted(run: Path, small_shards_copy: Path) -> None:
    manifest = ShardManifest.read(small_shards_copy)
    first = manifest.split("train").shards[:1]
    fewer = SplitEntry(first[0].windows, first[0].windows, first)
    replace(manifest, splits={**manifest.splits, "train": fewer}).write(small_shards_copy)
    result = ok(run_job("evaluate", "--run", run, "--shards", small_shards_copy, "--no-baselines", "--quick"))
    assert f"was trained on shards {manifest.fingerprint}" in result.stdout


@pytest.mark.parametrize(
    ("changed", "what", "named"),
    [
        ({"drum_map": DrumMap.load("roland")}, "drum map", "roland"),
        ({"grid": GridSpec(bars=2, steps_per_beat=8)}, "grid", "steps_per_beat=8"),
    ],
)
def test_shards_of_another_format_are_refused(
    run: Path, small_shards_copy: Path, changed: dict[str, Any], what: str, named: str
) -> None:
    manifest = ShardManifest.read(small_shards_copy)
    replace(manifest, **changed).write(small_shards_copy)
    said = refused("--run", run, "--shards", small_shards_copy)
    assert f"the run and the shards differ in their {what}" in said
    assert named in said


def test_a_damaged_shard_is_named_and_leaves_no_file(run: Path, small_shards_copy: Path, tmp_path: Path) -> None:
    shard = small_shards_copy / "validation-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    said = refused("--run", run, "--shards", small_shards_copy, "--json", tmp_path / "figures.json", code=3)
    assert f"{shard} cannot be used" in said
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.slow
def test_what_is_not_there_is_named(run: Path, small_shards: Path, tmp_path: Path) -> None:
    assert "no shards in" in refused("--run", run, "--shards", tmp_path / "nowhere")
    assert "no run in" in refused("--run", tmp_path / "nowhere", "--shards", small_shards)
    assert "there is no split 'test'" in refused("--shards", small_shards, "--split", "test", "--no-models")
    assert "nothing to evaluate" in refused("--shards", small_shards, "--no-baselines", "--no-models")
    assert "there is no model 'nowhere'" in refused("--shards", small_shards, "--preset", "nowhere")
    assert "cannot write" in refused(
        "--shards", small_shards, "--json", tmp_path / "nowhere" / "figures.json", "--quick"
    )


@pytest.mark.slow
def test_a_performance_model_is_measured_by_how_it_plays_the_hits_of_people(small_shards: Path, tmp_path: Path) -> None:
    """Its playing alone: beside people, shuffled offsets, the mean, and people beside people."""
    player = tmp_path / "player"
    sizes = ("performance.hidden=16", "performance.layers=1", "performance.heads=2", "train.global_batch=16")
    line = ("train", "--preset", "performance", "--shards", small_shards, "--run", player, *sizes)
    ok(run_job(*line, "data.lanes=8", "train.steps=3", "resources.threads=1"))
    given = ("evaluate", "--run", player, "--shards", small_shards, "--json", tmp_path / "playing.json")
    printed = ok(run_job(*given)).stdout
    assert "shuffled human offsets score" in printed
    assert "-ELBO" not in printed, "a performance model has no likelihood of hits"
    found = json.loads((tmp_path / "playing.json").read_text())
    playing = found["playing"]
    assert {*playing} == {"human", "offsets shuffled", "mean", "player", "train, one half", "train, the other"}
    assert not found["models"]
    assert not found["baselines"]
    logged = json.loads((player / "metrics.jsonl").read_text().splitlines()[-1])
    for name in ("velocity", "offset"):
        nats = playing["player"]["figures"][f"{name}: nats per hit"]
        assert nats["value"] == pytest.approx(logged[f"validation.{name}_nats"], rel=1e-4)
        assert nats["interval"][0] < nats["value"] < nats["interval"][1]
    spread = "offset: standard deviation, steps"
    assert playing["offsets shuffled"]["figures"][spread]["value"] == playing["human"]["figures"][spread]["value"]
    assert playing["mean"]["figures"]["classifier's AUC"]["value"] > 0.9
    assert 0.2 < playing["train, one half"]["figures"]["classifier's AUC"]["value"] < 0.8
    for played in playing.values():
        assert played["groove_evaluator"].keys() == playing["human"]["groove_evaluator"].keys()

    before = (tmp_path / "playing.json").read_text()
    ok(run_job(*given))
    assert (tmp_path / "playing.json").read_text() == before, "the same figures to the last digit"
