"""Keyed random numbers: each is a function of what it is for, never of who draws it or when.

A counter-based generator (Philox 4x64, Salmon et al. 2011) is keyed by (seed, purpose) and placed at
(step, place in the global batch). A rank draws a contiguous range of places in one call and gets the very numbers
that a single process would have drawn for them, so the topology of a run never changes its noise.
"""

from enum import IntEnum

import numpy as np
from jaxtyping import Float64, UInt64

WORDS_PER_BLOCK = 4
"""64-bit words that one tick of the Philox 4x64 counter yields."""


class Purpose(IntEnum):
    """What a stream of random numbers is for; the values are part of every run's reproducibility."""

    SHARD_ORDER = 1
    WINDOW_ORDER = 2
    LATENT = 3
    SCHEDULED_SAMPLING = 4
    RECOMBINATION = 5
    EVALUATION_LATENT = 6
    PRIOR = 7
    DECODING = 8
    VARIATION = 9
    WORD_DROPOUT = 10
    DEMO_CORPUS = 11
    DRUM_KIT = 12
    IMPORTANCE = 13
    BOOTSTRAP = 14
    RESAMPLE = 15
    DROPOUT = 16
    TEMPO = 17
    PLAYING_VARIATION = 18
    PLAYING = 19
    STYLE = 20


def generator(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """A numpy generator at a place of up to three numbers, for draws of no fixed length such as permutations."""
    counter = [0, *place, *[0] * (3 - len(place))]
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=counter))


def words(
    seed: int, purpose: Purpose, step: int, first_place: int, num_places: int, draws: int
) -> UInt64[np.ndarray, "place draw"]:
    """Numbers of 64 bits: row i belongs to place `first_place + i` and depends on (seed, purpose, step, place) alone.

    `draws` must be the same wherever the same numbers are wanted.
    """
    blocks = -(-draws // WORDS_PER_BLOCK)
    drawn = np.random.Philox(key=[seed, purpose], counter=[first_place * blocks, step, 0, 0]).random_raw(
        num_places * blocks * WORDS_PER_BLOCK
    )
    return drawn.reshape(num_places, blocks * WORDS_PER_BLOCK)[:, :draws]


def uniforms(
    seed: int, purpose: Purpose, step: int, first_place: int, num_places: int, draws: int
) -> Float64[np.ndarray, "place draw"]:
    """Numbers in [0, 1) with the guarantees of `words`."""
    return (words(seed, purpose, step, first_place, num_places, draws) >> np.uint64(11)) * 2.0**-53


def normals(
    seed: int, purpose: Purpose, step: int, first_place: int, num_places: int, draws: int
) -> Float64[np.ndarray, "place draw"]:
    """Standard normal numbers with the guarantees of `uniforms`, by Box and Muller's transform."""
    half = -(-draws // 2)
    pairs = uniforms(seed, purpose, step, first_place, num_places, 2 * half)
    radius = np.sqrt(-2 * np.log1p(-pairs[:, :half]))
    angle = 2 * np.pi * pairs[:, half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :draws]
