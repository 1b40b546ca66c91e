"""Every kind of encoder and decoder: one computation in both ways of decoding, and each does what its setting says."""

import pytest
import torch

from musicvae.groove.grid import GridSpec
from musicvae.model.decoders import FeedForwardDecoder
from musicvae.model.encoders import FeedForwardEncoder, TransformerEncoder
from musicvae.model.history_decoder import History
from musicvae.model.layers import KeyedDropout, TokenScores, draw_masks, splitmix, token_bits
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from tests.support.runs.stepwise import logits_shown_the_targets

GRID, DRUMS, BATCH = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=4), 3, 5
SMALL = {
    "latent": 8,
    "encoder_hidden": 12,
    "decoder_hidden": 12,
    "decoder_embedding": 10,
    "step_features": 6,
    "step_features_hidden": 12,
    "history_lags": (1, 2, 8, 9),
}
KINDS = {
    "recurrent": {"decoder": "recurrent", "encoder": "feed_forward"},
    "transformer": {"decoder": "transformer", "encoder": "transformer", "token_features": "pairs"},
    "segments": {"decoder": "transformer", "encoder": "transformer", "latent_segments": 4},
    "learnt prior": {
        "decoder": "transformer",
        "encoder": "transformer",
        "latent_segments": 4,
        "prior": "autoregressive",
        "prior_hidden": 12,
    },
    "segments throughout": {
        "decoder": "independent",
        "encoder": "segments",
        "latent_segments": 4,
        "prior": "autoregressive",
        "prior_hidden": 12,
        "step_features_layers": 2,
        "token_features": "pairs",
    },
    "shared bars": {"decoder": "transformer", "encoder": "feed_forward", "encoder_shares_bars": True},
    "feed forward": {"decoder": "feed_forward", "encoder": "feed_forward"},
    "latent-free, recurrent": {"decoder": "recurrent", "encoder": "none", "latent": 0},
    "latent-free, transformer": {"decoder": "transformer", "encoder": "none", "latent": 0},
}


def model_of(kind: str, **changes: object) -> MusicVAE:
    torch.manual_seed(0)
    settings = ModelSettings.model_validate(SMALL | KINDS[kind] | changes)
    model = MusicVAE(settings, GRID, DRUMS).double().eval()
    for weight in model.parameters():  # so that no part is hidden by small first weights
        torch.nn.init.normal_(weight, std=0.3)
    return model


def some_tokens() -> torch.Tensor:
    return torch.randint(0, 1 << DRUMS, (BATCH, GRID.num_steps), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_stepwise_shown_the_targets_equals_teacher_forcing(kind: str) -> None:
    model, tokens = model_of(kind), some_tokens()
    z = model.encode(tokens).mu
    assert z.shape == (BATCH, model.latent)
    stepwise = logits_shown_the_targets(model.decoder, model.segments(z), tokens)
    torch.testing.assert_close(stepwise, model.logits(z, tokens))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "latent-free" not in kind])
def test_z_and_every_step_of_the_window_matter(kind: str) -> None:
    model, tokens = model_of(kind), some_tokens()
    z = model.encode(tokens).mu
    assert not torch.allclose(model.logits(z, tokens), model.logits(z + 1, tokens))
    for step in range(GRID.num_steps):
        changed = tokens.clone()
        changed[:, step] ^= 1
        assert not torch.allclose(model.encode(changed).mu, z), f"the encoder does not see step {step}"


@pytest.mark.parametrize("kind", ["recurrent", "transformer", "segments", "latent-free, transformer"])
def test_a_blanked_token_is_not_silence(kind: str) -> None:
    model = model_of(kind)
    z = torch.zeros(1, model.latent, dtype=torch.float64)
    silence = torch.zeros(1, GRID.num_steps, dtype=torch.int64)
    blank = torch.full_like(silence, model.start_token)
    assert not torch.allclose(model.logits_when_shown(z, silence), model.logits_when_shown(z, blank))


def test_the_history_is_shown_at_its_lags_and_nowhere_else() -> None:
    history = History(ModelSettings(decoder_embedding=7, history_lags=(1, 3, 8)), GRID, DRUMS).double()
    tokens = some_tokens()[:1]
    shown = torch.cat([history.before_window(1), tokens], dim=1)
    before = history(shown)
    for place in range(GRID.num_steps):  # the token shown at a place is the one that its next step is one after
        changed = tokens.clone()
        changed[:, place] ^= 1
        moved = ~torch.isclose(history(torch.cat([history.before_window(1), changed], dim=1)), before).all(dim=-1)[0]
        assert moved.nonzero().flatten().tolist() == [s for s in (place, place + 2, place + 7) if s < GRID.num_steps]


def test_a_segment_of_z_is_read_from_the_whole_window() -> None:
    encoder = model_of("segments").encoder
    assert isinstance(encoder, TransformerEncoder)
    tokens = some_tokens()
    changed = tokens.clone()
    changed[:, 0] ^= 1
    difference = (encoder(tokens).mu - encoder(changed).mu).abs().reshape(BATCH, 4, -1).amax(dim=(0, 2))
    assert (difference > 0).all()


def test_shared_bars_are_read_by_the_same_weights() -> None:
    encoder = model_of("shared bars").encoder
    assert isinstance(encoder, FeedForwardEncoder)
    bar = some_tokens()[:, : GRID.steps_per_bar]
    bits = token_bits(DRUMS).double()[bar.repeat(1, 2)].reshape(BATCH, 2, -1)
    read = encoder.first(bits)
    assert torch.equal(read[:, 0], read[:, 1])


def test_independent_hits_come_as_a_softmax_over_tokens() -> None:
    torch.manual_seed(0)
    grid = GridSpec(bars=1, beats_per_bar=1, steps_per_beat=2)
    decoder = FeedForwardDecoder(ModelSettings(latent=4, decoder_hidden=6), grid, DRUMS).double()
    z = torch.randn(1, 4).double()
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    found = decoder.teacher_forced(z, tokens).softmax(dim=-1)
    hit = decoder.drums(decoder.body(z)).view(1, 2, 1, DRUMS).sigmoid()
    bits = token_bits(DRUMS).double()
    torch.testing.assert_close(found, torch.where(bits == 1, hit, 1 - hit).prod(dim=-1))


def test_scores_share_what_pairs_of_drums_have() -> None:
    scores = TokenScores(DRUMS, 4, bits=True, pairs=True).double()
    weight, _ = scores.weight_and_bias()
    assert scores.of_parts is not None
    with torch.no_grad():
        scores.own.weight.zero_()
        scores.of_parts.weight[:DRUMS].zero_()  # what is left are the pairs (0, 1), (0, 2), (1, 2)
    weight, _ = scores.weight_and_bias()
    pairs = scores.of_parts.weight[DRUMS:]
    for token, expected in {0b001: 0 * pairs[0], 0b011: pairs[0], 0b101: pairs[1], 0b111: pairs.sum(dim=0)}.items():
        torch.testing.assert_close(weight[token], expected)


def test_dropout_is_the_same_at_all_steps_and_off_in_evaluation() -> None:
    dropout, ones = KeyedDropout(0.5, 1, 50), torch.ones(4, 6, 50)
    with pytest.raises(RuntimeError, match="draw_masks"):
        dropout(ones)
    draw_masks([dropout], torch.arange(4))
    dropped = dropout(ones)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped[0], dropped[1])
    assert dropout.eval()(ones) is ones


def test_masks_follow_from_the_key_and_from_which_layer_it_is_alone() -> None:
    layers = [KeyedDropout(0.5, 3, 7), KeyedDropout(0.25, 1, 6), KeyedDropout(0.5, 1, 6)]
    keys = splitmix(torch.tensor([5]), 20)[0]

    def masks(of: torch.Tensor) -> list[torch.Tensor]:
        draw_masks(layers, of)
        return [layer(torch.ones(len(of), *layer.shape)) for layer in layers]

    whole, first, last = masks(keys), masks(keys[:7]), masks(keys[7:])
    for mask, *parts in zip(whole, first, last, strict=True):
        assert torch.equal(torch.cat(parts), mask)
        assert len(mask.unique(dim=0)) > 5, "windows have masks of their own"
    assert not torch.equal(whole[1] > 0, whole[2] > 0)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.75])
def test_dropout_drops_its_share_of_each_element_and_keeps_the_mean(share: float) -> None:
    layers = [KeyedDropout(share, 2, 3), KeyedDropout(share, 1, 5)]
    draw_masks(layers, splitmix(torch.tensor([3]), 40_000)[0])
    kept = torch.cat([layer(torch.ones(40_000, *layer.shape)).flatten(1) for layer in layers], dim=1).double()
    assert torch.allclose((kept == 0).double().mean(dim=0), torch.tensor(share).double(), atol=0.01)
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert (kept.T.corrcoef() - torch.eye(11)).abs().max() < 0.03, "elements are dropped independently"


def test_words_of_a_key_are_those_of_splitmix64() -> None:
    of_reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = splitmix(torch.tensor([1234567]), 4)[0]
    assert [word % 2**64 for word in found.tolist()] == of_reference


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": 0}, "need each other"),
        ({"encoder": "none", "latent": 0, "decoder": "hierarchical"}, "a hierarchical decoder needs an encoder"),
        ({"encoder": "transformer", "latent": 9, "latent_segments": 2}, "do not divide latent"),
        ({"encoder": "transformer", "encoder_hidden": 10}, "do not divide encoder_hidden"),
        ({"decoder": "transformer", "decoder_hidden": 10}, "do not divide decoder_hidden"),
        ({"latent_segments": 2}, "needs the encoder transformer or segments"),
        ({"step_features_layers": 1}, "needs latent_segments"),
        (
            {
                "encoder": "segments",
                "latent_segments": 2,
                "step_features_layers": 1,
                "step_features_hidden": 10,
            },
            "do not divide 10",
        ),
        ({"encoder_shares_bars": True}, "feed_forward encoder with 2 or more"),
        ({"history_lags": (2, 3)}, "that include 1"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSettings.model_validate(change)
