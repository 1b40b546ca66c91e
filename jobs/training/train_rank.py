"""What one rank of `jobs.train` does, from its settings to its end."""

from cluster.errors import ExitCode
from jobs.command.provenance import provenance
from jobs.command.stop_signals import StopSignals, check_ahead
from jobs.training.launch import attempt, join_world, launch_id, launched_by_torchrun, launcher, only_main_speaks
from jobs.training.plan import TrainRequest, prepare
from jobs.training.same_everywhere import check_same_everywhere
from jobs.training.train_in_world import train_in_world
from musicvae.errors import StoppedError
from musicvae.training.checkpoints import checkpoints
from musicvae.training.heartbeat import Pulse
from musicvae.training.run_folder import RunFolder, State
from musicvae.training.stopping import Wish
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
