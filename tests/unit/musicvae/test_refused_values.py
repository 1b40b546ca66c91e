"""Values that fit together nowhere are refused where they are made, in words that name them."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from musicvae.data.feel import TEMPO_STEPS, GrooveFeel, StyleFeel, measure_feel
from musicvae.data.manifest import ShardEntry, ShardManifest, SplitEntry
from musicvae.data.shards import _blocks, _windows_in
from musicvae.errors import UserError
from musicvae.generation.attribute_vectors import AttributeVectors, fit_attribute_vectors
from musicvae.generation.constraints import HitMask
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.features import count_grooves
from musicvae.groove.grid import GridSpec
from musicvae.model.settings import PerformanceSettings

GRID = GridSpec(bars=1)
DRUMS = 2
EVEN = np.full((GRID.steps_per_bar, DRUMS), 0.5, np.float32)
ON_GRID = np.zeros_like(EVEN)
FEEL = GrooveFeel(GRID, EVEN, ON_GRID, 120.0, count_grooves(np.ones((1, GRID.num_steps, DRUMS), bool), GRID))
STYLE = StyleFeel("funk", EVEN, ON_GRID, np.linspace(80, 120, TEMPO_STEPS + 1), 3)
NUMBERS = np.ones(1)
KICK = DrumMap("one", {"kick": (36,)})
SHARD = ShardEntry("train-000000.tar", 1, 10, "0" * 64)


def vectors(**changed: object) -> AttributeVectors:
    made = AttributeVectors(("density",), np.ones((1, 4), np.float32), NUMBERS, NUMBERS, NUMBERS)
    return replace(made, **changed)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(FEEL, velocity=EVEN[:3], offset=ON_GRID[:3]), "velocity and offset must have shape"),
        (lambda: replace(FEEL, velocity=EVEN * 0), r"velocity must lie in \(0, 1\]"),
        (lambda: replace(FEEL, offset=EVEN), "offset must lie in"),
        (lambda: replace(FEEL, tempo=0.0), "tempo must be positive, found 0.0"),
        (lambda: replace(STYLE, tempos=STYLE.tempos[:2]), "33 tempos of style 'funk'"),
        (lambda: measure_feel([], GRID), "no windows to measure a feel on"),
        (lambda: vectors(names=("density", "ride")), "2 names for 1 directions"),
        (lambda: HitMask(*np.zeros((2, 0, 4), np.int16)), "decisions of shape"),
        (lambda: DrumMap("empty", {}), "drum map 'empty' has no classes"),
        (lambda: PerformanceSettings(hidden=30, heads=4), "4 heads do not divide hidden 30"),
        (lambda: replace(SHARD, sha256="0"), "a sha256 has 64 hexadecimal digits"),
        (lambda: ShardManifest(GRID, KICK, {"held out": SplitEntry(1, 1, (SHARD,))}), r"unknown splits \['held out'\]"),
    ],
)
def test_what_does_not_fit_together(make: Callable[[], object], words: str):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_regression_on_nothing():
    with pytest.raises(UserError, match="attribute vectors need windows and a latent space"):
        fit_attribute_vectors(np.zeros((1, 4), np.float32), np.zeros((1, 1)), ["density"])


def test_a_member_twice_and_a_newer_format_of_arrays():
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("block.tokens.npy"))
    tar.seek(0)
    with pytest.raises(ValueError, match=r"unexpected member 'block.tokens.npy': not a regular file, or listed twice"):
        list(_blocks(io.BufferedReader(tar)))
    array = io.BytesIO()
    np.lib.format.write_array(array, np.zeros(3, np.int16), version=(2, 0))
    array.seek(0)
    with pytest.raises(ValueError, match=r"is of npy version \(2, 0\), expected \(1, 0\)"):
        _windows_in(io.BufferedReader(array), "tokens", len(array.getvalue()), np.dtype(np.int16), ())
