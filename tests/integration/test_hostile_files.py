"""Whole commands on files of strangers and under strange names: refused in words and in bounded memory, or shown."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.shards import write_shard
from tests.benchmarks.status import write_runs
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command, ok, run_job
from tests.support.harm.strange_shards import strange_members, with_member
from tests.support.midi.midi_bytes import hit, midi_file
from tests.support.requirements import only_in_a_soak
from tests.support.services.https_server import serving
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID, patterned_windows

pytestmark = pytest.mark.slow
GIB = 1 << 30
MOST_MIB = 700
"""Of any command here; torch alone takes 300."""
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
WINDOWS = 40
LOOP = midi_file([event for beat in range(17) for event in hit(480 * beat, 36)])


MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A process begins with the peak of the one that starts it, so that one has to be small."""


def measured(*command: object) -> tuple[int, str, int]:
    """Exit code of a command, what it said on stderr, and the most memory that it had, in MiB."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, command)],
        cwd=CHECKOUT,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
    )
    code, peak = map(int, result.stdout.split())
    return code, result.stderr, peak // 1024


def a_tar_with_an_endless_header(folder: Path) -> Sequence[object]:
    info = tarfile.TarInfo("a.mid")
    info.type, info.size = tarfile.XHDTYPE, 3 * GIB
    with gzip.open(folder / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    return job_command("build_shards", "--source", folder / "a.tar.gz", "--out", folder / "out", "--workers", 0)


def a_zip_with_a_bomb_for_a_table(folder: Path) -> Sequence[object]:
    with (
        zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("info.csv", "w") as table,
    ):
        table.write(b"style,midi_filename,split\n")
        for _ in range(1024):
            table.write(bytes(1 << 20))
    return job_command("build_shards", "--source", folder / "a.zip", "--out", folder / "out", "--workers", 0)


def sparse(path: Path, beginning: bytes) -> None:
    """A file of four gigabytes that takes a block of the disk."""
    path.write_bytes(beginning)
    os.truncate(path, 4 * GIB)


def a_folder_with_an_endless_table(folder: Path) -> Sequence[object]:
    sparse(folder / "info.csv", b"style,midi_filename,split\n")
    return job_command("build_shards", "--source", folder, "--out", folder / "out", "--workers", 0)


def a_list_with_an_endless_line(folder: Path) -> Sequence[object]:
    sparse(folder / "list.csv", b"path\n")
    return job_command("build_shards", "--source", folder / "list.csv", "--out", folder / "out", "--workers", 0)


def settings_of_aliases(folder: Path) -> Sequence[object]:
    (folder / "a.yaml").write_text(ALIASES)
    return job_command("train", "--config", folder / "a.yaml", "--shards", folder, "--run", folder / "run")


def a_site_of_aliases(folder: Path) -> Sequence[object]:
    (folder / "a.yaml").write_text(ALIASES)
    line = ["submit", "train", "--on", "slurm", "--dry-run", "--site", folder / "a.yaml"]
    return job_command(*line, "--", "--shards", folder, "--run", folder / "run")


def no_end_of_zeros(folder: Path) -> Sequence[object]:
    return [sys.executable, "-m", "musicvae", "vary", "/dev/zero", "--out", folder / "out"]


def a_pipe_for_a_loop(folder: Path) -> Sequence[object]:
    os.mkfifo(folder / "loop.mid")
    return [sys.executable, "-m", "musicvae", "vary", folder / "loop.mid", "--out", folder / "out"]


BOMBS: Mapping[Callable[[Path], Sequence[object]], tuple[int, str]] = {
    a_tar_with_an_endless_header: (3, "a header of 3221225472 bytes, expected at most 1048576"),
    a_zip_with_a_bomb_for_a_table: (3, "no MIDI files in"),
    a_folder_with_an_endless_table: (3, "no MIDI files under"),
    a_list_with_an_endless_line: (3, "list.csv, line 2 cannot be used"),
    settings_of_aliases: (2, "aliases (*name) are not supported"),
    a_site_of_aliases: (2, "aliases (*name) are not supported"),
    no_end_of_zeros: (2, "cannot read /dev/zero"),
    a_pipe_for_a_loop: (2, "no regular file"),
}


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__.replace("_", " "))
def test_what_grows_without_end_is_refused_in_bounded_memory(tmp_path, bomb):
    code, said, mib = measured(*bomb(tmp_path))
    expected, words = BOMBS[bomb]
    assert (code, "Traceback" in said) == (expected, False), said
    assert words in said
    assert mib < MOST_MIB
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"model": {"encoder_hidden": 60_000}}, "bytes for a model of"),
        ({"grid": {"bars": 10**9}}, "at most 65536 are read"),
        ({"grid": {"bars": 4.0}}, "expected a whole number, found 4.0"),
        ({"feel": {"velocity": [[10**400]]}}, "config.json cannot be used"),
        ({"weights": "[" * 100_000}, "config.json cannot be used"),
    ],
    ids=["weights", "grid", "bars", "number", "depth"],
)
def test_an_export_whose_configuration_is_hostile_is_refused_in_bounded_memory(sample_run, tmp_path, values, found):
    export = tmp_path / "export"
    ok(run_job("export", sample_run, export))
    config = json.loads((export / "config.json").read_text())
    for name, value in values.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    text = json.dumps(config).replace(f'"{"[" * 100_000}"', "[" * 100_000)
    (export / "config.json").write_text(text)
    code, said, mib = measured(
        *job_command("sample", "--weights", export, "--count", 2, "--out", tmp_path / "out"),
    )
    assert (code, "Traceback" in said) == (3, False), said
    assert found in said
    assert mib < MOST_MIB


@pytest.mark.parametrize("name", ["manifest.json", "train-000000.tar"])
def test_a_server_that_never_stops_sending_is_left(small_shards_copy, tmp_path, name):
    os.truncate(small_shards_copy / name, 4 * GIB)
    cache = f"data.cache_dir={tmp_path / 'cache'}"
    with serving(small_shards_copy) as server:
        code, said, mib = measured(
            *job_command("train", "--shards", server.url, "--run", tmp_path / "run", *TINY, cache, "train.steps=2")
        )
    assert (code, "Traceback" in said) == (2 if name == "manifest.json" else 3, False), said
    assert "more than " in said
    assert mib < MOST_MIB
    assert not [path for path in tmp_path.glob("cache/*") if path.suffix in (".tar", ".tmp")]


def strange_shards(folder: Path, name: str) -> Path:
    """Shards whose hashes are right."""
    folder.mkdir()
    entries = {}
    for seed, split in enumerate(("train", "validation")):
        path = folder / f"{split}-000000.tar"
        entry = write_shard(path, patterned_windows(WINDOWS, seed))
        if split == "train" and name in (strange := strange_members(WINDOWS)):
            entry = with_member(path, entry, *strange[name][:2])
        entries[split] = SplitEntry(WINDOWS, WINDOWS, (entry,))
    ShardManifest(GRID, DRUM_MAP, entries).write(folder)
    return folder


@pytest.mark.parametrize("name", strange_members(WINDOWS))
def test_shards_with_the_right_hash_and_strange_content(tmp_path, name):
    shards = strange_shards(tmp_path / "shards", name)
    shown = run_job("show", shards)
    assert (shown.returncode, "Traceback" in shown.stderr) == (3, False), shown.stderr
    if strange_members(WINDOWS)[name][0] == "tokens.npy":  # a training of grooves reads nothing else
        trained = run_job("train", "--shards", shards, "--run", tmp_path / "run", *TINY, "train.steps=1")
        assert (trained.returncode, "Traceback" in trained.stderr) == (3, False), trained.stderr


@pytest.mark.parametrize("name", ["manifest.json", "train-000000.tar"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, name):
    shards = strange_shards(tmp_path / "shards", "")
    (shards / name).unlink()
    os.mkfifo(shards / name)
    for command in (["show", shards], ["train", "--shards", shards, "--run", tmp_path / "run", *TINY]):
        refused = run_job(*command, timeout=60)
        assert (refused.returncode, "Traceback" in refused.stderr) == (3, False), refused.stderr


@pytest.mark.parametrize(("key", "value"), [("bars", 4.0), ("bars", 10**9), ("steps_per_beat", "4")])
def test_a_manifest_with_the_wrong_numbers(tmp_path, key, value):
    shards = strange_shards(tmp_path / "shards", "")
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["grid"][key] = value
    (shards / "manifest.json").write_text(json.dumps(manifest))
    for command in (["show", shards], ["train", "--shards", shards, "--run", tmp_path / "run", *TINY]):
        refused = run_job(*command)
        assert (refused.returncode, "Traceback" in refused.stderr) == (3, False), refused.stderr
        assert f"grid.{key}" in refused.stderr or "steps" in refused.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("train.seed=010", "  seed: 10"),
        ("train.seed=008", "  seed: 8"),
        ("train.steps=0100", "  steps: 100"),
        ("tracking.project=2026-11-28", "  project: '2026-11-28'"),
        ("tracking.group=on", "  group: 'on'"),
        ("tracking.group=1:30", "  group: '1:30'"),
    ],
)
def test_a_word_is_read_by_the_type_of_its_setting(words, line):
    assert line in ok(run_job("train", "--print-config", words)).stdout.splitlines()


def test_a_word_of_a_site_is_read_by_the_type_of_its_setting(tmp_path):
    (tmp_path / "site.yaml").write_text("notice_seconds: 0150\npartition: on\nenvironment: {DAY: 2026-11-28}\n")
    line = ["submit", "train", "--on", "slurm", "--dry-run", "--site", tmp_path / "site.yaml", "--time", "1:00:00"]
    shown = ok(run_job(*line, "--", "--shards", tmp_path, "--run", tmp_path / "run")).stdout
    assert "@150" in shown
    assert "DAY=2026-11-28" in shown
    assert "partition=on" in shown


DEEP = "[" * 400 + "]" * 400
STATUSES = (
    '{"state": "[/red]\\u001b[2J"}',
    '{"state": ' + "[" * 100_000,
    '{"state": "failed", "failure": {"message": ' + DEEP + "}}",
    '{"state": "running", "step": 1' + "0" * 400 + "}",
    '{"state": "running", "heartbeat": NaN, "total": "many"}',
)


def test_no_strange_run_hides_the_others_in_status(tmp_path):
    write_runs(tmp_path, 1)
    for number, text in enumerate(STATUSES):
        (tmp_path / f"strange-{number}").mkdir()
        (tmp_path / f"strange-{number}" / "status.json").write_text(text)
    for name in ("pipe", "endless"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    os.mkfifo(tmp_path / "pipe" / "status.json")
    sparse(tmp_path / "endless" / "status.json", b"{")
    for options in ([], ["--json"]):
        shown = ok(run_job("status", tmp_path, *options, timeout=60)).stdout
        assert all(path.name in shown for path in tmp_path.iterdir())
        assert "\x1b" not in shown


def test_names_are_printed_as_they_are(sample_run, small_shards, tmp_path):
    shards, run = tmp_path / "shards [v1.0]", tmp_path / "[" / "run]"
    shutil.copytree(small_shards, shards)
    shutil.copytree(sample_run, run)
    assert f"{shards}, fingerprint" in ok(run_job("show", shards)).stdout
    said = ok(run_job("sample", "--run", run, "--count", 1, "--out", tmp_path / "[red]a[/red]")).stdout
    assert "[red]a[/red]" in said
    assert f"page: {run}" in ok(run_job("report", run)).stdout
    assert f"{run.name}: " in ok(run_job("report", run)).stdout


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        (b"caf\xe9\xff", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
        pytest.param(b"\xc3\x9cbung", {"PYTHONIOENCODING": "latin-1"}, marks=only_in_a_soak),
        pytest.param(b"caf\xe9\xff", {}, marks=only_in_a_soak),
    ],
    ids=["ASCII, no UTF-8", "Latin-1", "no UTF-8"],
)
def test_commands_under_any_locale_and_name(sample_run, small_shards, tmp_path, name, variables):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    run, loop = folder / "run", folder / "loop.mid"
    shutil.copytree(sample_run, run)
    loop.write_bytes(LOOP)
    training = ["train", "--shards", small_shards, "--run", folder / "trained", *TINY, "train.log_windows=true"]
    for command in (
        [*training, "train.steps=2", "train.evaluate_every=2"],
        [*training, "train.steps=4", "train.evaluate_every=2"],
        ["sample", "--run", run, "--count", 2, "--out", folder / "new"],
        ["sample", "--run", run, "--like", loop, "--count", 2, "--out", folder / "like"],
        ["report", run],
        ["status", folder],
        ["export", run, folder / "export"],
        ["show", loop],
        ["show", folder],
        ["build_shards", "--source", folder, "--out", folder / "shards", "--workers", 0],
    ):
        ended = subprocess.run(
            [os.fsencode(str(word)) for word in job_command(*command)],
            cwd=CHECKOUT,
            env={**os.environ, **QUIET, **variables},
            capture_output=True,
        )
        assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    assert (run / "report.html").read_bytes().decode()
    assert (folder / "new" / "settings.json").read_bytes().decode()
