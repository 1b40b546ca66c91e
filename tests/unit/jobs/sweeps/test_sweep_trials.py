"""A sweep is checked as a whole: names, every configuration, the shards, and what the folder held before."""

from dataclasses import replace

import pytest
import yaml

from jobs.sweeps.command import SweepCommand
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Begun, Ledger, Start
from jobs.sweeps.settings import SweepSettings
from jobs.sweeps.trial import TrialJob, end_of_lost
from jobs.sweeps.trials import (
    SHIPPED,
    TrialFactory,
    check_goes_on,
    describe,
    most_bytes,
    plan_sweep,
    prepare,
    read_sweep,
    results_of,
)
from musicvae.data.manifest import ShardManifest
from musicvae.errors import ConfigError, NotThereError
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, state_of, sweep_settings
from tests.support.sweeps.tiny_sweep import sweep_file


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
        ({"space": {"train.steps": {"choice": [1, 2]}}}, "train.steps does not change the result"),
        ({"space": {"data.cached_blocks": {"choice": [1, 2]}}}, "does not change the result"),
        ({"metric": "validation.negativ_elbo"}, "did you mean validation.negative_elbo"),
        ({"settings": {"train.steps": 9}}, "by budget.steps"),
        ({"settings": {"resources.device": "cuda"}}, "by resources.gpus of the sweep"),
        ({"resources": {"gpus": 2}}, r"resources\.gpus: 2 cannot be used(.|\n)*jobs\.train --ranks"),
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
        plan_sweep(factory_of(sweep_settings(search="grid", space=space), manifest), state_of())
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
    assert "too little space" in describe("test", sweep, plan, state_of(), free_bytes=needed - 1)
    assert "too little space" not in describe("test", sweep, plan, state_of(), free_bytes=needed + 1)
    frugal = sweep_settings(retention={"finished": "nothing", "stopped": "nothing"})
    assert most_bytes(frugal, plan) == 0


def test_a_performance_model_is_searched_by_its_own_settings_and_figures(manifest, tmp_path):
    file = tmp_path / "playing.yaml"
    file.write_text(
        "preset: performance\nsearch: grid\nspace: {performance.dropout: {choice: [0.1, 0.2]}}\n"
        "metric: validation.nats_per_hit\nbudget: {trials: 2, steps: 9}\n"
    )
    _, sweep = read_sweep(str(file))
    plan = plan_sweep(factory_of(sweep, manifest), state_of())
    assert [values for _, values in plan.coming] == [{"performance.dropout": 0.1}, {"performance.dropout": 0.2}]
    assert 1e6 < most_bytes(sweep, plan) < 1e9
    for changes, words in (
        ({"metric": "validation.negative_elbo"}, "nats_per_hit and others, not validation.negative_elbo"),
        ({"settings": {"model.latent": 8}}, r"a performance model has no setting model\.latent"),
    ):
        with pytest.raises(ConfigError, match=words):
            plan_sweep(factory_of(sweep.model_copy(update=changes), manifest), state_of())


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
    folder = SweepFolder(tmp_path / "out")
    command = SweepCommand.of(*prepare(str(file), str(small_shards), folder), str(small_shards), folder)
    first = command.factory.trial(command.plan.coming[0][1])
    state = state_of(drawn(0, first.id, **first.values))
    plan = command.plan_now(state)
    assert (plan.drawn, plan.coming, plan.numbers) == (1, command.plan.coming[1:], command.plan.numbers)
    assert command.plan_now(state_of()) is command.plan


@pytest.mark.parametrize("search", ["random", "grid", "tpe"])
def test_what_is_known_to_be_good_comes_first_and_moves_no_draw(search, manifest):
    space = {"model.latent": {"choice": [4, 8, 12]}, "optimizer.learning_rate": {"choice": [1e-3, 2e-3, 3e-3]}}
    first = [{"model.latent": 12, "optimizer.learning_rate": 2e-3}, {"optimizer.learning_rate": 0.004}]
    budget = {"trials": 6, "steps": 9}
    plain = plan_sweep(factory_of(sweep_settings(search=search, space=space, budget=budget), manifest), state_of())
    factory = factory_of(sweep_settings(search=search, space=space, budget=budget, first=first), manifest)
    coming = plan_sweep(factory, state_of()).coming
    base = factory.trial({}).config.model.latent
    assert coming[:2] == ((0, first[0]), (1, {"model.latent": base, **first[1]})), (
        "the base's value of what is left out"
    )
    if search == "random":
        assert coming[2:] == plain.coming[2:]
    begun_with = factory.trial(first[0])
    later = plan_sweep(factory, state_of(drawn(0, begun_with.id, **begun_with.values))).coming
    assert later == coming[1:], "a driver that was killed goes on"


def test_a_first_that_cannot_be_trained_is_refused(manifest):
    with pytest.raises(ConfigError, match=r"model\.latent=-1"):
        plan_sweep(
            factory_of(sweep_settings(space={"model.latent": {"choice": [8]}}, first=[{"model.latent": -1}]), manifest),
            state_of(),
        )


def test_equal_draws_are_counted(manifest):
    sweep = sweep_settings(space={"model.latent": {"choice": [8, 16]}})
    plan = plan_sweep(factory_of(sweep, manifest), state_of())
    assert plan.equal == 10
    assert "10 of them equal to others" in describe("test", sweep, plan, state_of(), free_bytes=2**40)


def test_a_sobol_sequence_is_planned_and_fills_the_space_evenly(manifest):
    pytest.importorskip("scipy")
    space = {"objective.beta": {"uniform": [0, 1]}, "model.latent": {"choice": [4, 8, 12, 16]}}
    factory = factory_of(sweep_settings(space=space, search="sobol", budget={"trials": 16, "steps": 9}), manifest)
    coming = plan_sweep(factory, state_of()).coming
    quarters = {(int(4 * values["objective.beta"]), values["model.latent"]) for _, values in coming}
    assert len(quarters) == 16, "one in each of 4 x 4 cells"
    assert plan_sweep(factory, state_of(drawn(0, "there"))).coming == coming[1:]


def test_results_of_another_sweep_are_taken_over_as_far_as_they_mean_the_same(manifest, tmp_path):
    other = sweep_settings(
        space={"objective.beta": {"uniform": [0, 2]}, "model.decoder": {"choice": ["flat", "hierarchical"]}}
    )
    ledger = Ledger.open(tmp_path)
    ledger.append(replace(begun(other), fingerprint=manifest.fingerprint))
    for number, beta in enumerate((0.5, 1.5, 0.7)):
        values = {"objective.beta": beta, "model.decoder": "flat"}
        ledger.append(drawn(number, **values), Start(f"t{number}", 0, 90, 2.0), end(f"t{number}", 0, 70 + beta))
    space = {"objective.beta": {"uniform": [0, 1]}, "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    factory = factory_of(sweep_settings(space=space, search="tpe", learn_from=str(tmp_path)), manifest)
    found, outside = results_of(factory, tmp_path)
    assert [(one.trial, one.results) for one in found] == [("t0", {"90": 70.5}), ("t2", {"90": 70.7})]
    assert outside == 1
    base = factory.trial({}).config.optimizer.learning_rate
    assert found[0].values == {"objective.beta": 0.5, "optimizer.learning_rate": base}
    for changes in ({"metric": "validation.kl_bits"}, {"budget": {"trials": 12, "steps": 91}}):
        with pytest.raises(ConfigError, match=r"no results of .* can be used"):
            results_of(factory_of(sweep_settings(space=space, **changes), manifest), tmp_path)
    with pytest.raises(NotThereError, match="no sweep in"):
        results_of(factory, tmp_path / "nowhere")


def test_a_file_without_direction_goes_on_in_that_of_its_folder(small_shards, manifest, tmp_path):
    figure = "validation.active_units"
    old = sweep_file(tmp_path / "old.yaml", metric=figure, direction="minimize")
    file = sweep_file(tmp_path / "tiny.yaml", metric=figure)
    folder = SweepFolder(tmp_path / "out")
    assert prepare(str(file), str(small_shards), folder)[0].sweep.direction == "maximize", "the figure's own"
    folder.path.mkdir()
    before = replace(begun(read_sweep(str(old))[1]), fingerprint=manifest.fingerprint)
    Ledger.open(folder.path).append(before)
    assert prepare(str(file), str(small_shards), folder)[0].sweep.direction == "minimize"
    other = sweep_file(tmp_path / "other.yaml", metric=figure, direction="maximize")
    with pytest.raises(ConfigError, match="direction was minimize, is maximize"):
        prepare(str(other), str(small_shards), folder)


@pytest.mark.parametrize(("leaving", "expected"), [(False, ("failed", "killed")), (True, ("stopped", None))])
def test_a_process_that_a_signal_to_all_has_ended_is_no_failure_of_its_trial(tmp_path, leaving, expected):
    """Processes of Ray end at the SIGTERM that tells the driver to leave, before a trial can save."""
    job = TrialJob("t", 0, {}, 9, "", tmp_path / "run", {}, "launch", "", False, 1, False)
    lost = end_of_lost(job, "the actor is unavailable", out_of_memory=False, leaving=leaving)
    assert (lost.state, lost.category) == expected
