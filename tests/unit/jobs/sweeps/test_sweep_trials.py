"""A sweep is checked as a whole: names, every configuration, the shards, and what the folder held before."""

import pytest
import yaml

from jobs.sweeps.command import SweepCommand
from jobs.sweeps.driver import check_goes_on
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Begun
from jobs.sweeps.settings import SweepSettings
from jobs.sweeps.trials import SHIPPED, TrialFactory, describe, most_bytes, plan_sweep, planned_trials, read_sweep
from musicvae.data.manifest import ShardManifest
from musicvae.errors import ConfigError
from tests.support.sweep_ledgers import begun, drawn, state_of, sweep_settings
from tests.support.tiny_sweep import sweep_file


@pytest.fixture
def manifest(small_shards):
    return ShardManifest.read(small_shards)


def factory_of(sweep: SweepSettings, manifest: ShardManifest) -> TrialFactory:
    return TrialFactory.of("test", sweep, manifest)


def test_equal_configurations_are_one_trial_and_what_changes_no_result_makes_no_other(manifest):
    factory = factory_of(sweep_settings(), manifest)
    one = factory.trial({"objective.beta": 0.5, "optimizer.learning_rate": 1e-3})
    assert factory.trial({"optimizer.learning_rate": 0.001, "objective.beta": 0.5}).id == one.id
    elsewhere = factory_of(sweep_settings(resources={"cpus": 7}, budget={"trials": 1, "steps": 9}), manifest)
    assert elsewhere.trial(one.values).id == one.id
    assert factory.trial(one.values, repeat=1).id != one.id
    assert factory.trial(one.values, repeat=2).config.train.seed == one.config.train.seed + 2
    assert one.config.tracking.group == "test"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {"optimizer.learning_rat": {"uniform": [0, 1]}}}, "did you mean optimizer.learning_rate"),
        ({"settings": {"modle.latent": 8}}, "unknown setting modle.latent"),
        ({"space": {"model": {"choice": [1]}}}, "model is a group of settings"),
        ({"space": {"train.steps": {"choice": [1, 2]}}}, "train.steps changes no result"),
        ({"space": {"data.cached_blocks": {"choice": [1, 2]}}}, "changes no result"),
        ({"settings": {"train.steps": 9}}, "by budget.steps"),
        ({"settings": {"resources.device": "cuda"}}, "by resources.gpus of the sweep"),
    ],
)
def test_names_are_checked_before_anything_else(changes, words, tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump({**sweep_settings().model_dump(mode="json", exclude_defaults=True), **changes}))
    with pytest.raises(ConfigError, match=words):
        read_sweep(str(path))


def test_every_configuration_is_checked_and_the_bad_ones_are_told_with_their_values(manifest):
    space = {"model.latent": {"choice": [8, -1]}, "train.global_batch": {"choice": [64, 100_000]}}
    with pytest.raises(ConfigError) as caught:
        planned_trials(factory_of(sweep_settings(search="grid", space=space), manifest))
    message = str(caught.value)
    assert "3 of 4 trials cannot be trained" in message
    assert "model.latent=-1, train.global_batch=64" in message
    assert "100000" in message


def test_an_unknown_sweep_is_refused_with_the_shipped_ones():
    with pytest.raises(ConfigError, match="demo"):
        read_sweep("demmo")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_can_be_run(path, manifest):
    name, sweep = read_sweep(path.stem)
    factory = TrialFactory.of(name, sweep, manifest)
    plan = plan_sweep(factory, state_of())
    assert plan.numbers == sweep.budget.trials
    assert plan.trial_bytes > 0
    assert f"{plan.numbers} trials" in describe(name, sweep, plan, state_of(), free_bytes=2**40)


def test_a_wider_grid_adds_what_was_not_tried(manifest):
    narrow = sweep_settings(
        search="grid", space={"model.latent": {"choice": [8, 16]}}, budget={"trials": 99, "steps": 9}
    )
    factory = factory_of(narrow, manifest)
    first = [factory.trial(values) for _, values in plan_sweep(factory, state_of()).coming]
    assert [trial.values["model.latent"] for trial in first] == [8, 16]
    state = state_of(*(drawn(number, trial.id, **trial.values) for number, trial in enumerate(first)))
    wide = narrow.model_copy(
        update={"space": sweep_settings(space={"model.latent": {"choice": [4, 8, 12, 16]}}, search="grid").space}
    )
    plan = plan_sweep(factory_of(wide, manifest), state)
    assert ([values["model.latent"] for _, values in plan.coming], plan.numbers) == ([4, 12], 4)


@pytest.mark.parametrize("search", ["random", "grid"])
def test_numbers_that_a_share_has_left_out_are_drawn_later(search, manifest):
    space = {"model.latent": {"choice": [4, 8, 12, 16]}, "train.seed": {"choice": [1, 2, 3]}}
    factory = factory_of(sweep_settings(search=search, space=space), manifest)
    coming = plan_sweep(factory, state_of()).coming
    done = [(number, factory.trial(values)) for number, values in coming[1::2]]
    state = state_of(*(drawn(number, trial.id, **trial.values) for number, trial in done))
    plan = plan_sweep(factory, state)
    assert plan.numbers == 12
    assert [number for number, _ in plan.coming] == [0, 2, 4, 6, 8, 10]
    if search == "random":
        assert plan.coming == coming[::2]


def test_the_plan_says_when_the_disk_is_too_small(manifest):
    sweep = sweep_settings()
    plan = plan_sweep(factory_of(sweep, manifest), state_of())
    needed = most_bytes(sweep, plan)
    assert "does not fit" in describe("test", sweep, plan, state_of(), free_bytes=needed - 1)
    assert "does not fit" not in describe("test", sweep, plan, state_of(), free_bytes=needed + 1)
    frugal = sweep_settings(retention={"finished": "nothing", "stopped": "nothing"})
    assert most_bytes(frugal, plan) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "validation.kl_bits"}, "metric was"),
        ({"settings": {"model.latent": 8}}, "model.latent was not set, is 8"),
        ({"budget": {"trials": 12, "steps": 80}}, "which is less"),
        ({"asha": {"first_steps": 3}}, "asha was"),
    ],
)
def test_what_trials_share_cannot_be_changed(changes, words):
    before = begun(sweep_settings())
    with pytest.raises(ConfigError, match=words):
        check_goes_on(before, sweep_settings(**changes), before.fingerprint)


def test_what_may_be_changed(manifest):
    before: Begun = begun(sweep_settings())
    wider = {"objective.beta": {"uniform": [0.0, 2]}, "model.latent": {"choice": [1, 2]}}
    check_goes_on(before, sweep_settings(space=wider, budget={"trials": 40, "steps": 180}, seed=3), before.fingerprint)
    with pytest.raises(ConfigError, match="shards were"):
        check_goes_on(before, sweep_settings(), "other")


def test_a_plan_is_made_anew_if_another_driver_was_at_work_meanwhile(small_shards, manifest, tmp_path):
    file = sweep_file(tmp_path / "tiny.yaml")
    command = SweepCommand.prepare(str(file), str(small_shards), SweepFolder(tmp_path / "out"))
    first = command.factory.trial(command.plan.coming[0][1])
    state = state_of(drawn(0, first.id, **first.values))
    plan = command.plan_now(state)
    assert (plan.drawn, plan.coming, plan.numbers) == (1, command.plan.coming[1:], command.plan.numbers)
    assert command.plan_now(state_of()) is command.plan
