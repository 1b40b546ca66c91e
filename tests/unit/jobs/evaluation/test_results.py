"""Models and baselines side by side: which take part, and what a difference says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import jobs.evaluation.results
from jobs.evaluation.results import (
    EvaluationData,
    differences,
    evaluate_counted,
    evaluate_trained,
    evaluation_data,
    load_models,
    trained_baselines,
    verdict,
)
from musicvae.data.manifest import FolderShards, ShardManifest
from musicvae.data.shards import read_tokens
from musicvae.errors import ConfigError
from musicvae.evaluation.baselines import all_baselines
from musicvae.evaluation.bootstrap import Difference, Interval, Resamples
from musicvae.groove.drum_map import DrumMap
from musicvae.pretrained.load import load_run, write_export
from musicvae.training.best_weights import read_best
from tests.support.runs.run_folders import run_with_weights


@pytest.fixture
def baselines_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An exported model as a trained baseline."""
    run = run_with_weights(tmp_path / "run")
    folder = tmp_path / "baselines"
    (folder / "lstm").mkdir(parents=True)
    write_export(folder / "lstm", load_run(run.path), read_best(run.best), {})
    monkeypatch.setattr(jobs.evaluation.results, "TRAINED_BASELINES", folder)
    return folder


@pytest.fixture(scope="module")
def setting(small_shards: Path) -> EvaluationData:
    manifest, source = ShardManifest.read(small_shards), FolderShards(small_shards)
    train, whole = (read_tokens(source, manifest, split) for split in ("train", "validation"))
    return evaluation_data(manifest, train, whole, quick=True, seed=0)


def test_trained_baselines_take_part_where_tokens_mean_the_same(
    baselines_folder: Path, setting: EvaluationData
) -> None:
    (found,) = trained_baselines(setting.manifest)
    assert found.name == "lstm"
    assert found.is_baseline
    assert not trained_baselines(replace(setting.manifest, drum_map=DrumMap.load("roland")))
    (model,) = load_models([baselines_folder / "lstm"], ["lstm"])
    assert model.name == "baselines/lstm"
    assert not model.is_baseline


def test_models_of_one_name_are_told_apart_by_the_folders_above(tmp_path: Path) -> None:
    runs = [run_with_weights(tmp_path / folder / "groove").path for folder in ("a", "b")]
    assert [one.name for one in load_models(runs, [])] == ["groove", "b/groove"]
    with pytest.raises(ConfigError, match="named twice"):
        load_models([runs[0], runs[0]], [])


def test_a_model_against_baselines_counted_and_trained(baselines_folder: Path, setting: EvaluationData) -> None:
    (trained,) = trained_baselines(setting.manifest)
    (model,) = load_models([baselines_folder.parent / "run"], [])
    mine, same = (
        evaluate_trained(one, setting, batch=64, device=torch.device("cpu"), beat=lambda done: None)
        for one in (model, trained)
    )
    performances = int(setting.windows.split.performance.max()) + 1
    resamples = Resamples(performances, replicates=200, seed=0)
    # The two have the same weights: no difference in anything, whatever is resampled.
    for difference in differences(mine, same, setting, resamples).values():
        assert difference.value == pytest.approx(0, nan_ok=True)
        assert not difference.interval.excludes_zero
    assert mine.samples is not None
    assert same.samples is not None
    assert mine.samples.overlap == same.samples.overlap

    reference, drums = setting.windows.split, setting.drum_map.num_drums
    train = setting.comparison.train
    counted = {
        baseline.name: evaluate_counted(baseline, setting)
        for baseline in all_baselines(train, reference, setting.grid, drums, setting.uniforms())
    }
    copied = differences(mine, counted["copy the bar"], setting, resamples)
    by_bar = [f"teacher_forced.token_accuracy.bar_{bar}" for bar in (2, 3, 4)]
    mean, theirs = (
        sum(one.figures[name].numerator.sum() for name in by_bar) / (3 * len(setting.windows) * 16)
        for one in (mine, counted["copy the bar"])
    )
    assert copied["teacher_forced.token_accuracy"].value == pytest.approx(mean - theirs), "bars 2 to 4 alone"
    assert "free_running.token_accuracy" in copied
    assert "negative_elbo" not in copied
    assert counted["silence"].samples is None
    assert counted["back-off Markov"].samples is not None


@pytest.mark.parametrize(
    ("figure", "low", "high", "said"),
    [
        ("negative_elbo", -3.0, -1.0, "better"),
        ("negative_elbo", 1.0, 3.0, "worse"),
        ("free_running.hit_f1", 0.1, 0.3, "better"),
        ("free_running.hit_f1", -0.3, -0.1, "worse"),
        ("importance_bound", -1.0, 0.5, "open"),
        ("importance_bound", float("nan"), float("nan"), "open"),
    ],
)
def test_verdicts(figure: str, low: float, high: float, said: str) -> None:
    assert verdict(figure, Difference((low + high) / 2, Interval(low, high))) == said
