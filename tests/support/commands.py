"""Runs whole commands as a user types them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes.warm_python import run_module, starts_alike

CHECKOUT = Path(__file__).resolve().parents[2]
WARM = frozenset({"build_shards", "evaluate", "export", "latent", "map", "report", "sample", "show", "train"})
"""Jobs that are run hundreds of times, and spend up to three seconds on loading libraries each time."""
SOAK = bool(os.environ.get("SOAK"))
"""Then every command is a new process, as a user's is."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""For commands with no other variables: several threads in each of several processes wait for a core that spins."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "WANDB_SILENT": "true", "COLUMNS": "160"}

HANG_SECONDS = 600 if SOAK else 20
"""`resources.hang_seconds` of tests that wait for them: the default in a soak."""
TINY = (
    "model.latent=8",
    "model.encoder_embedding=8",
    "model.encoder_hidden=16",
    "model.encoder_layers=1",
    "model.conductor_hidden=16",
    "model.conductor_layers=1",
    "model.conductor_embedding=16",
    "model.decoder_embedding=8",
    "model.decoder_hidden=16",
    "model.decoder_layers=1",
    "data.lanes=8",
    "data.mix_drums=0.3",
    "data.mix_bars=0.3",
    "objective.word_dropout=0.1",
    "train.global_batch=16",
    "train.log_every=1",
    "train.evaluate_every=1000",
    "train.checkpoint_every=10",
    "resources.threads=1",
)
"""Settings of a run so small that whole commands can be repeated in tests."""


def job_command(name: str, *arguments: object, ranks: int = 0) -> list[str]:
    """The argv of `python -m jobs.<name>`, with `--ranks` when ranks are asked for."""
    asked = ["--ranks", str(ranks)] if ranks else []
    return [sys.executable, "-m", f"jobs.{name}", *asked, *map(str, arguments)]


def torchrun_command(name: str, *arguments: object, ranks: int) -> list[str]:
    """The argv that runs a job under torchrun itself, without our launcher."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    torchrun += ["--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"]
    # Without `--` torchrun takes `--run` for its own.
    return [*torchrun, "-m", f"jobs.{name}", "--", *map(str, arguments)]


def run_job(
    name: str, *arguments: object, ranks: int = 0, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a job to its end; the caller looks at exit code and output."""
    variables = {**os.environ, **QUIET, **environment}
    if name in WARM and not ranks and not SOAK and starts_alike(variables):
        return run_module(
            f"jobs.{name}", [*map(str, arguments)], folder=CHECKOUT, environment=variables, timeout=timeout
        )
    return subprocess.run(
        job_command(name, *arguments, ranks=ranks),
        cwd=CHECKOUT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def ok(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The result, which must be a success; its output is shown where it is not."""
    assert result.returncode == 0, f"exit {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-5000:]}"
    return result
