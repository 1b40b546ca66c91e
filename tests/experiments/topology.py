"""Whether the presets train one model at every number of ranks and pieces, as a table.

    python -m tests.experiments.topology [--preset generation ...] [--precision float32]

Trains each preset as it ships, shrunk in width alone, for 20 steps by each topology: ranks of one launch of torchrun,
which meet over gloo in worlds of 1 to 4, train by `fit` with gradients averaged by DDP, save and resume. Prints the
largest relative difference to one rank: of the first ten losses, and of the weights after the last step (norm of the
difference of a tensor by the norm of the tensor; without the biases of attention's keys). Exits with 1 where one is
larger than allowed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist

from musicvae.data.manifest import open_shards
from musicvae.durable import read_lines
from musicvae.training.fit import fit
from musicvae.training.progress import Trackers
from musicvae.training.run_folder import RunFolder, RunIdentity
from musicvae.training.settings import FitConfig
from musicvae.training.world import World
from tests.benchmarks.training_runs import write_synthetic_shards
from tests.support.commands import CHECKOUT, torchrun_command
from tests.support.runs.topologies import PRESETS, TOPOLOGIES, narrow

STEPS, RESUMED_AT, LOSSES = 20, 7, 10
ALLOWED = {"float64": (1e-6, 1e-6), "float32": (1e-5, 1e-5)}
"""For losses and weights."""
ATTENTION_BIAS = "queries_keys_values.bias"
"""Its part for the keys adds the same to all scores of a query, so it changes nothing: its gradient is zero but for
rounding. AdamW divides a gradient by its own size, and moves these weights as much as any other, at random."""


def main() -> None:
    arguments = _arguments()
    if "RANK" in os.environ:
        _train_as_rank(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic_shards(Path(folder) / "shards")
        most = max(ranks for stretches in TOPOLOGIES.values() for ranks, _ in stretches)
        command = torchrun_command("train", *sys.argv[1:], "--folder", folder, ranks=most)
        command[command.index("jobs.train")] = "tests.experiments.topology"
        subprocess.run(command, cwd=CHECKOUT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        differences = {preset: _differences(Path(folder) / preset) for preset in arguments.preset}
    print(f"{arguments.precision}; difference to 1 rank of losses 1 to {LOSSES} / of weights after {STEPS} steps")
    names = list(TOPOLOGIES)[1:]
    print(f"{'preset':<24}" + "".join(f"{name:>20}" for name in names))
    for preset, found in differences.items():
        print(f"{preset:<24}" + "".join(f"{f'{loss:.0e} / {weights:.0e}':>20}" for loss, weights in found.values()))
    pairs = [pair for found in differences.values() for pair in found.values()]
    largest, allowed = [max(values) for values in zip(*pairs, strict=True)], ALLOWED[arguments.precision]
    print("largest: {:.0e} / {:.0e}; ".format(*largest) + "allowed: {:.0e} / {:.0e}".format(*allowed))
    sys.exit(not all(value <= limit for value, limit in zip(largest, allowed, strict=True)))


def _train_as_rank(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    rank, folder = int(os.environ["RANK"]), arguments.folder
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    for preset in arguments.preset:
        for name, stretches in TOPOLOGIES.items():
            for number, (ranks, accumulation) in enumerate(stretches):
                if rank >= ranks:
                    continue
                steps = STEPS if number == len(stretches) - 1 else RESUMED_AT
                precision = f"train.precision={arguments.precision}"
                config = narrow(preset, precision, f"train.steps={steps}", f"train.accumulation={accumulation}")
                meeting = dist.PrefixStore(f"{preset}, {name}, {number}", store)
                dist.init_process_group("gloo", store=meeting, rank=rank, world_size=ranks)
                _train(config, folder / "shards", RunFolder(folder / preset / name))
                dist.destroy_process_group()


def _train(config: FitConfig, shards: Path, run: RunFolder) -> None:
    world, source = World.joined(device=torch.device("cpu")), open_shards(str(shards))
    identity = RunIdentity.of(config.result_settings(), source.manifest())
    world.on_main(lambda: run.open(identity, config.model_dump(mode="json"), {}))
    fit(config, source, run, world, Trackers())


def _differences(folder: Path) -> dict[str, tuple[float, float]]:
    """Of the losses and of the weights, by topology."""
    (losses, weights), *others = (_results(folder / name) for name in TOPOLOGIES)
    found = {}
    for name, (other_losses, other_weights) in zip(list(TOPOLOGIES)[1:], others, strict=True):
        of_losses = max(abs(b - a) / abs(a) for a, b in zip(losses, other_losses, strict=True))
        of_weights = max(float((other_weights[key] - weights[key]).norm() / weights[key].norm()) for key in weights)
        found[name] = of_losses, of_weights
    return found


def _results(run: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    records = read_lines(run / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, STEPS + 1)), run
    weights = safetensors.torch.load_file(run / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors")
    for name in [name for name in weights if name.endswith(ATTENTION_BIAS)]:
        queries, _, values = weights[name].chunk(3)
        weights[name] = torch.cat([queries, values])
    return [record["loss"] for record in records[:LOSSES]], weights


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", choices=PRESETS, default=PRESETS)
    parser.add_argument("--precision", choices=ALLOWED, default="float64")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
