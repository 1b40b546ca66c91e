"""What a run takes over from a model whose parts are in part others."""

import pytest
import torch

from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.training.state import matching_components, start_from

GRID, DRUMS = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=4), 3
SETTINGS = {
    "latent": 8,
    "latent_segments": 4,
    "encoder": "segments",
    "encoder_hidden": 12,
    "prior": "autoregressive",
    "prior_hidden": 12,
    "decoder": "independent",
    "decoder_hidden": 12,
    "step_features": 6,
    "step_features_hidden": 12,
    "step_features_layers": 1,
}


def settings_with(**changes: object) -> ModelSettings:
    return ModelSettings.model_validate(SETTINGS | changes)


def model_of(settings: ModelSettings) -> MusicVAE:
    model = MusicVAE(settings, GRID, DRUMS)
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    return model


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({}, ()),
        ({"encoder_dropout": 0.5, "decoder_dropout": 0.5}, ()),
        ({"prior": "standard"}, ()),  # has no weights to begin with
        ({"prior_layers": 1}, ("prior",)),
        ({"step_features_layers": 2}, ("segments",)),
        ({"decoder": "transformer"}, ("decoder",)),
        ({"decoder": "hierarchical"}, ("segments", "decoder")),
        ({"decoder": "transformer", "prior_layers": 1}, ("prior", "decoder")),
    ],
)
def test_parts_made_alike_are_taken_over_and_others_begin_anew(changes: dict[str, object], anew: tuple[str, ...]):
    asked, have = settings_with(**changes), settings_with()
    model, trained = model_of(asked), model_of(have)
    before = {part: {name: w.clone() for name, w in getattr(model, part).state_dict().items()} for part in anew}
    assert start_from(model, trained, matching_components(asked, have)) == anew
    for part in {"encoder", "prior", "segments", "decoder"} - set(anew):
        for name, weight in getattr(model, part).state_dict().items():
            assert torch.equal(weight, getattr(trained, part).state_dict()[name])
    for part, weights in before.items():
        assert all(torch.equal(weight, weights[name]) for name, weight in getattr(model, part).state_dict().items())


@pytest.mark.parametrize("changes", [{"latent": 16}, {"latent_segments": 2}, {"token_features": "pairs"}])
def test_models_of_another_latent_space_have_no_part_in_common(changes: dict[str, object]):
    assert matching_components(settings_with(**changes), settings_with()) == ()


def test_another_encoder_is_another_part():
    assert "encoder" not in matching_components(settings_with(encoder_hidden=24), settings_with())
