"""Everything that only a GPU can show, in one go: the gpu tests, and how fast it trains and samples, as Markdown.

    python -m tests.benchmarks.gpu [--device cuda] [--quick]

Runs `pytest -m gpu`, then `jobs.train` on synthetic shards with three presets in float32 and bfloat16, the latter with
each way of `train.compile`, then generates grooves on the device. The table is for docs/scale.md.
`--device cpu --quick` shows on any machine that the script itself works, in float32 where the CPU does not multiply
bfloat16.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from jobs.command.command_line import compose_settings
from jobs.command.provenance import provenance
from jobs.training.settings import TrainConfig
from musicvae.model.model import MusicVAE
from musicvae.model.precision import multiplies_bfloat16
from musicvae.training.profiling import matrix_peak
from tests.benchmarks.training_runs import train_and_measure, write_synthetic_shards
from tests.support.commands import CHECKOUT
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID

STEPS = {"small": 300, "generation": 300, "paper": 100}
COMPILED = {"small", "paper"}
"""Presets that are compiled too: each start needs a minute."""
SAMPLED_TOGETHER = 4096
REPEATS = 5


def main() -> None:
    arguments = _arguments()
    device = torch.device(arguments.device)
    tests = _gpu_tests()
    precision = "bfloat16" if multiplies_bfloat16(device) else "float32"
    peaks = {name: matrix_peak(getattr(torch, name), device) for name in dict.fromkeys(["float32", precision])}
    presets = ["demo"] if arguments.quick else list(STEPS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        shards = write_synthetic_shards(Path(folder) / "shards")
        for preset in presets:
            steps = 10 if arguments.quick else STEPS[preset]
            ways = [*((name, "false") for name in peaks)]
            if preset in COMPILED:
                ways += [(precision, "true"), (precision, "reduce-overhead")]
            if arguments.quick:
                ways = [(precision, "false"), (precision, "reduce-overhead")]
            for name, compiled in ways:
                rows.append(_trained(shards, preset, device, name, peaks[name], steps=steps, compiled=compiled))
    made = provenance()
    measured = ", ".join(f"{name} {peak / 1e12:.3g}" for name, peak in peaks.items())
    print(
        f"{_name(device)}, torch {torch.__version__}, commit {str(made['commit'])[:7]}; matrix peak in TFLOP/s: "
        f"{measured}. `pytest -m gpu`: {tests}.\n"
    )
    print("| preset | precision | batch | `train.compile` | windows/s | step, ms | share of peak | data wait |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    print("\n| preset | grooves at once | grooves/s |\n| --- | --- | --- |")
    for preset in presets:
        count = 64 if arguments.quick else SAMPLED_TOGETHER
        print(f"| {preset} | {count} | {_samples_per_second(preset, device, precision, count):.0f} |")


def _gpu_tests() -> str:
    """What pytest's last line says; the whole output where it failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return result.stdout.strip().splitlines()[-1].strip("= ")


def _trained(
    shards: Path, preset: str, device: torch.device, precision: str, peak: float, *, steps: int, compiled: str
) -> str:
    overrides = [
        f"train.precision={precision}",
        f"resources.device={device.type}",
        f"train.compile={compiled}",
    ]
    run = train_and_measure(shards, preset, overrides, steps=steps, ranks=1)
    batch = round(run.windows_per_second * run.step_seconds)
    share = run.step_flops / run.step_seconds / peak
    return (
        f"| {preset} | {precision} | {batch} | {compiled} | {run.windows_per_second:.0f} "
        f"| {1e3 * run.step_seconds:.1f} | {share:.1%} | {run.data_wait:.2%} |"
    )


def _samples_per_second(preset: str, device: torch.device, precision: str, count: int) -> float:
    """Drawn from the prior at temperature 1 by a model without training, which takes as long as one with."""
    config = compose_settings(TrainConfig, preset=preset, config=None, overrides=())
    model = MusicVAE(config.model, GRID, DRUM_MAP.num_drums).to(device)
    taken = []
    for _ in range(REPEATS):
        z = torch.randn(count, model.latent, device=device)
        uniforms = torch.rand(count, GRID.num_steps, device=device)
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            model.generate(z, uniforms).cpu()
        taken.append(time.perf_counter() - started)
    return count / statistics.median(taken[1:])


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({torch.cuda.device_count()} in the machine)"
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="preset demo and few steps: whether it runs, no figures")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here; --device cpu --quick shows that the script works")
    return arguments


if __name__ == "__main__":
    main()
