"""What stands where the shards are to go: the same shards, others, or something that no build has made."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from musicvae.data.manifest import MANIFEST_NAME, SCHEMA, SPLITS, ShardManifest
from musicvae.durable import refuse_strangers
from musicvae.errors import ConfigError, UserError
from musicvae.groove.drum_map import DrumMap
from preprocess.report import PAGE_NAME, REPORT_NAME, BuildReport
from preprocess.settings import BuildSettings
from preprocess.sources.listing import Source, content_digest, read_source
from preprocess.sources.open import DEMO_FOLDER, open_source

NOT_OURS = "files that jobs.build_shards did not write or did not finish"

OWN = (MANIFEST_NAME, REPORT_NAME, PAGE_NAME)
MADE = re.compile(rf"({'|'.join(map(re.escape, OWN))}|({'|'.join(SPLITS)})-\d+\.tar|{DEMO_FOLDER}/[^/]+\.mid)")


def find_finished_build(source_name: str, out: Path, settings: BuildSettings) -> BuildReport | None:
    """The report of `out` if it was built from the very same files and settings; none if nothing is there.

    Raises:
        ConfigError: `out` is something else.
    """
    if _is_free(out):
        return None
    report = _report_of(out)
    if report is None:
        raise _exists(out, NOT_OURS, do="choose another --out")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        source = open_source(source_name, settings, scratch=Path(scratch), avoid=[out, Path(scratch)])
        digests = (content_digest(read_source(file, settings.limits)) for file in source.files)
        identity = build_identity(source, settings, drum_map_of(settings, source), digests)
    if report.identity == identity:
        return report
    contents = f"shards of other files or settings ({report.seen} files, fingerprint {report.fingerprint})"
    raise _exists(out, contents, do="choose another --out, or replace it with --overwrite")


def check_replaceable(source_name: str, out: Path) -> None:
    """Makes sure that replacing `out` deletes shards and nothing else.

    Raises:
        ConfigError: `out` holds what no build makes, or the source.
    """
    if not _is_free(out):
        own_files = [
            path for path in map(out.joinpath, OWN) if path.is_file()
        ]  # one of them, as a build may be damaged
        if not own_files:
            raise _exists(out, NOT_OURS, do="choose another --out, or delete it yourself")
        refuse_strangers(out, MADE, max(path.stat().st_mtime for path in own_files), "jobs.build_shards")
    if Path(source_name).exists() and Path(source_name).resolve().is_relative_to(out.resolve()):
        raise _exists(out, f"the source {source_name} inside it", do="choose another --out")


def build_identity(source: Source, settings: BuildSettings, drum_map: DrumMap, digests: Iterable[int]) -> str:
    """A hash of all that decides the shards; the demo's settings count through the files that they compose.

    Args:
        digests: hash of the content of each file, in order.
    """
    content = {
        "schema": SCHEMA,
        "settings": settings.deciding(),
        "drum_map": [[drum, list(pitches)] for drum, pitches in drum_map.pitches.items()],
        "splits": source.splits,
        "keeps_duplicates": source.keeps_duplicates,
    }
    identity = hashlib.sha256(json.dumps(content).encode())
    for file, digest in zip(source.files, digests, strict=True):
        line = [file.name, file.split, file.style, file.group, file.tempo, int(digest)]
        identity.update(json.dumps(line).encode())
    return identity.hexdigest()


def drum_map_of(settings: BuildSettings, source: Source) -> DrumMap:
    """The drum map that the settings name, or that suits the collection.

    Raises:
        ConfigError: it cannot be used.
    """
    return DrumMap.load(source.drum_map if settings.drum_map == "auto" else settings.drum_map)


def _is_free(out: Path) -> bool:
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def _report_of(out: Path) -> BuildReport | None:
    try:
        ShardManifest.read(out)
        return BuildReport.read(out)
    except UserError:
        return None


def _exists(out: Path, contents: str, *, do: str) -> ConfigError:
    expected = "a new folder, or shards of the same files and settings"
    return ConfigError(f"{out} exists", expected=expected, found=contents, do=do)
