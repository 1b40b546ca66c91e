"""What one rank of `jobs.train` does, from its settings to its end."""

from contextlib import ExitStack, suppress

from cluster.exit_codes import ExitCode
from jobs.command_line import console
from jobs.launch import attempt, join_world, launch_id, launched_by_torchrun, launcher, only_main_speaks
from jobs.provenance import provenance
from jobs.same_everywhere import check_same_everywhere
from jobs.stop_signals import StopSignals
from jobs.terminal_tracker import TerminalTracker
from jobs.train_plan import TrainPlan, TrainRequest, describe, prepare
from jobs.wandb_tracker import WandbTracker
from musicvae.checkpoint import checkpoints
from musicvae.errors import DivergedError, StoppedError, SupersededError
from musicvae.fit import fit
from musicvae.pulse import Pulse
from musicvae.run_folder import RunFolder, State
from musicvae.stopping import Wish
from musicvae.tracker import Tracker, Trackers
from musicvae.world import World


def train_rank(request: TrainRequest, signals: StopSignals, pulse: Pulse, stop_before: float | None) -> ExitCode:
    """Trains as one rank among those that torchrun's variables describe, or alone; gives what the process ends with."""
    with only_main_speaks():
        plan = prepare(request)
    resources = plan.settings.resources
    if stop_before is not None:
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
        raise StoppedError(plan.folder.read_status().get("step", 0), by_user=False)

    with ExitStack() as held:
        own = world.on_main(lambda: held.enter_context(plan.folder.held(pulse.launch)))
        folder = own if world.is_main else plan.folder
        if world.is_main:
            pulse.records.forget_all_but({(version.host, version.pid) for version in versions})
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
                initial_weights=(lambda model: model.load_state_dict(initial.model.state_dict())) if initial else None,
                wish=lambda: wish_of(signals),
                beat=pulse.beat,
            )
            state = "finished"
        except StoppedError as stopped:
            stopped.shown_elsewhere = not world.is_main
            state, starts_again = how_it_stopped(stopped, signals, world)
            if launcher() and not starts_again:
                return ExitCode.SUCCESS  # torchrun would start again what ends otherwise; the launcher reads the state
            raise
        except DivergedError as diverged:
            state = "diverged"
            diverged.shown_elsewhere = not world.is_main
            raise
        finally:
            # Whether a failure is the end of a launch, our launcher knows and says.
            if world.is_main and state is not None and not (state == "failed" and launcher()):
                with suppress(SupersededError):
                    folder.finish_status(state)
            tracker.close(state or "stopped to start again")
            if state != "failed":
                world.leave()
    if world.is_main:
        console.print(f"best weights: {folder.best}", soft_wrap=True)
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


def main_tracker(plan: TrainPlan, folder: RunFolder, world: World, *, resumed: bool) -> Tracker:
    """What rank 0 tells: the terminal, and W&B where it is wanted."""
    settings = plan.settings
    console.print(describe(plan, world, resumed=resumed), soft_wrap=True)
    terminal = TerminalTracker(console, total=settings.train.steps, global_batch=settings.train.global_batch)
    if settings.tracking.wandb == "off":
        return Trackers([terminal])
    return Trackers([terminal, WandbTracker(settings.tracking, folder.path, warn=terminal.say)])
