"""Shards behind a URL: fetched with fsspec, one whole file at a time, into this machine's cache."""

import random
import time
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from pathlib import Path
from ssl import CertificateError
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import fsspec
from fsspec.callbacks import NoOpCallback
from fsspec.core import url_to_fs

from musicvae.data.cache import ShardCache
from musicvae.data.manifest import (
    MANIFEST_NAME,
    ShardEntry,
    ShardManifest,
    WrongBytesError,
    check_bytes,
    no_shards,
    refuse_programs,
    without_secrets,
)
from musicvae.errors import ConfigError, DataError, NotThereError

ATTEMPTS = 5
MOST_MANIFEST_BYTES = 2**28
"""A line for each of a million shards."""
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
        ConfigError: the URL runs a program, or is of no known kind.
        NotThereError: its driver is not installed on this machine.
    """

    fetchers = 4
    """They mostly wait for the network; the cache bounds those of all processes together."""

    def __init__(self, url: str, cache: ShardCache, *, attempts: int = ATTEMPTS, first_wait: float = 1.0) -> None:
        refuse_programs(url)
        self.name = without_secrets(url)
        self.cache = cache
        self.attempts = attempts
        self.first_wait = first_wait
        self._files, self._root = connect(url)

    def __str__(self) -> str:
        return self.name

    def manifest(self) -> ShardManifest:
        """What the shards hold.

        Raises:
            NotThereError: there are no shards, or the server cannot be reached.
            DataError: the manifest is damaged.
        """
        try:
            with TemporaryDirectory() as folder:
                copy = Path(folder) / MANIFEST_NAME
                self._tried(lambda: self._get(MANIFEST_NAME, copy, MOST_MANIFEST_BYTES))
                data = copy.read_bytes()
        except FileNotFoundError:
            do = "upload the whole folder, or correct the URL"
            raise no_shards(self.name, f"no {MANIFEST_NAME} there", do) from None
        except Exception as error:  # drivers raise what they like
            raise NotThereError(
                f"cannot read the shards at {self.name}",
                expected="a server that answers",
                found=_described(error),
                likely="this machine has no network, a proxy is not set, or credentials are missing",
                do="check the URL with another tool on this machine, or copy the shards to one of its disks",
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
            self._get(shard.name, aside, shard.bytes)
            with aside.open("rb") as file:
                check_bytes(file, shard)

        try:
            self._tried(transfer)
        except Exception as error:  # drivers raise what they like
            raise self._not_fetched(shard, error) from None

    def _get(self, name: str, to: Path, most: int) -> None:
        self._files.get_file(self._place(name), str(to), callback=_Limit(most))  # type: ignore[arg-type]

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
                    f"there is no space for a copy of shard {shard.name} in {self.cache.folder}",
                    expected=f"{shard.bytes / 1e6:,.1f} MB",
                    found=str(error.strerror),
                    do="free some space, lower data.cache_gib, or choose another disk with data.cache_dir",
                )
            case WrongBytesError():
                likely = "the URL has shards of another build, or a proxy changes or truncates files"
                do = "upload all files again, the manifest last"
            case FileNotFoundError():
                likely = "the upload is not complete"
                do = "upload all files again, the manifest last"
            case _:
                likely = "the server or the network is down, or credentials have expired"
                do = "run the same command again later to resume"
        return DataError(
            f"shard {shard.name} cannot be fetched from {self.name}",
            expected="the file that the manifest describes",
            found=_described(error),
            likely=likely,
            do=do,
        )


class _EndlessError(WrongBytesError):
    """More bytes come than were announced; another attempt would bring them again."""


class _Limit(NoOpCallback):
    """Ends a transfer that brings more bytes than were announced."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def set_size(self, size: int | None) -> None:
        self._check(size or 0)
        super().set_size(size)

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self._check(self.value)

    def _check(self, size: int) -> None:
        if size > self.most:
            raise _EndlessError(f"more than {self.most} bytes")


def _is_final(error: Exception) -> bool:
    """Whether a failure would only repeat itself."""
    full = isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT)
    refused = isinstance(error, FileNotFoundError | PermissionError | CertificateError | _EndlessError)
    return full or refused or getattr(error, "status", None) in REFUSED


def _described(error: Exception) -> str:
    text = without_secrets(str(error))
    return text if isinstance(error, WrongBytesError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def connect(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
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
        raise NotThereError(
            f"there is no driver for {without_secrets(url)}",
            expected="the package that reads URLs of this kind",
            found=str(error),
            do=f"pip install {missing}" if missing else "install the package that is named above",
        ) from None
    except Exception as error:  # drivers connect at once and raise what they like
        raise ConfigError(
            f"cannot open {without_secrets(url)}",
            expected="a folder, or a URL such as https://, s3:// or gs://",
            found=_described(error),
            do="correct the URL",
        ) from None
