"""A sweep as a study of Optuna, computed from the ledger whenever somebody reads it; it cannot be written to.

from jobs.sweeps.study import open_study
study = open_study("sweeps/demo")
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import TrialHistory, ledgers_of_all, ledgers_of_elements
from jobs.sweeps.settings import Dimension, SweepSettings
from jobs.sweeps.status import Outcome, is_done, outcomes
from musicvae.durable import write_whole
from musicvae.errors import ConfigError

optuna.logging.set_verbosity(optuna.logging.ERROR)
STATES: Mapping[Outcome, TrialState] = {
    "running": TrialState.RUNNING,
    "waiting": TrialState.WAITING,
    "compared": TrialState.WAITING,
    "finished": TrialState.COMPLETE,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


def open_study(folder: str | Path, *, repeats: bool = False) -> optuna.Study:
    """The study of a sweep in any state, which follows what its drivers do; that of its repeats if `repeats` is set.

    Trials that may yet go on are WAITING; those that were stopped early are PRUNED once nothing is left to be done.

    Raises:
        ConfigError: there is no sweep.
        DataError: its ledger is damaged.
    """
    storage = LedgerStorage(SweepFolder(Path(folder)))
    return optuna.load_study(study_name=storage.get_study_name_from_id(int(repeats)), storage=storage)


def write_journal(folder: SweepFolder) -> Path:
    """Writes study.journal, for `optuna.storages.journal.JournalFileBackend`; gives its path."""
    ledger, lines = LedgerStorage(folder), _Lines()
    journal = JournalStorage(lines)
    for study in ledger.get_all_studies():
        copy = journal.create_new_study(study.directions, study.study_name)
        for trial in ledger.get_all_trials(study._study_id):
            journal.create_new_trial(copy, trial)
    write_whole(folder.journal, "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in lines.logs))
    return folder.journal


class _Lines(BaseJournalBackend):
    """A journal in memory."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


class Shown(InMemoryStorage):
    """A storage that shows the trials of a list, and forgets what a sampler notes down."""

    trials: Sequence[FrozenTrial] = ()

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        return [trial for trial in self.trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass

    def show(self, trials: Sequence[FrozenTrial]) -> None:
        """Shows these from here on."""
        self.trials = trials
        for number, trial in enumerate(trials):
            trial.number = trial._trial_id = number


class LedgerStorage(Shown):
    """Shows the trials of a sweep: those that were drawn as study 0, their repeats as study 1."""

    get_best_trial = BaseStorage.get_best_trial

    def __init__(self, folder: SweepFolder) -> None:
        super().__init__()
        self._folder, self._places = folder, dict[str, int]()
        self._sizes: dict[Path, int] = {}
        self._shown: tuple[list[FrozenTrial], list[FrozenTrial]] = ([], [])
        sweep, state = folder.read()
        assert state.begun is not None, "a sweep begins with it"
        for name in (state.begun.name, f"{state.begun.name}, repeats"):
            study = InMemoryStorage.create_new_study(self, [StudyDirection[sweep.direction.upper()]], name)
            InMemoryStorage.set_study_system_attr(self, study, "study:metric_names", [sweep.metric])

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        self._read()
        return [trial for trial in self._shown[study_id] if states is None or trial.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        self._read()
        return next(trial for study in self._shown for trial in study if trial._trial_id == trial_id)

    def _read(self) -> None:
        ledgers = (*ledgers_of_all(self._folder.path), *ledgers_of_elements(self._folder.path))
        sizes = {path: path.stat().st_size for path in ledgers if path.exists()}
        if sizes == self._sizes:
            return
        (sweep, state), self._sizes, self._shown = self._folder.read(), sizes, ([], [])
        became, last = outcomes(sweep, state), TrialState.PRUNED if is_done(sweep, state) else TrialState.WAITING
        for trial in state.trials:  # each keeps its place, also if ledgers are gathered in another order
            self._places.setdefault(trial, len(self._places))
        for name, place in self._places.items():
            if trial := state.trials.get(name):
                study = self._shown[trial.drawn.repeat_of is not None]
                study.append(_frozen(trial, STATES.get(became[name], last), sweep, place, len(study)))


def _refuse(*_: Any, **__: Any) -> Any:
    raise ConfigError(
        "the study of a sweep cannot be changed",
        likely="its ledger is the only record, and the study is computed from it",
        do="run `python -m jobs.sweep report`, copy its study.journal, and change the copy",
    )


for writes in (
    *("create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "create_new_trial"),
    *("set_trial_param", "set_trial_state_values", "set_trial_intermediate_value"),
    *("set_trial_user_attr", "set_trial_system_attr"),
):
    setattr(LedgerStorage, writes, _refuse)


def _frozen(trial: TrialHistory, state: TrialState, sweep: SweepSettings, place: int, number: int) -> FrozenTrial:
    start, end, values = trial.last_start, trial.last_end, trial.drawn.values
    of_end = {"step": end.step, "category": end.category, "message": end.message} if end else {}
    of_trial = {
        "trial": trial.id,
        "repeat_of": trial.drawn.repeat_of,
        "seed": trial.drawn.seed,
        "seconds": trial.seconds,
    }
    return FrozenTrial(
        number=number,
        trial_id=place,
        state=state,
        value=trial.value if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        datetime_start=datetime.fromtimestamp(start.when) if start else None,
        datetime_complete=datetime.fromtimestamp(end.when) if end and state.is_finished() else None,
        params={name: category(value) for name, value in values.items()},
        distributions={name: distribution(sweep.space.get(name), [value]) for name, value in values.items()},
        user_attrs={**of_trial, **of_end},
        system_attrs={},
        intermediate_values=dict(trial.values),
    )


def distribution(dimension: Dimension | None, others: Sequence[Any] = ()) -> BaseDistribution:
    """A setting of the space as Optuna knows it, made wider for other values, of when the space was another one."""
    if dimension and (bounds := dimension.bounds or dimension.whole) and all(type(o) in (int, float) for o in others):
        low, high = min(bounds[0], *others, bounds[1]), max(bounds[0], *others, bounds[1])
        if dimension.bounds:
            return FloatDistribution(low, high, log=dimension.is_log and low > 0)
        step = dimension.step if all(map(dimension.holds, others)) else 1
        return IntDistribution(int(low), int(high - (high - low) % step), dimension.is_log and low > 0, step)
    known = [category(value) for value in (dimension.values() if dimension and not dimension.whole else ())]
    return CategoricalDistribution([*known, *(category(value) for value in others if category(value) not in known)])


def category(value: Any) -> Any:
    """A value of a kind that Optuna's categories may have."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
