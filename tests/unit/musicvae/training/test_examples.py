"""Examples: the same windows at every step, decoded without a trace in the training."""

import numpy as np
import pytest
import torch

from musicvae.errors import DataError
from musicvae.evaluation.elbo import EvaluationReport, evaluate_batch
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.training.examples import Examples, cut_examples, example_files
from musicvae.training.progress import EXAMPLE_SAMPLES, EXAMPLE_WINDOWS, example_ids, make_examples

GRID = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2)
DRUMS = 3
SETTINGS = ModelSettings(
    latent=6,
    encoder_embedding=8,
    encoder_hidden=8,
    conductor_hidden=8,
    conductor_embedding=8,
    decoder_embedding=8,
    decoder_hidden=8,
)


def windows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << DRUMS, (EXAMPLE_WINDOWS, GRID.num_steps)).astype(np.int16)


def made(model: MusicVAE) -> Examples:
    tokens, ids = windows(), np.arange(EXAMPLE_WINDOWS)
    sums = evaluate_batch(model, tokens, ids, num_drums=DRUMS, seed=0, device=torch.device("cpu"))
    return make_examples(model, ids, tokens, EvaluationReport.from_sums(sums))


@pytest.fixture
def model() -> MusicVAE:
    torch.manual_seed(0)
    return MusicVAE(SETTINGS, GRID, DRUMS)


def test_reconstructions_are_decoded_from_mu_and_samples_from_noise(model):
    examples = made(model)
    reference = torch.from_numpy(windows()).long()
    np.testing.assert_array_equal(examples.windows, windows())
    np.testing.assert_array_equal(examples.reconstructions, model.eval().generate(model.encode(reference).mu).numpy())
    assert examples.samples.shape == (EXAMPLE_SAMPLES, GRID.num_steps)
    assert len(np.unique(examples.samples, axis=0)) == EXAMPLE_SAMPLES
    assert examples.kl.shape == examples.mu_variance.shape == (SETTINGS.latent,)
    assert (examples.kl > 0).all()


def test_the_same_weights_give_the_same_examples_and_others_give_others(model):
    first, again = made(model), made(model)
    np.testing.assert_array_equal(first.samples, again.samples)
    torch.manual_seed(1)
    other = made(MusicVAE(SETTINGS, GRID, DRUMS))
    assert not np.array_equal(first.samples, other.samples)


def test_training_does_not_notice(model):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    made(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_ids_are_spaced_over_the_split_however_small():
    assert example_ids(800).tolist() == [0, 100, 200, 300, 400, 500, 600, 700]
    assert example_ids(3).tolist() == [0, 1, 2]


def test_a_file_holds_them_and_is_the_same_every_time(model, tmp_path):
    examples = made(model)
    folder = tmp_path / "examples"
    for step in (20, 100, 9):
        examples.save(folder, step)
    files = example_files(folder)
    assert list(files) == [9, 20, 100]
    read = Examples.load(files[20])
    for name in ("window_ids", "windows", "reconstructions", "samples", "kl", "mu_variance"):
        np.testing.assert_array_equal(getattr(read, name), getattr(examples, name))
    assert files[9].read_bytes() == files[100].read_bytes()
    assert files[9].stat().st_size < 10_000


def test_what_was_made_after_a_step_is_removed(model, tmp_path):
    for step in (10, 20, 30):
        made(model).save(tmp_path, step)
    cut_examples(tmp_path, 20)
    assert list(example_files(tmp_path)) == [10, 20]
    cut_examples(tmp_path / "absent", 0)


@pytest.mark.parametrize("damage", [b"", b"no zip at all", None])
def test_a_damaged_file_is_named(model, tmp_path, damage):
    made(model).save(tmp_path, 1)
    (path,) = example_files(tmp_path).values()
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(DataError, match="cannot be used"):
        Examples.load(path)
