"""Makes the examples of each evaluation: cheap, keyed, and without a trace in the training."""

import numpy as np
import torch
from jaxtyping import Int16, Int64

from musicvae.data.store import WindowStore
from musicvae.evaluation.elbo import EvaluationReport, spaced_windows
from musicvae.model.model import MusicVAE
from musicvae.randomness import Purpose, normals, uniforms
from musicvae.training.examples import Examples, cut_examples
from musicvae.training.run_folder import RunFolder
from musicvae.training.tracker import Tracker

WINDOWS = 8
SAMPLES = 8
SEED = 0
"""Of the samples, the same for every run and step: what changes from picture to picture is the model."""


class ExampleMaker:
    """Follows the same few validation windows through a run.

    Args:
        validation: the windows of the validation split.
        step: where the run stands; examples of later steps are removed, they will be made again.
        tracker: shown what was made.
    """

    def __init__(self, run: RunFolder, validation: WindowStore, step: int, tracker: Tracker) -> None:
        self.run = run
        self.tracker = tracker
        self.window_ids = example_ids(validation.num_windows)
        self.windows = validation.tokens(self.window_ids)
        cut_examples(run.examples, step)

    def make(self, model: MusicVAE, report: EvaluationReport, step: int) -> None:
        """Puts the examples of an evaluation into the run folder."""
        examples = make_examples(model, self.window_ids, self.windows, report)
        self.run.check_writer()
        examples.save(self.run.examples, step)
        self.tracker.show(step, examples)


def example_ids(windows: int) -> Int64[np.ndarray, " window"]:
    """Ids of the windows to follow, spaced evenly over a split of this many."""
    return spaced_windows(windows, WINDOWS)


@torch.no_grad()
def make_examples(
    model: MusicVAE,
    window_ids: Int64[np.ndarray, " window"],
    windows: Int16[np.ndarray, "window step"],
    report: EvaluationReport,
) -> Examples:
    """Decodes twice for a handful of rows. Draws no random number that is not keyed, and leaves the model as it was."""
    was_training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device
        mu = model.encode(torch.from_numpy(windows).to(device, torch.int64)).mu
        noise = torch.from_numpy(normals(SEED, Purpose.PRIOR, 0, 0, SAMPLES, model.latent)).to(mu)
        choices = torch.from_numpy(uniforms(SEED, Purpose.DECODING, 0, 0, SAMPLES, model.num_steps)).to(device)
        reconstructions, samples = model.generate(mu), model.generate(model.prior.z_of(noise), choices)
    finally:
        model.train(was_training)
    return Examples(
        window_ids=window_ids,
        windows=windows,
        reconstructions=reconstructions.to("cpu", torch.int16).numpy(),
        samples=samples.to("cpu", torch.int16).numpy(),
        kl=report.kl_by_dimension.astype(np.float32),
        mu_variance=report.mu_variance.astype(np.float32),
    )
