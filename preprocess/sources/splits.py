"""Which split a file belongs to."""

import hashlib
import posixpath

from musicvae.data.manifest import SPLITS, Split
from preprocess.settings import SplitSettings
from preprocess.sources.listing import SourceFile


def split_of(file: SourceFile, digest: int, settings: SplitSettings) -> Split:
    """The split of a file: the one that its collection gives it, else by a hash of its group's key.

    The hash knows the key and the seed alone, so that adding files to a collection moves none. A larger
    `validation_share` or `test_share` only moves groups into that split, never between the two.

    Args:
        file: the file, with its folder and group.
        digest: `content_digest` of it, its key where every file is a group of its own.
    """
    if file.split is not None:
        return file.split
    match settings.group:
        case "file":
            key = digest.to_bytes(8, "big")
        case "folder":
            key = posixpath.dirname(file.name).encode()
        case "column":
            key = file.group.encode()
    hashed = hashlib.blake2b(b"%d " % settings.seed + key, digest_size=8)
    share = int.from_bytes(hashed.digest(), "big") / 2**64
    if share < settings.validation_share:
        return "validation"
    return "test" if share >= 1 - settings.test_share else "train"


def possible_splits(settings: SplitSettings) -> tuple[Split, ...]:
    """The splits that files without a given one can go to, in the manifest's order."""
    shares = {"train": 1.0, "validation": settings.validation_share, "test": settings.test_share}
    return tuple(split for split in SPLITS if shares[split] > 0)
