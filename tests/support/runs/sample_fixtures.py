"""A run to sample from, and what tests ask of a sampling's output."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import pytest
import torch

from jobs.sampler.job import job_of
from jobs.sampler.run import Merged, finish, make_share, training_record
from jobs.sampler.settings import Execution, SampleSettings
from jobs.sampler.work import WORK, SampleShare, SampleWork
from jobs.training.settings import TrainConfig
from musicvae.data.feel import measure_feel
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import tokens_from_hits
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.training.best_weights import save_best
from musicvae.training.run_folder import RunFolder, RunIdentity
from tests.support.commands import ok, run_job

GRID = GridSpec()
DRUMS = DrumMap.load("roland")
WIDTHS = ["encoder_embedding", "encoder_hidden", "conductor_hidden", "conductor_embedding"]
TINY = ModelSettings(**dict.fromkeys(["latent", *WIDTHS, "decoder_embedding", "decoder_hidden"], 8))
TEMPO = 104.0


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as a training run leaves it, with random weights."""
    return write_sample_run(tmp_path_factory.mktemp("runs") / "tiny")


def write_sample_run(path: Path, fingerprint: str = "0" * 16, grid: GridSpec = GRID) -> Path:
    """A run folder with random weights.

    Args:
        fingerprint: of the shards that it says to be trained on.
    """
    folder = RunFolder(path)
    settings = TrainConfig(model=TINY)
    folder.open(RunIdentity(settings.result_settings(), fingerprint, grid, DRUMS), settings.model_dump(mode="json"), {})
    torch.manual_seed(0)
    model = MusicVAE(TINY, grid, DRUMS.num_drums)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # as initialised the decoder hardly listens to z
    save_best(folder.best, model.state_dict(), 0, {})
    rng = np.random.default_rng(0)
    hits = rng.random((50, grid.num_steps, DRUMS.num_drums)) < 0.2
    velocity = np.where(hits, rng.integers(1, 128, hits.shape), 0).astype(np.uint8)
    offset = np.where(hits, rng.integers(-20000, 20000, hits.shape), 0).astype(np.int16)
    block = WindowBlock(tokens_from_hits(hits), velocity, offset, [WindowMeta("song", 0, TEMPO)] * len(hits))
    measure_feel([block], grid).save(folder.feel)
    return folder.path


def hits_in(path: Path, tempo: float) -> np.ndarray:
    """The hits of a MIDI file as pretty_midi sees them, bool of shape (step, drum)."""
    (drums,) = pretty_midi.PrettyMIDI(str(path)).instruments
    assert drums.is_drum
    hits = np.zeros((GRID.num_steps, DRUMS.num_drums), dtype=bool)
    for note in drums.notes:
        step = (
            math.floor(note.start * tempo / 60 * GRID.steps_per_beat + 0.5 + 1e-4) % GRID.num_steps
        )  # early hits are at the loop's end
        hits[step, DRUMS.class_of_pitch[note.pitch]] = True
    return hits


def manifest_of(out: Path) -> list[dict[str, Any]]:
    """The records of an output."""
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def output_of(out: Path) -> dict[str, bytes]:
    """All files of an output but for its work area."""
    files = [path for path in out.rglob("*") if path.is_file() and path.relative_to(out).parts[0] != WORK]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def sample_by_mean(run: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """Runs `jobs.sample` to its good end, hits played by the mean: the performance model takes its time."""
    return ok(run_job("sample", "--feel", "mean", "--run", run, *options))


def sampled(
    run: Path, out: Path, *, share: SampleShare | None = None, execution: Execution | None = None, **wishes: Any
) -> Merged | None:
    """Samples a run in this process, or one share of it; what jobs.sample does between its messages.

    Hits are played by the mean unless a feel is wished for: the performance model takes its time.
    """
    options = SampleSettings(run=str(run), **{"feel": "mean", **wishes})
    work, execution = SampleWork(out), execution or Execution(chunk=1024)
    job = job_of(options, out)
    training = training_record(job, job.trained())
    work.claim(job.settings, options)
    make_share(job, work, share or SampleShare(), execution)
    return finish(job, work, training, execution)
