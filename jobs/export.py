"""A trained run -> three files to keep or pass on: python -m jobs.export runs/demo models/demo"""

from pathlib import Path

import typer

from jobs.command_line import console, run_command
from jobs.output_folder import check_output
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
    check_output(
        out, option="OUT", maker="jobs.export", ours="an earlier export", is_ours=is_export(out), overwrite=overwrite
    )
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


if __name__ == "__main__":
    run_command(main)
