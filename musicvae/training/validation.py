"""The evaluation inside a run: all ranks share a split, and leave together when they are asked to stop."""

from collections.abc import Callable

from musicvae.data.store import WindowStore
from musicvae.evaluation.elbo import EvaluationReport, EvaluationSums, evaluate_batch, evaluation_batches
from musicvae.model.model import MusicVAE
from musicvae.training.stopping import StopAgreement, Wish
from musicvae.training.world import World

EVALUATION_SEED = 0
"""Of the latent noise: the same for every run and in `jobs.evaluate`, so that their figures compare."""


def validate(
    model: MusicVAE,
    windows: WindowStore,
    world: World,
    stopping: StopAgreement,
    *,
    batch: int,
    free_running: bool,
    beat: Callable[[], None],
) -> EvaluationReport | Wish:
    """The report on the validation split, each window counted once whatever the world size; or the wish to stop.

    Every rank makes the same number of rounds, and between two of them all agree on whether to go on.

    Args:
        windows: of the validation split.
        batch: windows that a rank evaluates at once; a resource, it changes no figure.
        free_running: also decode free-running, which takes one decoder call per step.
        beat: called once a round.
    """
    num_drums = windows.num_drums
    sums = EvaluationSums.empty(model.latent, num_drums)
    for window_ids, tokens in evaluation_batches(windows, batch=batch, rank=world.rank, world_size=world.size):
        beat()
        if stop := stopping.agreed():
            return stop
        stopping.ask()
        sums += evaluate_batch(
            model,
            tokens,
            window_ids,
            num_drums=num_drums,
            seed=EVALUATION_SEED,
            device=world.device,
            free_running=free_running,
        )
    total = world.sum(sums.to_vector())
    return EvaluationReport.from_sums(EvaluationSums.from_vector(total, latent=model.latent, num_drums=num_drums))
