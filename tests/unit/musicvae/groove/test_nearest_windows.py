"""Nearest neighbours against brute force."""

import numpy as np
import pytest

from musicvae.groove.distance import BLOCK, nearest_distances, nearest_others

DRUMS, STEPS = 9, 64
RNG = np.random.default_rng(0)


def windows(count: int) -> np.ndarray:
    hits = RNG.random((count, STEPS, DRUMS)) < 0.1
    return (hits @ (1 << np.arange(DRUMS))).astype(np.int16)


def brute_force(window: np.ndarray, corpus: np.ndarray) -> int:
    return min(sum(int(a ^ b).bit_count() for a, b in zip(window, other, strict=True)) for other in corpus.tolist())


def test_against_brute_force() -> None:
    corpus, queries = windows(40), windows(15)
    queries[3] = corpus[17]
    queries[4] = corpus[5]
    queries[4, 60] ^= 0b101
    found = nearest_distances(queries, corpus, DRUMS)
    assert found.tolist() == [brute_force(query.tolist(), corpus) for query in queries]
    assert found[3:5].tolist() == [0, 2]


def test_blocks_are_joined() -> None:
    corpus = windows(3)
    queries = np.tile(corpus, (BLOCK, 1))[: BLOCK + 2]
    queries[-1, 0] ^= 1
    assert nearest_distances(queries, corpus, DRUMS).tolist() == [0] * (BLOCK + 1) + [1]


def test_own_performance_is_left_out() -> None:
    corpus = windows(6)
    owner = np.array([0, 0, 1, 1, 2, 2])
    corpus[1] = corpus[0]
    corpus[5] = corpus[2]
    found = nearest_distances(corpus, corpus, DRUMS, excluded_owner=owner, owner=owner)
    others = [brute_force(corpus[i].tolist(), corpus[owner != owner[i]]) for i in range(6)]
    assert found.tolist() == others
    assert found[0] > 0
    assert found[2] == found[5] == 0


def test_no_windows() -> None:
    assert nearest_distances(windows(0), windows(2), DRUMS).tolist() == []


@pytest.mark.parametrize("count", [2, 3, BLOCK - 1, 2 * BLOCK + 5])
def test_the_nearest_other_is_found_whatever_block_it_is_in(count):
    rng = np.random.default_rng(count)
    windows = (rng.integers(0, 512, (count, 64)) * (rng.random((count, 64)) < 0.2)).astype(np.int16)
    windows[-1] = windows[0]
    own = np.arange(count)
    expected = nearest_distances(windows, windows, 9, excluded_owner=own, owner=own)
    found = nearest_others(windows, 9)
    np.testing.assert_array_equal(found, expected)
    assert found[0] == found[-1] == 0


def test_one_window_alone_has_no_other():
    with pytest.raises(ValueError, match="no other window"):
        nearest_others(np.zeros((1, 64), dtype=np.int16), 9)
