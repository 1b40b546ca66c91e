"""What each decision in a preset is worth: variants of it, trained for the same time, several seeds each.

    python -m tests.experiments.ablation tests/experiments/ablations/generation.yaml --shards SHARDS --out OUT

Budgets are equal in CPU time, not in steps: each variant first trains for some steps, and that rate gives the number of
steps that fit into --minutes of one core, evaluations not counted. Learning rate and KL schedule span that number. All
are ordinary run folders (OUT/runs/NAME/seed-N), so the same command goes on from where it was stopped.

KEY=VALUE after FILE are settings of the base and of all variants: train.precision=float32 on a CPU that does not
multiply bfloat16. `--init-from RUN` has all runs start from the weights of RUN: what each decision is worth in a last
stage.

Figures are those of the best weights of each run on the validation split, one draw of z a window. Differences are those
of a variant's run to the base's of the same seed, mean ± standard deviation over seeds. `--quick` shows that it runs,
no more.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import typer

from cluster.errors import ExitCode
from jobs.command.command_line import PlainConsole, console, run_command
from musicvae.data.manifest import ShardSource, open_shards
from musicvae.durable import write_json
from musicvae.errors import ConfigError, StoppedError
from musicvae.model.objective import beta_at
from musicvae.pretrained.load import load_run
from musicvae.training.run_folder import RunFolder
from tests.benchmarks.parallel_jobs import Job, run_jobs
from tests.benchmarks.training_rate import steps_per_cpu_second
from tests.experiments.ablation_figures import RunFigures, figures_of
from tests.experiments.ablation_file import BASE, AblationFile, read_ablation
from tests.experiments.ablation_table import rows, table
from tests.support.commands import job_command

RATE_STEPS = 14
"""Steps that a rate is taken from."""
NEVER = 1_000_000_000
QUICK_MINUTES, QUICK_RATE_STEPS, QUICK_WINDOWS = 0.02, 2, 64
WIDTH = 165
"""Characters that the table needs."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """The file of an ablation on some shards, and where its runs lie.

    Attributes:
        minutes: of CPU time that each run trains for.
        rate_steps: that its rate is taken from.
        at_once: runs that share the machine's cores.
        windows: of the split that are evaluated, None for all.
        init_from: the run whose weights all runs start from; None for random ones.
    """

    variants: AblationFile
    shards: str
    out: Path
    minutes: float
    rate_steps: int
    at_once: int
    windows: int | None
    init_from: Path | None

    def rate_job(self, name: str) -> Job:
        """A training of a variant without end, which logs every step and does nothing else."""
        settings = (f"train.steps={NEVER}", f"train.evaluate_every={NEVER}", f"train.checkpoint_every={NEVER}")
        return self._job(f"rate-{name}", name, self._rate_run(name), (*settings, "train.log_every=1"))

    def measure_rate(self, name: str) -> float | None:
        """Steps of a variant for a second of CPU time, from here on known; None where its training fails."""
        run = self._rate_run(name)
        shutil.rmtree(run.path, ignore_errors=True)
        rate = steps_per_cpu_second(self.rate_job(name), run.metrics, steps=self.rate_steps)
        if rate is not None:
            write_json(self._rate_file(name), {"steps_per_cpu_second": rate})
        return rate

    def rate(self, name: str) -> float | None:
        """What was measured before; None where nothing was.

        Raises:
            ConfigError: it was measured with other settings.
        """
        file = self._rate_file(name)
        if not file.exists():
            return None
        self._check_same(self._rate_run(name), name, ())
        return json.loads(file.read_text())["steps_per_cpu_second"]

    def run(self, name: str, seed: int) -> RunFolder:
        return RunFolder(self.out / "runs" / name / f"seed-{seed}")

    def job(self, name: str, seed: int) -> Job:
        """The training command of a run."""
        return self._job(f"{name}-seed-{seed}", name, self.run(name, seed), self._length(name, seed))

    def is_finished(self, name: str, seed: int) -> bool:
        """Whether the run was trained to its end.

        Raises:
            ConfigError: it was begun with other settings.
        """
        run = self.run(name, seed)
        if not run.config.exists():
            return False
        self._check_same(run, name, self._length(name, seed))
        return run.read_status().get("state") == "finished"

    def figures(self, name: str, seed: int, source: ShardSource) -> RunFigures:
        """The figures of a finished run."""
        kept = self.out / "figures" / f"{name}-seed-{seed}.json"
        base = self.variants.config(BASE)
        return figures_of(
            self.run(name, seed),
            name,
            seed,
            source,
            beta=beta_at(base.objective, base.train.steps),
            limit=self.windows,
            kept=kept,
        )

    def log(self, label: str) -> Path:
        return self.out / "logs" / f"{label}.log"

    def _rate_run(self, name: str) -> RunFolder:
        return RunFolder(self.out / "rates" / name)

    def _rate_file(self, name: str) -> Path:
        return self.out / "rates" / f"{name}.json"

    def _length(self, name: str, seed: int) -> list[str]:
        rate = self.rate(name)
        assert rate is not None, "only variants whose rate is known are trained"
        steps = max(1, round(60 * self.minutes * rate))
        return [*self.variants.in_steps(name, steps), f"train.seed={seed}"]

    def _job(self, label: str, name: str, run: RunFolder, settings: Sequence[str]) -> Job:
        threads = max(1, len(os.sched_getaffinity(0)) // self.at_once)
        overrides = [*self.variants.settings_of(name), *settings, f"resources.threads={threads}"]
        where = ["--preset", self.variants.preset, "--shards", self.shards, "--run", run.path]
        if self.init_from:
            where += ["--init-from", self.init_from]
        return Job(label, tuple(job_command("train", *where, *overrides)), self.log(label))

    def _check_same(self, run: RunFolder, name: str, settings: Sequence[str]) -> None:
        expected = self.variants.config(name, settings).result_settings()
        if self.init_from:
            expected["init_from"] = weights_hash(self.init_from)
        if run.read_config()["identity"] == expected:
            return
        raise ConfigError(
            f"{run.path} was trained with other settings than {name} has now",
            likely="an edited file or preset, other --minutes or another --init-from",
            do="name another --out, or remove that folder",
        )


@cache
def weights_hash(run: Path) -> str:
    """Of the best weights of a run, which every check of every run asks for."""
    return load_run(run).weights_hash


def main(
    file: Path = typer.Argument(..., metavar="FILE", help="An ablation: tests/experiments/ablations/*.yaml."),
    everywhere: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Settings of all runs."),
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="Shards to train on and to evaluate with."),
    out: Path = typer.Option(..., help="Folder of all runs; the same one goes on."),
    minutes: float = typer.Option(25.0, min=0.001, help="Of CPU time that each run trains for."),
    seeds: str = typer.Option("0,1,2", help="One run of each variant for each."),
    only: list[str] = typer.Option([], metavar="NAME", help="These variants beside the base; may be repeated."),
    at_once: int = typer.Option(1, min=1, help="Runs at a time, which share the cores."),
    init_from: Path | None = typer.Option(None, help="Run whose best weights all runs start from."),
    quick: bool = typer.Option(False, "--quick", help="Seconds of training, few windows: whether it runs, no figures."),
) -> None:
    """Train all variants of an ablation for the same time and compare them over seeds."""
    variants, source = read_ablation(file, everywhere or ()), open_shards(shards)
    names = variants.names(only)
    chosen = [int(seed) for seed in seeds.split(",")] if seeds.replace(",", "").isdigit() else []
    if not chosen:
        raise ConfigError(f"--seeds {seeds}", expected="whole numbers with commas between them", do="--seeds 0,1,2")
    source.manifest().split("validation")
    where = str(Path(shards).resolve()) if Path(shards).exists() else shards
    ablation = Ablation(
        variants,
        where,
        out.resolve(),
        QUICK_MINUTES if quick else minutes,
        QUICK_RATE_STEPS if quick else RATE_STEPS,
        at_once,
        QUICK_WINDOWS if quick else None,
        init_from.resolve() if init_from else None,
    )
    (ablation.out / "logs").mkdir(parents=True, exist_ok=True)

    failed = measure_rates(ablation, names)
    found: list[RunFigures] = []
    for figures in train_all(ablation, [name for name in names if name not in failed], chosen, source, failed):
        found.append(figures)
        found.sort(key=lambda run: (chosen.index(run.seed), names.index(run.variant)))  # they end in any order
        write_json(ablation.out / "ablation.json", as_json(found, variants, names, ablation, quick=quick))
    title = f"{file.stem}: {ablation.minutes:g} minutes a run, {source}" + (", QUICK: no figures" if quick else "")
    wide = PlainConsole(width=max(console.width, WIDTH))
    wide.print(table(rows(found, names, variants.metric), variants.metric, title=title))
    console.print(f"all figures: {ablation.out / 'ablation.json'}", soft_wrap=True)
    if failed:
        console.print(f"failed: {', '.join(failed)}", soft_wrap=True)
        sys.exit(ExitCode.UNEXPECTED)


def measure_rates(ablation: Ablation, names: Sequence[str]) -> list[str]:
    """Trains each variant whose rate is not known for a while; gives the names of those that failed."""
    failed = []
    for name in names:
        if ablation.rate(name) is not None:
            continue
        rate = ablation.measure_rate(name)
        if rate is not None:
            console.print(f"rate-{name}: {rate:.2f} steps for a second of CPU time", soft_wrap=True)
            continue
        failed.append(name)
        log = ablation.log(f"rate-{name}")
        console.print(f"{name}: its rate could not be measured; see {log}", soft_wrap=True)
    return failed


def train_all(
    ablation: Ablation, names: Sequence[str], seeds: Sequence[int], source: ShardSource, failed: list[str]
) -> Iterator[RunFigures]:
    """Trains what is not trained yet, all variants of a seed before the next seed; gives figures as they come.

    Args:
        failed: gets the names of runs that failed.

    Raises:
        StoppedError: a run was told to stop.
    """
    waiting: dict[str, tuple[str, int]] = {}
    for seed in seeds:
        for name in names:
            if ablation.is_finished(name, seed):
                yield ablation.figures(name, seed, source)
            else:
                waiting[f"{name}-seed-{seed}"] = name, seed
    jobs = (ablation.job(name, seed) for name, seed in waiting.values())
    with closing(run_jobs(jobs, at_once=ablation.at_once)) as ended:
        for label, code in ended:
            name, seed = waiting[label]
            console.print(f"{label}: status {code}", soft_wrap=True)
            match code:
                case ExitCode.SUCCESS:
                    yield ablation.figures(name, seed, source)
                case ExitCode.PREEMPTED | ExitCode.INTERRUPTED:
                    step = ablation.run(name, seed).read_status().get("step", 0)
                    raise StoppedError(step, by_user=code == ExitCode.INTERRUPTED)
                case _:
                    failed.append(label)


def as_json(
    found: Sequence[RunFigures], variants: AblationFile, names: Sequence[str], ablation: Ablation, *, quick: bool
) -> dict[str, object]:
    """Every run, and variants over their seeds."""
    return {
        "preset": variants.preset,
        "everywhere": list(variants.everywhere),
        "metric": variants.metric,
        "minutes": ablation.minutes,
        "at_once": ablation.at_once,
        "quick": quick,
        "runs": [asdict(run) for run in found],
        "variants": {
            row.variant: {"settings": list(variants.settings_of(row.variant))} | row.as_json()
            for row in rows(found, names, variants.metric)
        },
    }


if __name__ == "__main__":
    run_command(main)
