"""Sums over windows: the same whatever the batches and ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from musicvae.data.manifest import FolderShards, ShardManifest, SplitEntry
from musicvae.data.shards import write_shard
from musicvae.data.store import WindowStore
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.evaluation.elbo import (
    EvaluationReport,
    EvaluationSums,
    evaluate_batch,
    evaluation_batches,
    latent_noise,
    spaced_windows,
)
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

CPU = torch.device("cpu")
GRID = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2)
DRUMS = DrumMap("three", {"kick": (36,), "snare": (38,), "hat": (42,)})
WINDOWS = 23
SETTINGS = ModelSettings(
    latent=6,
    encoder_embedding=8,
    encoder_hidden=8,
    conductor_hidden=8,
    conductor_embedding=8,
    decoder_embedding=8,
    decoder_hidden=8,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Validation of 23 random windows in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    entries = []
    for number, windows in enumerate((8, 8, 7)):
        tokens = np.random.default_rng(number).integers(0, DRUMS.vocab, (windows, GRID.num_steps)).astype(np.int16)
        cells = (windows, GRID.num_steps, DRUMS.num_drums)
        block = WindowBlock(
            tokens, np.zeros(cells, np.uint8), np.zeros(cells, np.int16), [WindowMeta("a", 0, 120.0)] * windows
        )
        entries.append(write_shard(folder / f"validation-{number}.tar", block))
    ShardManifest(GRID, DRUMS, {"validation": SplitEntry(WINDOWS, 1, tuple(entries))}).write(folder)
    return folder


@pytest.fixture(scope="module")
def model() -> MusicVAE:
    torch.manual_seed(0)
    return MusicVAE(SETTINGS, GRID, DRUMS.num_drums).double()


def store(shards: Path) -> WindowStore:
    return WindowStore(FolderShards(shards), ShardManifest.read(shards), "validation", cached_blocks=2)


def evaluate(
    model: MusicVAE, shards: Path, *, free_running: bool = True, batch: int = 5, rank: int = 0, world_size: int = 1
) -> EvaluationSums:
    """A rank's sums over its batches."""
    batches = evaluation_batches(store(shards), batch=batch, rank=rank, world_size=world_size)
    sums = EvaluationSums.empty(model.latent, DRUMS.num_drums)
    for ids, tokens in batches:
        sums += evaluate_batch(
            model, tokens, ids, num_drums=DRUMS.num_drums, seed=3, device=CPU, free_running=free_running
        )
    return sums


@pytest.mark.parametrize("batch", [1, 4, 8, 100])
def test_batch_size_changes_no_figure(model: MusicVAE, shards: Path, batch: int) -> None:
    expected, found = evaluate(model, shards), evaluate(model, shards, batch=batch)
    np.testing.assert_allclose(found.to_vector(), expected.to_vector(), rtol=1e-11)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_add_up_to_one(model: MusicVAE, shards: Path, world_size: int) -> None:
    ranks = [evaluate(model, shards, rank=rank, world_size=world_size).to_vector() for rank in range(world_size)]
    np.testing.assert_allclose(np.sum(ranks, axis=0), evaluate(model, shards).to_vector(), rtol=1e-11)


def test_ranks_meet_equally_often_and_see_each_window_once(shards: Path) -> None:
    of_rank = [list(evaluation_batches(store(shards), batch=5, rank=rank, world_size=3)) for rank in range(3)]
    assert [len(batches) for batches in of_rank] == [2, 2, 2]
    ids = [int(window) for batches in of_rank for window_ids, _ in batches for window in window_ids]
    assert sorted(ids) == list(range(WINDOWS))


def test_spaced_windows() -> None:
    assert spaced_windows(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spaced_windows(3, 5).tolist() == [0, 1, 2]


def test_vector_round_trip(model: MusicVAE, shards: Path) -> None:
    vector = evaluate(model, shards).to_vector()
    again = EvaluationSums.from_vector(vector, latent=SETTINGS.latent, num_drums=DRUMS.num_drums)
    np.testing.assert_array_equal(again.to_vector(), vector)
    assert again.free_running.steps == again.teacher_forced.steps == WINDOWS * GRID.num_steps


def test_free_running_may_be_left_out(model: MusicVAE, shards: Path) -> None:
    whole, part = evaluate(model, shards), evaluate(model, shards, free_running=False)
    assert part.free_running.steps == 0
    assert np.isnan(part.free_running.token_accuracy)
    assert part.reconstruction == whole.reconstruction


def test_noise_belongs_to_the_window() -> None:
    noise = latent_noise(1, np.array([5, 2, 9]), 7)
    np.testing.assert_array_equal(noise[1], latent_noise(1, np.array([2]), 7)[0])
    assert not np.array_equal(noise, latent_noise(2, np.array([5, 2, 9]), 7))


def test_training_mode_is_left_as_it_was(model: MusicVAE, shards: Path) -> None:
    for mode in (True, False):
        model.train(mode)
        evaluate(model, shards)
        assert model.training is mode


class KnowingModel(MusicVAE):
    """Scores the reference as all but certain, and decodes it: what no figure may exceed."""

    def __init__(self, tokens: np.ndarray, *, certainty: float) -> None:
        super().__init__(SETTINGS, GRID, DRUMS.num_drums)
        self.known, self.certainty = torch.from_numpy(tokens).long(), certainty

    def logits(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(self.known, DRUMS.vocab).double() * self.certainty

    def generate(
        self, z: torch.Tensor, uniforms: torch.Tensor | None = None, *, temperature: float = 1
    ) -> torch.Tensor:
        return self.known


@pytest.mark.parametrize(("shift", "score", "nats"), [(0, 1.0, 0.0), (1, 0.0, 100.0)])
def test_perfect_and_always_wrong_models(shift: int, score: float, nats: float) -> None:
    tokens = np.random.default_rng(0).integers(0, DRUMS.vocab, (4, GRID.num_steps)).astype(np.int16)
    known = KnowingModel((tokens ^ (DRUMS.vocab - 1) * shift).astype(np.int16), certainty=100.0)
    sums = evaluate_batch(known, tokens, np.arange(4), num_drums=DRUMS.num_drums, seed=0, device=CPU)
    report = EvaluationReport.from_sums(sums)
    assert report.teacher_forced.token_accuracy == report.free_running.token_accuracy == score
    assert report.teacher_forced.hit_f1 == report.free_running.hit_f1 == score
    assert report.reconstruction == pytest.approx(nats * GRID.num_steps, abs=1e-9)
    assert report.negative_elbo == -report.elbo == report.reconstruction + report.kl


def test_report_of_no_windows_is_undefined() -> None:
    report = EvaluationReport.from_sums(EvaluationSums.empty(SETTINGS.latent, DRUMS.num_drums))
    assert np.isnan(report.negative_elbo)
    assert report.active_units == 0


def test_active_units_are_dimensions_whose_mean_moves() -> None:
    mu = np.array([[0.0, 1.0, 0.05], [0.0, -1.0, -0.05]])
    sums = EvaluationSums.empty(3, 1)
    moved = EvaluationSums(
        2.0, 0.0, np.array([0.0, 2.0, 0.5]), mu.sum(axis=0), (mu**2).sum(axis=0), sums.teacher_forced, sums.free_running
    )
    report = EvaluationReport.from_sums(moved)
    assert report.active_units == 1
    assert report.kl == 1.25
    assert report.kl_by_dimension.tolist() == [0.0, 1.0, 0.25]
    assert report.mu_variance.tolist() == pytest.approx([0.0, 1.0, 0.0025])
    assert report.kl_bits == pytest.approx(1.25 / np.log(2))
