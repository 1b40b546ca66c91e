"""A trained run -> three files to keep or pass on: python -m jobs.export runs/demo models/demo"""

from pathlib import Path

import typer

from jobs.command_line import console, run_command
from musicvae.best_weights import read_best
from musicvae.durable import whole_folder
from musicvae.errors import ConfigError
from musicvae.exported import CARD, is_export, load, write_export
from musicvae.run_folder import RunFolder
from musicvae.trained import load_run


def main(
    run: Path = typer.Argument(..., metavar="RUN", help="The run folder of a trained model."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to make."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier export in OUT."),
) -> None:
    """Write the best weights of a run with all that they need; `musicvae.load(OUT)` reads them."""
    check_out(out, overwrite=overwrite)
    folder = RunFolder(run)
    config = folder.read_config()
    best = read_best(folder.best)
    trained = load_run(run)
    if trained.weights_hash != best.weights_hash:
        raise ConfigError(
            f"{run} has found better weights just now",
            likely="it is still training",
            do="run the same command again",
        )
    provenance = config.get("provenance", {})
    origin = {
        "run_id": config["run_id"],
        "commit": provenance.get("commit"),
        "packages": {name: version for name, version in provenance.get("packages", {}).items() if version},
    }
    try:
        with whole_folder(out, replace=overwrite) as aside:
            write_export(aside, trained, best, origin)
            load(aside)  # what cannot be read is not published
    except OSError as error:
        cure = "name an OUT in a folder that can be written"
        raise ConfigError(f"cannot write {out}", found=error.strerror or str(error), do=cure) from None
    loss = best.figures.get("validation.negative_elbo")
    console.print(
        f"step {trained.step:,}" + (f", validation −ELBO {loss:.2f} nats per window" if loss is not None else "")
    )
    console.print(f"model: {out.resolve()}, described in {CARD}", soft_wrap=True)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuses to touch what is not to be replaced.

    Raises:
        ConfigError: `out` holds something, and --overwrite is not given or jobs.export has not made it.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    ours = out.is_dir() and is_export(out)
    if not (ours and overwrite):
        raise ConfigError(
            f"{out} exists",
            expected="a new path" + (", or an earlier export" if overwrite else ""),
            found="an earlier export" if ours else "something that jobs.export has not made",
            do="name another OUT" + (", or replace it with --overwrite" if ours else ""),
        )


if __name__ == "__main__":
    run_command(main)
