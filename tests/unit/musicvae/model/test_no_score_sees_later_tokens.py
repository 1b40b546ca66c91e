"""Changing a token changes no score at its own step or before: for every preset and every baseline.

A model's own step is predicted before its token is shown, so logits are the same up to and with the step that was
changed; nats, which compare them with the token, up to the step before.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.command.command_line import PRESETS, compose_settings
from jobs.evaluation.results import TRAINED_BASELINES
from jobs.training.settings import TrainConfig
from musicvae.data.windows import SplitTokens
from musicvae.evaluation.baselines import POSITION, ContextModel, all_baselines, back_off_contexts
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.objective import reconstruction_nats
from musicvae.model.settings import ModelSettings
from musicvae.pretrained.load import load

GRID = GridSpec()
DRUMS, VOCAB, STEPS = 9, 512, GRID.num_steps
TOLERANCE = 1e-9
"""Of float64 logits: rows of a batch may be added up in another order."""
LARGEST = 32
"""Sizes of presets are cut to this: which step sees which is a matter of structure."""
INDEPENDENT_STEPS = frozenset({"feed_forward", "reconstruction"})
"""Presets and trained baselines whose steps are independent given z, so that no token changes any logits."""
RNG = np.random.default_rng(0)


def perturbed() -> tuple[np.ndarray, np.ndarray]:
    """A window, and copies of it of which the t-th has another token at step t."""
    window = RNG.integers(0, VOCAB, STEPS).astype(np.int16)
    changed = np.tile(window, (STEPS, 1))
    changed[np.arange(STEPS), np.arange(STEPS)] ^= RNG.integers(1, VOCAB, STEPS).astype(np.int16)
    return window, changed


WINDOW, CHANGED = perturbed()
SAME = np.tile(WINDOW, (STEPS, 1))


def changes(scores: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(changed step, step): whether the scores of a step are other than before."""
    before, after = scores(SAME), scores(CHANGED)
    return np.abs(after - before).reshape(STEPS, STEPS, -1).max(axis=2) > TOLERANCE


def sees_itself_or_later(moved: np.ndarray) -> list[tuple[int, int]]:
    """(changed step, step) of every score that its own or a later token moves; none may be."""
    return [(int(t), int(s)) for t, s in np.argwhere(np.tril(moved))]


def logits_of(model: MusicVAE) -> Callable[[np.ndarray], np.ndarray]:
    z = torch.from_numpy(np.tile(RNG.normal(size=model.latent), (STEPS, 1)))

    def scores(windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.logits(z, torch.from_numpy(windows).long()).numpy()

    return scores


def cut_to_size(settings: ModelSettings) -> ModelSettings:
    values = settings.model_dump()
    small = {
        name: min(value, LARGEST) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in values.items()
    }
    return ModelSettings.model_validate(small)


def models() -> list[str]:
    presets = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    return [preset for preset in presets if compose_settings(TrainConfig, preset=preset).performance is None]


def exports() -> list[Path]:
    return sorted(path.parent for path in TRAINED_BASELINES.glob("*/config.json"))


def check(name: str, model: MusicVAE) -> None:
    scores = logits_of(model.double().eval())
    moved = changes(scores)
    assert not sees_itself_or_later(moved)
    if name in INDEPENDENT_STEPS:
        assert not moved.any()
        return
    # Where no step sees any other, no leak could be found either.
    assert all(moved[t, t + 1 :].any() for t in range(STEPS - 1)), "add it to INDEPENDENT_STEPS if that is meant"

    def nats(windows: np.ndarray) -> np.ndarray:
        return reconstruction_nats(torch.from_numpy(scores(windows)), torch.from_numpy(windows).long()).numpy()

    assert not np.tril(changes(nats), -1).any()


@pytest.mark.parametrize("preset", models())
def test_model_of_a_preset(preset: str) -> None:
    torch.manual_seed(0)
    settings = compose_settings(TrainConfig, preset=preset).model
    check(preset, MusicVAE(cut_to_size(settings), GRID, DRUMS))


@pytest.mark.parametrize("folder", exports(), ids=lambda folder: folder.name)
def test_trained_baseline(folder: Path) -> None:
    check(folder.name, load(folder).model)


@pytest.mark.parametrize("contexts", [[(POSITION, 1)], back_off_contexts(GRID)], ids=["bigram", "back-off"])
def test_context_model(contexts: list[tuple[int, ...]]) -> None:
    # Few tokens, so that contexts of the window were seen in training.
    few = [0, 1, 4, 5]
    train = RNG.choice(few, (300, STEPS)).astype(np.int16)
    model = ContextModel(train, GRID, VOCAB, contexts)
    window = RNG.choice(few, STEPS).astype(np.int16)
    same = np.tile(window, (STEPS, 1))
    changed = same.copy()
    changed[np.arange(STEPS), np.arange(STEPS)] ^= 1
    moved = np.abs(model.nats(changed, [1.0])[0] - model.nats(same, [1.0])[0]) > TOLERANCE
    assert not np.tril(moved, -1).any()
    assert all(moved[t, t + 1 :].any() for t in range(STEPS - 1))
    choices = model.likeliest(changed, strength=1.0) != model.likeliest(same, strength=1.0)
    assert not np.tril(choices).any()
    assert choices.any()


def test_every_counted_baseline() -> None:
    rng, few = np.random.default_rng(0), [0, 1, 4, 5]  # few tokens, so that contexts were seen in training
    train = SplitTokens(rng.choice(few, (300, STEPS)).astype(np.int16), np.arange(300))
    same = np.tile(rng.choice(few, STEPS).astype(np.int16), (STEPS, 1))
    changed_tokens = same.copy()
    changed_tokens[np.arange(STEPS), np.arange(STEPS)] ^= 1
    performance = np.arange(STEPS)
    before, after = (
        all_baselines(train, SplitTokens(windows, performance), GRID, DRUMS, np.zeros((1, STEPS)))
        for windows in (same, changed_tokens)
    )
    for one, other in zip(before, after, strict=True):
        guesses, changed = one.predictions.teacher_forced, other.predictions.teacher_forced
        scored = np.arange(STEPS) >= guesses.first_step
        moved = (guesses.tokens != changed.tokens) & scored
        assert not np.tril(moved).any(), one.name
        assert moved.any() == (one.name not in ("silence", "most frequent")), one.name
        if one.predictions.free_running and other.predictions.free_running:
            np.testing.assert_array_equal(
                one.predictions.free_running.tokens, other.predictions.free_running.tokens, err_msg=one.name
            )


def test_a_model_that_is_shown_its_target_is_found_out() -> None:
    class Leaking(MusicVAE):
        def logits(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            return self.logits_when_shown(z, tokens)  # the shift by a step is missing

    torch.manual_seed(0)
    leaking = Leaking(cut_to_size(ModelSettings()), GRID, DRUMS).double().eval()
    found = sees_itself_or_later(changes(logits_of(leaking)))
    assert (0, 0) in found
    assert (63, 63) in found
