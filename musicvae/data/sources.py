"""Where shards are: a folder of this machine, or any URL that fsspec has a driver for."""

import re
from pathlib import Path
from typing import Protocol, runtime_checkable

from musicvae.data.manifest import ShardEntry, ShardManifest
from musicvae.errors import ConfigError


@runtime_checkable
class ShardSource(Protocol):
    """Shards wherever they are; as text, a name for messages that holds no password."""

    def manifest(self) -> ShardManifest:
        """What the shards hold.

        Raises:
            ConfigError: there are no shards.
            DataError: the manifest is damaged.
        """
        ...

    def local(self, shard: ShardEntry) -> Path:
        """The shard as a file of this machine, fetched where need be. Its bytes are for the reader to verify.

        Raises:
            DataError: it cannot be had.
        """
        ...

    def discard(self, shard: ShardEntry) -> bool:
        """Drops a damaged copy of a shard; False where there is only the original, which stays."""
        ...


class FolderShards:
    """Shards in a folder that this machine sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def manifest(self) -> ShardManifest:
        return ShardManifest.read(self.folder)

    def local(self, shard: ShardEntry) -> Path:
        return self.folder / shard.name

    def discard(self, shard: ShardEntry) -> bool:
        return False


def open_shards(
    location: str | Path, *, cache_dir: str | Path | None = None, cache_gib: float | None = None
) -> ShardSource:
    """The shards at a path or URL; nothing is read yet.

    Args:
        cache_dir, cache_gib: where copies of remote shards are kept, and how much of them; see `ShardCache`.

    Raises:
        ConfigError: a URL that runs a program, of no known kind, or whose driver is not installed.
    """
    text = str(location)
    if isinstance(location, Path) or not is_url(text):
        return FolderShards(Path(location))
    if text.startswith("file://") and "::" not in text:
        return FolderShards(Path(text.removeprefix("file://")))
    from musicvae.data.cache import ShardCache
    from musicvae.data.remote import RemoteShards  # loads fsspec, so only where there is a URL

    return RemoteShards(text, ShardCache.at(cache_dir, cache_gib))


def is_url(location: str) -> bool:
    """Whether a location is a URL or a chain of them, and not a path."""
    return "://" in location or "::" in location or location.startswith("pipe:")


def refuse_programs(url: str) -> None:
    """Refuses `pipe:`, as webdataset's own URLs know it: data must not decide what runs on a machine.

    Raises:
        ConfigError: a part of the URL runs a program.
    """
    if any(part.strip().lower().startswith("pipe:") or part.strip().lower() == "pipe" for part in url.split("::")):
        raise ConfigError(
            "shards cannot come from a program",
            expected="a folder, or a URL such as https://, s3:// or gs://",
            found="a URL with pipe:",
            do="give the URL that the program reads; --shards takes any that fsspec has a driver for",
        )


def without_secrets(text: str) -> str:
    """A text without what URLs in it hold beside host and path: user, password, signed queries."""
    return "::".join(re.sub(r"([A-Za-z][\w+.-]*://)([^\s'\"<>]*)", _bare_url, part) for part in text.split("::"))


def _bare_url(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    authority, slash, path = re.fullmatch(r"([^/?#]*)([/?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    plain, mark, _ = (slash + path).partition("?")
    return f"{scheme}{authority.rpartition('@')[2]}{plain.partition('#')[0]}{'?...' if mark else ''}"
