"""The models that come with the package: small, described, and with a latent space that does what it promises."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import musicvae
from musicvae.pretrained.latent_effects import attribute_effects, interpolation_effect, unevenness
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.shipped import WEIGHTS
from tests.support.commands import CHECKOUT
from tests.support.fenced_code import fenced, run_shell_blocks
from tests.support.shipped import SHIPPED, need_shipped_models

pytestmark = pytest.mark.slow
LARGEST = 10 * 10**6
STYLES = (
    *("afrobeat", "afrocuban", "blues", "country", "dance", "funk", "highlife", "hiphop", "jazz", "latin"),
    *("middleeastern", "neworleans", "pop", "punk", "reggae", "rock", "soul"),
)
"""Of GMD's training windows in 4/4 that are long enough."""


@pytest.fixture(scope="module", autouse=True)
def _shipped() -> None:
    need_shipped_models()


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return musicvae.load("reconstruction")


@pytest.fixture(scope="module")
def starts(model: TrainedModel) -> np.ndarray:
    """Codes of grooves that no training has seen: from the other model's prior."""
    return model.encode(musicvae.load("generation").sample(40, seed=5))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_is_small_and_its_card_complete(name):
    folder = WEIGHTS / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LARGEST
    card = (folder / "README.md").read_text()
    for words in (
        "with these very weights",
        "importance-weighted bound",
        "CC BY 4.0",
        "python -m jobs.train",
        "commit",
    ):
        assert words in card
    assert "not committed" not in card


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_carries_the_styles_of_its_training_data(name):
    model = musicvae.load(name)
    assert model.training is not None
    assert model.training.styles is not None
    styles = model.training.styles
    assert styles.names == STYLES
    assert sum(style.windows for style in styles.styles) == model.feel.statistics.windows
    distances = {style.name: np.abs(style.velocity - model.feel.velocity).mean() for style in styles.styles}
    assert distances["highlife"] < distances["jazz"], "46 windows say less than 2,008"


@pytest.mark.parametrize("name", SHIPPED)
def test_samples_differ_and_none_is_silent(name):
    grooves = musicvae.load(name).sample(64, seed=0)
    assert all(groove.hits.any() for groove in grooves)
    assert len({groove.tokens.tobytes() for groove in grooves}) >= 62


def test_density_is_monotone_along_its_direction(model, starts):
    (density,) = [effect for effect in attribute_effects(model, starts) if effect.name == "density"]
    assert density.correlation.mean() >= 0.9
    assert (np.diff(density.means) > 0).all()


def test_no_interpolation_jumps_by_more_than_twice_its_mean(model, starts):
    effect = interpolation_effect(model, starts[:-1], starts[1:])
    assert unevenness(effect.expected).max() <= 2


def test_the_tutorial_runs_as_it_is_written(tmp_path):
    page = CHECKOUT / "docs" / "tutorial.md"
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(fenced(page, "python"))],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "hits come back" in result.stdout
    assert len(list(tmp_path.glob("*.mid"))) == 16 + 4 + 4 + 9 + 3
    run_shell_blocks(page, tmp_path)
    assert len(list((tmp_path / "grooves" / "new").rglob("*.mid"))) == 64
    assert len(list((tmp_path / "grooves" / "like").rglob("*.mid"))) == 8
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_like_keeps_what_it_was_given_and_loses_it_with_distance(model):
    groove = musicvae.load("generation").sample(1, seed=3)[0]
    near, far = (_likeness(groove, model.vary(groove, distance, 8, seed=0)) for distance in (0.0, 1.0))
    assert near > far + 0.2


def _likeness(groove: musicvae.DrumGroove, others: list[musicvae.DrumGroove]) -> float:
    """Mean hit F1."""
    f1 = [2 * (groove.hits & other.hits).sum() / (groove.hits.sum() + other.hits.sum()) for other in others]
    return float(np.mean(f1))


def test_nothing_in_the_package_is_a_path_of_a_machine():
    for file in Path(WEIGHTS).rglob("*"):
        if file.suffix in (".json", ".md"):
            assert "/home/" not in file.read_text()
            assert "/tmp/" not in file.read_text()
