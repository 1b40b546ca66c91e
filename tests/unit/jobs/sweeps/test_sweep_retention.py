"""What ended trials keep on disk, and what goes first where there is too little room."""

from pathlib import Path

import pytest

from jobs.sweeps.driver import Retention, folder_bytes
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Ledger, Start, read_ledger
from jobs.sweeps.settings import SweepSettings
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, sweep_settings

BYTES = 1 << 20


def make_run(folder: SweepFolder, trial: str) -> Path:
    run = folder.run(trial)
    (run / "checkpoints" / "step-00000090").mkdir(parents=True)
    (run / "checkpoints" / "step-00000090" / "model.safetensors").write_bytes(bytes(BYTES))
    (run / "best.safetensors").write_bytes(bytes(BYTES))
    (run / "metrics.jsonl").write_text("{}\n")
    return run


def left(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()} - {"lock"}


def ended(tmp_path: Path, sweep: SweepSettings, outcomes: dict[str, dict[str, object]]) -> tuple[SweepFolder, Ledger]:
    """Trials that have ended, each with its files."""
    folder, ledger = SweepFolder(tmp_path), Ledger.open(tmp_path)
    ledger.append(begun(sweep))
    for number, (trial, changes) in enumerate(outcomes.items()):
        run = make_run(folder, trial)
        step = changes.pop("step", 90)
        ledger.append(drawn(number, trial))
        ledger.append(Start(trial, 0, step, 2.0))
        ledger.append(end(trial, 0, **{"step": step, "bytes": folder_bytes(run), **changes}))
    return folder, ledger


@pytest.mark.parametrize(
    ("kept", "files"),
    [
        ("all", {"checkpoints", "best.safetensors", "metrics.jsonl"}),
        ("weights", {"best.safetensors", "metrics.jsonl"}),
        ("nothing", {"metrics.jsonl"}),
    ],
)
def test_each_outcome_keeps_what_is_set(tmp_path, kept, files):
    sweep = sweep_settings(retention={"finished": kept, "stopped": "nothing"})
    folder, ledger = ended(tmp_path, sweep, {"good": {"value": 1.0}, "bad": {"state": "diverged"}})
    retention = Retention(sweep, folder, ledger, planned=12)
    for trial in ("good", "bad"):
        retention.after(trial)
    assert left(folder.run("good")) == files
    assert left(folder.run("bad")) == {"metrics.jsonl"}
    state = read_ledger(tmp_path)
    assert state.trials["good"].bytes == folder_bytes(folder.run("good"))
    assert state.trials["bad"].kept == "nothing"


def test_what_asha_may_still_promote_keeps_its_checkpoint_until_nothing_is_to_come(tmp_path):
    sweep = sweep_settings(asha={"first_steps": 10, "eta": 3}, budget={"trials": 6, "steps": 90})
    values = {f"t{number}": {"value": float(number), "step": 10} for number in range(4)}
    folder, ledger = ended(tmp_path, sweep, values)
    retention = Retention(sweep, folder, ledger, planned=6)
    retention.after("t3")
    kept = {trial: "checkpoints" in left(folder.run(trial)) for trial in values}
    assert kept == {"t0": True, "t1": True, "t2": False, "t3": False}, "two of six will go on"
    retention.after_all()
    assert left(folder.run("t0")) == left(folder.run("t1")) == {"best.safetensors", "metrics.jsonl"}


def test_the_cap_takes_the_unsuccessful_first_then_the_worst_and_never_the_best(tmp_path):
    sweep = sweep_settings(retention={"stopped": "weights", "disk_gib": 4.5 * BYTES / 2**30})
    folder, ledger = ended(
        tmp_path,
        sweep,
        {"best": {"value": 1.0}, "good": {"value": 2.0}, "worst": {"value": 9.0}, "bad": {"state": "diverged"}},
    )
    retention = Retention(sweep, folder, ledger, planned=12)
    retention.after("bad")
    assert left(folder.run("bad")) == {"metrics.jsonl"}
    assert left(folder.run("worst")) == {"best.safetensors", "metrics.jsonl"}
    assert left(folder.run("best")) == {"checkpoints", "best.safetensors", "metrics.jsonl"}
    assert not retention.over_cap()
    assert sum(folder_bytes(folder.run(trial)) for trial in ledger.state.trials) == ledger.state.bytes
