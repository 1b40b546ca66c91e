"""Shows what MIDI files or shards contain: python -m jobs.show FILE.mid, python -m jobs.show shards/demo --window 0"""

from pathlib import Path

import typer

from jobs.command.command_line import compose_settings, run_command
from jobs.inspection.midi_file import show_file
from jobs.inspection.midi_folder import show_folder
from jobs.inspection.shards import show_shards
from musicvae.data.manifest import MANIFEST_NAME, is_url, without_secrets
from musicvae.errors import ConfigError
from preprocess.settings import BuildSettings


def main(
    location: str = typer.Argument(
        ..., metavar="FILE.mid|FOLDER|SHARDS", help="A MIDI file, a folder of MIDI files, or a folder of shards."
    ),
    overrides: list[str] = typer.Argument(
        None, metavar="key.sub=value", help="Settings for MIDI files, as of jobs.build_shards."
    ),
    split: str | None = typer.Option(None, help="Shards: show this split alone; with --window, its split (train)."),
    window: int | None = typer.Option(None, metavar="N", help="Draw window N alone, counted from 0."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object and nothing else."),
    config: Path | None = typer.Option(None, metavar="FILE.yaml", help="Settings for MIDI files from a YAML file."),
) -> None:
    """Show what a MIDI file, a folder of MIDI files or shards contain.

    For a MIDI file: its windows as drum grids, and what was read or left out. For a folder: one line a file, the worst
    first. For shards: their figures, and whether each shard has the right hash.

        python -m jobs.show loop.mid
    """
    if is_url(location):
        raise ConfigError(
            "a URL cannot be shown",
            expected="a MIDI file, or a folder of shards",
            found=without_secrets(location),
            do="copy the files to this machine; only jobs.train and jobs.evaluate read shards from a URL",
        )
    path = Path(location)
    settings = compose_settings(BuildSettings, config=config, overrides=overrides or [])
    if path.is_dir() and not (path / MANIFEST_NAME).exists() and split is None and window is None:
        show_folder(path, settings, as_json=as_json)
        return
    if path.is_dir():
        if overrides or config:
            raise _misplaced("settings", "shards have been built with their own settings", "a MIDI file", path)
        show_shards(path, split=split, window=window, as_json=as_json)
        return
    if split is not None:
        raise _misplaced("--split", "a MIDI file has no splits", "a folder of shards", path)
    if path.name == MANIFEST_NAME or path.suffix == ".tar":
        raise ConfigError(
            f"{path} is one file of a folder of shards",
            expected="a MIDI file, or the whole folder of shards",
            found="one file of that folder",
            do=f"python -m jobs.show {path.parent}",
        )
    show_file(path, settings, window, as_json=as_json)


def _misplaced(what: str, why: str, belongs_to: str, path: Path) -> ConfigError:
    return ConfigError(f"{what} cannot be used here", expected=f"{belongs_to} with it", found=f"{path}: {why}")


if __name__ == "__main__":
    run_command(main)
