"""What a sweep costs beside its training: trials that do nothing, and how fast a long ledger is read.

    python -m tests.benchmarks.sweep_overhead --trials 200,2000 --ledger 10000

Wall time per trial counts from the first start to the last end, two trials at a time, on an embedded Ray; starting Ray
and checking every configuration are told beside it. A trial's run folder is made as ever. Memory is the driver's peak,
with torch loaded. `status` is timed as a user runs it, as a process of its own.
"""

import gc
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import typer

from jobs.command.command_line import console, run_command
from jobs.sweeps.decisions import cut_trials, next_step
from jobs.sweeps.elements import ElementLedger, holding_element
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import End, Ledger, Record, Start, TrialHistory, fields_of, read_ledger
from jobs.sweeps.search import LearningSearch
from jobs.sweeps.settings import Space, random_values
from musicvae.errors import ConfigError
from tests.support.commands import CHECKOUT, ok, run_job
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, sweep_settings
from tests.support.sweeps.tiny_sweep import sweep_file, trainer_command

T = TypeVar("T")
QUICK_TRIALS, QUICK_LEDGER = 20, 100
ELEMENTS = 8
AT_ONCE = 2
GOAL_SECONDS = 0.5
DECISION_TRIALS = (100, 1_000, 10_000)
SPACE = {
    "objective.beta": {"uniform": [0.1, 1]},
    "objective.free_bits": {"uniform": [0, 60]},
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "model.decoder": {"choice": ["hierarchical", "flat"]},
    "model.latent": {"log_integer": [8, 512]},
    "model.conductor_layers": {"integer": [1, 3], "when": {"model.decoder": ["hierarchical"]}},
}
"""Six settings, one of each kind."""


def main(
    trials: str = typer.Option("200,2000", help="Trials of each sweep, with commas between them."),
    ledger: int = typer.Option(10_000, min=1, help="Trials in the ledger that `status` reads."),
    quick: bool = typer.Option(False, "--quick", help="Few trials: whether it runs, no figures."),
) -> None:
    """Measure what a trial costs beside its training."""
    sizes = [int(size) for size in trials.split(",")] if trials.replace(",", "").isdigit() else []
    if not sizes:
        raise ConfigError(
            f"--trials {trials}", expected="whole numbers with commas between them", do="--trials 200,2000"
        )
    with tempfile.TemporaryDirectory(prefix="sweep-") as name:
        folder = Path(name)
        ok(run_job("build_shards", "--source", "demo", "--out", folder / "shards", "--workers", 0))
        for size in [QUICK_TRIALS] if quick else sizes:
            measure_sweep(folder, size)
        measure_status(folder / "long", QUICK_LEDGER if quick else ledger)
        for size in (QUICK_LEDGER,) if quick else DECISION_TRIALS:
            measure_decisions(folder / f"array-{size}", size)


def measure_sweep(folder: Path, trials: int) -> None:
    """Runs a sweep of trials that do nothing, with all else as the command does it."""
    file = sweep_file(folder / "nothing.yaml", budget={"trials": trials, "steps": 10}, resources={"at_once": AT_ONCE})
    out = folder / f"nothing-{trials}"
    began = time.time()
    driver = subprocess.Popen(
        trainer_command("do_nothing", file, folder / "shards", out), cwd=CHECKOUT, stdout=subprocess.DEVNULL
    )
    _, code, usage = os.wait4(driver.pid, 0)
    whole = time.time() - began
    histories = read_ledger(out).trials.values()
    starts, ends = ([part.when for part in parts if part] for parts in zip(*map(_bounds, histories), strict=True))
    if code or len(ends) != trials:
        raise RuntimeError(f"{len(ends)} of {trials} trials ended; status {code}")
    seconds = max(ends) - min(starts)
    console.print(
        f"{trials:,} trials: {seconds:.1f} s, {seconds / trials:.3f} s a trial, {AT_ONCE} at a time "
        f"(goal {GOAL_SECONDS} s); {whole - seconds:.0f} s for checks, Ray, tables and page; "
        f"driver {usage.ru_maxrss / 1024:.0f} MiB",
        soft_wrap=True,
    )


def measure_status(folder: Path, trials: int) -> None:
    """Writes a ledger of so many trials, half of them stopped early, and reads it."""
    sweep = sweep_settings(asha={"first_steps": 10, "eta": 3}, budget={"trials": trials, "steps": 90})
    folder.mkdir()
    ledger = SweepFolder(folder).ledger
    with ledger.open("w") as file:
        for record in (
            begun(sweep),
            *(record for number in range(trials) for record in records_of_trial(number, sweep.space)),
        ):
            file.write(json.dumps(fields_of(record)) + "\n")
    began = time.perf_counter()
    read_ledger(folder)
    read = time.perf_counter() - began
    began = time.perf_counter()
    ok(run_job("sweep", "status", folder))
    console.print(
        f"ledger of {trials:,} trials ({ledger.stat().st_size / 2**20:.1f} MiB): read in {read:.2f} s, "
        f"status in {time.perf_counter() - began:.1f} s (goal 2 s)",
        soft_wrap=True,
    )


def measure_decisions(folder: Path, trials: int) -> None:
    """What an element of an array takes to decide under ASHA, with so many trials in eight ledgers.

    Another element has just promoted a trial and ended it, and claims the next number.
    """
    budget = {"trials": trials + 2, "steps": 90}
    sweep = sweep_settings(search="tpe", space=SPACE, asha={"first_steps": 10, "eta": 3}, budget=budget)
    folder.mkdir()
    Ledger.open(folder).append(begun(sweep))
    own, other = (SweepFolder(folder, str(element)) for element in range(2))
    for element in range(ELEMENTS):
        path = SweepFolder(folder, str(element)).ledger
        path.parent.mkdir(parents=True)
        records = (
            record for number in range(element, trials, ELEMENTS) for record in records_of_trial(number, sweep.space)
        )
        path.write_text("".join(json.dumps(fields_of(record)) + "\n" for record in records))
    gc.freeze()  # as the command does
    with holding_element(own) as key, holding_element(other) as other_key:
        read, ledger = cpu_ms(lambda: ElementLedger(own, key))
        others = ElementLedger(other, other_key)
        search = LearningSearch(sweep)
        first, _ = cpu_ms(lambda: search.values(trials, ledger.state))
        others.append(Start("t0", 1, 30, 2.0, other_key), end("t0", 1, 99.0, step=30, steps=30))
        others.claim_number(trials)
        ledger.claim_number(trials)
        look, running = cpu_ms(ledger.look)
        assert trials in ledger.state.numbers
        draw, _ = cpu_ms(lambda: search.values(trials + 1, ledger.state))
        step, _ = cpu_ms(lambda: next_step(sweep, ledger.state, planned=trials + 2, running=running))
        cut, _ = cpu_ms(lambda: cut_trials(sweep, ledger.state, planned=trials + 2))
    console.print(
        f"{trials:,} trials in {ELEMENTS} ledgers under ASHA, CPU time: all read {read:.0f} ms; first draw of TPE "
        f"{first:.0f} ms, a later one {draw:.0f} ms (goal 500); what is new {look:.0f} ms, what comes next "
        f"{step:.0f} ms, what is stopped {cut:.0f} ms (goal 100)",
        soft_wrap=True,
    )


def cpu_ms(work: Callable[[], T]) -> tuple[float, T]:
    """How much CPU time something takes, in milliseconds, and its result."""
    began = time.process_time()
    result = work()
    return 1000 * (time.process_time() - began), result


def records_of_trial(number: int, space: Space) -> Iterator[Record]:
    """A trial that has ended, stopped early if its number is even."""
    name, steps = f"t{number}", 90 if number % 2 else 10
    yield drawn(number, name, **random_values(space, seed=0, number=number))
    yield Start(name, 0, steps, 2.0)
    yield end(name, 0, 100 + number / 1e6, step=steps)


def _bounds(trial: TrialHistory) -> tuple[Start | None, End | None]:
    return trial.last_start, trial.last_end


if __name__ == "__main__":
    run_command(main)
