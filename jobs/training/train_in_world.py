"""Trains in a world that has met, however it was launched: holds the run folder, tells, and says how it ended."""

from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress

from jobs.command.command_line import console
from jobs.training.plan import TrainPlan, describe
from jobs.training.terminal_tracker import TerminalTracker
from jobs.training.wandb_tracker import WandbTracker
from musicvae.errors import DivergedError, StoppedError, SupersededError
from musicvae.model.model import MusicVAE
from musicvae.pretrained.model import TrainedModel
from musicvae.training.fit import fit
from musicvae.training.heartbeat import Pulse
from musicvae.training.progress import Tracker, Trackers
from musicvae.training.run_folder import RunFolder, State
from musicvae.training.stopping import Wish
from musicvae.training.warm_start import parts_that_fit, start_from
from musicvae.training.world import World


def train_in_world(
    plan: TrainPlan,
    world: World,
    pulse: Pulse,
    *,
    alive: Collection[tuple[str, int]],
    resumed: bool,
    wish: Callable[[], Wish],
    state_after: Callable[[StoppedError], State | None],
    ends_launch: bool,
) -> None:
    """Trains to the end of the plan, leaves the final state in status.json, and leaves the world.

    Args:
        plan: with an opened run folder.
        pulse: of this rank; begins once the folder is held.
        alive: host and process of all ranks.
        wish: as in `fit`.
        state_after: the state of a run that was stopped; None where it goes on at once. Called on every rank.
        ends_launch: whether a failure is the end of the launch; otherwise whoever launched it knows and says.

    Raises:
        StoppedError, UserError: as `fit` does; where all ranks raise alike, rank 0's own is the one to show.
    """
    with ExitStack() as held:
        own = world.on_main(lambda: held.enter_context(plan.folder.held(pulse.launch)))
        folder = own if world.is_main else plan.folder
        if world.is_main:
            pulse.records.forget_all_but(alive)
        pulse.start()
        tracker = main_tracker(plan, folder, world, resumed=resumed) if world.is_main else Trackers([])
        state: State | None = "failed"
        initial = plan.initial
        try:
            fit(
                plan.settings,
                plan.source,
                folder,
                world,
                tracker,
                initial_weights=(lambda model: _start(model, initial, plan, tracker)) if initial else None,
                wish=wish,
                beat=pulse.beat,
            )
            state = "finished"
        except StoppedError as stopped:
            stopped.shown_elsewhere = not world.is_main
            state = state_after(stopped)
            raise
        except DivergedError as diverged:
            state = "diverged"
            diverged.shown_elsewhere = not world.is_main
            raise
        finally:
            if world.is_main and state is not None and (ends_launch or state != "failed"):
                with suppress(SupersededError):
                    folder.finish_status(state)
            tracker.close(state or "stopped to start again")
            if state not in ("failed", "diverged"):  # the others may not be leaving, and would be waited for
                world.leave()
    if world.is_main:
        console.print(f"best weights: {folder.best}", soft_wrap=True)


def main_tracker(plan: TrainPlan, folder: RunFolder, world: World, *, resumed: bool) -> Tracker:
    """What rank 0 tells: the terminal, and W&B where it is wanted."""
    settings = plan.settings
    console.print(describe(plan, world, resumed=resumed), soft_wrap=True)
    terminal = TerminalTracker(console, total=settings.train.steps, global_batch=settings.train.global_batch)
    if settings.tracking.wandb == "off":
        return Trackers([terminal])
    return Trackers([terminal, WandbTracker(settings.tracking, folder.path, warn=terminal.say)])


def _start(model: MusicVAE, initial: TrainedModel, plan: TrainPlan, tracker: Tracker) -> None:
    parts = parts_that_fit(plan.settings.model, initial.settings)
    if anew := start_from(model, initial.model, parts):
        tracker.say(f"from random weights, as the model that this run starts from has other ones: {', '.join(anew)}")
