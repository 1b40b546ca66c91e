"""Checkpoints are written while training goes on, and what goes wrong there is not lost."""

import os
import threading

import pytest
import torch

from musicvae.errors import SupersededError
from musicvae.training import checkpoints as checkpoint_writer
from musicvae.training.checkpoints import CheckpointWriter, TrainingState, checkpoints, load_checkpoint, newest_complete
from musicvae.training.run_folder import RunFolder
from tests.support.runs.trained_layer import trained


@pytest.fixture
def run(tmp_path):
    with RunFolder(tmp_path).held("this launch") as run:
        yield run


@pytest.fixture
def writer(run):
    writer = CheckpointWriter(run, keep=2, keep_every=0)
    yield writer
    writer.close()


def test_what_is_written_is_the_moment_of_the_call(run, writer, monkeypatch):
    """The writer is held up until weights and moments have been changed."""
    go_on = threading.Event()
    write = checkpoint_writer.write_checkpoint
    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", lambda *a, **k: (go_on.wait(), write(*a, **k)))
    model, optimizer = trained(1)
    writer.save(model, optimizer, TrainingState(7))
    with torch.no_grad():
        model.weight.fill_(99)
        optimizer.state[model.weight]["exp_avg"].fill_(99)
    go_on.set()
    writer.wait()
    path, _ = newest_complete(run.checkpoints)
    assert path is not None
    restored, moments = trained(2)
    assert load_checkpoint(path, restored, moments).step == 7
    expected, expected_moments = trained(1)
    assert torch.equal(restored.weight, expected.weight)
    expected_average = expected_moments.state[expected.weight]["exp_avg"]
    assert torch.equal(moments.state[restored.weight]["exp_avg"], expected_average)


def test_an_error_is_raised_at_a_later_call(run, writer):
    run.checkpoints.write_text("a file where a folder has to be")
    writer.save(*trained(1), TrainingState(1))
    with pytest.raises(OSError, match="checkpoints"):
        writer.wait()


def test_a_launch_that_was_superseded_writes_nothing_more(run, writer):
    writer.save(*trained(1), TrainingState(1))
    writer.wait()
    os.remove(run.path / "lock")  # noqa: PTH107 (as a file system that lost it)
    with RunFolder(run.path).held("another launch"):
        writer.save(*trained(1), TrainingState(2))
        with pytest.raises(SupersededError, match="another launch"):
            writer.wait()
        writer.save_best(trained(1)[0], 2, {})
        with pytest.raises(SupersededError):
            writer.wait()
        for write in (lambda: run.log({"step": 1}), lambda: run.finish_status("failed"), lambda: run.cut_logs(0)):
            with pytest.raises(SupersededError):
                write()
    assert [path.name for path in checkpoints(run.checkpoints)] == ["step-00000001"]
    assert not run.best.exists()
    assert not run.metrics.exists()


def test_a_second_live_launch_is_refused(run):
    with pytest.raises(ValueError, match="is in use"), RunFolder(run.path).held("another launch"):
        pass


def test_what_a_killed_launch_was_writing_is_removed(tmp_path):
    leftovers = [tmp_path / "checkpoints" / ".step-00000003.0123456789ab.tmp", tmp_path / ".best.safetensors.1.tmp"]
    leftovers[0].mkdir(parents=True)
    leftovers[1].write_text("half")
    with RunFolder(tmp_path).held("launch"):
        assert not any(path.exists() for path in leftovers)
