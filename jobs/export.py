"""Writes a trained run as a few files to keep or share: python -m jobs.export runs/demo models/demo

python -m jobs.export RUN OUT ...                 writes an export
python -m jobs.export renew OUT --shards SHARDS   rewrites what an export stores about the training windows
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from jobs.command.command_line import console, run_command, show_next
from jobs.command.mirror import PRIVATE, SyncTo, check_urls, mirrored, take_over_copies
from jobs.command.paths import check_output
from musicvae.durable import output_folder, refuse_strangers, whole_folder, write_whole
from musicvae.errors import ConfigError
from musicvae.training.run_folder import RunFolder


class Dtype(StrEnum):
    """What weights are stored as; a loaded model always computes in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def main(
    run: Path = typer.Argument(..., metavar="RUN", help="The run folder of a trained model."),
    out: Path = typer.Argument(..., metavar="OUT", help="The folder for the export."),
    shards: str | None = typer.Option(
        None,
        metavar="FOLDER|URL",
        help="The shards that the run was trained on; they add attribute vectors, styles and hashes of the windows.",
    ),
    dtype: Dtype = typer.Option(
        Dtype.FLOAT32, help="Type of the stored weights; bfloat16 rounds them and halves the file."
    ),
    figures: Path | None = typer.Option(
        None, metavar="FILE", help="Add figures of this export to its model card; jobs.evaluate --json writes them."
    ),
    data: str | None = typer.Option(None, help="groove: add the attribution that the Groove MIDI Dataset requires."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier export in OUT."),
    sync_to: SyncTo = None,
) -> None:
    """Write the best weights of a run, with all that is needed to sample, to a few files.

    `musicvae.load(OUT)` and `--run OUT` of other commands read them. `python -m jobs.export renew OUT --shards SHARDS`
    rewrites only what the export stores about the training windows.

        python -m jobs.export runs/first models/first --shards shards/groove
    """
    from musicvae.pretrained.card import ATTRIBUTIONS, read_evaluation
    from musicvae.pretrained.load import CARD, FILES, TRAINING, WEIGHTS, is_export, load, load_run, write_export
    from musicvae.pretrained.training_windows import measured_vectors, training_record, training_windows
    from musicvae.training.best_weights import in_bfloat16, read_best

    if data is not None and data not in ATTRIBUTIONS:
        raise ConfigError(
            f"--data {data} is not known", expected=", ".join(ATTRIBUTIONS), do="choose one, or leave --data out"
        )
    check_urls(sync_to=sync_to)
    out = output_folder(out)
    if RunFolder(run).read_config()["settings"].get("performance"):
        if figures:
            raise ConfigError("a performance model has no --figures", do="leave --figures out")
        with mirrored(out, sync_to):
            _export_performance(run, out, shards=shards, dtype=dtype, data=data, overwrite=overwrite)
        return
    check_output(
        out, option="OUT", maker="jobs.export", ours="an earlier export", is_ours=is_export(out), overwrite=overwrite
    )
    if is_export(out):
        written = max(path.stat().st_mtime for path in (out / WEIGHTS, out / TRAINING) if path.is_file())
        refuse_strangers(out, FILES, written, "jobs.export", work=PRIVATE)
    folder = RunFolder(run)
    config = folder.read_config()
    best = read_best(folder.best)
    trained = load_run(run)
    if trained.weights_hash != best.weights_hash:
        raise ConfigError(
            f"{run} has just saved better weights",
            likely="the run is still training",
            do="run the same command again",
        )
    if dtype is Dtype.BFLOAT16:
        best = in_bfloat16(best)
    measured = read_evaluation(figures, best.weights_hash) if figures else None
    command = config.get("provenance", {}).get("command") or ""
    origin = {"run_id": config["run_id"], "command": _as_typed(command), **_origin(config, data)}
    try:
        with mirrored(out, sync_to), whole_folder(out, replace=overwrite) as aside:
            take_over_copies(out, aside)
            write_export(aside, trained, best, origin, measured)
            kept = load(aside)  # what cannot be read is not published
            if shards is not None:
                tokens = training_windows(kept, shards)
                # With the weights as they are kept: rounded ones have codes of their own.
                vectors = measured_vectors(kept, tokens) if kept.latent else None
                training = training_record(kept, tokens, shards)
                write_export(aside, replace(trained, vectors=vectors, training=training), best, origin, measured)
                load(aside)
    except OSError as error:
        raise _cannot_write(out, error) from None
    loss = best.figures.get("validation.negative_elbo")
    console.print(
        f"step {trained.step:,}" + (f", validation −ELBO {loss:.2f} nats per window" if loss is not None else "")
    )
    console.print(f"model: {out.resolve()}, described in {CARD}", soft_wrap=True)
    show_next("sample", "--weights", out, "--count", 64, "--out", "grooves/first")


def _export_performance(
    run: Path, out: Path, *, shards: str | None, dtype: Dtype, data: str | None, overwrite: bool
) -> None:
    from musicvae.data.manifest import open_shards
    from musicvae.pretrained import performer
    from musicvae.training.best_weights import in_bfloat16, read_best

    is_ours = (out / performer.CONFIG).is_file()
    check_output(out, option="OUT", maker="jobs.export", ours="an earlier export", is_ours=is_ours, overwrite=overwrite)
    if is_ours:
        written = (out / performer.CARD).stat().st_mtime
        refuse_strangers(out, performer.FILES, written, "jobs.export", work=PRIVATE)
    config, best, trained = (
        RunFolder(run).read_config(),
        read_best(RunFolder(run).best),
        performer.load_performance(run),
    )
    if shards is not None:
        trained = replace(trained, manners=performer.training_manners(open_shards(shards)))
    best = in_bfloat16(best) if dtype is Dtype.BFLOAT16 else best
    try:
        with whole_folder(out, replace=overwrite) as aside:
            take_over_copies(out, aside)
            performer.write_performance(aside, trained, best, {"run_id": config["run_id"], **_origin(config, data)})
            performer.load_performance(aside)  # what cannot be read is not published
    except OSError as error:
        raise _cannot_write(out, error) from None
    console.print(f"step {trained.step:,}, validation {best.figures['validation.nats_per_hit']:.3f} nats per hit")
    console.print(f"model: {out.resolve()}, described in {performer.CARD}", soft_wrap=True)


def _origin(config: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    provenance = config.get("provenance", {})
    return {
        "commit": provenance.get("commit"),
        "dirty": bool(provenance.get("dirty")),
        "data": data,
        "packages": {name: version for name, version in provenance.get("packages", {}).items() if version},
    }


def renew(
    out: Path = typer.Argument(..., metavar="OUT", help="An export of this or an earlier version."),
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="The shards that its model was trained on."),
) -> None:
    """Rewrite what an export stores about the training windows: hashes, distributions, styles and the style guide.

    All other files of the export stay unchanged.

        python -m jobs.export renew models/first --shards shards/groove
    """
    from musicvae.pretrained.load import TRAINING, load
    from musicvae.pretrained.training_windows import training_record, training_windows

    trained = load(out)
    record = training_record(trained, training_windows(trained, shards), shards)
    try:
        write_whole(out / TRAINING, record.to_bytes())
    except OSError as error:
        raise _cannot_write(out, error) from None
    styles = record.styles.names if record.styles else ()
    console.print(
        f"{out / TRAINING}: {len(record.hashes):,} windows, styles: {', '.join(styles) or 'none'}", soft_wrap=True
    )


def _cannot_write(out: Path, error: OSError) -> ConfigError:
    cure = "choose OUT in a writable folder"
    return ConfigError(f"cannot write {out}", found=error.strerror or str(error), do=cure)


def _as_typed(command: str) -> str:
    """A command line of a run, which has the module as a path of the machine that trained."""
    return re.sub(r"^\S*\bjobs/(\w+)\.py(?= |$)", r"python -m jobs.\1", command)


if __name__ == "__main__":
    if sys.argv[1:2] == ["renew"]:
        del sys.argv[1]
        run_command(renew)
    run_command(main)
