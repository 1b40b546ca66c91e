"""The share of a sweep that one of several drivers trains, each without the others: an element of a SLURM array.

SWEEP/shares/2-of-6/ holds what a driver of its own has: ledger.jsonl, live.json and the lock. All together is one
sweep: `read_ledger` reads them all, and whoever ends last gathers them into SWEEP/ledger.jsonl. A share begins and is
gathered under the lock of the sweep folder, and nothing is gathered while a share is at work; so those that work at the
same time have the same ledger before them, and divide what it leaves to be done in the same way.
"""

import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.sweeps.decisions import Idle, next_step
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SHARES, Begun, SweepState, ledgers_in, lines_of, records_of
from jobs.sweeps.settings import Repeats, SweepSettings
from jobs.sweeps.trials import SweepPlan, TrialFactory
from musicvae.durable import write_whole
from musicvae.errors import ConfigError, FolderInUseError
from musicvae.folder_lock import hold_folder

HELD_SECONDS = 120.0
"""Others hold the sweep folder for a moment only; an array has many of them."""


@dataclass(frozen=True, slots=True)
class Share:
    """Number `number`, counted from 0, of `total`."""

    number: int
    total: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.number}-of-{self.total}"


def share_of(text: str) -> Share:
    """The share of `--share K/M`.

    Raises:
        ConfigError: no such share.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    share = Share(int(match[1]), int(match[2])) if match else None
    if share is None or share.number >= share.total:
        raise ConfigError(f"--share {text} cannot be used", expected="K/M with K from 0 to M - 1", do="--share 0/6")
    return share


def settings_of_share(sweep: SweepSettings, share: Share) -> SweepSettings:
    """What a share alone decides by: no repeats, which need all figures, and its part of what all may use.

    Raises:
        ConfigError: a sweep whose trials depend on each other.
    """
    if sweep.asha or sweep.search == "tpe":
        raise ConfigError(
            "a sweep whose trials depend on each other cannot be divided",
            expected="search: grid or random, and no asha",
            found="asha" if sweep.asha else "search: tpe",
            do="give it one driver: without --array on one node, or with --ray on several",
        )
    hours, gib = sweep.budget.hours, sweep.retention.disk_gib
    return sweep.model_copy(
        update={
            "repeats": Repeats(),
            "budget": sweep.budget.model_copy(update={"hours": hours and hours / share.total}),
            "retention": sweep.retention.model_copy(update={"disk_gib": gib and gib / share.total}),
        }
    )


@contextmanager
def holding_share(folder: SweepFolder) -> Iterator[None]:
    """Holds the folder of a share, which is made.

    Raises:
        ConfigError: somebody else trains it, or another division of the sweep is not gathered yet.
    """
    assert folder.share is not None, "the folder of a share"
    total = folder.share.partition("-of-")[2]
    with ExitStack() as held:
        with hold_soon(folder.path):
            if others := [own.name for own in folder.shares() if own.name.partition("-of-")[2] != total]:
                raise ConfigError(
                    f"{folder.path} is divided otherwise",
                    expected=f"shares of {total}, or none",
                    found=", ".join(others),
                    likely="another --array, of which not all elements have ended",
                    do="give the same --array; or run it without one, which goes on with what all of them have done",
                )
            folder.own.mkdir(parents=True, exist_ok=True)
            held.enter_context(hold_folder(folder.own))
        yield


def share_of_work(
    factory: TrialFactory, plan: SweepPlan, before: SweepState, folder: SweepFolder, share: Share
) -> tuple[SweepPlan, SweepState]:
    """What a share has to do, as if it were a sweep of its own, and how far it is.

    Args:
        plan: of the whole sweep, as it was before any share.
        before: what the ledger of the whole sweep had then.
    """
    coming = [(place, values, factory.trial(values).id) for place, values in plan.coming]
    steps = factory.sweep.budget.steps
    # Begun, to come to more steps by now, or failed, for `--retry failed`.
    again = (
        trial.id
        for trial in before.trials.values()
        if trial.drawn.repeat_of is None
        and (trial.id in before.unfinished or trial.state == "failed" or 0 < trial.reached < steps)
    )
    everyone = dict.fromkeys([*again, *(trial for _, _, trial in coming)])
    mine = set(list(everyone)[share.number :: share.total])
    state = SweepState()
    for record in records_of(folder.ledger_of_all):
        if isinstance(record, Begun) or record.trial in mine:
            state.add(record)
    drawn = len(state.numbers)
    own = tuple((place, values) for place, values, trial in coming if trial in mine)
    for record in records_of(folder.ledger):
        state.add(record)
    return replace(plan, drawn=drawn, coming=own, numbers=drawn + len(own)), state


def shares_are_done(sweep: SweepSettings, state: SweepState) -> bool:
    """Whether nothing is left but repeats, which take a driver that sees all figures."""
    repeats = [trial.id for trial in state.unfinished.values() if trial.drawn.repeat_of is not None]
    planned = state.begun.numbers if state.begun else 0
    undivided = sweep.model_copy(update={"repeats": Repeats()})
    return isinstance(next_step(undivided, state, planned=planned, running=repeats), Idle)


def gather(folder: SweepFolder) -> None:
    """Moves what shares have written into the sweep's ledger; the caller holds the sweep folder.

    Raises:
        FolderInUseError: a share is at work.
    """
    shares = folder.shares()
    for own in shares:
        with hold_folder(own):
            pass
    if shares:
        lines = b"".join(line + b"\n" for _, _, line in lines_of(*ledgers_in(folder.path)))
        # Before they go: a kill in between leaves lines twice, of which the second are passed over.
        write_whole(folder.ledger_of_all, lines)
        shutil.rmtree(folder.path / SHARES)


def gathered(folder: SweepFolder) -> bool:
    """`gather`, unless a share is at work, be it that it has only to leave; it will come here after that."""
    try:
        gather(folder)
    except FolderInUseError:
        return False
    return True


@contextmanager
def hold_soon(path: Path) -> Iterator[None]:
    """Holds a folder as soon as whoever holds it for a moment lets go.

    Raises:
        FolderInUseError: it stays held.
    """
    give_up_at = time.monotonic() + HELD_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(hold_folder(path))
                break
            except FolderInUseError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(random.uniform(0.2, 2.0))
        yield
