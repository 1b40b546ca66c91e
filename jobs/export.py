"""A trained run -> a few files to keep or pass on: python -m jobs.export runs/demo models/demo

python -m jobs.export RUN OUT ...                 writes an export
python -m jobs.export renew OUT --shards SHARDS   writes anew what an earlier version kept of the training windows
"""

import re
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jobs.command.command_line import check_output, console, run_command
from musicvae.durable import whole_folder, write_whole
from musicvae.errors import ConfigError
from musicvae.training.run_folder import RunFolder

if TYPE_CHECKING:  # torch, which takes seconds to load
    import numpy as np
    from jaxtyping import Int16

    from musicvae.generation.attribute_vectors import AttributeVectors
    from musicvae.pretrained.model import TrainedModel
    from musicvae.pretrained.training_record import TrainingRecord


class Dtype(StrEnum):
    """What weights are stored as; a loaded model always computes in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def main(
    run: Path = typer.Argument(..., metavar="RUN", help="The run folder of a trained model."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder to make."),
    shards: str | None = typer.Option(
        None,
        metavar="FOLDER|URL",
        help="What it was trained on: adds directions of attributes in latent space, hashes and styles of its windows.",
    ),
    dtype: Dtype = typer.Option(Dtype.FLOAT32, help="bfloat16 rounds the weights and halves the file."),
    figures: Path | None = typer.Option(
        None, metavar="FILE", help="Put into the card what jobs.evaluate --json measured of this very export."
    ),
    data: str | None = typer.Option(None, help="groove: put the attribution that GMD asks for into the card."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier export in OUT."),
) -> None:
    """Write the best weights of a run with all that they need; `musicvae.load(OUT)` reads them."""
    from musicvae.pretrained.card import ATTRIBUTIONS, read_measured
    from musicvae.pretrained.load import CARD, is_export, load, load_run, write_export
    from musicvae.pretrained.training_windows import training_windows
    from musicvae.training.best_weights import in_bfloat16, read_best

    if data is not None and data not in ATTRIBUTIONS:
        raise ConfigError(
            f"--data {data} is not known", expected=", ".join(ATTRIBUTIONS), do="name one, or leave it out"
        )
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
    if dtype is Dtype.BFLOAT16:
        best = in_bfloat16(best)
    measured = read_measured(figures, best.weights_hash) if figures else None
    provenance = config.get("provenance", {})
    origin = {
        "run_id": config["run_id"],
        "command": _as_typed(provenance.get("command") or ""),
        "commit": provenance.get("commit"),
        "dirty": bool(provenance.get("dirty")),
        "data": data,
        "packages": {name: version for name, version in provenance.get("packages", {}).items() if version},
    }
    try:
        with whole_folder(out, replace=overwrite) as aside:
            write_export(aside, trained, best, origin, measured)
            kept = load(aside)  # what cannot be read is not published
            if shards is not None:
                tokens = training_windows(kept, shards)
                # With the weights as they are kept: rounded ones have codes of their own.
                vectors = _attribute_vectors(kept, tokens) if kept.latent else None
                training = _record(kept, tokens, shards)
                write_export(aside, replace(trained, vectors=vectors, training=training), best, origin, measured)
                load(aside)
    except OSError as error:
        raise _cannot_write(out, error) from None
    loss = best.figures.get("validation.negative_elbo")
    console.print(
        f"step {trained.step:,}" + (f", validation −ELBO {loss:.2f} nats per window" if loss is not None else "")
    )
    console.print(f"model: {out.resolve()}, described in {CARD}", soft_wrap=True)


def renew(
    out: Path = typer.Argument(..., metavar="OUT", help="An export, of this or an earlier version."),
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="What its model was trained on."),
) -> None:
    """Write hashes, distributions and styles of the training windows anew; all else of an export stays as it is."""
    from musicvae.pretrained.load import TRAINING, load
    from musicvae.pretrained.training_windows import training_windows

    trained = load(out)
    record = _record(trained, training_windows(trained, shards), shards)
    try:
        write_whole(out / TRAINING, record.to_bytes())
    except OSError as error:
        raise _cannot_write(out, error) from None
    styles = record.styles.names if record.styles else ()
    console.print(
        f"{out / TRAINING}: {len(record.hashes):,} windows, styles: {', '.join(styles) or 'none'}", soft_wrap=True
    )


def _record(trained: "TrainedModel", tokens: "Int16[np.ndarray, 'window step']", shards: str) -> "TrainingRecord":
    from musicvae.pretrained.training_record import record_of
    from musicvae.pretrained.training_windows import training_styles

    return record_of(tokens, trained.grid, trained.drum_map, training_styles(trained, shards))


def _cannot_write(out: Path, error: OSError) -> ConfigError:
    cure = "name an OUT in a folder that can be written"
    return ConfigError(f"cannot write {out}", found=error.strerror or str(error), do=cure)


def _as_typed(command: str) -> str:
    """A command line of a run, which has the module as a path of the machine that trained."""
    return re.sub(r"^\S*\bjobs/(\w+)\.py(?= |$)", r"python -m jobs.\1", command)


def _attribute_vectors(trained: "TrainedModel", tokens: "Int16[np.ndarray, 'window step']") -> "AttributeVectors":
    """Directions of attributes, measured on the training windows."""
    from musicvae.generation.attribute_vectors import fit_attribute_vectors
    from musicvae.groove.features import measure_attributes
    from musicvae.groove.groove import hits_from_tokens

    hits = hits_from_tokens(tokens, trained.drum_map.num_drums)
    values = measure_attributes(hits, trained.grid, trained.drum_map.classes)
    return fit_attribute_vectors(trained.encode(tokens), values, trained.attributes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["renew"]:
        del sys.argv[1]
        run_command(renew)
    run_command(main)
