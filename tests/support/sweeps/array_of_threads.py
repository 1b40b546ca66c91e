"""An array whose elements are threads of this process, each of which dies and comes back at random; and its decisions,
derived again from what the ledgers say."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.command.stop_signals import StopSignals
from jobs.sweeps import elements
from jobs.sweeps.command import SweepCommand
from jobs.sweeps.decisions import Draw, Repeat, Resume, next_step
from jobs.sweeps.elements import Claim, ElementLedger, with_claims
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Drawn, Record, Start, SweepState, ledgers_of_elements, merged, records_of
from jobs.sweeps.search import LearningSearch
from jobs.sweeps.settings import LEARNING, SweepSettings
from jobs.sweeps.trial import TrialEnd, TrialJob
from jobs.sweeps.trials import prepare
from jobs.training.messages import StopRequest
from musicvae.settings import parse_settings
from musicvae.training.stopping import Stop
from tests.support.sweeps.sweep_trainers import do_nothing

TRIAL_SECONDS = 0.02


class Died(BaseException):
    """A SIGKILL at a place of our choice."""


class _Pool:
    """A `TrialPool` with room for one trial, which ends after a moment."""

    def __init__(self, trained: Callable[[TrialJob], TrialEnd]) -> None:
        self._trained, self._jobs = trained, list[tuple[TrialJob, float]]()

    def room(self) -> bool:
        return not self._jobs

    def start(self, job: TrialJob) -> None:
        self._jobs.append((job, time.monotonic() + random.uniform(0, TRIAL_SECONDS)))

    def ended(self, seconds: float) -> Sequence[tuple[TrialJob, TrialEnd]]:
        time.sleep(TRIAL_SECONDS / 10)
        due = [job for job, ends_at in self._jobs if ends_at < time.monotonic()]
        self._jobs = [(job, ends_at) for job, ends_at in self._jobs if job not in due]
        return [(job, self._trained(job)) for job in due]

    @property
    def running(self) -> list[str]:
        return [job.trial for job, _ in self._jobs]

    def why_waiting(self) -> str:
        return ""

    def ask_to_stop(self, stop: Stop) -> None:
        pass


def run_array(
    file: Path, shards: Path, out: Path, *, total: int, deaths: int = 0, seed: int = 0, notify: str = ""
) -> int:
    """Runs the elements of an array to their end; gives how often one of them died.

    Args:
        deaths: at most, before and after claims and lines; whoever died comes back.
    """
    dice, left, errors = random.Random(seed), [deaths], list[BaseException]()

    def may_die() -> None:
        if left[0] and dice.random() < 0.15:
            left[0] -= 1
            raise Died

    class Mortal(ElementLedger):
        def _claim(self, name: str, claim: Claim) -> bool:
            may_die()
            is_ours = super()._claim(name, claim)
            may_die()
            return is_ours

        def append(self, *records: Record) -> None:
            may_die()
            super().append(*records)
            may_die()

    @contextmanager
    def pool(*_: object, **__: object) -> Iterator[_Pool]:
        yield _Pool(lambda job: do_nothing(job, StopRequest))

    def live(number: int) -> None:
        folder = SweepFolder(out, str(number))
        while True:
            try:
                command = SweepCommand.of(*prepare(str(file), str(shards), folder), str(shards), folder, notify)
                command.carry_out_element(StopSignals(), retry=False)
                return
            except Died:
                continue
            except BaseException as error:
                errors.append(error)
                return

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(elements, "ElementLedger", Mortal)
        patched.setattr("jobs.sweeps.pools.process_pool", pool)
        patched.setattr(elements.random, "uniform", lambda *_: 0.01)
        patched.setattr("musicvae.folder_lock.LOOKED_SECONDS", 0.05)
        threads = [threading.Thread(target=live, args=(number,)) for number in range(total)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return deaths - left[0]


def starts_of(out: Path) -> list[Start]:
    """All starts of elements."""
    return [line for path in ledgers_of_elements(out) for line in records_of(path) if isinstance(line, Start)]


def check_decisions(file: Path, shards: Path, out: Path) -> int:
    """Derives each start of an element again from what it had read; gives how many there are."""
    folder = SweepFolder(out)
    ledgers: Mapping[str, list[Record]] = {path.parent.name: [*records_of(path)] for path in ledgers_of_elements(out)}
    ledgers = {"": [*records_of(folder.ledger_of_all)], **ledgers}
    factory, _ = prepare(str(file), str(shards), folder)
    derived = 0
    for name in filter(None, ledgers):
        for place, start in enumerate(ledgers[name]):
            if not isinstance(start, Start):
                continue
            assert start.read is not None
            read: Mapping[str, Any] = start.read
            seen = [ledgers[other][:lines] for other, lines in read["lines"].items()]
            state = with_claims(SweepState.of(merged(seen)), [Claim.read(folder.claims / c) for c in read["claims"]])
            assert state.begun is not None
            sweep = parse_settings(SweepSettings, state.begun.sweep)
            before = ledgers[name][place - 1] if place else None
            drawn = before if isinstance(before, Drawn) and before.trial == start.trial else None
            step = next_step(sweep, state, planned=sweep.budget.trials, running=read["running"])
            match step:
                case Resume(trial, steps):
                    assert (start.trial, start.steps) == (trial, steps)
                case Draw():
                    assert drawn is not None
                    assert drawn.number == next(n for n in range(10**6) if n not in state.numbers)
                    if sweep.search in LEARNING:
                        values = LearningSearch(sweep).values(drawn.number, state)
                        assert factory.trial(values).id == start.trial
                case Repeat(trial, repeat):
                    assert drawn is not None
                    assert drawn.repeat_of == trial
                    assert drawn.seed == state.trials[trial].drawn.seed + repeat
                case other:
                    raise AssertionError(f"{start} was not due: {other}")
            derived += 1
    return derived


def outcome(state: SweepState) -> dict[str, dict[int, float]]:
    """What a sweep came to, by trial."""
    return {trial.id: trial.values for trial in state.trials.values()}
