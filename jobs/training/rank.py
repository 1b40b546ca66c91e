"""What one rank of `jobs.train` does, from its settings to its end.

`train_in_world` is the part after the ranks have met, which Ray's workers and trials of sweeps call as well: it holds
the run folder, reports, and says how the training ended.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress

from cluster.errors import ExitCode
from jobs.command.command_line import console
from jobs.command.provenance import provenance
from jobs.command.stop_signals import StopSignals, check_ahead
from jobs.training.environment import attempt, join_world, launch_id, launched_by_torchrun, launcher, only_main_speaks
from jobs.training.plan import TrainPlan, TrainRequest, describe, prepare
from jobs.training.same_everywhere import check_same_everywhere
from jobs.training.tracking import TerminalTracker, WandbTracker
from musicvae.errors import DivergedError, StoppedError, SupersededError
from musicvae.model.model import MusicVAE
from musicvae.pretrained.model import TrainedModel
from musicvae.training.fit import fit
from musicvae.training.heartbeat import Pulse
from musicvae.training.progress import Tracker, Trackers
from musicvae.training.run_folder import RunFolder, State, checkpoints
from musicvae.training.stopping import Wish
from musicvae.training.warm_start import parts_that_fit, start_from
from musicvae.training.world import World


def train_rank(request: TrainRequest, signals: StopSignals, pulse: Pulse, stop_before: float | None) -> ExitCode:
    """Trains as one rank among those that torchrun's variables describe, or alone; gives what the process ends with."""
    with only_main_speaks():
        plan = prepare(request)
    resources = plan.settings.resources
    if stop_before is not None:
        if not launched_by_torchrun():
            check_ahead(stop_before, resources.stop_margin_seconds)
        signals.stop_at(stop_before - resources.stop_margin_seconds)
    pulse.watch(resources.hang_seconds)
    if launched_by_torchrun():
        with signals.ending_at_once():
            world = join_world(resources)
    else:
        world = join_world(resources)
    resumed = bool(checkpoints(plan.folder.checkpoints))
    versions = check_same_everywhere(world, manifest=plan.manifest.fingerprint, run=plan.identity.run_id)
    settings = plan.settings.model_dump(mode="json")
    world.on_main(lambda: plan.folder.open(plan.identity, settings, provenance()))
    pulse.launch = world.on_main(launch_id)
    if launched_by_torchrun() and not launcher() and attempt() > 0 and was_preempted(plan.folder, pulse.launch):
        refusal = StoppedError(plan.folder.read_status().get("step", 0), by_user=False)
        refusal.shown_elsewhere = not world.is_main
        raise refusal

    starts_again = False

    def state_after(stopped: StoppedError) -> State | None:
        nonlocal starts_again
        state, starts_again = how_it_stopped(stopped, signals, world)
        return state

    try:
        train_in_world(
            plan,
            world,
            pulse,
            alive={(version.host, version.pid) for version in versions},
            resumed=resumed,
            wish=lambda: wish_of(signals),
            state_after=state_after,
            ends_launch=not launcher(),
        )
    except StoppedError:
        if launcher() and not starts_again:
            return ExitCode.SUCCESS  # torchrun would start again what ends otherwise; the launcher reads the state
        raise
    return ExitCode.SUCCESS


def wish_of(signals: StopSignals) -> Wish:
    """What this process asks of all."""
    if not signals.any:
        return Wish.GO_ON
    return Wish.STOP_FOR_USER if signals.user else Wish.STOP_FOR_SCHEDULER


def how_it_stopped(stopped: StoppedError, signals: StopSignals, world: World) -> tuple[State | None, bool]:
    """The state of the run after an agreed stop, None where it goes on at once, and whether torchrun is to start the
    ranks again: where it stopped them itself, or where only some of the nodes of an elastic launch are leaving."""
    heard = world.gather((signals.scheduler, signals.restart))
    asked = [scheduler for scheduler, _ in heard]
    if stopped.by_user:
        return "interrupted", False
    if any(restart for _, restart in heard) and not any(asked):
        return None, True
    return "preempted", launcher() == "elastic" and any(asked) and not all(asked)


def was_preempted(folder: RunFolder, launch: str) -> bool:
    """Whether this very launch was told to leave: plain torchrun starts ranks again that left by themselves."""
    status = folder.read_status()
    return status.get("state") == "preempted" and status.get("launch") == launch


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
