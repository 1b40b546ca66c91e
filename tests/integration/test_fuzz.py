"""Whatever lies in a folder or an archive: every file is accounted for, and what is sound is used as if it were alone.

A seed decides everything. It is printed, and FUZZ_SEED=N runs the tests with another one; a soak (SOAK=1) takes more
files, and besides fixed seeds some that nobody has tried.
"""

import json
import os
import posixpath
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard
from preprocess.sources.demo import write_demo_corpus
from preprocess.sources.listing import printable
from tests.support.commands import ok, run_job
from tests.support.harm.archive_mutator import DANGEROUS_NAMES, tar_of, zip_of
from tests.support.harm.byte_damage import (
    cut,
    flip_bits,
    junk_after,
    lose_a_stretch,
    overwrite_a_stretch,
    repeat_a_stretch,
)
from tests.support.harm.odd_names import odd_names
from tests.support.midi.midi_mutator import MUTATIONS, Mutant, mutants

NEVER = {"internal-error", "timeout", "memory", "worker-died"}
"""What no file ends as that is merely broken, absurd or hostile."""
ONE_SPLIT = "split.validation_share=0"
"""Two splits would take windows from each other where a mutant keeps some of its original's."""
QUICK, SLOW, SOAK = len(MUTATIONS), 60, 500
GROOVE_STRIDE = 40
"""One in so many of GMD's files stands among the sound ones."""
INITIALS = "+9BKTbkt{ß本"
SUFFIXES = ("zip", "tar", "tar.gz", "tar.xz")
ARCHIVE_DAMAGES = (cut, flip_bits, overwrite_a_stretch, lose_a_stretch, repeat_a_stretch, junk_after)

Windows = dict[str, list[tuple[Any, ...]]]
"""Of each file, by name, everything in its windows."""


def seeds() -> list[int]:
    """The seeds of the slow tests."""
    if "FUZZ_SEED" in os.environ:
        return [int(os.environ["FUZZ_SEED"])]
    return [1, 2, *(secrets.randbits(32) for _ in range(3))] if "SOAK" in os.environ else [1]


@dataclass(frozen=True, slots=True)
class Built:
    """What a build of a collection came to."""

    report: dict[str, Any]
    windows: Windows

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.report["outcomes"]}


def build(source: Path, out: Path, workers: int) -> Built:
    """Runs the command as users do; it must succeed, account for each file once, and write nothing but its output."""
    before = everything_under(out.parent)
    ok(run_job("build_shards", "--source", source, "--out", out, "--workers", workers, ONE_SPLIT, timeout=1800))
    report = json.loads((out / "report.json").read_text())
    names = [row["name"] for row in report["outcomes"]]
    assert len(names) == len(set(names)) == report["seen"] == report["accepted"] + sum(report["rejected"].values())
    after = {path: status for path, status in everything_under(out.parent).items() if not path.is_relative_to(out)}
    assert after == before
    return Built(report, windows_of(out))


def everything_under(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*") if not path.is_dir()}


def windows_of(shards: Path) -> Windows:
    manifest = ShardManifest.read(shards)
    windows: Windows = {}
    for entry in manifest.split("train").shards:
        block = read_shard(shards / entry.name, entry, grid=manifest.grid, num_drums=manifest.drum_map.num_drums)
        for meta, *arrays in zip(block.meta, block.tokens, block.velocity, block.offset, strict=True):
            content = (meta.bar, meta.tempo, meta.style, *(array.tobytes() for array in arrays))
            windows.setdefault(meta.source, []).append(content)
    return windows


def sound_files(folder: Path, rng: Random) -> dict[str, bytes]:
    """Performances that stand among the others by name: the demo corpus, and GMD where it is."""
    write_demo_corpus(folder, performances=30, seed=rng.randrange(1000))
    paths = sorted(folder.glob("*.mid"))
    if groove := os.environ.get("GROOVE_DIR"):
        paths += sorted(Path(groove).rglob("*.mid"))[::GROOVE_STRIDE]
    return {f"{rng.choice(INITIALS)} {number}.mid": path.read_bytes() for number, path in enumerate(paths)}


def write_files(folder: Path, files: Mapping[bytes, bytes]) -> Path:
    for name, data in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@dataclass(frozen=True, slots=True)
class Collection:
    """Sound files, what they come to alone, and others to put beside them.

    Attributes:
        sound: by name.
        alone: a build of the sound ones.
        mutants: the others.
    """

    sound: Mapping[str, bytes]
    alone: Built
    mutants: list[Mutant]
    seed: int

    @classmethod
    def make(cls, folder: Path, count: int, seed: int) -> "Collection":
        print(f"FUZZ_SEED={seed}")
        sound = sound_files(folder / "originals", Random(seed))
        source = write_files(folder / "alone", {name.encode(): data for name, data in sound.items()})
        alone = build(source, folder / "alone.out", workers=0)
        assert len(alone.windows) > 20
        return cls(sound, alone, mutants(list(sound.values()), count, seed), seed)

    def check(self, mixed: Built, others: Mapping[str, Mutant]) -> None:
        """The sound files come out as they do alone, and the others are accounted for beside them."""
        outcomes = mixed.outcomes
        assert outcomes.keys() == self.sound.keys() | others.keys()
        assert {name: outcomes[name] for name in self.sound} == self.alone.outcomes
        assert {name: mixed.windows[name] for name in self.alone.windows} == self.alone.windows
        ends = [(outcomes[name], mutant.made_by) for name, mutant in others.items()]
        assert not [(row, made_by) for row, made_by in ends if row.get("reason") in NEVER]


def check_folder(folder: Path, collection: Collection) -> None:
    """Mutants under odd names among sound files: the same for any number of workers."""
    names = odd_names(len(collection.mutants), Random(collection.seed))
    write_files(folder / "mixed", {name.encode(): data for name, data in collection.sound.items()})
    write_files(folder / "mixed", {name: made.data for name, made in zip(names, collection.mutants, strict=True)})
    first, second = (build(folder / "mixed", folder / f"{workers}.out", workers) for workers in (0, 2))
    assert first == second
    printed = [printable(os.fsdecode(name)) for name in names]
    collection.check(first, dict(zip(printed, collection.mutants, strict=True)))
    lost = [row for row in first.report["outcomes"] if row.get("reason") in ("unreadable", "duplicate-file")]
    assert not lost, "each can be read and has a content of its own"


def check_archive(folder: Path, collection: Collection, suffix: str) -> None:
    """Damaged and odd members among sound ones, some under names that lead out of any folder."""
    rng = Random(f"{collection.seed} {suffix}")
    dangerous = [*DANGEROUS_NAMES, f"{folder}/escaped.mid"]
    names = [*dangerous, *(f"{number}.mid" for number in range(len(dangerous), len(collection.mutants)))]
    others = dict(zip(names, collection.mutants, strict=True))
    spoiled = {name: mutant.data for name, mutant in others.items()}
    pack = zip_of if suffix == "zip" else partial(tar_of, packing=suffix.removeprefix("tar").removeprefix("."))
    archive = folder / f"mixed.{suffix}"
    archive.write_bytes(pack(collection.sound, spoiled, rng))
    mixed = build(archive, folder / f"{suffix}.out", workers=0)
    collection.check(mixed, {posixpath.normpath(name): mutant for name, mutant in others.items()})


def check_damaged_archive(folder: Path, collection: Collection, suffix: str) -> None:
    """An archive that is itself damaged is refused in words, or what the damage spared is built."""
    rng = Random(f"damaged {collection.seed} {suffix}")
    archive = folder / f"damaged.{suffix}"
    archive.write_bytes(rng.choice(ARCHIVE_DAMAGES)((folder / f"mixed.{suffix}").read_bytes(), rng))
    result = run_job("build_shards", "--source", archive, "--out", folder / f"damaged.{suffix}.out", "--workers", 0)
    assert result.returncode in (0, 3), result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == 0 or str(archive) in result.stderr.replace("\n", "")


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Collection:
    return Collection.make(tmp_path_factory.mktemp("quick"), QUICK, int(os.environ.get("FUZZ_SEED", "0")))


@pytest.mark.slow
def test_every_mutation_once(quick, tmp_path):
    check_folder(tmp_path, quick)


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_archives(quick, tmp_path, suffix):
    check_archive(tmp_path, quick, suffix)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds())
def test_any_files(tmp_path, seed):
    collection = Collection.make(tmp_path, SOAK if "SOAK" in os.environ else SLOW, seed)
    check_folder(tmp_path, collection)
    for suffix in SUFFIXES:
        check_archive(tmp_path, collection, suffix)
        check_damaged_archive(tmp_path, collection, suffix)
    # Hundreds of megabytes that pytest would keep; after a failure they are still there.
    shutil.rmtree(tmp_path)
