"""Files that kill, fill or hang whatever reads them: each is found and rejected, and the others are as without it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.commands import ok, run_job
from tests.support.harm.interposed import MARKER, POISONED_READER, interposed
from tests.support.midi.midi_bytes import hit, midi_file
from tests.support.requirements import only_in_a_soak
from tests.support.shards.build_fixtures import contents, write_mixed_folder

pytestmark = pytest.mark.slow
WALL = "more than 8 s, limits.wall_seconds"
# How each is rejected: the reason, and the details that may stand beside it.
REASONS = {
    "segfault": ("worker-died", "killed by SIGSEGV"),
    "os._exit": ("worker-died", "ended with status 1"),
    "allocate": ("memory", "more than 300 MiB, limits.memory_mib"),
    # On a busy machine it may get less than a second of CPU time in eight.
    "spinning": ("timeout", "more than 1 s of CPU time, limits.cpu_seconds", WALL),
    "sleeping": ("timeout", WALL),
}
LIMITS = ("limits.cpu_seconds=1", "limits.wall_seconds=8", "limits.memory_mib=300")


def poison(harm: str) -> bytes:
    """A sound performance whose text tells a poisoned reader what to do."""
    text = MARKER + harm.encode()
    music = [event for beat in range(32) for event in hit(480 * beat, 36)]
    return midi_file([(0, b"\xff\x01" + bytes([len(text)]) + text)], music)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poison") / "midi"
    write_mixed_folder(folder, 150)
    return folder


@pytest.fixture(scope="module")
def without(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("without") / "out"
    ok(run_job("build_shards", "--source", folder, "--out", out, "--workers", 0, *LIMITS))
    return contents(out)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=only_in_a_soak), 2])
def test_harmful_files_are_rejected_and_the_others_are_as_without_them(folder, without, tmp_path, workers):
    source, out = tmp_path / "midi", tmp_path / "out"
    shutil.copytree(folder, source, symlinks=True)
    for number, harm in enumerate(REASONS):
        # Two of each, next to each other and apart: in one batch a file is found whatever the others do.
        (source / "part1" / f"{number}-{harm}.mid").write_bytes(poison(harm))
        (source / f"part{number % 5}" / f"zz-{harm}.mid").write_bytes(poison(harm) + b"XFIH\0\0\0\1\0")
    variables = interposed(tmp_path / "site", POISONED_READER)
    ok(run_job("build_shards", "--source", source, "--out", out, "--workers", workers, *LIMITS, **variables))

    report = json.loads((out / "report.json").read_text())
    assert report["seen"] == report["accepted"] + sum(report["rejected"].values())
    found = {row["name"]: (row["reason"], row["detail"]) for row in report["outcomes"] if row["outcome"] == "rejected"}
    for harm, (reason, *details) in REASONS.items():
        rejected = [own for name, own in found.items() if harm in name]
        assert [own for own, _ in rejected] == [reason, reason]
        assert {detail for _, detail in rejected} <= set(details)
    shards = {name: data for name, data in without.items() if name.endswith((".tar", "manifest.json"))}
    assert {name: data for name, data in contents(out).items() if name in shards} == shards


def test_without_the_poison_they_are_ordinary_files(tmp_path):
    (tmp_path / "midi").mkdir()
    for harm in REASONS:
        (tmp_path / "midi" / f"{harm}.mid").write_bytes(poison(harm))
    ok(run_job("build_shards", "--source", tmp_path / "midi", "--out", tmp_path / "out", "--workers", 0, *LIMITS))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["accepted"] == len(REASONS)
