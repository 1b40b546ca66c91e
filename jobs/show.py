"""What is in a MIDI file or in shards: python -m jobs.show FILE.mid, python -m jobs.show shards/demo --window 0"""

from pathlib import Path

import typer

from jobs.command.command_line import compose_settings, run_command
from jobs.inspection.midi_file import show_file
from jobs.inspection.shards import show_shards
from musicvae.data.manifest import MANIFEST_NAME
from musicvae.data.sources import is_url, without_secrets
from musicvae.errors import ConfigError
from preprocess.settings import BuildSettings


def main(
    location: str = typer.Argument(..., metavar="FILE.mid|SHARDS", help="A MIDI file, or a folder of shards."),
    overrides: list[str] = typer.Argument(None, metavar="[key.sub=value]...", help="Settings, for a MIDI file."),
    split: str | None = typer.Option(None, help="Of shards: this one alone, or that of --window (then train)."),
    window: int | None = typer.Option(None, metavar="N", help="Draw this window alone, counted from 0."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object and nothing else."),
    config: Path | None = typer.Option(None, help="Settings from a YAML file, for a MIDI file."),
) -> None:
    """Show the windows of a MIDI file and what was dropped of it, or check shards and show what they hold."""
    if is_url(location):
        raise ConfigError(
            "only what lies on a disk can be shown",
            expected="a MIDI file, or a folder of shards",
            found=without_secrets(location),
            do="copy it here; jobs.train and jobs.evaluate take the URL of shards",
        )
    path = Path(location)
    if path.is_dir():
        if overrides or config:
            raise _misplaced("settings", "shards are shown as they were built", "a MIDI file", path)
        show_shards(path, split=split, window=window, as_json=as_json)
        return
    if split is not None:
        raise _misplaced("--split", "a MIDI file has no splits", "a folder of shards", path)
    if path.name == MANIFEST_NAME or path.suffix == ".tar":
        raise ConfigError(
            f"{path} is a part of shards",
            expected="a MIDI file, or the folder of the shards",
            found="one file of that folder",
            do=f"python -m jobs.show {path.parent}",
        )
    show_file(path, compose_settings(BuildSettings, config=config, overrides=overrides or []), window, as_json=as_json)


def _misplaced(what: str, why: str, belongs_to: str, path: Path) -> ConfigError:
    return ConfigError(f"{what} cannot be used here", expected=f"{belongs_to} with it", found=f"{path}: {why}")


if __name__ == "__main__":
    run_command(main)
