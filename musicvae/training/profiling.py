"""Where the time of a training step goes: a trace for chrome://tracing or Perfetto, and a table.

A few steps soon after the start are profiled, then training continues as before. The table says how many floating-point
operations the matrix products of the model need, and how many the machine can do.
"""

import statistics
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from musicvae.data.loader import WindowBatch
from musicvae.data.order import lanes_of_rank
from musicvae.durable import write_whole
from musicvae.groove.grid import GridSpec
from musicvae.model.layers import FEED_FORWARD
from musicvae.model.prior import COUPLING_LAYERS
from musicvae.model.settings import MatmulPrecision, ModelSettings
from musicvae.performance.model import PerformanceModel
from musicvae.training.settings import FitConfig, Precision
from musicvae.training.world import World

FIRST, COUNT = 5, 5
"""Steps that go by before the profile, while kernels are chosen and memory grows; and steps in the profile."""
ROWS = 40
WAITING_FOR_DATA = "waiting for data"
"""Name of the span in which the loop waits for the loader."""
KINDS = (
    (WAITING_FOR_DATA, (WAITING_FOR_DATA,)),
    ("matrix products, including LSTM kernels", ("mm", "matmul", "linear", "rnn", "lstm", "nvjet", "cutlass")),
    ("optimizer", ("adam", "optimizer")),
    ("communication between ranks", ("gloo", "nccl", "c10d", "all_reduce", "allreduce", "reducer")),
)
"""Kinds of work, and what a name of an operation or kernel holds that belongs to one; the first that fits."""
OTHER = "other operations"
BACKWARD = 2
"""Products of the backward pass for each of the forward pass: gradients of the input and of the weights."""
SQUARE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices that the peak is measured with."""
VENDOR_PEAKS = {
    "A100": {"bfloat16": 312.0, "tf32": 156.0, "float32": 19.5, "float64": 19.5},
    "H100 NVL": {"bfloat16": 835.0, "tf32": 417.0, "float32": 60.0, "float64": 60.0},
    "H200 NVL": {"bfloat16": 835.0, "tf32": 417.0, "float32": 60.0, "float64": 60.0},
    "H100 PCIe": {"bfloat16": 756.0, "tf32": 378.0, "float32": 51.0, "float64": 51.0},
    "H100": {"bfloat16": 989.0, "tf32": 494.0, "float32": 67.0, "float64": 67.0},
    "H200": {"bfloat16": 989.0, "tf32": 494.0, "float32": 67.0, "float64": 67.0},
}
"""10^12 operations per second without sparsity, by a part of the device's name, the longer names first; from NVIDIA's
data sheets."""
ENOUGH_PRODUCTS, PATIENCE_SECONDS = 5, 2.0
"""One product in a precision that the CPU only emulates takes half a minute."""


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
    def of(cls, config: FitConfig, window_flops: float, world: World) -> "ProfiledWork":
        """A step of this rank; takes a moment to measure the peak.

        Args:
            window_flops: operations of the matrix products for one window, forward and backward.
        """
        settings = config.train
        lanes = len(lanes_of_rank(world.rank, world.size, config.data.lanes))
        windows = settings.global_batch * lanes // config.data.lanes
        return cls(
            f"rank {world.rank} of {world.size} on {world.device}, {torch.get_num_threads()} thread(s), "
            f"{windows} of {settings.global_batch} windows a step, {settings.precision}",
            round(windows * window_flops),
            matrix_peak(getattr(torch, settings.precision), world.device),
        )


def profiled(batches: Iterable[WindowBatch], folder: Path, work: ProfiledWork) -> Generator[WindowBatch, None, None]:
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


def training_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of forward and backward pass for one window; a multiplication with its addition counts as two."""
    return (1 + BACKWARD) * forward_flops(settings, grid, num_drums)


def prior_training_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """As `training_flops`, where the prior alone is trained."""
    return _encoder(settings, grid, num_drums) + (1 + BACKWARD) * _prior(settings)


def playing_flops(model: PerformanceModel, hits: float) -> float:
    """As `training_flops`, of a performance model, for a window of so many hits."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    attention = 2 * len(model.blocks) * _product(model.norm.normalized_shape[0], round(hits))
    products = sum(_product(layer.in_features, layer.out_features) for layer in layers)
    return (1 + BACKWARD) * hits * (attention + products)


def forward_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of encoding a window and of decoding it under teacher forcing.

    A product of a vector with an m x n matrix takes 2mn, a step of an LSTM layer 2 x 4 hidden x (input + hidden). Left
    out is what is done once a batch: the tables of tokens, less than a thousandth.
    """
    return _encoder(settings, grid, num_drums) + _prior(settings) + _decoder(settings, grid, num_drums)


def decoding_flops(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """Operations of decoding one groove from a draw of the prior, step by step or under teacher forcing."""
    return _prior(settings) + _decoder(settings, grid, num_drums)


def _encoder(s: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    hidden, layers, steps = s.encoder_hidden, s.encoder_layers, grid.num_steps
    match s.encoder:
        case "none":
            return 0
        case "lstm":
            body = steps * _lstm(s.encoder_embedding, hidden, layers, directions=2)
            return body + 2 * _product(2 * hidden, s.latent)
        case "feed_forward":
            bars = grid.bars if s.encoder_shares_bars else 1
            first = bars * _product(steps // bars * num_drums, hidden)
            return first + _feed_forward(bars * hidden, hidden, layers - 1) + 2 * _product(hidden, s.latent)
        case "transformer":
            segments = s.latent_segments
            summary = _product(steps // segments * hidden, hidden)
            heads = 2 * _product(hidden, s.latent // segments)
            return layers * _transformer_block(hidden, steps) + segments * (summary + heads)
        case "segments":
            segments = s.latent_segments
            enter = _product(steps // segments * (num_drums + s.encoder_embedding), hidden)
            heads = 2 * _product(hidden, s.latent // segments)
            return layers * _transformer_block(hidden, segments) + segments * (enter + heads)


def _decoder(s: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    hidden, layers, steps, vocab = s.decoder_hidden, s.decoder_layers, grid.num_steps, 1 << num_drums
    match s.decoder:
        case "hierarchical" | "flat":
            whole = s.decoder == "flat"
            segments, condition = (1, s.latent) if whole else (grid.bars, s.conductor_embedding)
            recurrent = _lstm(condition + s.decoder_embedding, hidden, layers) + _product(hidden, vocab)
            states = segments * _initial_state(condition, hidden, layers)
            return (0 if whole else _conductor(s, grid)) + states + steps * recurrent
        case "feed_forward":
            drums = _product(hidden, steps * num_drums) + steps * _product(num_drums, vocab)
            return _feed_forward(s.latent, hidden, layers) + drums
        case "independent":
            return _step_features(s, grid) + steps * _product(s.step_features, vocab)
        case "recurrent" | "transformer":
            features = s.step_features if s.latent else 0
            inputs = s.decoder_embedding + features
            history = _product(len(s.history_lags) * (num_drums + 1), s.decoder_embedding)
            if s.decoder == "recurrent":
                body, outputs = steps * _lstm(inputs, hidden, layers), hidden + inputs
            else:
                blocks = layers * _transformer_block(hidden, steps)
                body, outputs = steps * _product(inputs, hidden) + blocks, hidden
            return _step_features(s, grid) + body + steps * (history + _product(outputs + features, vocab))


def _prior(s: ModelSettings) -> int:
    if s.prior == "standard":
        return 0
    if s.prior == "flow":
        coupling = _feed_forward(s.latent, s.prior_hidden, COUPLING_LAYERS) + _product(s.prior_hidden, 2 * s.latent)
        return s.prior_layers * coupling
    part = s.latent // s.latent_segments
    blocks = s.prior_layers * _transformer_block(s.prior_hidden, s.latent_segments)
    enter = (s.latent_segments - 1) * _product(part, s.prior_hidden)
    return enter + blocks + s.latent_segments * _product(s.prior_hidden, 2 * part)


def _conductor(s: ModelSettings, grid: GridSpec) -> int:
    bar = _lstm(1, s.conductor_hidden, s.conductor_layers) + _product(s.conductor_hidden, s.conductor_embedding)
    return _initial_state(s.latent, s.conductor_hidden, s.conductor_layers) + grid.bars * bar


def _step_features(s: ModelSettings, grid: GridSpec) -> int:
    if not s.latent:
        return 0
    hidden, features, segments = s.step_features_hidden, s.step_features, s.latent_segments
    written = grid.bars if segments == 1 else segments
    if s.step_features_layers:
        part = s.latent // segments
        steps = grid.num_steps // segments * features
        enter, write = _product(part, hidden), _product(hidden + part, 2 * hidden) + _product(2 * hidden, steps)
        return s.step_features_layers * _transformer_block(hidden, segments) + segments * (enter + write)
    write = written * (_product(hidden, hidden) + _product(hidden, grid.num_steps // written * features))
    if segments == 1:
        return write + _product(s.latent, hidden) + _product(hidden, written * hidden)
    return write + _product(s.latent, features) + segments * _product(s.latent // segments + features, hidden)


def vendor_peak(device: torch.device, precision: Precision, matmul: MatmulPrecision) -> float | None:
    """Operations per second of matrix products, dense, as the vendor's data sheet gives them; None where it is unknown.

    Args:
        matmul: whether float32 is multiplied as TensorFloat32, which has a peak of its own.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    kind = precision if precision != "float32" or matmul == "highest" else "tf32"
    return next((1e12 * peaks[kind] for part, peaks in VENDOR_PEAKS.items() if part in name and kind in peaks), None)


def matrix_peak(dtype: torch.dtype, device: torch.device, *, seconds: float = 0.5) -> float:
    """Operations per second of a product of two large square matrices, median; with this process's threads.

    Args:
        seconds: to measure for; longer where fewer than five products fit into it, but not for minutes.
    """
    side = SQUARE[device.type]
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    taken = []
    until = time.perf_counter() + seconds
    while not taken or time.perf_counter() < (until if len(taken) >= ENOUGH_PRODUCTS else until + PATIENCE_SECONDS):
        started = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return _product(side, side) * side / statistics.median(taken)


def _product(inputs: int, outputs: int) -> int:
    return 2 * inputs * outputs


def _initial_state(inputs: int, hidden: int, layers: int) -> int:
    return _product(inputs, 2 * layers * hidden)


def _lstm(inputs: int, hidden: int, layers: int, *, directions: int = 1) -> int:
    deeper = (layers - 1) * _product(directions * hidden + hidden, 4 * hidden)
    return directions * (_product(inputs + hidden, 4 * hidden) + deeper)


def _feed_forward(inputs: int, hidden: int, layers: int) -> int:
    return _product(inputs, hidden) + (layers - 1) * _product(hidden, hidden) if layers else 0


def _transformer_block(hidden: int, steps: int) -> int:
    projections = 4 * _product(hidden, hidden) + 2 * _product(hidden, FEED_FORWARD * hidden)
    return steps * (projections + 2 * _product(hidden, steps))
