"""Checkpoints: whole, checked, and never chosen when damaged."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from musicvae.training.checkpoints import (
    TrainingState,
    checkpoints,
    copy_to_host,
    load_checkpoint,
    newest_complete,
    write_checkpoint,
)
from tests.support.harm.damage import damage_file, each_damage
from tests.support.runs.trained_layer import trained


def save(folder: Path, step: int, keep: int = 5, keep_every: int = 0) -> Path:
    state = TrainingState(step, 1.5, step)
    return write_checkpoint(folder, copy_to_host(*trained(step)), state, keep=keep, keep_every=keep_every)


def test_what_was_saved_comes_back(tmp_path):
    path = save(tmp_path, 7)
    model, optimizer = trained(99)
    assert load_checkpoint(path, model, optimizer) == TrainingState(7, 1.5, 7)
    expected, expected_optimizer = trained(7)
    assert torch.equal(model.weight, expected.weight)
    for key, moments in expected_optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            assert torch.equal(optimizer.state_dict()["state"][key][name], value)


def test_the_newest_few_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003", "step-00000004"]


def test_every_so_many_steps_one_stays_for_good(tmp_path):
    for step in range(1, 10):
        save(tmp_path, step, keep=2, keep_every=3)
    assert [int(path.name[5:]) for path in checkpoints(tmp_path)] == [3, 6, 8, 9]


def test_a_damaged_one_is_written_anew_when_its_step_comes_again(tmp_path):
    path = save(tmp_path, 2)
    damage_file(path / "optimizer.pt", "flipped")
    save(tmp_path, 2)
    assert newest_complete(tmp_path) == (path, [])


FILES = ("model.safetensors", "optimizer.pt", "state.json")


@pytest.mark.parametrize("name", [*FILES, "sha256.json"])
@each_damage
def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path, name, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    damage_file(path, damage)
    chosen, passed_over = newest_complete(tmp_path)
    assert chosen == tmp_path / "step-00000001"
    assert len(passed_over) == 1
    assert "step-00000002 is damaged" in passed_over[0]


@pytest.mark.parametrize(
    ("hashes", "problem"),
    [
        ("ELSEWHERE", "names ../model"),
        ("[" * 100_000, "recursion"),
        ("[]", "does not name"),
        (None, "no regular file"),
    ],
)
def test_hashes_that_lead_elsewhere_or_nowhere_are_damage(tmp_path, hashes, problem):
    save(tmp_path, 1)
    path = save(tmp_path, 2) / "sha256.json"
    model = path.with_name("model.safetensors")
    if hashes is None:
        model.unlink()
        os.mkfifo(model)
    else:
        right = {name: hashlib.sha256(path.with_name(name).read_bytes()).hexdigest() for name in FILES}
        path.write_text(json.dumps({**right, "../model": "0"}) if hashes == "ELSEWHERE" else hashes)
    chosen, (passed_over,) = newest_complete(tmp_path)
    assert chosen == tmp_path / "step-00000001"
    assert problem in passed_over


def test_a_save_that_broke_off_is_never_chosen(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".step-00000002.123.tmp").mkdir()
    chosen, passed_over = newest_complete(tmp_path)
    assert chosen == tmp_path / "step-00000001"
    assert passed_over == []


def test_there_may_be_none(tmp_path):
    assert newest_complete(tmp_path / "nothing") == (None, [])


def test_no_pickle_is_executed(tmp_path):
    path = save(tmp_path, 1)
    torch.save({"state": print}, path / "optimizer.pt")  # a function can only be restored by running a pickle
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_checkpoint(path, *trained(1))
