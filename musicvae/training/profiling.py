"""Where the time of a training step goes: a trace for chrome://tracing or Perfetto, and a table.

A few steps soon after the start are profiled, then training goes on as if nothing had been.
"""

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from musicvae.data.loader import Batch
from musicvae.data.manifest import ShardManifest
from musicvae.data.order import lanes_of_rank
from musicvae.durable import write_whole
from musicvae.training.fit_config import FitConfig
from musicvae.training.matrix_flops import matrix_peak, training_flops
from musicvae.training.world import World

FIRST, COUNT = 5, 5
"""Steps that go by before the profile, while kernels are chosen and memory grows; and steps in the profile."""
ROWS = 40
WAITING_FOR_DATA = "waiting for data"
"""Name of the span in which the loop waits for the loader."""
KINDS = (
    (WAITING_FOR_DATA, (WAITING_FOR_DATA,)),
    ("matrix products, LSTM kernels whole", ("mm", "matmul", "linear", "rnn", "lstm", "nvjet", "cutlass")),
    ("optimizer", ("adam", "optimizer")),
    ("exchange with other ranks", ("gloo", "nccl", "c10d", "all_reduce", "allreduce", "reducer")),
)
"""Kinds of work, and what a name of an operation or kernel holds that belongs to one; the first that fits."""
OTHER = "other operations"


@dataclass(frozen=True, slots=True)
class ProfiledWork:
    """What the profile is about, to be put into proportion.

    Attributes:
        description: rank, windows, precision, device, threads.
        flops: operations of the matrix products in one step of this rank.
        peak: operations per second that the machine can do, measured at the start.
    """

    description: str
    flops: int
    peak: float

    @classmethod
    def of(cls, config: FitConfig, manifest: ShardManifest, world: World) -> "ProfiledWork":
        """A step of this rank; takes a moment to measure the peak."""
        settings = config.train
        lanes = len(lanes_of_rank(world.rank, world.size, config.data.lanes))
        windows = settings.global_batch * lanes // config.data.lanes
        return cls(
            f"rank {world.rank} of {world.size} on {world.device}, {torch.get_num_threads()} thread(s), "
            f"{windows} of {settings.global_batch} windows a step, {settings.precision}",
            windows * training_flops(config.model, manifest.grid, manifest.drum_map.num_drums),
            matrix_peak(getattr(torch, settings.precision), world.device),
        )


def profiled(batches: Iterable[Batch], folder: Path, work: ProfiledWork) -> Generator[Batch, None, None]:
    """The same batches; what their consumer does between two of them, and the wait for the second, is a step.

    Writes `folder/trace.json` and `folder/table.txt` once the profiled steps are over, or at the end if that comes
    first.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    profiler: profile | None = None
    began, steps = 0.0, 0

    def finish() -> None:
        if profiler is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        profiler.stop()
        if not steps:
            return
        folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(folder / "trace.json"))
        averages = profiler.key_averages()
        sort = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        details = averages.table(sort_by=sort, row_limit=ROWS, max_name_column_width=60)
        write_whole(folder / "table.txt", f"{step_table(averages, steps, seconds, work)}\n\n{details}\n")

    try:
        for number, batch in enumerate(batches):
            if number == FIRST + COUNT:
                finish()
                profiler = None
            if number == FIRST:
                profiler = profile(activities=activities)
                profiler.start()
                began = time.perf_counter()
            yield batch
            steps += profiler is not None
    finally:
        finish()


def step_table(events: Sequence[FunctionEventAvg], steps: int, seconds: float, work: ProfiledWork) -> str:
    """Milliseconds of one step by kind of work, as the thread that trains (on CUDA: the device) spent them.

    Args:
        seconds: what all `steps` took together by the clock.
    """
    on_device = torch.cuda.is_available()
    spent = {name: 0.0 for name, _ in KINDS} | {OTHER: 0.0}
    for event in events:
        if not on_device or event.key == WAITING_FOR_DATA:
            microseconds = event.self_cpu_time_total
        elif event.device_type.name == "CUDA" and not event.is_user_annotation:
            microseconds = event.self_device_time_total
        else:
            continue
        spent[_kind(str(event.key))] += microseconds / 1e3 / steps
    step = 1e3 * seconds / steps
    spent["idle, Python, and between operations"] = max(0.0, step - sum(spent.values()))
    rows = [f"{name:<40} {each:9.2f} ms {each / step:7.1%}" for name, each in spent.items()]
    share = work.flops / work.peak / (step / 1e3)
    return "\n".join(
        [
            f"{work.description}; {steps} steps",
            f"{'one step':<40} {step:9.2f} ms",
            *rows,
            f"{'own matrix products at the peak':<40} {1e3 * work.flops / work.peak:9.2f} ms",
            f"share of the matrix peak, {work.peak / 1e9:.0f} GFLOP/s: {share:.1%}",
        ]
    )


def _kind(name: str) -> str:
    name = name.lower()
    return next((kind for kind, parts in KINDS if any(part in name for part in parts)), OTHER)
