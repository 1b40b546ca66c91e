"""The ledger reads back what was appended, whatever a kill leaves of its last line."""

import threading

import pytest

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import LEDGER_NAME, Ledger, Start, Trimmed, read_ledger
from musicvae.errors import DataError
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, sweep_settings


def test_what_was_appended_is_read_back(tmp_path):
    ledger, sweep = Ledger.open(tmp_path), sweep_settings()
    for record in (begun(sweep), drawn(0, a=1.5), drawn(1, "t0", a=1.5), Start("t0", 0, 90, 2.0)):
        ledger.append(record)
    assert read_ledger(tmp_path).trials["t0"].is_open
    ledger.append(end("t0", 0, 71.5))
    ledger.append(Trimmed("t0", "weights", 10, 4.0))
    state = read_ledger(tmp_path)
    assert state.numbers == {0: "t0", 1: "t0"}, "equal configurations are one trial"
    trial = state.trials["t0"]
    assert (trial.state, trial.value, trial.seconds, trial.bytes, trial.kept) == ("finished", 71.5, 10.0, 10, "weights")
    assert trial.drawn.values == {"a": 1.5}
    assert state.begun is not None
    assert state.begun.sweep == sweep.model_dump(mode="json")


def test_a_torn_last_line_is_ignored_and_the_next_one_is_whole(tmp_path):
    ledger = Ledger.open(tmp_path)
    ledger.append(drawn(0))
    with (tmp_path / LEDGER_NAME).open("a") as file:
        file.write('{"kind": "start", "trial": "t0", "att')
    assert not read_ledger(tmp_path).trials["t0"].is_open
    Ledger.open(tmp_path).append(Start("t0", 0, 90, 2.0))
    assert read_ledger(tmp_path).trials["t0"].is_open


def test_a_damaged_line_is_named(tmp_path):
    Ledger.open(tmp_path).append(drawn(0))
    with (tmp_path / LEDGER_NAME).open("a") as file:
        file.write('{"kind": "strat"}\n')
    with pytest.raises(DataError, match="line 2"):
        read_ledger(tmp_path)


def test_there_is_no_ledger_yet(tmp_path):
    assert read_ledger(tmp_path / "none").trials == {}


def test_a_folder_of_something_else_is_told_from_a_sweep_that_was_killed_at_its_start(tmp_path):
    folder = SweepFolder(tmp_path / "out")
    assert not folder.holds_something_else()
    folder.path.mkdir()
    (folder.path / "lock").touch()
    folder.ledger.write_text('{"kind": "swe')
    assert not folder.holds_something_else()
    (folder.path / "thesis.txt").touch()
    assert folder.holds_something_else()
    assert SweepFolder(folder.path / "thesis.txt").holds_something_else()


def test_a_folder_that_another_element_makes_meanwhile_holds_nothing_else(tmp_path):
    folder, done = SweepFolder(tmp_path / "out"), threading.Event()

    def make_again_and_again() -> None:
        while not done.is_set():
            folder.path.mkdir()
            folder.path.rmdir()

    other = threading.Thread(target=make_again_and_again)
    other.start()
    looks = [folder.holds_something_else() for _ in range(5000)]
    done.set()
    other.join()
    assert not any(looks)
