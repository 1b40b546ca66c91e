"""Where MIDI files come from: what `--source` names, opened."""

from collections.abc import Sequence
from pathlib import Path

from musicvae.errors import ConfigError
from preprocess.settings import BuildSettings
from preprocess.sources.archive import TAR_SUFFIXES, ZIP_SUFFIXES, open_archive
from preprocess.sources.demo import write_demo_corpus
from preprocess.sources.folder import open_folder
from preprocess.sources.groove import find_groove, locate_groove, open_groove
from preprocess.sources.listing import FilePlace, Source, SourceFile
from preprocess.sources.splits import possible_splits
from preprocess.sources.table import LIST_SUFFIXES, open_list

DEMO_FOLDER = "midi"
SPOOL_FOLDER = "spool"


def open_source(name: str, settings: BuildSettings, *, scratch: Path, avoid: Sequence[Path] = ()) -> Source:
    """The collection that `--source` names.

    Args:
        name: `groove`, `demo`, or a path: a folder, an archive, a list, or GMD's folder or zip.
        scratch: where a source writes what it has to: the demo corpus, what a compressed tar holds.
        avoid: folders that are not searched, since the output lies there.

    Raises:
        ConfigError: no such source, or settings that do not fit it.
        DataError: no MIDI file in it, an archive or a table that cannot be used, or GMD cannot be had.
    """
    source = _opened(name, settings, scratch, avoid)
    if settings.split.group == "column" and source.kind != "list":
        raise ConfigError(
            "split.group=column needs a list with a column `group`",
            expected="--source FILE.csv or FILE.jsonl",
            found=f"--source {name}, which is {source.kind}",
            do="list the files, or set split.group to file or folder",
        )
    return source


def _opened(name: str, settings: BuildSettings, scratch: Path, avoid: Sequence[Path]) -> Source:
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
    if path.is_file() and file_name.endswith(LIST_SUFFIXES):
        return open_list(path, settings.split)
    if path.is_file() and file_name.endswith(ZIP_SUFFIXES + TAR_SUFFIXES):
        groove = find_groove(path) if file_name.endswith(ZIP_SUFFIXES) else None
        return open_groove(groove) if groove else open_archive(path, settings, spool=scratch / SPOOL_FOLDER)
    raise ConfigError(
        f"{path} is no source of MIDI files",
        expected="--source PATH (a folder of MIDI files, an archive that ends in "
        f"{', '.join(ZIP_SUFFIXES + TAR_SUFFIXES)}, or a list that ends in {', '.join(LIST_SUFFIXES)}), groove or demo",
        found="a file of another kind" if path.exists() else "nothing at that path",
        do="name the folder that holds the file" if path.exists() else "check the path",
    )


def _demo(folder: Path, settings: BuildSettings) -> Source:
    """The demo corpus, composed."""
    folder = folder.absolute()
    styles = write_demo_corpus(folder, performances=settings.demo.performances, seed=settings.demo.seed)
    files = tuple(
        SourceFile(file, FilePlace(f"{folder}/{file}"), style=style) for file, style in sorted(styles.items())
    )
    return Source("demo", files, possible_splits(settings.split))
