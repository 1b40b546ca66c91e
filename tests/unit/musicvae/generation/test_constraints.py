"""Constraints on grooves: each is kept by every groove, whatever the model would rather do."""

import numpy as np
import pytest
import torch

from musicvae.generation.constraints import GrooveConstraint, HitMask, ReachabilityGuide
from musicvae.generation.generate import decode_batch, encode_windows, generate, generate_batch
from musicvae.generation.recipe import GenerationSettings, PriorSource, VariationSource
from musicvae.generation.settings import BATCH
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

GRID, DRUMS = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2), 3
KICK, SNARE, HAT = 1, 2, 4
KINDS = {
    "hierarchical": {},
    "flat": {"decoder": "flat"},
    "feed forward": {"decoder": "feed_forward"},
    "recurrent": {"decoder": "recurrent"},
    "transformer": {"decoder": "transformer"},
}
GIVEN = np.random.default_rng(3).integers(0, 1 << DRUMS, (2, GRID.num_steps)).astype(np.int16)
FIRST_BAR = np.arange(GRID.num_steps) < GRID.steps_per_bar
NO_STEP = np.zeros(GRID.num_steps, dtype=bool)


def model_of(kind: str = "transformer") -> MusicVAE:
    torch.manual_seed(0)
    settings = {"latent": 8, "encoder_hidden": 8, "decoder_hidden": 8, "decoder_embedding": 8, "history_lags": (1, 2)}
    return MusicVAE(ModelSettings.model_validate(settings | KINDS[kind]), GRID, DRUMS).eval()


def which_always_rests(model: MusicVAE, *drums: int) -> MusicVAE:
    """The model with hardly any probability left for tokens with these drums."""
    bits = sum(drums)
    with torch.no_grad():
        hit = torch.arange(1 << DRUMS) & bits != 0
        model.decoder.scores.own.bias[hit] -= 30
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_given_drums_and_bars_are_kept_to_the_bit(kind: str):
    given = HitMask.kept(GIVEN, KICK | HAT, FIRST_BAR)
    made = generate_batch(model_of(kind), GenerationSettings(PriorSource(), 1, hit_mask=given), 0)
    expected = GIVEN[np.arange(BATCH) % 2]
    np.testing.assert_array_equal(made[:, FIRST_BAR], expected[:, FIRST_BAR])
    np.testing.assert_array_equal(made & (KICK | HAT), expected & (KICK | HAT))
    free = made[:, ~FIRST_BAR] & SNARE
    assert 0 < (free > 0).mean() < 1, "what is not given is the model's own affair"


@pytest.mark.parametrize("kind", KINDS)
def test_forbidden_drums_never_occur(kind: str):
    given = HitMask.nothing(GRID.num_steps).without(SNARE | HAT)
    made = np.concatenate(
        list(generate(model_of(kind), GenerationSettings(PriorSource(), 1, temperature=3.0, hit_mask=given), 600))
    )
    assert not (made & (SNARE | HAT)).any()
    assert (made & KICK).any()


def test_what_is_not_constrained_is_drawn_as_ever():
    model = model_of()
    plain = generate_batch(model, GenerationSettings(PriorSource(), 1), 0)
    open_ = GenerationSettings(
        PriorSource(), 1, hit_mask=HitMask.nothing(GRID.num_steps), constraint=GrooveConstraint()
    )
    np.testing.assert_array_equal(generate_batch(model, open_, 0), plain)


def test_must_have_drums_occur_in_every_groove_even_if_the_model_never_plays_them():
    model = which_always_rests(model_of(), SNARE, HAT)
    assert not (generate_batch(model, GenerationSettings(PriorSource(), 1), 0) & (SNARE | HAT)).any()
    for must_have in (SNARE, HAT, SNARE | HAT):
        made = generate_batch(model, GenerationSettings(PriorSource(), 1, constraint=GrooveConstraint(must_have)), 0)
        assert (np.bitwise_or.reduce(made, axis=1) & must_have == must_have).all()


def test_grooves_that_have_it_all_at_once_stay_as_they_were():
    model, constraint = model_of(), GrooveConstraint(must_have=KICK, fewest=10, most=13)
    plain = generate_batch(model, GenerationSettings(PriorSource(), 1), 0)
    made = generate_batch(model, GenerationSettings(PriorSource(), 1, constraint=constraint), 0)
    had = constraint.reached(plain)
    assert 0.1 < had.mean() < 0.9
    np.testing.assert_array_equal(made[had], plain[had])
    assert (made[~had] != plain[~had]).any(axis=1).all()


@pytest.mark.parametrize(("fewest", "most"), [(0, 3), (5, 5), (18, 24), (24, 24), (0, 0)])
def test_the_hits_of_every_groove_lie_in_the_range(fewest: int, most: int):
    for model in (model_of(), which_always_rests(model_of(), KICK, SNARE, HAT)):
        made = generate_batch(
            model, GenerationSettings(PriorSource(), 2, constraint=GrooveConstraint(fewest=fewest, most=most)), 0
        )
        hits = np.bitwise_count(made).sum(axis=1)
        assert fewest <= hits.min()
        assert hits.max() <= most


def test_only_hits_that_the_model_would_not_have_count_as_steered():
    constraint = GrooveConstraint(must_have=SNARE)
    plain = generate_batch(model_of(), GenerationSettings(PriorSource(), 1), 0)
    decoded = decode_batch(model_of(), GenerationSettings(PriorSource(), 1, constraint=constraint), 0)
    assert not decoded.steered[constraint.reached(plain)].any()
    never = which_always_rests(model_of(), SNARE, HAT)
    both = GrooveConstraint(must_have=SNARE | HAT)
    recipe = GenerationSettings(PriorSource(), 1, constraint=both)
    decoded = decode_batch(never, recipe, 0)
    assert (decoded.steered >= 2).all()


@pytest.mark.parametrize(("fewest", "most"), [(4, 6), (17, 20)])
def test_hits_are_spread_over_the_bars_as_in_the_free_draw(fewest: int, most: int):
    """They had been used up in the first bars, or had waited for the last one."""
    model = model_of()
    free = generate_batch(model, GenerationSettings(PriorSource(), 1), 0)
    constraint = GrooveConstraint(fewest=fewest, most=most)
    made = generate_batch(model, GenerationSettings(PriorSource(), 1, constraint=constraint), 0)
    of_bars = [np.bitwise_count(tokens).reshape(BATCH, GRID.bars, -1).sum(axis=(0, 2)) for tokens in (free, made)]
    free_shares, shares = (hits / hits.sum() for hits in of_bars)
    assert shares == pytest.approx(free_shares, rel=0.2)


def test_all_constraints_together():
    given = HitMask.kept(GIVEN, KICK, NO_STEP)
    fewest = int(np.bitwise_count(GIVEN & KICK).sum(axis=1).max()) + 1
    constraint = GrooveConstraint(must_have=SNARE | KICK, fewest=fewest, most=fewest)
    recipe = GenerationSettings(
        PriorSource(), 3, temperature=(0.5, 2.0), top_p=0.9, hit_mask=given.without(HAT), constraint=constraint
    )
    made = generate_batch(which_always_rests(model_of(), SNARE), recipe, 0)
    np.testing.assert_array_equal(made & (KICK | HAT), GIVEN[np.arange(BATCH) % 2] & KICK)
    assert constraint.reached(made).all()


def test_a_constrained_item_is_the_same_whatever_the_count_and_the_batch():
    constraint = GrooveConstraint(must_have=SNARE)
    recipe = GenerationSettings(PriorSource(), 1, hit_mask=HitMask.kept(GIVEN, HAT, NO_STEP), constraint=constraint)
    many = np.concatenate(list(generate(model_of(), recipe, BATCH + 20)))
    np.testing.assert_array_equal(np.concatenate(list(generate(model_of(), recipe, 5))), many[:5])
    np.testing.assert_array_equal(generate_batch(model_of(), recipe, 1)[:20], many[BATCH:])


def test_codes_and_likelihoods_are_those_of_the_grooves_that_were_taken():
    model = model_of("hierarchical")
    mu = encode_windows(model, GIVEN)
    constraint = GrooveConstraint(must_have=SNARE | HAT, most=6)
    recipe = GenerationSettings(VariationSource(mu, 0.8), 1, temperature=0.7, top_p=0.8, constraint=constraint)
    decoded = decode_batch(model, recipe, 0)
    assert not constraint.reached(decode_batch(model, GenerationSettings(recipe.origin, 1, 0.7, 0.8), 0).tokens).all()
    tokens = torch.from_numpy(decoded.tokens.astype(np.int64))
    with torch.no_grad():
        logits = model.logits(torch.from_numpy(decoded.codes), tokens)
    expected = logits.log_softmax(dim=-1).gather(-1, tokens[..., None]).sum(dim=(1, 2))
    np.testing.assert_allclose(decoded.log_likelihood, expected.numpy(), rtol=1e-4)


def test_what_excludes_itself_is_refused_before_anything_is_decoded():
    kept = HitMask.kept(GIVEN, KICK | SNARE, NO_STEP)
    with pytest.raises(ValueError, match="both given and forbidden"):
        kept.without(SNARE)
    no_hat = HitMask.nothing(GRID.num_steps).without(HAT)
    for given, constraint in (
        (no_hat, GrooveConstraint(must_have=HAT)),
        (no_hat, GrooveConstraint(fewest=2 * GRID.num_steps + 1)),
        (kept, GrooveConstraint(most=1)),
    ):
        with pytest.raises(ValueError, match="contradict each other"):
            ReachabilityGuide(constraint, given, range(2), DRUMS)
    with pytest.raises(ValueError, match="no groove has 5 to 4"):
        GrooveConstraint(fewest=5, most=4)
    with pytest.raises(ValueError, match="must be decided"):
        HitMask(GIVEN & KICK, GIVEN)


def test_guidance_leaves_a_token_at_every_step_of_every_groove_that_can_be():
    generator = np.random.default_rng(0)
    for _ in range(30):
        decided = generator.integers(0, 1 << DRUMS, (4, GRID.num_steps)).astype(np.int16)
        given = HitMask(decided, decided & generator.integers(0, 1 << DRUMS, decided.shape).astype(np.int16))
        fewest = int(generator.integers(0, 12))
        constraint = GrooveConstraint(
            int(generator.integers(0, 1 << DRUMS)), fewest, fewest + int(generator.integers(0, 6))
        )
        try:
            guide = ReachabilityGuide(constraint, given, range(4), DRUMS)
        except ValueError:
            continue
        made = []
        for step in range(GRID.num_steps):
            of_step = given.allowed(step, 1 << DRUMS)
            allowed = guide.allowed(step) if of_step is None else guide.allowed(step) & of_step
            assert allowed.any(dim=1).all()
            made.append(torch.from_numpy(np.array([generator.choice(row.nonzero()[:, 0]) for row in allowed])))
            guide.add(made[-1])
        assert constraint.reached(torch.stack(made, dim=1).numpy().astype(np.int16)).all()
