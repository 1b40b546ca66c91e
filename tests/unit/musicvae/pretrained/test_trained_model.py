"""What a musician does with a model, on a tiny one that nobody trained but that listens to its codes."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import musicvae
from musicvae.errors import ConfigError
from musicvae.generation.attribute_vectors import fit_attribute_vectors
from musicvae.generation.generate import generate_batch
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.features import measure_attributes, quality
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.pretrained.load import load_run
from musicvae.pretrained.model import TrainedModel
from tests.support.runs.run_folders import run_with_weights
from tests.support.shards.shard_fixtures import GRID, patterned_windows

pytestmark = pytest.mark.usefixtures("without_shape_checks")

WINDOWS = patterned_windows(6, seed=4)
TOKENS = WINDOWS.tokens


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    trained = load_run(run_with_weights(tmp_path_factory.mktemp("run") / "tiny").path)
    with torch.no_grad():
        for weight in trained.model.parameters():
            weight.mul_(3)  # as initialised the decoder hardly listens to z
        trained.model.encoder.heads.mu.weight.mul_(300)
    codes = trained.encode(TOKENS)
    values = measure_attributes(hits_from_tokens(TOKENS, 9), GRID, trained.drum_map.classes)
    return replace(trained, vectors=fit_attribute_vectors(codes, values, trained.attributes))


def grooves(count: int) -> list[DrumGroove]:
    return [WINDOWS.groove(row, GRID) for row in range(count)]


def tokens_of(several: list[DrumGroove]) -> list[list[int]]:
    return [groove.tokens.tolist() for groove in several]


def test_samples_are_those_of_the_sampler_whatever_the_count(model):
    settings = GenerationSettings(PriorSource(), seed=3, precision=model.precision)
    candidates = generate_batch(model.model, settings, 0)
    assert tokens_of(model.sample(5, seed=3, best_of=1, feel="mean")) == candidates[:5].tolist()
    quality_of_each = quality(hits_from_tokens(candidates[:20], 9), GRID, model.drum_map.classes)
    expected = candidates[4 * np.arange(5) + quality_of_each.reshape(5, 4).argmax(1)].tolist()
    assert tokens_of(model.sample(5, seed=3, feel="mean")) == expected
    assert tokens_of(model.sample(2, seed=3, feel="mean")) == expected[:2]
    assert tokens_of(model.sample(2, seed=4, feel="mean")) != expected[:2]
    assert model.sample(0, feel="mean") == []
    (groove,) = model.sample(1, tempo=93.0, feel="mean")
    assert (groove.tempo, groove.grid) == (93, GRID)
    assert model.sample(1, feel="mean")[0].tempo == model.feel.tempo
    with pytest.raises(ValueError, match="count"):
        model.sample(-1, feel="mean")
    with pytest.raises(ValueError, match="from 1 or more, found 0"):
        model.sample(1, best_of=0)


def test_a_code_is_the_same_alone_and_in_company_as_groove_and_as_tokens(model):
    codes = model.encode(TOKENS)
    assert codes.shape == (6, model.latent)
    assert codes.std(axis=0).max() > 0.01, "codes that are all alike would prove nothing"
    np.testing.assert_array_equal(model.encode(grooves(6)), codes)
    np.testing.assert_array_equal(model.encode(grooves(6)[2]), codes[2:3])
    assert model.encode([]).shape == (0, model.latent)


def test_a_code_decodes_to_the_same_groove_alone_and_in_company(model):
    codes = np.random.default_rng(0).normal(size=(6, model.latent)).astype(np.float32)
    together = tokens_of(model.decode(codes))
    assert len({tuple(tokens) for tokens in together}) > 1
    assert [tokens_of(model.decode(code))[0] for code in codes] == together


def test_continuations_begin_with_the_bars_that_they_continue(model):
    (mine,) = grooves(1)
    made = model.continued(mine, bars=2, count=20, seed=1, feel="mean")
    kept = 2 * GRID.steps_per_bar
    assert all((groove.hits[:kept] == mine.hits[:kept]).all() for groove in made)
    assert len({groove.hits[kept:].tobytes() for groove in made}) > 10
    assert tokens_of(model.continued(mine, bars=2, count=3, seed=1, feel="mean")) == tokens_of(made[:3])
    assert {groove.tempo for groove in made} == {mine.tempo}
    for bars in (0, GRID.bars):
        with pytest.raises(ValueError, match="bars can be continued"):
            model.continued(mine, bars=bars, feel="mean")


def test_the_ends_of_an_interpolation_are_the_reconstructions(model):
    start, end = (replace(groove, tempo=tempo) for groove, tempo in zip(grooves(2), (100.0, 140.0), strict=True))
    path = model.interpolate(start, end, 5, feel="mean")
    assert tokens_of([path[0], path[-1]]) == tokens_of(model.decode(model.encode([start, end])))
    assert [groove.tempo for groove in path] == [100, 110, 120, 130, 140]
    codes = np.random.default_rng(1).normal(size=(2, model.latent)).astype(np.float32) * 3
    of_codes = tokens_of(model.interpolate(codes[0], codes[1], 4, feel="mean"))
    assert [of_codes[0], of_codes[-1]] == tokens_of(model.decode(codes))
    assert of_codes[0] != of_codes[-1]
    with pytest.raises(ValueError, match="two ends"):
        model.interpolate(start, end, 1, feel="mean")


def test_variations_begin_at_the_reconstruction_and_depend_on_the_seed(model):
    groove = replace(grooves(1)[0], tempo=77.0)
    reconstruction = tokens_of(model.decode(model.encode(groove)))[0]
    assert tokens_of(model.vary(groove, 0.0, 3, feel="mean")) == [reconstruction] * 3
    far = model.vary(groove, 1.0, 4, seed=1, feel="mean")
    assert tokens_of(far) != tokens_of(model.vary(groove, 1.0, 4, seed=2, feel="mean"))
    assert tokens_of(far)[:2] == tokens_of(model.vary(groove, 1.0, 2, seed=1, feel="mean"))
    assert {one.tempo for one in far} == {77.0}
    with pytest.raises(ValueError, match=r"0\.\.1"):
        model.vary(groove, 1.5, feel="mean")


def check_playing(model: TrainedModel, made: list[DrumGroove], *given: DrumGroove) -> int:
    """Hits are played as in the first given groove that has them, or as the mean; the number of the former."""
    kept = 0
    for groove in made:
        velocity, offset = (np.tile(of_bar, (GRID.bars, 1)) for of_bar in (model.feel.velocity, model.feel.offset))
        for source in reversed(given):
            velocity = np.where(source.hits, source.velocity, velocity)
            offset = np.where(source.hits, source.offset, offset)
        np.testing.assert_array_equal(groove.velocity, np.where(groove.hits, velocity, 0))
        np.testing.assert_array_equal(groove.offset, np.where(groove.hits, offset, 0))
        kept += int((groove.hits & np.any([source.hits for source in given], axis=0)).sum())
    return kept


def test_hits_that_are_kept_are_played_as_they_were_and_new_ones_as_the_mean(model):
    start, end = grooves(2)
    mean: dict[str, Any] = {"feel": "mean"}
    assert check_playing(model, model.vary(start, 0.0, 1, **mean), start) > 0
    assert check_playing(model, model.vary(start, 0.7, 20, **mean), start) > 0
    assert check_playing(model, [model.move(start, density=1.0, **mean)], start) > 0
    early = (np.arange(GRID.num_steps) < 2 * GRID.steps_per_bar)[:, None]
    kept = replace(start, hits=start.hits & early, velocity=start.velocity * early, offset=start.offset * early)
    assert check_playing(model, model.continued(start, bars=2, count=5, **mean), kept) >= 5 * kept.hits.sum()
    path = model.interpolate(start, end, 6, **mean)
    assert check_playing(model, path[:1], start) > 0
    check_playing(model, path[1:3], start, end)
    check_playing(model, path[3:5], end, start)
    check_playing(model, path[5:], end)
    code = model.encode(end)[0]
    check_playing(model, model.interpolate(start, code, 3, **mean)[1:2], start)
    silence = np.zeros_like(start.hits)
    nothing = replace(start, hits=silence, velocity=start.velocity * silence, offset=start.offset * silence)
    made = [*model.vary(code, 0.5, 5, **mean), model.move(code, **mean), *model.sample(5, **mean)]
    assert check_playing(model, made, nothing) == 0


def test_a_move_adds_the_directions_in_standard_deviations(model):
    code = model.encode(TOKENS)[0]
    vectors = model.vectors
    expected = code + 1.5 * vectors.directions[0] - vectors.directions[vectors.names.index("snare")]
    moved = model.move(code, density=1.5, snare=-1.0)
    assert tokens_of([moved]) == tokens_of(model.decode(expected))
    assert tokens_of([model.move(code)]) == tokens_of(model.decode(code))
    with pytest.raises(ConfigError, match="no attribute 'densty'"):
        model.move(code, densty=1.0)
    with pytest.raises(ConfigError, match="nan"):
        model.move(code, density=float("nan"))
    with pytest.raises(ConfigError, match="--shards"):
        replace(model, vectors=None).move(code, density=1.0)


def test_measures_are_in_their_own_units(model):
    measured = model.measure(grooves(3))
    assert list(measured) == ["density", "syncopation", "fill", *model.drum_map.classes]
    hits = hits_from_tokens(TOKENS[:3], 9)
    np.testing.assert_array_equal(measured["density"], hits.sum(axis=(1, 2)) / 4)
    np.testing.assert_array_equal(measured["kick"], hits[:, :, 0].sum(axis=1) / hits.sum(axis=(1, 2)))


def test_the_nearest_neighbour_is_the_groove_itself_and_distances_are_euclidean(model):
    codes = model.encode(TOKENS)
    for among in (TOKENS, grooves(6), codes):
        found = model.neighbours(grooves(4)[3], among, count=6)
        assert [one.index for one in found[:1]] == [3]
        distances = np.linalg.norm(codes.astype(float) - codes[3], axis=1)
        assert [one.distance for one in found] == pytest.approx(sorted(distances))
    assert len(model.neighbours(codes[0], codes, count=2)) == 2


def test_what_belongs_to_another_model_is_refused(model):
    other_grid = replace(grooves(1)[0], grid=GridSpec(bars=2, steps_per_beat=8))
    for operation, argument in (
        (model.encode, other_grid),
        (model.encode, np.full((1, 64), 512)),
        (model.encode, np.zeros((1, 32), dtype=np.int64)),
        (model.decode, np.zeros((1, model.latent + 1), dtype=np.float32)),
        (model.decode, np.full((1, model.latent), np.nan, dtype=np.float32)),
    ):
        with pytest.raises(ConfigError):
            operation(argument)


def test_directions_follow_an_attribute_that_codes_hold():
    """Codes hold a number in one dimension, noise in the others: the direction is that dimension, as long as a unit."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(4000, 5)).astype(np.float32)
    values = np.column_stack([7 + 3 * codes[:, 2], rng.normal(size=4000), np.full(4000, 2.0)]).astype(np.float64)
    vectors = fit_attribute_vectors(codes, values, ("held", "noise", "constant"))
    np.testing.assert_allclose(vectors.directions[0], [0, 0, 1, 0, 0], atol=0.08)
    assert vectors.explained == pytest.approx([1, 0, 0], abs=0.01)
    assert not vectors.directions[2].any()
    assert (vectors.mean[0], vectors.deviation[0]) == pytest.approx((7, 3), abs=0.1)
    again = type(vectors).from_bytes(vectors.to_bytes(), vectors.names, 5)
    np.testing.assert_array_equal(again.directions, vectors.directions)
    with pytest.raises(ValueError, match="6"):
        type(vectors).from_bytes(vectors.to_bytes(), vectors.names, 6)


def test_a_dead_latent_space_has_no_directions():
    codes = np.zeros((10, 3), dtype=np.float32)
    vectors = fit_attribute_vectors(codes, np.arange(10.0)[:, None], ("density",))
    assert not vectors.directions.any()


def test_midi_there_and_back(tmp_path: Path):
    groove = grooves(1)[0]
    groove.to_midi(tmp_path / "a.mid", drum_map="general_midi")
    again = DrumGroove.from_midi(tmp_path / "a.mid", drum_map="general_midi", short="silence")
    np.testing.assert_array_equal(again.hits, groove.hits)
    np.testing.assert_allclose(again.velocity, groove.velocity, atol=1 / 250)
    assert again.tempo == pytest.approx(groove.tempo, rel=1e-5)
    with pytest.raises(ConfigError, match="drum map 'general_midi' cannot write"):
        replace(groove, hits=groove.hits[:, :3], velocity=groove.velocity[:, :3], offset=groove.offset[:, :3]).to_midi(
            tmp_path / "b.mid", drum_map="general_midi"
        )


def test_short_files_are_refused_repeated_or_followed_by_silence(tmp_path: Path):
    roland = DrumMap.load("roland")
    grid = GridSpec(bars=2)
    hits = np.zeros((32, roland.num_drums), dtype=bool)
    hits[::8, 0] = hits[20, 1] = True
    loop = DrumGroove(grid, hits, hits * np.float32(0.5), hits * np.float32(0))
    path = tmp_path / "loop.mid"
    loop.to_midi(path)
    with pytest.raises(musicvae.DataError, match='short="repeat"'):
        DrumGroove.from_midi(path)
    np.testing.assert_array_equal(DrumGroove.from_midi(path, short="repeat").hits, np.tile(hits, (2, 1)))
    silent = DrumGroove.from_midi(path, short="silence").hits
    np.testing.assert_array_equal(silent[:32], hits)
    assert not silent[32:].any()
    np.testing.assert_array_equal(DrumGroove.from_midi(path, bar=1, short="repeat").hits, np.tile(hits[16:], (4, 1)))
    with pytest.raises(musicvae.DataError):
        DrumGroove.from_midi(path, bar=2, short="repeat")
    with pytest.raises(ConfigError, match="cannot read"):
        DrumGroove.from_midi(tmp_path / "absent.mid")
    (tmp_path / "text.mid").write_text("no midi")
    with pytest.raises(musicvae.DataError):
        DrumGroove.from_midi(tmp_path / "text.mid")


def test_a_model_without_a_latent_space_refuses_what_needs_one(model):
    network = copy.copy(model.model)
    network.latent = 0
    latent_free = replace(model, model=network, vectors=None)
    nowhere = np.zeros((1, 0), dtype=np.float32)
    for operation in (
        lambda: latent_free.encode(TOKENS),
        lambda: latent_free.decode(nowhere),
        lambda: latent_free.interpolate(*grooves(2)),
        lambda: latent_free.vary(grooves(1)[0]),
        lambda: latent_free.move(grooves(1)[0], density=1.0),
        lambda: latent_free.neighbours(grooves(1)[0], TOKENS),
    ):
        with pytest.raises(ConfigError, match="no latent space"):
            operation()
