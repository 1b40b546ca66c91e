"""The whole model: shapes from the grid, sampling, posterior, and the two ways through the decoder."""

import numpy as np
import pytest
import torch

from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import Posterior
from musicvae.model.layers import TokenEmbedding, TokenScores, token_bits
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.model.token_choice import sample_tokens

GRIDS = {
    "4 bars of 4/4, 9 drums": (GridSpec(), 9),
    "2 bars of 3 beats, 5 drums": (GridSpec(bars=2, beats_per_bar=3, steps_per_beat=2), 5),
    "1 bar, 1 drum": (GridSpec(bars=1, beats_per_bar=2, steps_per_beat=1), 1),
}
DECODERS = ("hierarchical", "flat")
FEATURES = ("own", "bits")


def small_model(grid: GridSpec, drums: int, *, decoder: str = "hierarchical", features: str = "bits") -> MusicVAE:
    torch.manual_seed(0)
    settings = ModelSettings.model_validate(
        {
            "latent": 7,
            "token_features": features,
            "decoder": decoder,
            "encoder_embedding": 6,
            "encoder_hidden": 5,
            "conductor_hidden": 9,
            "conductor_embedding": 10,
            "decoder_embedding": 6,
            "decoder_hidden": 8,
        }
    )
    return MusicVAE(settings, grid, drums).double()


def windows(grid: GridSpec, drums: int, *, count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 1 << drums, (count, grid.num_steps)))


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", GRIDS)
def test_every_length_follows_from_grid_and_drums(name: str, decoder: str, features: str) -> None:
    grid, drums = GRIDS[name]
    model = small_model(grid, drums, decoder=decoder, features=features)
    tokens = windows(grid, drums)
    posterior = model.encode(tokens)
    assert posterior.mu.shape == posterior.sigma.shape == (3, 7)
    assert model.logits(posterior.mu, tokens).shape == (3, grid.num_steps, 1 << drums)
    generated = model.generate(posterior.mu)
    assert generated.shape == (3, grid.num_steps)
    assert 0 <= int(generated.min()) <= int(generated.max()) < 1 << drums


@pytest.mark.parametrize("decoder", DECODERS)
def test_scheduled_sampling_without_samples_is_teacher_forcing(decoder: str) -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums, decoder=decoder), windows(grid, drums)
    z, zeros = model.encode(tokens).mu, torch.zeros(3, grid.num_steps, dtype=torch.float64)
    shown = model.shown_step_by_step(z, tokens, sampling_probability=0.0, coins=zeros, uniforms=zeros)
    assert torch.equal(shown, model.shown_under_teacher_forcing(tokens))


@pytest.mark.parametrize("decoder", DECODERS)
def test_scheduled_sampling_with_samples_only_shows_the_model_its_own(decoder: str) -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums, decoder=decoder), windows(grid, drums)
    z = model.encode(tokens).mu
    coins, uniforms = torch.rand(2, 3, grid.num_steps, dtype=torch.float64)
    shown = model.shown_step_by_step(z, tokens, sampling_probability=1.0, coins=coins, uniforms=uniforms)
    own = model.generate(z, uniforms)
    assert torch.equal(shown, model.shown_under_teacher_forcing(own))
    assert not torch.equal(own, tokens)


def test_scheduled_sampling_chooses_step_by_step() -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums), windows(grid, drums)
    z = model.encode(tokens).mu
    coins, uniforms = torch.rand(2, 3, grid.num_steps, dtype=torch.float64)
    coins[:, :4], coins[:, 4:] = 0.9, 0.1  # targets are shown after the first four steps, samples after the others
    shown = model.shown_step_by_step(z, tokens, sampling_probability=0.5, coins=coins, uniforms=uniforms)
    assert torch.equal(shown[:, 1:5], tokens[:, :4])
    assert not torch.equal(shown[:, 5:], tokens[:, 4:-1])


@pytest.mark.parametrize("decoder", [*DECODERS, "transformer"])
def test_a_blanked_step_is_shown_nothing_and_what_follows_is_sampled_without_it(decoder: str) -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums, decoder=decoder), windows(grid, drums)
    z = model.encode(tokens).mu
    coins, uniforms = torch.rand(2, 3, grid.num_steps, dtype=torch.float64)
    blanked = torch.rand(3, grid.num_steps) < 0.3
    shown = model.shown_step_by_step(
        z, tokens, sampling_probability=1.0, coins=coins, uniforms=uniforms, blanked=blanked
    )
    start = model.start_token
    assert torch.equal(shown[:, 1:] == start, blanked[:, 1:])
    logits = model.logits_when_shown(z, shown)
    own = torch.stack([sample_tokens(logits[:, t], uniforms[:, t]) for t in range(grid.num_steps)], dim=1)
    assert torch.equal(shown[:, 1:], torch.where(blanked[:, 1:], start, own[:, :-1]))


@pytest.mark.parametrize("decoder", DECODERS)
def test_samples_of_one_pass_are_drawn_after_the_targets(decoder: str) -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums, decoder=decoder), windows(grid, drums)
    z = model.encode(tokens).mu
    _, uniforms = torch.rand(2, 3, grid.num_steps, dtype=torch.float64)
    coins = (torch.arange(grid.num_steps) % 2).double().expand(3, -1)  # samples at even steps, targets at odd ones
    shown = model.shown_with_samples(z, tokens, sampling_probability=0.5, coins=coins, uniforms=uniforms)
    logits = model.logits(z, tokens)
    own = torch.stack([sample_tokens(logits[:, t], uniforms[:, t]) for t in range(grid.num_steps)], dim=1)
    assert not torch.equal(own, tokens)
    expected = torch.where(coins == 0, own, tokens)
    assert torch.equal(shown, model.shown_under_teacher_forcing(expected))
    assert shown[:, 0].tolist() == [1 << drums] * len(tokens), "the start token"
    assert torch.equal(shown[:, 1:], expected[:, :-1])


def test_generation_is_greedy_without_uniforms_and_near_it_at_low_temperature() -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model = small_model(grid, drums)
    z = torch.randn(4, 7, dtype=torch.float64)
    greedy = model.generate(z)
    torch.testing.assert_close(model.logits(z, greedy).argmax(dim=-1), greedy)
    uniforms = torch.rand(4, grid.num_steps, dtype=torch.float64)
    assert torch.equal(model.generate(z, uniforms, temperature=1e-6), greedy)


def test_encoding_gives_the_same_code_at_every_call() -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums), windows(grid, drums)
    assert torch.equal(model.encode(tokens).mu, model.encode(tokens).mu)


def test_no_window_depends_on_another_of_its_batch() -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums), windows(grid, drums)
    together = model.encode(tokens)
    for row in range(3):
        alone = model.encode(tokens[row : row + 1])
        torch.testing.assert_close(alone.mu[0], together.mu[row])
        torch.testing.assert_close(
            model.logits(alone.mu, tokens[row : row + 1])[0], model.logits(together.mu, tokens)[row]
        )


@pytest.mark.parametrize("features", FEATURES)
def test_every_parameter_learns(features: str) -> None:
    grid, drums = GRIDS["2 bars of 3 beats, 5 drums"]
    model, tokens = small_model(grid, drums, features=features), windows(grid, drums)
    posterior = model.encode(tokens)
    z = posterior.sample(torch.ones_like(posterior.mu))
    (model.logits(z, tokens).logsumexp(dim=-1).sum() + posterior.kl().sum()).backward()
    idle = [name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()]
    # The conductor has no input: its weights on the constant zero are the only ones that cannot learn.
    assert idle == ["segments.lstm.weight_ih_l0"]


def test_bits_of_a_token_are_the_drums_that_it_hits() -> None:
    bits = token_bits(9)
    assert bits.shape == (512, 9)
    assert bits[0].sum() == 0
    assert bits[0b101].nonzero()[:, 0].tolist() == [0, 2]


def test_tokens_share_the_parts_of_their_drums() -> None:
    """With its own part at zero, the vector and the score of a set of drums are the sums over its drums."""
    embed, scores = TokenEmbedding(3, 4, bits=True), TokenScores(3, 4, bits=True)
    torch.nn.init.zeros_(embed.own.weight)
    torch.nn.init.zeros_(scores.own.weight)
    torch.nn.init.zeros_(scores.own.bias)
    vectors = embed(torch.tensor([[0b001, 0b100, 0b101, 0, embed.start_token]]))[0]
    torch.testing.assert_close(vectors[2], vectors[0] + vectors[1])
    assert not vectors[3:].any()
    score = scores(torch.randn(1, 1, 4))[0, 0]
    torch.testing.assert_close(score[0b101], score[0b001] + score[0b100])


def test_samples_follow_the_softmax() -> None:
    logits = torch.tensor([1.0, -2.0, 0.5, 3.0])
    draws = 200_000
    uniforms = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    tokens = sample_tokens(logits.expand(draws, -1), uniforms)
    frequency = torch.bincount(tokens, minlength=4) / draws
    torch.testing.assert_close(frequency, logits.softmax(dim=0), atol=2 / draws, rtol=0)


def test_both_ends_of_the_uniforms_give_possible_tokens() -> None:
    last = torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.float64)
    first = torch.zeros(1, dtype=torch.float64)
    impossible = -torch.inf
    logits = torch.tensor([[impossible, 1.0, 2.0, impossible]])
    assert sample_tokens(logits, first).item() == 1
    assert sample_tokens(logits, last).item() == 2
    many = torch.randn(64, 512)
    assert int(sample_tokens(many, last.expand(64)).max()) <= 511
    assert sample_tokens(many, first.expand(64)).tolist() == [0] * 64


def test_a_sample_depends_on_its_own_row_alone() -> None:
    logits, uniforms = torch.randn(6, 32), torch.rand(6, dtype=torch.float64)
    together = sample_tokens(logits, uniforms)
    alone = [sample_tokens(logits[row : row + 1], uniforms[row : row + 1]).item() for row in range(6)]
    assert together.tolist() == alone


def test_posterior_samples_have_its_moments() -> None:
    posterior = Posterior(torch.tensor([[1.0, -2.0]]).double(), torch.tensor([[0.5, 3.0]]).double())
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((100_000, 2)))
    z = Posterior(posterior.mu.expand(100_000, -1), posterior.sigma.expand(100_000, -1)).sample(noise)
    torch.testing.assert_close(z.mean(dim=0), posterior.mu[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(dim=0), posterior.sigma[0], atol=0, rtol=0.01)
