"""What a run of a variant came to, measured once and kept beside the runs."""

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from musicvae.data.manifest import ShardSource
from musicvae.data.store import WindowStore
from musicvae.durable import read_lines, write_json
from musicvae.evaluation.elbo import EvaluationReport, EvaluationSums, evaluate_batch, spaced_windows
from musicvae.model.model import MusicVAE
from musicvae.pretrained.load import load_run
from musicvae.training.run_folder import RunFolder
from musicvae.training.tasks import EVALUATION_SEED

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run's best weights on the validation split, one draw of z a window.

    Attributes:
        weights: how many numbers were trained.
        steps: that it trained for; the weights are from `best_step`.
        windows_per_second: as it trained, evaluations not counted.
        negative_elbo: nats per window, as `reconstruction` and `kl`.
        objective: reconstruction + beta KL.
        windows: of the split that were evaluated.
        weights_hash: of the file of weights.
    """

    variant: str
    seed: int
    weights: int
    steps: int
    best_step: int
    windows_per_second: float
    negative_elbo: float
    reconstruction: float
    kl: float
    objective: float
    token_accuracy_teacher_forced: float
    token_accuracy_free_running: float
    windows: int
    weights_hash: str


def figures_of(
    run: RunFolder, variant: str, seed: int, source: ShardSource, *, beta: float, limit: int | None, kept: Path
) -> RunFigures:
    """The figures of a run, from the file `kept` where it holds those of these weights.

    Args:
        beta: of the objective that is reported, whatever the run was trained with.
        limit: evaluate so many windows, spaced through the split.

    Raises:
        ConfigError: no run with weights.
        DataError: a damaged run or shard.
    """
    trained = load_run(run.path)
    if kept.exists():
        known = RunFigures(**json.loads(kept.read_text(encoding="utf-8")))
        if known.weights_hash == trained.weights_hash:
            return known
    report = _evaluated(trained.model, source, limit)
    found = RunFigures(
        variant=variant,
        seed=seed,
        weights=sum(weight.numel() for weight in trained.model.parameters()),
        steps=run.read_status()["total"],
        best_step=trained.step,
        windows_per_second=statistics.median(record["windows_per_second"] for record in read_lines(run.metrics)),
        negative_elbo=report.negative_elbo,
        reconstruction=report.reconstruction,
        kl=report.kl,
        objective=report.reconstruction + beta * report.kl,
        token_accuracy_teacher_forced=report.teacher_forced.token_accuracy,
        token_accuracy_free_running=report.free_running.token_accuracy,
        windows=report.windows,
        weights_hash=trained.weights_hash,
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, asdict(found))
    return found


def _evaluated(model: MusicVAE, source: ShardSource, limit: int | None) -> EvaluationReport:
    manifest = source.manifest()
    store = WindowStore(source, manifest, "validation", cached_blocks=1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    num_drums = manifest.drum_map.num_drums
    window_ids = spaced_windows(store.num_windows, limit)
    sums = EvaluationSums.empty(model.latent, num_drums)
    for first in range(0, len(window_ids), EVALUATION_BATCH):
        ids = window_ids[first : first + EVALUATION_BATCH]
        sums += evaluate_batch(
            model.to(device), store.tokens(ids), ids, num_drums=num_drums, seed=EVALUATION_SEED, device=device
        )
    return EvaluationReport.from_sums(sums)
