"""SIGKILL at random moments of a loop that saves all the time: there is always a whole checkpoint."""

import multiprocessing
import os
import random
import time

import pytest
import torch

from musicvae.training.checkpoints import checkpoints, load_checkpoint, newest_complete, step_of
from tests.support.commands import SOAK
from tests.support.harm.damage import damage_file
from tests.support.processes.saving_loop import marked, save_all_the_time

pytestmark = pytest.mark.slow
KILLS = 100 if SOAK else 10
SEED = int(os.environ.get("KILL_SEED", "0"))


def whole_step(folder) -> int:
    """The step of the checkpoint that a resume would take; every number in it has to be of that step."""
    newest, passed_over = newest_complete(folder / "checkpoints")
    assert newest is not None, "no whole checkpoint is left"
    model, optimizer = marked(0)
    step = load_checkpoint(newest, model, optimizer).step
    (moments,) = optimizer.state.values()
    for tensor in (next(model.parameters()), *moments.values()):
        assert torch.all(tensor == step), (newest, passed_over)
    assert not passed_over, "a torn checkpoint took its final name"
    return step


def test_kills_at_random_moments_leave_a_whole_checkpoint(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.processes.saving_loop"])
    moments = random.Random(SEED)
    before = 0
    for _ in range(KILLS):
        process = context.Process(target=save_all_the_time, args=[tmp_path])
        process.start()
        deadline = time.monotonic() + 180
        while not any(step_of(path) > before for path in checkpoints(tmp_path / "checkpoints")):
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        process.join()
        step = whole_step(tmp_path)
        assert step > before, "a checkpoint was lost"
        before = step

    damage_file(checkpoints(tmp_path / "checkpoints")[-1] / "model.safetensors", "flipped")
    chosen, passed_over = newest_complete(tmp_path / "checkpoints")
    assert chosen == checkpoints(tmp_path / "checkpoints")[-2]
    assert "model.safetensors has changed" in passed_over[0]
