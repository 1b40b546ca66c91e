"""Shards behind a URL: fetched with fsspec, one whole file at a time, into this machine's cache."""

import random
import time
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from pathlib import Path
from ssl import CertificateError
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import fsspec
from fsspec.core import url_to_fs

from musicvae.data.cache import ShardCache
from musicvae.data.manifest import MANIFEST_NAME, ShardEntry, ShardManifest, WrongBytesError, check_bytes, no_shards
from musicvae.data.sources import refuse_programs, without_secrets
from musicvae.errors import ConfigError, DataError

ATTEMPTS = 5
CONNECT_SECONDS, SILENT_SECONDS = 30, 60
"""A server that does not answer, or stops sending, for so long counts as gone."""
REFUSED = (401, 403)
DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "abfs": "adlfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
    "sftp": "paramiko",
    "ssh": "paramiko",
}
"""The package that brings fsspec's driver for a kind of URL."""
T = TypeVar("T")


class RemoteShards:
    """The shards behind a URL.

    Args:
        url: any that fsspec reads, also chained ones. What a driver needs beside it (keys, end points) it takes from
            its own environment variables and fsspec's configuration files.
        cache: where copies are kept.
        attempts: how often a transfer is tried.
        first_wait: seconds before the second attempt; each further wait is twice as long.

    Raises:
        ConfigError: the URL runs a program, is of no known kind, or its driver is not installed.
    """

    def __init__(self, url: str, cache: ShardCache, *, attempts: int = ATTEMPTS, first_wait: float = 1.0) -> None:
        refuse_programs(url)
        self.name = without_secrets(url)
        self.cache = cache
        self.attempts = attempts
        self.first_wait = first_wait
        self._files, self._root = _connect(url)

    def __str__(self) -> str:
        return self.name

    def manifest(self) -> ShardManifest:
        """What the shards hold.

        Raises:
            ConfigError: there are no shards, or the server cannot be reached.
            DataError: the manifest is damaged.
        """
        try:
            data = bytes(self._tried(lambda: self._files.cat_file(self._place(MANIFEST_NAME))))  # type: ignore[arg-type]
        except FileNotFoundError:
            do = "upload the whole folder, or correct the URL"
            raise no_shards(self.name, f"no {MANIFEST_NAME} there", do) from None
        except Exception as error:  # drivers raise what they like
            raise ConfigError(
                f"cannot read the shards at {self.name}",
                expected="a server that answers",
                found=_described(error),
                likely="no network on this machine, a proxy that is not set, or missing credentials",
                do="read the URL with another tool from this machine, or copy the shards to a disk that it sees",
            ) from None
        return ShardManifest.parse(data.decode(errors="replace"), f"{self.name}: {MANIFEST_NAME}")

    def local(self, shard: ShardEntry) -> Path:
        """The shard's copy on this machine.

        Raises:
            DataError: it cannot be fetched, or what arrives is not what the manifest describes.
            ConfigError: the cache cannot be written to.
        """
        return self.cache.get(shard, lambda aside: self._fetch(shard, aside))

    def discard(self, shard: ShardEntry) -> bool:
        """Drops a damaged copy; the next `local` fetches it anew."""
        self.cache.discard(shard)
        return True

    def _fetch(self, shard: ShardEntry, aside: Path) -> None:
        def transfer() -> None:
            self._files.get_file(self._place(shard.name), str(aside))
            with aside.open("rb") as file:
                check_bytes(file, shard)

        try:
            self._tried(transfer)
        except Exception as error:  # drivers raise what they like
            raise self._not_fetched(shard, error) from None

    def _tried(self, transfer: Callable[[], T]) -> T:
        """The result of a transfer that is repeated while its failure may pass."""
        for attempt in range(1, self.attempts):
            try:
                return transfer()
            except Exception as error:
                if _is_final(error):
                    raise
            # Many machines that lost the same server should not all come back at the same moment.
            time.sleep(self.first_wait * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
        return transfer()

    def _place(self, name: str) -> str:
        if "://" not in self._root:
            return f"{self._root.rstrip('/')}/{name}"
        parts = urlsplit(self._root)  # a signed URL's query belongs to every file
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))

    def _not_fetched(self, shard: ShardEntry, error: Exception) -> DataError:
        match error:
            case OSError(errno=number) if number in (ENOSPC, EDQUOT):
                return DataError(
                    f"no room for a copy of shard {shard.name} in {self.cache.folder}",
                    expected=f"{shard.bytes / 1e6:,.1f} MB",
                    found=str(error.strerror),
                    do="free some, set a smaller data.cache_gib, or name another disk with data.cache_dir",
                )
            case WrongBytesError():
                likely = "shards of another build under the same URL, or a proxy that changes or cuts files"
                do = "upload the shards again, all files and the manifest last"
            case FileNotFoundError():
                likely = "an upload that is not complete"
                do = "upload the shards again, all files and the manifest last"
            case _:
                likely = "the server or the network is down, or the credentials have expired"
                do = "run the same command again later: it goes on where it stopped"
        return DataError(
            f"shard {shard.name} cannot be fetched from {self.name}",
            expected="the file that the manifest describes",
            found=_described(error),
            likely=likely,
            do=do,
        )


def _is_final(error: Exception) -> bool:
    """Whether a failure would only repeat itself."""
    full = isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT)
    refused = isinstance(error, FileNotFoundError | PermissionError | CertificateError)
    return full or refused or getattr(error, "status", None) in REFUSED


def _described(error: Exception) -> str:
    text = without_secrets(str(error))
    return text if isinstance(error, WrongBytesError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _connect(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    schemes = [part.partition("://")[0] for part in url.split("::")]
    options: dict[str, Any] = {}
    try:
        if web := {"http", "https"}.intersection(schemes):
            from aiohttp import ClientTimeout

            # Proxies as the environment names them; no limit on a whole transfer, which may be long.
            silence = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
            options = {scheme: {"client_kwargs": {"trust_env": True, "timeout": silence}} for scheme in web}
        return url_to_fs(url, **options)
    except ImportError as error:
        missing = next((DRIVERS[scheme] for scheme in schemes if scheme in DRIVERS), None)
        raise ConfigError(
            f"there is no driver for {without_secrets(url)}",
            expected="the package that reads such URLs",
            found=str(error),
            do=f"pip install {missing}" if missing else "install the package that the line above names",
        ) from None
    except Exception as error:  # drivers connect at once and raise what they like
        raise ConfigError(
            f"cannot open {without_secrets(url)}",
            expected="a folder, or a URL such as https://, s3:// or gs://",
            found=_described(error),
            do="correct the URL",
        ) from None
