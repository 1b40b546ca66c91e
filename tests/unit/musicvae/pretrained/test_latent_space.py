"""Measures of a latent space, on answers that are known and on decoders that keep or break what they promise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from musicvae.generation.attribute_vectors import AttributeVectors
from musicvae.groove.features import attribute_names
from musicvae.model.model import MusicVAE
from musicvae.model.prior import StandardPrior
from musicvae.pretrained.latent_space import (
    POINTS,
    POSITIONS,
    attribute_effects,
    draw_map,
    interpolation_effect,
    principal_axes,
    spearman,
    unevenness,
)
from musicvae.pretrained.load import load_run
from musicvae.pretrained.model import TrainedModel
from tests.support.runs.run_folders import run_with_weights

DRUMS = 9


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load_run(run_with_weights(tmp_path_factory.mktemp("run") / "tiny").path)


class Sketch(MusicVAE):
    """A decoder with a known effect: the share of steps with hits on the first drum is what z[0] is mapped to."""

    def __init__(self, effect) -> None:
        torch.nn.Module.__init__(self)
        self.latent, self.num_steps, self.num_drums, self.effect = 2, 64, DRUMS, effect
        self.prior = StandardPrior()

    def generate(self, z: torch.Tensor, uniforms: None = None, *, precision: str = "float32") -> torch.Tensor:
        steps = torch.arange(self.num_steps)
        return (steps < (self.effect(z[:, :1]) * self.num_steps).round()).long()

    def logits(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        share = self.effect(z[:, :1]).clamp(1e-6, 1 - 1e-6)
        logits = torch.full((len(z), self.num_steps, 1 << DRUMS), -1e9)
        logits[..., 1] = torch.logit(share)
        logits[..., 0] = 0
        return logits


def sketched(trained: TrainedModel, effect) -> TrainedModel:
    names = attribute_names(trained.drum_map.classes)
    ones = np.ones(len(names))
    directions = np.tile(np.array([[0.1, 0]], dtype=np.float32), (len(names), 1))
    vectors = AttributeVectors(names, directions, 0 * ones, 4 * ones, ones)
    return replace(trained, model=Sketch(effect), vectors=vectors)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 25, 90], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 0.8207826816681233),  # with ties, by scipy.stats.spearmanr
        ([1, 2, 3], [2, 2, 2], 0.0),
    ],
)
def test_spearman(a: list[float], b: list[float], expected: float):
    assert spearman(np.array(a, dtype=float), np.array(b, dtype=float)) == pytest.approx(expected)


def test_an_attribute_that_follows_its_direction_is_told_from_one_that_does_not(trained):
    starts = np.zeros((3, 2), dtype=np.float32)
    follows = attribute_effects(sketched(trained, lambda z: 0.5 + z), starts)[0]
    assert follows.name == "density"
    np.testing.assert_allclose(follows.correlation, 1)
    # 0.1 of z is a tenth of 64 steps, 1.6 hits a bar, 0.4 of a deviation of 4.
    assert follows.gain.mean() == pytest.approx(0.4, abs=0.03)  # steps are whole
    assert follows.means[len(POSITIONS) // 2] == pytest.approx(2)
    deaf = attribute_effects(sketched(trained, lambda z: 0.5 + 0 * z), starts)[0]
    assert not deaf.correlation.any()
    assert not deaf.gain.any()
    backwards = attribute_effects(sketched(trained, lambda z: 0.5 - z), starts)[0]
    np.testing.assert_allclose(backwards.correlation, -1)
    there_and_back = attribute_effects(sketched(trained, lambda z: 0.9 - z.abs()), starts)[0]
    assert abs(there_and_back.correlation).max() < 0.2


def test_an_even_path_is_told_from_one_that_leaps(trained):
    angle = np.deg2rad([0, 90])
    start, end = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)[:, None]
    even = interpolation_effect(sketched(trained, lambda z: 0.2 + 0.4 * torch.acos(z.clamp(-1, 1))), start, end)
    assert even.expected.shape == (1, POINTS - 1)
    assert unevenness(even.expected)[0] == pytest.approx(1, abs=0.01)
    assert even.decoded.sum() == round(64 * (0.2 + 0.4 * np.pi / 2)) - round(64 * 0.2)
    leap = interpolation_effect(sketched(trained, lambda z: (z > 0.5).float()), start, end)
    assert unevenness(leap.expected)[0] == pytest.approx(POINTS - 1, rel=1e-3)
    assert unevenness(leap.decoded)[0] == POINTS - 1


def test_a_path_that_never_jumps_is_even():
    assert unevenness(np.zeros((2, 4))).tolist() == [1, 1]


def test_axes_of_a_map_are_those_of_greatest_variance():
    rng = np.random.default_rng(0)
    spread = np.array([0.1, 3.0, 1.0, 0.1])
    codes = (5 + rng.normal(size=(2000, 4)) * spread).astype(np.float32)
    axes = principal_axes(codes)
    np.testing.assert_allclose(axes.directions, [[0, 1, 0, 0], [0, 0, 1, 0]], atol=0.05)
    assert axes.explained == pytest.approx((9 / 10.02, 1 / 10.02), abs=0.02)
    np.testing.assert_allclose(axes.place(codes), codes[:, 1:3] - 5, atol=1)
    with pytest.raises(ValueError, match="three codes"):
        principal_axes(codes[:2])


def test_a_map_shows_each_kind_where_its_codes_are(tmp_path: Path):
    from PIL import Image

    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal(size=(40, 2)) * 0.1 + at for at in ((-3, 0), (3, 0))])
    kinds = ["rock"] * 40 + ["jazz"] * 39 + [""]
    (tmp_path / "map.png").write_bytes(draw_map(places, kinds, (0.5, 0.25), title="a map"))
    picture = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    field = picture[110:990, 40:930]
    near = [np.abs(field - colour).sum(axis=2) < 30 for colour in ((31, 58, 104), (200, 56, 50))]
    columns = [np.flatnonzero(where.any(axis=0)) for where in near]
    assert columns[0].max() < 300, "the most frequent kind has the first colour, left"
    assert columns[1].min() > 600
