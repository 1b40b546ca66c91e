"""Predictions window by window, and the figures that follow from them."""

import numpy as np
import pytest
import torch

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.elbo import EvaluationReport, evaluate_batch
from musicvae.evaluation.figures import prediction_figures
from musicvae.evaluation.predictions import EvaluatedWindows, Guesses, Predictions, predict
from musicvae.evaluation.scores import MatchCounts
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import Posterior
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

CPU = torch.device("cpu")
GRID = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2)
DRUMS = DrumMap("three", {"kick": (36,), "snare": (38,), "hat": (42,)})
RNG = np.random.default_rng(0)
SPLIT = SplitTokens(
    RNG.integers(0, DRUMS.vocab, (23, GRID.num_steps)).astype(np.int16), np.sort(RNG.permutation(23) % 4)
)
WINDOWS = EvaluatedWindows.spaced(SPLIT, None)
SMALL = ModelSettings(latent=6, encoder_hidden=8, conductor_hidden=8, decoder_hidden=8)


@pytest.fixture(scope="module")
def model() -> MusicVAE:
    torch.manual_seed(0)
    return MusicVAE(SMALL, GRID, DRUMS.num_drums).double()


def predictions(model: MusicVAE, *, batch: int = 5, draws: int = 4, threads: int = 1) -> Predictions:
    return predict(
        "it",
        model,
        WINDOWS,
        seed=3,
        draws=draws,
        batch=batch,
        device=CPU,
        on_progress=lambda done: None,
        threads=threads,
    )


def test_figures_are_those_of_the_evaluation_in_training(model: MusicVAE) -> None:
    figures = prediction_figures(predictions(model), SPLIT, GRID, DRUMS)
    sums = evaluate_batch(model, SPLIT.tokens, WINDOWS.ids, num_drums=DRUMS.num_drums, seed=3, device=CPU)
    report = EvaluationReport.from_sums(sums)
    assert figures["negative_elbo"].value == pytest.approx(report.negative_elbo)
    assert figures["kl"].value == pytest.approx(report.kl)
    for way, counts in (("teacher_forced", report.teacher_forced), ("free_running", report.free_running)):
        assert figures[f"{way}.token_accuracy"].value == pytest.approx(counts.token_accuracy)
        assert figures[f"{way}.hit_f1"].value == pytest.approx(counts.hit_f1)
        for drum, f1 in zip(DRUMS.classes, counts.hit_f1_by_drum, strict=True):
            assert figures[f"{way}.hit_f1.{drum}"].value == pytest.approx(f1, nan_ok=True)
    assert predictions(model).likelihoods.active_units == report.active_units


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 1), (64, 1), (3, 4)])
def test_batches_and_threads_change_no_prediction(model: MusicVAE, batch: int, threads: int) -> None:
    expected, found = predictions(model).likelihoods, predictions(model, batch=batch, threads=threads).likelihoods
    assert expected is not None
    assert found is not None
    for name in ("negative_elbo", "importance_bound", "information"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


class LatentFree(MusicVAE):
    """Whatever has no latent gives a posterior of no dimensions."""

    def __init__(self) -> None:
        super().__init__(SMALL, GRID, DRUMS.num_drums)
        self.latent = 0

    def encode(self, tokens: torch.Tensor) -> Posterior:
        return Posterior(torch.zeros(len(tokens), 0), torch.ones(len(tokens), 0))

    def logits(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return super().logits(torch.zeros(len(z), SMALL.latent), tokens)

    def generate(
        self, z: torch.Tensor, uniforms: torch.Tensor | None = None, *, temperature: float = 1.0
    ) -> torch.Tensor:
        return super().generate(torch.zeros(len(z), SMALL.latent), uniforms, temperature=temperature)


def test_without_a_latent_the_bound_is_the_likelihood_itself() -> None:
    torch.manual_seed(0)
    nats = predictions(LatentFree()).likelihoods
    assert nats is not None
    np.testing.assert_allclose(nats.importance_bound, nats.reconstruction, rtol=1e-6)
    assert nats.kl.tolist() == nats.information.tolist() == [0] * len(SPLIT.tokens)
    assert nats.latent == nats.active_units == 0


def test_bars_by_hand() -> None:
    guessed = SPLIT.tokens.copy()
    guessed[:, GRID.steps_per_bar] ^= 1  # the first step of bar 2 is wrong, in the kick alone
    predicted = Predictions("it", None, Guesses(guessed), None)
    figures = prediction_figures(predicted, SPLIT, GRID, DRUMS)
    assert figures["teacher_forced.token_accuracy.bar_1"].value == 1
    assert figures["teacher_forced.token_accuracy.bar_2"].value == 1 - 1 / GRID.steps_per_bar
    assert figures["teacher_forced.hit_f1.snare"].value == 1
    of_bar = MatchCounts.compare(SPLIT.tokens[:, 4:], guessed[:, 4:], DRUMS.num_drums)
    assert figures["teacher_forced.hit_f1.bar_2"].value == of_bar.hit_f1
    assert not any(name.startswith(("free_running", "negative_elbo")) for name in figures)


def test_sums_are_kept_by_performance() -> None:
    guessed = SPLIT.tokens.copy()
    guessed[SPLIT.performance == 2] ^= 7
    figure = prediction_figures(Predictions("it", None, Guesses(guessed), None), SPLIT, GRID, DRUMS)
    accuracy = figure["teacher_forced.token_accuracy"]
    assert (accuracy.numerator / accuracy.denominator).tolist() == [1, 1, 0, 1]
    assert accuracy.denominator.tolist() == (np.bincount(SPLIT.performance) * GRID.num_steps).tolist()


def test_steps_that_either_leaves_out_count_for_neither() -> None:
    guesses = Guesses(np.zeros_like(SPLIT.tokens), first_step=2)
    predicted = Predictions("it", None, guesses, None)
    for asked, counted in ((0, 6), (4, 4)):
        figures = prediction_figures(predicted, SPLIT, GRID, DRUMS, first_step=asked)
        expected = (SPLIT.tokens[:, GRID.num_steps - counted :] == 0).mean()
        assert figures["teacher_forced.token_accuracy"].value == pytest.approx(expected)
