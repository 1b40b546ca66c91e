"""best.yaml: the winner of a sweep as a file of settings that trains it again."""

from jobs.command.command_line import settings_text
from jobs.sweeps.best import Configuration
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Begun
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.training.settings import TrainConfig
from musicvae.durable import write_whole
from musicvae.settings import apply_values, parse_settings
from musicvae.training.run_folder import RunFolder


def write_best(folder: SweepFolder, begun: Begun, sweep: SweepSettings, best: Configuration) -> str:
    """Writes it; gives the command that trains it.

    Raises:
        ConfigError: the winner's run folder is gone, or was made with settings that this version does not know.
    """
    settings = RunFolder(folder.run(best.id)).read_config()["settings"]
    config = parse_settings(TrainConfig, apply_values(settings, {"tracking.group": None}))
    command = f"python -m jobs.train --config {folder.best} --shards {begun.shards} --run RUN"
    spread = f" ± {best.deviation:.4g}" if best.deviation is not None else ""
    lines = [
        f"The winner of sweep {begun.name}: {sweep.metric} {best.mean:.6g}{spread} over {len(best.results)} seed(s)",
        f"after {best.steps:,} steps; trials {', '.join(trial.id for trial in best.trials)}.",
        *(f"  {name}: {value}" for name, value in best.values.items()),
        f"Train it again: {command}",
    ]
    text = "".join(f"# {line}\n" for line in lines)
    write_whole(folder.best, text + settings_text(config))
    return command
