"""Baselines by hand, on windows of two bars of two steps with two drums."""

import numpy as np
import pytest

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.baselines import (
    POSITION,
    Baseline,
    ContextModel,
    all_baselines,
    back_off,
    back_off_contexts,
    bigram,
    copy_bar,
    most_frequent,
    silence,
)
from musicvae.evaluation.figures import prediction_figures
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

GRID = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=1)
DRUMS, VOCAB = 2, 4


def split(*windows: list[int]) -> SplitTokens:
    """Each window a performance of its own."""
    return SplitTokens(np.array(windows, dtype=np.int16), np.arange(len(windows)))


def figure(baseline: Baseline, reference: SplitTokens, name: str, grid: GridSpec = GRID) -> float:
    drums = DrumMap("two", {"kick": (36,), "snare": (38,)})
    return prediction_figures(baseline.predictions, reference, grid, drums)[name].value


UNIFORMS = np.random.default_rng(3).random((40, GRID.num_steps))
TRAIN = split([1, 2, 1, 0], [1, 2, 1, 2], [3, 0, 1, 2])


def test_silence() -> None:
    reference = split([0, 1, 0, 3], [0, 0, 0, 0])
    report = silence(reference)
    for way in ("free_running", "teacher_forced"):
        assert figure(report, reference, f"{way}.token_accuracy") == 6 / 8
        assert figure(report, reference, f"{way}.hit_f1") == 0
    assert report.predictions.likelihoods is None
    assert report.samples is None


def test_most_frequent_is_counted_by_position_of_the_bar_on_train() -> None:
    # Position 0 holds 1 five times and 3 once, position 1 holds 2 four times and 0 twice: the window is 1 2 1 2.
    reference = split([1, 2, 3, 2], [0, 0, 1, 2])
    report = most_frequent(TRAIN, reference, GRID)
    assert figure(report, reference, "free_running.token_accuracy") == 5 / 8
    assert figure(report, reference, "free_running.hit_f1") == pytest.approx(2 * 6 / (8 + 7))


def test_copy_bar_scores_all_bars_but_the_first() -> None:
    reference = split([1, 2, 1, 0], [3, 0, 3, 0])
    report = copy_bar(reference, GRID)
    assert figure(report, reference, "teacher_forced.token_accuracy") == 3 / 4
    assert np.isnan(figure(report, reference, "teacher_forced.token_accuracy.bar_1"))
    assert figure(report, reference, "teacher_forced.token_accuracy.bar_2") == 3 / 4
    assert report.predictions.free_running is None


def test_bigram_by_hand() -> None:
    # At position 1, after 1: 2 four times and 0 once, so n = 5 and T = 2.
    model = ContextModel(TRAIN.tokens, GRID, VOCAB, [(POSITION, 1)])
    nats = model.nats(np.array([[1, 2, 1, 0]], dtype=np.int16), [1.0])[0, 0]
    uniform = 1 / VOCAB
    start = (2 + 2 * uniform) / (3 + 2)
    after_2 = (2 + 1 * uniform) / (2 + 1)
    np.testing.assert_allclose(
        np.exp(-nats), [start, (4 + 2 * uniform) / (5 + 2), after_2, (1 + 2 * uniform) / (5 + 2)]
    )
    reference = split([1, 2, 1, 0])
    report = bigram(TRAIN, reference, GRID, DRUMS, UNIFORMS)
    assert figure(report, reference, "negative_elbo") == pytest.approx(nats.sum())
    assert figure(report, reference, "importance_bound") == pytest.approx(nats.sum())


def test_interpolation_of_two_nested_contexts_by_hand() -> None:
    model = ContextModel(TRAIN.tokens, GRID, VOCAB, [(), (1,)])
    counts = {0: 2, 1: 5, 2: 4, 3: 1}
    nats = model.nats(np.array([[1, 2, 3, 3]], dtype=np.int16), [1.0, 10.0])
    for strength, of_strength in zip([1.0, 10.0], nats, strict=True):
        frequency = {token: (n + 4 * strength / VOCAB) / (12 + 4 * strength) for token, n in counts.items()}
        expected = [
            (2 + 2 * strength * frequency[1]) / (3 + 2 * strength),  # before the window: 1 twice, 3 once
            (4 + 2 * strength * frequency[2]) / (5 + 2 * strength),  # after 1: 2 four times, 0 once
            (0 + 1 * strength * frequency[3]) / (2 + 1 * strength),  # after 2: 1 twice
            (0 + 1 * strength * frequency[3]) / (1 + 1 * strength),  # after 3: 0 once
        ]
        np.testing.assert_allclose(np.exp(-of_strength[0]), expected)


def test_an_unknown_context_passes_on_the_coarser_prediction() -> None:
    train = split([1, 1, 1, 1])
    model = ContextModel(train.tokens, GRID, VOCAB, [(), (1,), (2,)])
    coarse = ContextModel(train.tokens, GRID, VOCAB, [()])
    unknown = np.array([[2, 2, 2, 2]], dtype=np.int16)
    np.testing.assert_allclose(model.nats(unknown, [1.0])[0, 0, 2:], coarse.nats(unknown, [1.0])[0, 0, 2:])


def test_probabilities_sum_to_one_and_agree_with_the_likeliest_token() -> None:
    rng = np.random.default_rng(0)
    train = rng.integers(0, VOCAB, (30, GRID.num_steps)).astype(np.int16)
    windows = rng.integers(0, VOCAB, (5, GRID.num_steps)).astype(np.int16)
    model = ContextModel(train, GRID, VOCAB, back_off_contexts(GRID))
    likeliest = model.likeliest(windows, strength=2.0)
    for step in range(GRID.num_steps):
        probability = []
        for token in range(VOCAB):
            changed = windows.copy()
            changed[:, step] = token
            probability.append(np.exp(-model.nats(changed, [2.0])[0, :, step]))
        np.testing.assert_allclose(np.sum(probability, axis=0), 1)
        assert np.argmax(probability, axis=0).tolist() == likeliest[:, step].tolist()


def test_greedy_window_is_its_own_likeliest_continuation() -> None:
    model = ContextModel(TRAIN.tokens, GRID, VOCAB, [(), (POSITION,), (1,)])
    window = model.greedy_window(strength=1.0)
    assert window.tolist() == [1, 2, 1, 2]
    assert model.likeliest(window[None], strength=1.0)[0].tolist() == window.tolist()


def test_samples_are_distributed_as_the_chain_says() -> None:
    """Of 20,000 windows the share of each is its probability, within the error that as many draws have."""
    model = ContextModel(TRAIN.tokens, GRID, VOCAB, [(), (1,), (POSITION,)])
    uniforms = np.random.default_rng(0).random((20_000, GRID.num_steps))
    windows, counts = np.unique(model.sample(uniforms, strength=2.0), axis=0, return_counts=True)
    probability = np.exp(-model.nats(windows, [2.0])[0].sum(axis=1))
    assert len(windows) > 50
    assert probability.sum() > 0.98
    error = np.sqrt(probability * (1 - probability) / len(uniforms))
    assert np.abs(counts / len(uniforms) - probability).max() < 5 * error.max()


def test_a_sample_depends_on_its_own_uniforms_alone() -> None:
    model = ContextModel(TRAIN.tokens, GRID, VOCAB, back_off_contexts(GridSpec(bars=2, steps_per_beat=1))[:2])
    whole = model.sample(UNIFORMS, strength=1.0)
    np.testing.assert_array_equal(model.sample(UNIFORMS[7:9], strength=1.0), whole[7:9])
    assert len(np.unique(whole, axis=0)) > 10


def test_no_prediction_sees_its_own_or_a_later_token() -> None:
    rng = np.random.default_rng(1)
    train = rng.integers(0, VOCAB, (30, GRID.num_steps)).astype(np.int16)
    model = ContextModel(train, GRID, VOCAB, back_off_contexts(GRID))
    window = rng.integers(0, VOCAB, (1, GRID.num_steps)).astype(np.int16)
    before = model.likeliest(window, strength=1.0)
    for step in range(GRID.num_steps):
        changed = window.copy()
        changed[:, step:] = (changed[:, step:] + 1) % VOCAB
        assert model.likeliest(changed, strength=1.0)[0, : step + 1].tolist() == before[0, : step + 1].tolist()


def test_back_off_learns_what_repeats_and_trusts_its_training_no_more_than_it_should() -> None:
    """Bars repeat, and nothing else is regular: a chain that looks one bar back must find that on held-out bars."""
    rng = np.random.default_rng(2)

    def repeating(count: int) -> SplitTokens:
        return split(*np.tile(rng.integers(0, VOCAB, (count, GRID.steps_per_bar)), GRID.bars).tolist())

    reference = repeating(50)
    report = back_off(repeating(200), reference, GRID, DRUMS, UNIFORMS)
    assert figure(report, reference, "teacher_forced.token_accuracy") > 0.5
    uniform_first_bar = GRID.steps_per_bar * np.log(VOCAB)
    assert uniform_first_bar * 0.9 < figure(report, reference, "negative_elbo") < uniform_first_bar * 1.3


def test_lengths_follow_from_the_grid() -> None:
    assert back_off_contexts(GridSpec()) == [(), (32,), (16,), (1,), (2,), (POSITION,), (3,), (17,)]
    grid = GridSpec(bars=1, beats_per_bar=3, steps_per_beat=2)
    windows = split(*np.random.default_rng(0).integers(0, VOCAB, (12, grid.num_steps)).tolist())
    uniforms = np.zeros((2, grid.num_steps))
    names = [report.name for report in all_baselines(windows, windows, grid, DRUMS, uniforms)]
    assert names == ["silence", "most frequent", "copy the bar", "position bigram", "back-off Markov"]
