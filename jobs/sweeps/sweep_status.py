"""How a sweep stands, in words."""

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.sweeps.sweep_standing import standing

SHOWN_FAILURES = 5
SILENT_SECONDS = 60.0
"""A running trial that has given no sign of life for so long is pointed out."""


def status_text(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> str:
    """What `jobs.sweep status` prints."""
    now, begun = standing(folder, sweep, state), state.begun
    assert begun is not None, "a sweep begins with it"
    counts = ", ".join(f"{count} {name}" for name, count in sorted(now.outcomes.items()) if count)
    lines = [f"sweep {begun.name}: {'done' if now.done else 'not done'}; {counts or 'nothing started'}"]
    if now.undrawn:
        lines[0] += f", {now.undrawn} to be drawn"
    for one in now.running:
        silent = f", silent for {one.silent_seconds:.0f} s" if one.silent_seconds > SILENT_SECONDS else ""
        lines.append(f"  running {one.trial}: step {one.step:,} of {one.total:,}{silent}")
    if now.waiting_for:
        lines.append(f"waiting: {now.waiting_for}")
    failed = [trial for trial in state.trials.values() if trial.state in ("failed", "diverged")]
    for trial in failed[:SHOWN_FAILURES]:
        assert trial.last_end is not None
        message = (trial.last_end.message.splitlines() or [""])[0]
        lines.append(
            f"  {trial.state} {trial.id} at step {trial.last_end.step:,}: {trial.last_end.category}: {message}"
        )
    if len(failed) > SHOWN_FAILURES:
        lines.append(f"  and {len(failed) - SHOWN_FAILURES} more; {folder.table('csv')} has them all")
    if best := now.best:
        spread = f" ± {best.deviation:.4g}" if best.deviation is not None else ""
        lines.append(f"best: {best.id}, {sweep.metric} {best.mean:.6g}{spread} after {best.steps:,} steps")
        lines.append("  " + ", ".join(f"{name}={value}" for name, value in best.values.items()))
    if sweep.budget.hours is not None and now.hours >= sweep.budget.hours:
        lines.append(f"budget.hours ({sweep.budget.hours:g}) are used up; nothing new is started")
    cap = f" of {sweep.retention.disk_gib:g}" if sweep.retention.disk_gib else ""
    lines.append(f"cost: {now.hours:.2f} hours of training, {now.bytes / 2**30:.2f}{cap} GiB")
    if now.eta_seconds is not None:
        lines.append(f"about {now.eta_seconds / 60:.0f} more minutes at this rate")
    return "\n".join(lines)
