"""Where MIDI files come from: what `--source` names, opened."""

from collections.abc import Sequence
from pathlib import Path

from musicvae.errors import ConfigError, NotThereError
from preprocess.settings import BuildSettings
from preprocess.sources import archive, listing, table
from preprocess.sources.folder import open_folder
from preprocess.sources.groove import find_groove, locate_groove, open_groove

DEMO_FOLDER = "midi"
SPOOL_FOLDER = "spool"


def open_source(name: str, settings: BuildSettings, *, scratch: Path, avoid: Sequence[Path] = ()) -> listing.Source:
    """The collection that `--source` names.

    Args:
        name: `groove`, `demo`, or a path: a folder, an archive, a list, or GMD's folder or zip.
        scratch: where a source writes what it has to: the demo corpus, what a compressed tar holds.
        avoid: folders that are not searched, since the output lies there.

    Raises:
        ConfigError: no such source, or settings that do not fit it.
        DataError: no MIDI file in it, an archive or a table that cannot be used, or GMD cannot be had.
    """
    check_source_is_there(name)
    source = _opened(name, settings, scratch, avoid)
    if settings.split.group == "column" and source.kind != "list":
        raise ConfigError(
            "split.group=column needs a list with a column `group`",
            expected="--source FILE.csv or FILE.jsonl",
            found=f"--source {name}, which is {source.kind}",
            do="write a list of the files, or set split.group to file or folder",
        )
    return source


def check_source_is_there(name: str) -> None:
    """Whether there is anything under a name; what it holds is not read.

    Raises:
        NotThereError: there is not.
    """
    path = Path(name).absolute()
    if name not in ("demo", "groove") and not path.exists():
        raise _no_source(path, "nothing at that path", "correct the path", NotThereError)


def _no_source(path: Path, problem: str, do: str, kind: type[ConfigError] = ConfigError) -> ConfigError:
    archives, lists = (
        ", ".join(suffixes) for suffixes in (archive.ZIP_SUFFIXES + archive.TAR_SUFFIXES, table.LIST_SUFFIXES)
    )
    return kind(
        f"{path} is not a source of MIDI files",
        expected=f"--source PATH (a folder of MIDI files, an archive that ends in {archives}, or a list that ends in "
        f"{lists}), groove or demo",
        found=problem,
        do=do,
    )


def _opened(name: str, settings: BuildSettings, scratch: Path, avoid: Sequence[Path]) -> listing.Source:
    match name:
        case "demo":
            return _demo(scratch / DEMO_FOLDER, settings)
        case "groove":
            return open_groove(locate_groove())
        case _:
            path = Path(name).absolute()
    file_name = path.name.lower()
    if path.is_dir():
        groove = find_groove(path)
        return open_groove(groove) if groove else open_folder(path, settings.split, avoid=avoid)
    if path.is_file() and file_name.endswith(table.LIST_SUFFIXES):
        return table.open_list(path, settings.split)
    if path.is_file() and file_name.endswith(archive.ZIP_SUFFIXES + archive.TAR_SUFFIXES):
        groove = find_groove(path) if file_name.endswith(archive.ZIP_SUFFIXES) else None
        return open_groove(groove) if groove else archive.open_archive(path, settings, spool=scratch / SPOOL_FOLDER)
    raise _no_source(path, "a file of another kind", "give the folder that contains the file")


def _demo(folder: Path, settings: BuildSettings) -> listing.Source:
    """The demo corpus, composed."""
    from preprocess.sources.demo import write_demo_corpus  # numpy, which a login node need not have

    folder = folder.absolute()
    styles = write_demo_corpus(folder, performances=settings.demo.performances, seed=settings.demo.seed)
    files = tuple(
        listing.SourceFile(file, listing.FilePlace(f"{folder}/{file}"), style=style)
        for file, style in sorted(styles.items())
    )
    return listing.Source("demo", files, listing.possible_splits(settings.split))
