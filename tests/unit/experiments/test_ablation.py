"""Ablations that ship can be trained, and a variant is compared with the base of its own seed."""

from pathlib import Path

import pytest
import torch

from musicvae.durable import write_json
from musicvae.errors import ConfigError
from musicvae.model.model import MusicVAE
from musicvae.training.run_folder import RunFolder, RunIdentity
from tests.experiments.ablation import Ablation, weights_hash
from tests.experiments.ablation_figures import RunFigures
from tests.experiments.ablation_file import BASE, AblationFile, Variant, read_ablation
from tests.experiments.ablation_table import rows
from tests.support.commands import CHECKOUT
from tests.support.runs.run_folders import PROVENANCE, run_with_weights
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID

ABLATIONS = sorted((CHECKOUT / "tests" / "experiments" / "ablations").glob("*.yaml"))
LARGEST_SHIPPED = 5_000_000
"""Weights; in bfloat16 this is the 10 MB that a shipped model may have."""


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_variant_is_another_model_that_can_be_built_and_shipped(path):
    ablation = read_ablation(path)
    for name in ablation.names():
        with torch.device("meta"):
            model = MusicVAE(ablation.config(name).model, GRID, DRUM_MAP.num_drums)
        assert sum(weight.numel() for weight in model.parameters()) < LARGEST_SHIPPED, name


def test_schedules_keep_their_share_of_a_run():
    variant = Variant(name="a", settings=("objective.beta_schedule=linear", "objective.beta_warmup_steps=500"))
    ablation = AblationFile(preset="demo", metric="negative_elbo", variants=(variant,))
    base, half = ablation.config("a"), ablation.config("a", ablation.in_steps("a", 500))
    assert (base.train.steps, half.train.steps) == (1000, 500)
    assert half.optimizer.restart_steps == 500
    assert half.objective.beta_warmup_steps == 250


def test_settings_of_all_runs_are_the_base_s_too(tmp_path):
    path = tmp_path / "ablation.yaml"
    path.write_text("preset: demo\nmetric: objective\nvariants: [{name: a, settings: [data.mix_bars=0]}]\n")
    ablation = read_ablation(path, ["train.precision=float64"])
    assert {ablation.config(name).train.precision for name in (BASE, "a")} == {"float64"}
    assert ablation.config("a").data.mix_bars == 0


def test_what_the_preset_has_become_is_not_trained_twice():
    variants = (Variant(name="a", settings=("data.mix_bars=0.5",)), Variant(name="b", settings=("data.mix_bars=0",)))
    ablation = AblationFile(preset="demo", metric="negative_elbo", variants=variants)
    assert ablation.names() == [BASE, "b"]
    assert ablation.names(["a"]) == [BASE]
    with pytest.raises(ConfigError, match="no variant c"):
        ablation.names(["c"])


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ("[{name: a, settings: [train.seed=1]}, {name: a, settings: [train.seed=2]}]", "found twice: a"),
        ("[{name: base, settings: [train.seed=1]}]", "found twice: base"),
        (
            "[{name: a, settings: [train.seed=1]}, {name: b, settings: [train.seed=1, train.steps=9]}]",
            "b trains the same as a",
        ),
        ("[{name: a, settings: [model.latent=-1]}]", "model.latent"),
        ("[{name: a/b, settings: [train.seed=1]}]", "variants.0.name"),
    ],
)
def test_an_ablation_that_cannot_be_meant_is_refused(tmp_path, variants, words):
    path = tmp_path / "ablation.yaml"
    path.write_text(f"preset: demo\nmetric: negative_elbo\nvariants: {variants}\n")
    with pytest.raises(ConfigError, match=words):
        read_ablation(path)


def test_all_runs_start_from_the_weights_that_are_named_and_from_no_others(tmp_path):
    first, other = run_with_weights(tmp_path / "first"), run_with_weights(tmp_path / "other", seed=1)
    variants = AblationFile(
        preset="demo", metric="negative_elbo", variants=(Variant(name="a", settings=("data.mix_bars=0",)),)
    )

    def ablation(init_from: Path | None) -> Ablation:
        return Ablation(variants, "shards", tmp_path / "out", 1.0, 2, 1, None, init_from)

    command = ablation(first.path).rate_job(BASE).command
    assert command[command.index("--init-from") + 1] == str(first.path)
    assert "--init-from" not in ablation(None).rate_job(BASE).command

    rated = RunFolder(tmp_path / "out" / "rates" / BASE)
    settings = variants.config(BASE).result_settings() | {"init_from": weights_hash(first.path)}
    rated.open(RunIdentity(settings, "f" * 16, GRID, DRUM_MAP), {}, PROVENANCE)
    assert ablation(first.path).rate(BASE) is None, "nothing was measured yet"
    write_json(rated.path.parent / f"{BASE}.json", {"steps_per_cpu_second": 1.5})
    assert ablation(first.path).rate(BASE) == 1.5
    for init_from in (other.path, None):
        with pytest.raises(ConfigError, match="other settings"):
            ablation(init_from).rate(BASE)


def test_differences_are_paired_by_seed():
    found = [figures(BASE, 0, 80.0), figures(BASE, 1, 90.0), figures("a", 0, 81.0), figures("a", 1, 91.0)]
    found += [figures("b", 1, 92.0), figures("b", 2, 70.0), figures("c", 5, 1.0)]
    base, a, b, c = rows(found, [BASE, "a", "b", "c", "untrained"], "negative_elbo")
    assert base.less_base is None
    assert a.less_base is not None
    assert (a.less_base.mean, a.less_base.deviation) == (1.0, 0.0)
    assert a.of("negative_elbo").text(1) == "86.0 ± 7.1"
    assert b.less_base is not None
    assert (b.less_base.values, b.less_base.deviation) == ((2.0,), None)
    assert c.less_base is None
    assert c.as_json()["enough_seeds"] is False


def figures(variant: str, seed: int, negative_elbo: float) -> RunFigures:
    return RunFigures(
        variant=variant,
        seed=seed,
        weights=1000,
        steps=10,
        best_step=10,
        windows_per_second=100.0,
        negative_elbo=negative_elbo,
        reconstruction=negative_elbo - 10,
        kl=10.0,
        objective=negative_elbo,
        token_accuracy_teacher_forced=0.7,
        token_accuracy_free_running=0.6,
        windows=100,
        weights_hash="0" * 12,
    )
