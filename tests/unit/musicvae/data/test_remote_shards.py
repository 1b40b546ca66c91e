"""Shards behind a URL: fetched once, verified on arrival, tried again, and never with a secret in a message."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from musicvae.data.cache import ShardCache
from musicvae.data.manifest import FolderShards, ShardManifest, open_shards, without_secrets
from musicvae.data.remote import RemoteShards
from musicvae.data.store import WindowStore
from musicvae.errors import ConfigError, DataError
from tests.support.services.https_server import FolderServer, serving


@pytest.fixture
def server(small_shards_copy: Path) -> Iterator[FolderServer]:
    with serving(small_shards_copy) as running:
        yield running


def source(server: FolderServer, cache: Path, url: str = "", attempts: int = 3) -> RemoteShards:
    return RemoteShards(url or server.url, ShardCache(cache, 2**30), attempts=attempts, first_wait=0.01)


def tar_requests(server: FolderServer) -> dict[str, int]:
    return {path: count for path, count in server.requests.items() if path.endswith(".tar")}


def test_windows_from_a_url_are_those_of_the_folder(server, small_shards, tmp_path):
    remote, local = source(server, tmp_path / "cache"), FolderShards(small_shards)
    assert remote.manifest() == local.manifest()
    ids = np.arange(200)
    found, expected = (WindowStore(s, s.manifest(), "train", cached_blocks=2).tokens(ids) for s in (remote, local))
    np.testing.assert_array_equal(found, expected)
    names = [shard.name for shard in local.manifest().split("train").shards]
    assert tar_requests(server) == {f"/{name}": 1 for name in names}


def test_several_readers_fetch_a_shard_once(server, tmp_path):
    sources = [source(server, tmp_path / "cache") for _ in range(8)]
    shards = sources[0].manifest().split("train").shards
    ready = threading.Barrier(8)

    def fetch(own: RemoteShards) -> list[Path]:
        ready.wait()
        return [own.local(shard) for shard in shards]

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(fetch, sources))
    assert all(own == paths[0] for own in paths)
    assert set(tar_requests(server).values()) == {1}
    assert not list((tmp_path / "cache").glob(".*")), "nothing half fetched stays"


def test_a_failure_that_passes_is_tried_again(server, tmp_path):
    server.failures |= {"/manifest.json": 2, "/train-000000.tar": 2}
    remote = source(server, tmp_path / "cache")
    shard = remote.manifest().split("train").shards[0]
    assert remote.local(shard).stat().st_size == shard.bytes
    assert server.requests["/train-000000.tar"] == 3


def test_a_failure_that_stays_is_told(server, tmp_path):
    remote = source(server, tmp_path / "cache")
    shard = remote.manifest().split("train").shards[0]
    server.failures |= {"/manifest.json": 99, "/train-000000.tar": 99}
    with pytest.raises(DataError, match=r"train-000000\.tar cannot be fetched(.|\n)*503(.|\n)*likely(.|\n)*do "):
        remote.local(shard)
    with pytest.raises(ConfigError, match=r"cannot read the shards at(.|\n)*503"):
        remote.manifest()


@pytest.mark.parametrize("kept", [0, 1000])
def test_an_answer_that_breaks_off_is_noticed(server, tmp_path, kept):
    remote = source(server, tmp_path / "cache")
    shard = remote.manifest().split("train").shards[0]
    server.cut["/train-000000.tar"] = kept
    with pytest.raises(DataError, match=rf"found\s+{kept} bytes, the manifest says {shard.bytes}"):
        remote.local(shard)
    assert server.requests["/train-000000.tar"] == 3
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix in (".tar", ".tmp")]
    server.cut.clear()
    assert remote.local(shard).exists()


def test_other_bytes_of_the_same_length_are_noticed(server, small_shards_copy, tmp_path):
    remote = source(server, tmp_path / "cache")
    shard = remote.manifest().split("train").shards[0]
    path = small_shards_copy / shard.name
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="sha256"):
        remote.local(shard)


def test_what_is_not_there_is_told_at_once(server, small_shards_copy, tmp_path):
    remote = source(server, tmp_path / "cache")
    shard = remote.manifest().split("train").shards[0]
    (small_shards_copy / shard.name).unlink()
    (small_shards_copy / "manifest.json").unlink()
    with pytest.raises(DataError, match="the upload is not complete"):
        remote.local(shard)
    with pytest.raises(ConfigError, match=r"no shards in http://localhost"):
        remote.manifest()
    assert server.requests[f"/{shard.name}"] == 1


def test_a_server_that_is_gone_is_told(tmp_path):
    with serving(tmp_path) as server:
        pass
    with pytest.raises(ConfigError, match=r"cannot read the shards at http://localhost:\d+\n"):
        source(server, tmp_path / "cache").manifest()


def test_a_copy_that_rots_or_is_removed_is_fetched_anew(server, tmp_path):
    remote = source(server, tmp_path / "cache")
    manifest = remote.manifest()
    windows = WindowStore(remote, manifest, "train", cached_blocks=1)
    expected = windows.tokens(np.array([0])).copy()
    windows.tokens(np.array([199]))
    copy = remote.local(manifest.split("train").shards[0])
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    np.testing.assert_array_equal(windows.tokens(np.array([0])), expected)
    windows.tokens(np.array([199]))
    copy.unlink()
    np.testing.assert_array_equal(windows.tokens(np.array([0])), expected)
    assert server.requests["/train-000000.tar"] == 3


def test_the_query_of_a_signed_url_goes_with_every_file_and_into_no_message(server, tmp_path):
    url = f"{server.url.replace('localhost', 'me:pass%2Fword@localhost')}?signature=geheim"
    remote = source(server, tmp_path / "cache", url)
    shard = remote.manifest().split("train").shards[0]
    remote.local(shard)
    server.failures["/train-000001.tar"] = 99
    with pytest.raises(DataError) as error:
        remote.local(remote.manifest().split("train").shards[1])
    said = f"{error.value}{remote}"
    assert "localhost" in said
    assert not {word for word in ("me:", "pass", "word@", "geheim", "signature") if word in said}


def test_any_file_system_that_fsspec_knows(small_shards, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(small_shards), "/far/shards", recursive=True)
    remote = open_shards("memory://far/shards", cache_dir=tmp_path / "cache", cache_gib=1.0)
    shard = remote.manifest().split("validation").shards[0]
    assert remote.local(shard).read_bytes() == (small_shards / shard.name).read_bytes()
    assert open_shards(f"file://{small_shards}").manifest() == ShardManifest.read(small_shards)


@pytest.mark.parametrize("url", ["pipe:cat shards", "pipe://cat", "simplecache::pipe:cat x", "PIPE:curl https://x"])
def test_a_url_that_runs_a_program_is_refused(url):
    with pytest.raises(ConfigError, match="cannot be read from a program"):
        open_shards(url)


def test_a_url_without_a_driver_names_the_package_and_an_unknown_kind_is_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"no driver for s3://bucket/x(.|\n)*pip install s3fs"):
        open_shards("s3://bucket/x")
    with pytest.raises(ConfigError, match=r"cannot open htps://host/x(.|\n)*Protocol not known"):
        open_shards("htps://host/x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://me:word@host:1/a/b?sig=x&y=z now", "at https://host:1/a/b?... now"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("zip://a.zip::https://u:p@h/x", "zip://a.zip::https://h/x"),
        ("https://u:p@h@host?q", "https://host?..."),
        ("no address: a@b?c", "no address: a@b?c"),
    ],
)
def test_secrets_are_taken_out_of_text(text, shown):
    assert without_secrets(text) == shown


def test_more_than_was_announced_is_not_fetched_to_its_end(server, small_shards_copy, tmp_path, monkeypatch):
    remote = source(server, tmp_path / "cache", attempts=1)
    shard = remote.manifest().split("train").shards[0]
    with (small_shards_copy / shard.name).open("ab") as file:
        file.write(bytes(1000))
    with pytest.raises(DataError, match=f"more than {shard.bytes} bytes"):
        remote.local(shard)
    monkeypatch.setattr("musicvae.data.remote.MOST_MANIFEST_BYTES", 100)
    with pytest.raises(ConfigError, match="more than 100 bytes"):
        remote.manifest()
