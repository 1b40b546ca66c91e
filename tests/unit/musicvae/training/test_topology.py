"""The presets as they ship, shrunk in width alone: one model however a batch is shared among ranks and pieces."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from musicvae.data.manifest import FolderShards, ShardManifest
from musicvae.errors import ConfigError
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.training.checkpoints import TrainingState
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import FitConfig, learning_rate_at
from musicvae.training.state import check_noise
from musicvae.training.step import new_optimizer, train_step
from musicvae.training.tasks import new_model, task_of
from musicvae.training.world import World
from tests.support.commands import SOAK
from tests.support.runs.topologies import ARCHITECTURES, PRESETS, TOPOLOGIES, narrow

pytestmark = pytest.mark.usefixtures("without_shape_checks")

STEPWISE = ["objective.scheduled_sampling=constant", "objective.sampling_rate=0.5"]
PARALLEL = [*STEPWISE, "objective.sampling_passes=parallel"]
STEPS = 4
QUICK = ("demo", "generation", "performance")
"""Presets of `make test`: with words of each kind of noise, and a model of something else."""
"""Two in each stretch of a topology that has two."""


def losses(config: FitConfig, shards, stretches, *, steps: int = STEPS) -> list[float]:
    """Of a run by ranks that are simulated: each computes its share, and one update is made of all."""
    manifest = ShardManifest.read(shards)
    task, settings = task_of(config, FolderShards(shards), manifest), config.train
    torch.manual_seed(0)
    model = new_model(config, manifest.grid, manifest.drum_map.num_drums).double()
    objective, optimizer = task.objective(model), new_optimizer(model, config.optimizer)
    found = []
    for step in range(steps):
        ranks, accumulation = stretches[step * len(stretches) // steps]
        pieces = []
        for rank in range(ranks):
            (share,) = task.batches(rank=rank, world_size=ranks, first=step, last=step + 1)
            pieces += share.pieces(accumulation)
        result = train_step(
            objective,
            optimizer,
            pieces,
            step=step,
            learning_rate=learning_rate_at(config.optimizer, step),
            global_batch=settings.global_batch,
            clip=settings.clip,
            precision="float64",
            world=World.single(),
        ).result()
        found.append(result.loss / settings.global_batch)
    return found


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(preset, marks=[] if preset in QUICK else pytest.mark.slow)
        for preset in (PRESETS if SOAK else ARCHITECTURES)
    ],
)
def test_losses_of_a_preset_do_not_depend_on_the_topology(small_shards, preset):
    config = narrow(preset)
    (alone, *others) = (losses(config, small_shards, stretches) for stretches in TOPOLOGIES.values())
    assert len(set(alone)) == STEPS
    for name, found in zip(list(TOPOLOGIES)[1:], others, strict=True):
        assert found == pytest.approx(alone, rel=1e-9), name


def test_a_preset_of_each_architecture_is_among_those_of_the_gate():
    configs = {preset: narrow(preset) for preset in PRESETS}
    kinds = {
        preset: "performance" if config.performance else (config.model.encoder, config.model.decoder)
        for preset, config in configs.items()
    }
    assert {kinds[preset] for preset in ARCHITECTURES} == set(kinds.values())


def test_stepwise_sampling_with_blanked_tokens_does_not_depend_on_the_topology_either(small_shards):
    config = narrow("generation", *STEPWISE, "objective.word_dropout=0.3", "objective.window_dropout=0.1")
    alone, two = (losses(config, small_shards, TOPOLOGIES[name], steps=2) for name in ("1 rank", "2 ranks"))
    assert two == pytest.approx(alone, rel=1e-9)
    without = losses(narrow("generation", *STEPWISE), small_shards, TOPOLOGIES["1 rank"], steps=2)
    assert without != pytest.approx(alone, rel=1e-9), "word and window dropout count"


@pytest.mark.parametrize(
    ("preset", "changed", "refused"),
    [
        ("generation", [], True),
        ("latent_free", [], True),
        ("small", [], False),
        ("small", ["objective.word_dropout=0.1"], False),
        ("small", [*PARALLEL, "objective.word_dropout=0.1"], False),
        ("small", [*STEPWISE, "objective.word_dropout=0.1"], True),
        ("small", [*STEPWISE, "objective.window_dropout=0.1"], True),
        ("small", STEPWISE, False),
        ("generation", ["train.steps=5"], False),
    ],
)
def test_a_run_is_refused_where_its_noise_would_change_on_the_way(preset, changed, refused):
    config = narrow(preset, *changed)
    model = MusicVAE(config.model, GridSpec(), 9)
    check_noise(config, model, TrainingState(5), RunFolder(Path("RUN")))
    with pytest.raises(ConfigError, match="--init-from RUN") if refused else nullcontext():
        check_noise(config, model, TrainingState(5, noise=1), RunFolder(Path("RUN")))
