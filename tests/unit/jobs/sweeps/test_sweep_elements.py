"""The elements of an array decide together: what each reads, claims and starts."""

import json
import shutil
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from jobs.sweeps.elements import Claim, ElementLedger, check_no_elements, element_of, gather, holding_element
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Ledger, Record, Start, SweepState, Trimmed, merged, read_ledger, records_of
from jobs.sweeps.trials import prepare
from musicvae.errors import ConfigError, FolderInUseError, SupersededError
from tests.support.sweeps.array_of_threads import check_decisions, outcome, run_array, starts_of
from tests.support.sweeps.inline_sweep import run_inline
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, sweep_settings
from tests.support.sweeps.sweep_trainers import do_nothing
from tests.support.sweeps.tiny_sweep import sweep_file

FIRST = [drawn(0), Start("t0", 0, 10, 2.0), end("t0", 0, 5.0, step=10, steps=10)]
SECOND = [drawn(1), Start("t1", 0, 10, 2.0), Start("t0", 1, 90, 3.0), drawn(-1, "r", repeat_of="t0")]
THIRD = [end("t0", 1, 4.0, steps=90), Trimmed("t0", "weights", 10, 4.0, 1), Start("r", 0, 90, 5.0)]


def element(held: ExitStack, out: Path, number: int) -> ElementLedger:
    folder = SweepFolder(out, str(number))
    return ElementLedger(folder, held.enter_context(holding_element(folder)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    Ledger.open(tmp_path).append(begun(sweep_settings()))
    return tmp_path


def test_lines_of_several_ledgers_say_the_same_in_every_order():
    found = set()
    for ledgers in permutations((FIRST, SECOND, THIRD)):
        records: list[Record] = [*merged(ledgers)]
        state = SweepState.of(records)
        found.add(json.dumps([str(record) for record in records]))
        assert list(state.trials) == ["t0", "t1", "r"]
        assert list(state.unfinished) == ["t1", "r"]
        assert (state.trials["t0"].values, state.trials["t0"].kept) == ({10: 5.0, 90: 4.0}, "weights")
    assert len(found) == 1


def test_what_was_read_before_its_beginning_waits_for_it():
    assert [*merged([SECOND[2:], THIRD])] == []
    assert list(SweepState.of(merged([FIRST, THIRD])).trials) == ["t0"]


def test_a_number_and_a_start_have_one_owner_and_pass_on_when_it_dies(out: Path):
    start = Start("t0", 0, 90, 2.0)
    with ExitStack() as second_held:
        second = element(second_held, out, 1)
        with ExitStack() as first_held:
            first = element(first_held, out, 0)
            assert first.claim_number(0)
            assert not second.claim_number(0), "its owner was not there yet when it was looked"
            second.look()
            assert not second.claim_number(0)
            second.look()
            assert (second.state.numbers, second.undecided, second.others) == ({0: ""}, True, 1)
            assert first.claimed(start, drawn(0)) is not None
            assert second.claimed(start, drawn(3, "t0")) is None
            assert second.look() == ["t0"], "it runs, though its line is not written"
            assert second.state.numbers == {0: "t0"}
        second.look()
        assert second.claimed(start, None) is not None
        assert second.claim_number(0)
        assert sorted(path.name for path in (out / "claims").glob("[!.]*.1")) == ["number-0.1", "t0-0.1"]
        assert (second.others, second.undecided) == (0, False)


def test_a_start_says_what_was_read_and_who_ran(out: Path):
    with ExitStack() as held:
        first, second = element(held, out, 0), element(held, out, 1)
        own = first.claimed(Start("t0", 0, 90, 2.0), drawn(0))
        assert own is not None
        first.append(drawn(0), own)
        assert second.look() == ["t0"]
        other = second.claimed(Start("t1", 0, 90, 3.0), drawn(1))
        assert other is not None
        assert other.read == {"lines": {"": 1, "0": 2}, "running": ["t0"], "claims": []}
        second.append(drawn(1), other)
    assert list(read_ledger(out).trials) == ["t0", "t1"]
    assert [*records_of(out / "elements" / "0" / "ledger.jsonl")] == [drawn(0), own]


def test_whoever_lost_its_folder_writes_no_more(out: Path):
    with ExitStack() as held:
        ledger = element(held, out, 0)
        ledger.append(drawn(0))
        lock = out / "elements" / "0" / "lock"
        lock.write_text(json.dumps({**json.loads(lock.read_text()), "key": "another"}))
        with pytest.raises(SupersededError):
            ledger.append(drawn(1))
    assert list(read_ledger(out).trials) == ["t0"]


def test_one_driver_waits_for_elements(out: Path):
    check_no_elements(SweepFolder(out))
    with ExitStack() as held:
        element(held, out, 3)
        with pytest.raises(FolderInUseError, match="at work: element 3"):
            check_no_elements(SweepFolder(out))


SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"budget": {"trials": 12, "steps": 90}},
    "asha with repeats": {
        "asha": {"first_steps": 10, "eta": 3},
        "repeats": {"seeds": 2, "of_best": 2},
        "budget": {"trials": 18, "steps": 90},
    },
    "tpe": {"search": "tpe", "budget": {"trials": 16, "steps": 30}},
}


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
def test_an_array_starts_nothing_twice_whoever_dies_and_each_decision_follows_from_what_was_read(
    search: str, small_shards: Path, tmp_path: Path
):
    """Three elements, then five for more trials, then one driver for still more."""
    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    trials, steps = SEARCHES[search]["budget"].values()
    notify = f'echo "$SWEEP_STATE $SWEEP_FOLDER" >> {tmp_path}/told'
    for total, more in ((3, 0), (5, 6)):
        sweep_file(file, **{**SEARCHES[search], "budget": {"trials": trials + more, "steps": steps}})
        died = run_array(file, small_shards, out, total=total, deaths=10, notify=notify)
        assert died == 10 or more
        assert not read_ledger(out).unfinished
    elements = starts_of(out)
    assert check_decisions(file, small_shards, out) == len(elements) >= trials + 6
    assert (out / "report.html").exists()
    assert (tmp_path / "told").read_text().splitlines() == [f"done {out}"] * 2, "once for each array"
    sweep_file(file, **{**SEARCHES[search], "budget": {"trials": trials + 9, "steps": steps}})
    run_inline(do_nothing, file, small_shards, out)
    starts = [*elements, *(line for line in records_of(out / "ledger.jsonl") if isinstance(line, Start))]
    assert len({(start.trial, start.attempt) for start in starts}) == len(starts) >= trials + 9
    state = read_ledger(out)
    assert sorted(state.numbers) == list(range(trials + 9))
    assert not state.unfinished
    if search == "random":
        run_inline(do_nothing, file, small_shards, tmp_path / "alone")
        assert outcome(state) == outcome(read_ledger(tmp_path / "alone"))
    # One driver, and elements of another array, find nothing left to do.
    run_inline(do_nothing, file, small_shards, out)
    run_array(file, small_shards, out, total=2)
    assert len(starts_of(out)) == len(elements)
    assert outcome(read_ledger(out)) == outcome(state)


def test_shares_of_an_earlier_version_are_gathered_once_also_after_a_kill_in_between(tmp_path: Path):
    share, records = tmp_path / "shares" / "0-of-2", [begun(sweep_settings()), *FIRST]
    share.mkdir(parents=True)
    Ledger(share / "ledger.jsonl", SweepState()).append(*records)
    before = (share / "ledger.jsonl").read_bytes()
    gather(SweepFolder(tmp_path))
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert not share.exists()
    share.mkdir(parents=True)
    (share / "ledger.jsonl").write_bytes(before)
    assert read_ledger(tmp_path).trials["t0"].starts == 1
    gather(SweepFolder(tmp_path))
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


def test_claims_come_back_from_their_files(tmp_path: Path):
    claim = Claim("key", 3, drawn(3), Start("t3", 0, 10, 1.0, "key", {"lines": {"": 1}}))
    for kept in (claim, Claim("key", 3)):
        (tmp_path / "claim").write_text(json.dumps(kept.to_json()))
        assert Claim.read(tmp_path / "claim") == kept


@pytest.mark.parametrize("text", ["3/3", "x", "-1/2", "0/0", "1"])
def test_no_such_element(text: str):
    with pytest.raises(ConfigError, match="K from 0 to M - 1"):
        element_of(text)


@pytest.mark.parametrize("looks", [1, 2])
def test_a_sweep_that_another_element_begins_at_the_same_moment_is_joined(small_shards, tmp_path, monkeypatch, looks):
    """Ahead of a first look at the folder, or of a second one, which had been taken for another folder's content."""
    file = sweep_file(tmp_path / "sweep.yaml", budget={"trials": 1, "steps": 10})
    run_inline(do_nothing, file, small_shards, tmp_path / "others")
    folder, looked, count = SweepFolder(tmp_path / "out", "1"), SweepFolder.holds_something_else, iter(range(1, 9))

    def look_late(sweep: SweepFolder) -> bool:
        if next(count) == looks:
            shutil.copytree(tmp_path / "others", sweep.path)
            (sweep.path / "runs").mkdir(exist_ok=True)
        return looked(sweep)

    monkeypatch.setattr(SweepFolder, "holds_something_else", look_late)
    _, plan = prepare(str(file), str(small_shards), folder)
    assert plan.drawn == (1 if looks == 1 else 0)
