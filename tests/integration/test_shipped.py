"""The models that come with the package: small, described, and with a latent space that does what it promises."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import musicvae
from musicvae import DrumGroove, command_line
from musicvae.errors import ConfigError
from musicvae.generation.constraints import GrooveConstraint, HitMask
from musicvae.generation.generate import decode_batch
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.groove.drum_map import drum_bits
from musicvae.groove.grid import GridSpec
from musicvae.pretrained.latent_space import attribute_effects, interpolation_effect, unevenness
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.shipped import WEIGHTS
from tests.support.commands import CHECKOUT, ONE_THREAD, SOAK
from tests.support.pages.fenced_code import fenced, run_shell_blocks
from tests.support.requirements import only_in_a_soak
from tests.support.runs.shipped import SHIPPED, need_shipped_models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LARGEST = 10 * 10**6
STYLES = (
    *("afrobeat", "afrocuban", "blues", "country", "dance", "funk", "highlife", "hiphop", "jazz", "latin"),
    *("middleeastern", "neworleans", "pop", "punk", "reggae", "rock", "soul"),
)
"""Of GMD's training windows in 4/4 that are long enough."""


@pytest.fixture(scope="module", autouse=True)
def _shipped() -> None:
    need_shipped_models()


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return musicvae.load("reconstruction")


@pytest.fixture(scope="module")
def starts(model: TrainedModel) -> np.ndarray:
    """Codes of grooves that no training has seen: from the other model's prior."""
    return model.encode(musicvae.load("generation").sample(40 if SOAK else 12, seed=5))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_is_small_and_its_card_complete(name):
    folder = WEIGHTS / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LARGEST
    card = (folder / "README.md").read_text()
    for words in (
        "of the validation split, with these",
        "importance-weighted bound",
        "CC BY 4.0",
        "python -m jobs.train",
        "commit",
    ):
        assert words in card
    assert "committed" not in card


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_carries_the_styles_of_its_training_data(name):
    model = musicvae.load(name)
    assert model.training is not None
    assert model.training.styles is not None
    styles = model.training.styles
    assert styles.names == STYLES
    assert sum(style.windows for style in styles.styles) == model.feel.statistics.windows
    distances = {style.name: np.abs(style.velocity - model.feel.velocity).mean() for style in styles.styles}
    assert distances["highlife"] < distances["jazz"], "46 windows say less than 2,008"
    assert model.training.guide is not None
    assert model.training.guide.names == STYLES
    assert model.training.structure is not None


def test_grooves_of_a_style_have_its_notes():
    """`tests/experiments/style_recognition.py` measures it by classifiers that know nothing of z."""
    generation = musicvae.load("generation")
    assert generation.training is not None
    guide = generation.training.guide
    assert guide is not None
    ride = generation.drum_map.classes.index("ride")
    share, with_ride = {}, {}
    for style in (None, "rock", "jazz", "funk"):
        grooves = generation.sample(128, seed=3, style=style, feel="mean")
        with_ride[style] = np.mean([groove.hits[:, ride].sum() > 16 for groove in grooves])
        recognised = guide.recognised(generation.encode(grooves))
        share[style] = {
            name: float((recognised == guide.names.index(name)).mean()) for name in ("rock", "jazz", "funk")
        }
    for style in ("rock", "jazz", "funk"):
        assert share[style][style] > max(0.4, 1.5 * share[None][style])
    assert with_ride["jazz"] > 1.5 * with_ride["rock"]


@pytest.mark.parametrize(
    ("forbidden", "must_have", "density"),
    [
        (("low_tom", "mid_tom", "high_tom"), ("crash",), (5, 9)),
        pytest.param((), (), (28, 40), marks=only_in_a_soak),
        pytest.param((), ("crash", "ride", "low_tom", "mid_tom", "high_tom", "open_hihat"), None, marks=only_in_a_soak),
    ],
)
def test_what_a_groove_must_have_shapes_all_its_bars(forbidden, must_have, density):
    """The first is the command of docs/sampling-modes.md: 15 of its 16 grooves had stopped after two bars."""
    model = musicvae.load("generation")
    without, wanted = (drum_bits(names, model.drum_map) for names in (forbidden, must_have))
    hits = {} if density is None else {"fewest": 4 * density[0], "most": 4 * density[1]}
    constraint = GrooveConstraint(wanted, **hits)
    open_ = HitMask.nothing(model.grid.num_steps).without(without)
    recipe = GenerationSettings(PriorSource(), 0, hit_mask=open_, constraint=constraint, precision="bfloat16")
    decoded = decode_batch(model.model, recipe, 0)
    tokens = decoded.tokens
    assert constraint.reached(tokens).all()
    assert not (tokens & without).any()
    of_bars = np.bitwise_count(tokens).reshape(len(tokens), 4, -1).sum(axis=2, dtype=np.int64)
    assert of_bars.mean(axis=0).min() >= 0.8 * of_bars.mean(axis=0).max()
    half_silent = (of_bars[:, :2] == 0).all(axis=1) | (of_bars[:, 2:] == 0).all(axis=1)
    assert half_silent.mean() <= 0.01
    assert (of_bars[:, 3] > of_bars.sum(axis=1) / 2).mean() <= 0.01
    assert (np.bitwise_count(tokens[:, -1] & wanted) > 3).mean() <= 0.01, "drums are stacked at the end"


@pytest.mark.parametrize("name", SHIPPED)
def test_samples_differ_and_none_is_silent(name):
    grooves = musicvae.load(name).sample(64, seed=0)
    assert all(groove.hits.any() for groove in grooves)
    assert len({groove.tokens.tobytes() for groove in grooves}) >= 62


def test_density_is_monotone_along_its_direction(model, starts):
    (density,) = [effect for effect in attribute_effects(model, starts) if effect.name == "density"]
    assert density.correlation.mean() >= 0.9
    assert (np.diff(density.means) > 0).all()


def test_no_interpolation_jumps_by_more_than_twice_its_mean(model, starts):
    effect = interpolation_effect(model, starts[:-1], starts[1:])
    assert unevenness(effect.expected).max() <= 2


def test_the_tutorial_runs_as_it_is_written(tmp_path):
    page = CHECKOUT / "docs" / "tutorial.md"
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(fenced(page, "python"))],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT), **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    printed = result.stdout
    hits = [float(re.search(rf"{name} ([\d.]+) hits a bar", printed)[1]) for name in ("calmer", "mine", "busier")]  # type: ignore[index]
    assert hits[0] < hits[1] < hits[2]
    assert printed.count("first two bars kept: True") == 4
    assert len(list(tmp_path.glob("*.mid"))) == 16 + 3 + 3 * 4 + 9 + 4 + 3
    run_shell_blocks(page, tmp_path)
    assert len(list((tmp_path / "grooves" / "new").rglob("*.mid"))) == 64
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_the_example_of_the_page_about_the_models_runs(capsys):
    (example,) = fenced(CHECKOUT / "docs" / "model.md", "python")
    exec(example, {})
    assert capsys.readouterr().out == "32 dimensions; 4 new grooves\n"


def test_more_density_is_more_hits_and_a_higher_temperature_more_syncopation(model):
    """What the tutorial promises of any start, on 20 grooves, each of random numbers of its own."""
    generation = musicvae.load("generation")
    grooves = generation.sample(20, seed=5)
    codes, shift = model.encode(grooves), model.attribute_vectors().shift
    calmer, busier = (
        model.measure(model.decode(codes + shift({"density": amount})))["density"] for amount in (-2.0, 2.0)
    )
    mine = model.measure(grooves)["density"]
    assert (calmer < mine).all()
    assert (mine < busier).all()
    drawn = [generation.sample(20, seed=5, temperature=temperature) for temperature in (0.7, 1.3)]
    cool, hot = (generation.measure(some)["syncopation"].mean() for some in drawn)
    assert cool < hot - 2


def test_an_interpolation_leaves_its_start_for_its_end_and_variations_leave_with_distance(model):
    mine, other = musicvae.load("generation").sample(2, seed=0)
    between = model.interpolate(mine, other, points=5)
    to_mine, to_other = ([_likeness(end, [groove]) for groove in between] for end in (mine, other))
    assert to_mine[0] > to_mine[2] > to_mine[4]
    assert to_other[4] > to_other[2] > to_other[0]
    near, middle, far = (_likeness(mine, model.vary(mine, distance, 4, seed=1)) for distance in (0.1, 0.3, 1.0))
    assert near > middle > far


def test_the_command_makes_grooves_with_the_model_that_suits_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    new = Path("grooves", "new")
    mine, other = str(new / "groove-00.mid"), str(new / "groove-01.mid")
    for command in (["new"], ["vary", mine], ["continue", mine], ["interpolate", mine, other], ["show", str(new)]):
        assert command_line.main(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.count("groove-15.mid, from bar 1") == 1
    counts = {folder.name: len(list(folder.glob("*.mid"))) for folder in new.parent.iterdir()}
    assert counts == {"new": 16, "vary": 8, "continue": 8, "interpolate": 9}
    given = musicvae.DrumGroove.from_midi(mine, bar=0)
    near, kept = (
        musicvae.DrumGroove.from_midi(new.parent / name, bar=0, short="silence")
        for name in ("interpolate/between-00.mid", "continue/continued-07.mid")
    )
    assert _likeness(given, [near]) > 0.8, "the model whose latent space keeps a groove"
    assert (kept.hits[:16] == given.hits[:16]).all()


def test_like_keeps_what_it_was_given_and_loses_it_with_distance(model):
    groove = musicvae.load("generation").sample(1, seed=3)[0]
    near, far = (_likeness(groove, model.vary(groove, distance, 8, seed=0)) for distance in (0.0, 1.0))
    assert near > far + 0.2


def _likeness(groove: musicvae.DrumGroove, others: list[musicvae.DrumGroove]) -> float:
    """Mean hit F1."""
    f1 = [2 * (groove.hits & other.hits).sum() / (groove.hits.sum() + other.hits.sum()) for other in others]
    return float(np.mean(f1))


def test_nothing_in_the_package_is_a_path_of_a_machine():
    for file in Path(WEIGHTS).rglob("*"):
        if file.suffix in (".json", ".md"):
            assert "/home/" not in file.read_text()
            assert "/tmp/" not in file.read_text()


def test_the_performance_model_plays_what_any_model_makes():
    folder = WEIGHTS / "performance"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6 * 10**6
    assert "performance" not in musicvae.shipped_models(), "it makes no grooves"
    model = musicvae.load("generation")
    grooves = model.sample(8, seed=3)
    played = [model.humanize(groove, seed=seed, timing=1.0, velocity=1.0) for seed, groove in enumerate(grooves)]
    for given, made in zip(grooves, played, strict=True):
        np.testing.assert_array_equal(made.hits, given.hits)
        assert abs((made.velocity - given.velocity)[given.hits].mean()) < 1 / 127
    offsets, velocity = (np.concatenate([getattr(m, name)[m.hits] for m in played]) for name in ("offset", "velocity"))
    assert 0.1 < offsets.std() < 0.3, "people: .19; the mean feel: .05"
    assert abs(offsets.mean()) < 0.08, "the latency of the recording is taken out"
    assert velocity.std() > 0.2


def test_new_hits_are_played_and_kept_ones_stay_as_they_were():
    model = musicvae.load("reconstruction")
    start, end = musicvae.load("generation").sample(2, seed=8)
    all_steps, early = (np.arange(model.grid.num_steps) < bars * model.grid.steps_per_bar for bars in (4, 2))
    for made, steps in (
        (model.sample(3, seed=1), ~all_steps),
        (model.vary(start, 0.7, 3, seed=1), all_steps),
        (model.continued(start, bars=2, count=3, seed=1), early),
        ([model.move(start, density=1.0)], all_steps),
    ):
        new: list[float] = []
        for groove in made:
            kept = groove.hits & start.hits & steps[:, None]
            np.testing.assert_array_equal(groove.velocity[kept], start.velocity[kept])
            np.testing.assert_array_equal(groove.offset[kept], start.offset[kept])
            new += groove.offset[groove.hits & ~kept].tolist()
        assert len({*new}) > min(8, len(new) // 3), "played, not one mean for each cell"
    first, *_, last = model.interpolate(start, end, 4)
    for groove, given in ((first, start), (last, end)):
        kept = groove.hits & given.hits
        np.testing.assert_array_equal(groove.velocity[kept], given.velocity[kept])


def test_playing_is_a_function_of_the_seed_and_the_number_and_can_follow_a_player():
    model = musicvae.load("generation")
    few, many = model.sample(2, seed=1), model.sample(40, seed=1)
    for one, other in zip(few, many[:2], strict=True):
        np.testing.assert_array_equal(one.velocity, other.velocity)
        np.testing.assert_array_equal(one.offset, other.offset)
    hits = np.tile(few[0].hits, (2, 1))
    soft = DrumGroove(GridSpec(bars=8), hits, hits * np.float32(30 / 127), hits * np.float32(0.2))
    loud = replace(soft, velocity=hits * np.float32(110 / 127), offset=hits * np.float32(-0.2))
    like_soft, like_loud = (model.sample(20, seed=1, like_player=player) for player in (soft, loud))
    soft_level, loud_level, late, early = (
        np.mean(np.concatenate([getattr(groove, name)[groove.hits] for groove in made]))
        for name in ("velocity", "offset")
        for made in (like_soft, like_loud)
    )
    assert soft_level + 0.2 < loud_level
    assert late - 0.15 > early
    with pytest.raises(ConfigError, match="like_player needs grooves that are played"):
        model.sample(1, feel="mean", like_player=soft)
    with pytest.raises(ConfigError, match="there is no style 'polka'"):
        model.sample(1, feel="polka")
    plain = model.vary(few[0], 0.0, 1, feel="plain")[0]
    assert len(np.unique(plain.velocity)) == 2
