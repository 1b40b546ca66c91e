"""What a token is chosen by: temperature, nucleus, what is allowed."""

import math

import pytest
import torch

from musicvae.model.token_choice import TokenChoice, nucleus

LOGITS = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
DRAWS = 10_000
UNIFORMS = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS


def shares(choice: TokenChoice, *, place: float = 0.0, allowed: list[bool] | None = None) -> list[float]:
    """How often each token is chosen."""
    mask = None if allowed is None else torch.tensor(allowed).expand(DRAWS, -1)
    tokens = choice.token(LOGITS.expand(DRAWS, -1), UNIFORMS, place=place, allowed=mask)
    return [round(share, 3) for share in (torch.bincount(tokens, minlength=4) / DRAWS).tolist()]


def test_draws_follow_the_probabilities():
    assert shares(TokenChoice()) == [0.4, 0.3, 0.2, 0.1]


def test_temperature_flattens_or_sharpens_each_bar_by_its_own():
    flat, sharp = (torch.softmax(LOGITS / temperature, dim=0).tolist() for temperature in (2.0, 0.5))
    choice = TokenChoice((2.0, 0.5))
    assert shares(choice, place=0.49) == pytest.approx(flat, abs=1e-3)
    assert shares(choice, place=0.5) == pytest.approx(sharp, abs=1e-3)
    assert shares(TokenChoice(None)) == [1, 0, 0, 0]


def test_a_nucleus_is_the_fewest_tokens_of_that_probability():
    assert shares(TokenChoice(top_p=0.7)) == pytest.approx([4 / 7, 3 / 7, 0, 0], abs=1e-3)
    assert shares(TokenChoice(top_p=0.71)) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0], abs=1e-3)
    assert shares(TokenChoice(top_p=1e-9)) == [1, 0, 0, 0]
    backwards = nucleus(LOGITS.flip(0)[None], 0.7)[0]
    assert backwards.tolist() == [-math.inf, -math.inf, *LOGITS.flip(0)[2:].tolist()]


def test_what_is_not_allowed_is_never_chosen_and_the_rest_shares_its_probability():
    assert shares(TokenChoice(), allowed=[False, True, False, True]) == [0, 0.75, 0, 0.25]
    assert shares(TokenChoice(top_p=0.7), allowed=[False, True, False, True]) == [0, 1, 0, 0]
    assert shares(TokenChoice(None), allowed=[False, True, False, True]) == [0, 1, 0, 0]


def test_a_row_that_allows_nothing_is_an_error_and_not_a_token():
    with pytest.raises(ValueError, match="no token to choose"):
        TokenChoice().token(LOGITS[None], UNIFORMS[:1], place=0.0, allowed=torch.zeros(1, 4, dtype=torch.bool))


def test_an_allowed_token_of_hardly_any_probability_is_chosen_all_the_same():
    logits = torch.tensor([[0.0, -1e4, -2e4, 0.0]])
    allowed = torch.tensor([[False, True, True, False]])
    for uniform in (0.0, 0.5, 1 - 2**-53):
        choice = TokenChoice().token(logits, torch.tensor([uniform], dtype=torch.float64), place=0.0, allowed=allowed)
        assert choice.item() == 1


@pytest.mark.parametrize(
    ("temperature", "top_p", "message"),
    [
        (0.0, 1.0, "temperature"),
        ((1.0, -1.0), 1.0, "temperature"),
        ((), 1.0, "temperature"),
        (math.inf, 1.0, "temperature"),
        (1.0, 0.0, "top_p"),
        (1.0, 1.5, "top_p"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(temperature: float | tuple[float, ...], top_p: float, message: str):
    with pytest.raises(ValueError, match=message):
        TokenChoice(temperature, top_p)
