"""jobs.build_shards as users run it: results, messages, exit codes, and nothing half-written."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard
from musicvae.data.windows import WindowBlock
from preprocess.sources.demo import write_demo_corpus
from tests.support.commands import ok, run_job
from tests.support.midi.midi_bytes import hit, midi_file
from tests.support.requirements import only_in_a_soak
from tests.support.shards.build_fixtures import contents, write_mixed_folder

DEMO = ("--source", "demo", "demo.performances=150", "shard.windows=300")
"""Three batches, several shards: enough for answers to come out of order."""
BAR = 4 * 480


def blocks(folder: Path) -> dict[str, list[WindowBlock]]:
    manifest = ShardManifest.read(folder)
    return {
        split: [
            read_shard(folder / shard.name, shard, grid=manifest.grid, num_drums=manifest.drum_map.num_drums)
            for shard in entry.shards
        ]
        for split, entry in manifest.splits.items()
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """A demo corpus built in one process, and what the command printed."""
    out = tmp_path_factory.mktemp("demo") / "shards"
    return out, ok(run_job("build_shards", *DEMO, "--out", out, "--workers", 0)).stdout


@pytest.fixture
def midi_folder(tmp_path: Path) -> Path:
    """A user's folder: 30 performances and one file for each way to be of no use."""
    folder = tmp_path / "in"
    write_mixed_folder(folder, 30)
    (folder / "bad" / "large.mid").write_bytes(b"MThd" + bytes(3_000_000))
    (folder / "readme.txt").write_text("not counted")
    return folder


def test_the_demo_corpus(demo):
    out, printed = demo
    report = json.loads((out / "report.json").read_text())
    assert report["seen"] == report["accepted"] + sum(report["rejected"].values()) == 150
    assert set(report["rejected"]) == {"metre"}
    assert len(list((out / "midi").glob("*.mid"))) == 150
    windows = {split: sum(map(len, own)) for split, own in blocks(out).items()}
    assert windows == report["windows"]
    assert 0.1 < windows["validation"] / sum(windows.values()) < 0.35
    assert f"{windows['train']:,}" in printed
    assert ShardManifest.read(out).fingerprint in printed
    assert f"{out / 'midi'}" in printed.replace("\n", "")


def test_only_the_finished_build_is_there(demo):
    out, _ = demo
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert {path.suffix for path in out.iterdir() if path.is_file()} == {".tar", ".json", ".html"}


def test_shards_of_a_split_differ_by_at_most_one_window(demo):
    out, _ = demo
    for own in blocks(out).values():
        sizes = {len(block) for block in own}
        assert max(sizes) <= 300
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param(1, marks=only_in_a_soak), 2])
def test_the_bytes_are_the_same_for_any_number_of_workers(demo, tmp_path, workers):
    result = ok(run_job("build_shards", *DEMO, "--out", tmp_path / "s", "--workers", workers))
    assert contents(tmp_path / "s") == contents(demo[0])
    assert result.stderr == "", "Ray is to be quiet"


def test_every_file_is_accounted_for(midi_folder, tmp_path):
    out = tmp_path / "out"
    result = ok(
        run_job("build_shards", "--source", midi_folder, "--out", out, "--workers", 0, "limits.max_bytes=2000000")
    )
    report = json.loads((out / "report.json").read_text())
    outcomes = {row["name"]: row for row in report["outcomes"]}
    reasons = {name: row["reason"] for name, row in outcomes.items() if row["outcome"] == "rejected"}
    expected = {
        "bad/text.mid": "not-midi",
        "bad/cut.mid": "not-midi",
        "bad/piano.mid": "no-drums",
        "bad/waltz.mid": "metre",
        "bad/short.midi": "too-short",
        "bad/large.mid": "too-large",
        "bad/gone.mid": "unreadable",
        "zzz-copy.MID": "duplicate-file",
    }
    assert {name: reason for name, reason in reasons.items() if not name.startswith("part")} == expected
    assert report["seen"] == 38 == report["accepted"] + sum(report["rejected"].values())
    assert sum(row.get("windows", 0) for row in outcomes.values()) == sum(report["windows"].values()) + sum(
        report["left_out"].values()
    )
    for reason, count in report["rejected"].items():
        assert re.search(rf"rejected: {reason} +│ +{count} ", result.stdout)


def test_adding_files_moves_none_to_another_split(midi_folder, tmp_path):
    def splits(out: Path) -> dict[str, str]:
        ok(run_job("build_shards", "--source", midi_folder, "--out", out, "--workers", 0))
        rows = json.loads((out / "report.json").read_text())["outcomes"]
        return {row["name"]: row["split"] for row in rows if row["outcome"] == "accepted"}

    before = splits(tmp_path / "before")
    write_demo_corpus(midi_folder / "more", performances=10, seed=2)
    after = splits(tmp_path / "after")
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before


def test_the_same_command_again_does_nothing_and_others_are_refused(demo, tmp_path):
    out = tmp_path / "shards"
    shutil.copytree(demo[0], out)
    before = contents(out)
    again = ok(run_job("build_shards", *DEMO, "--out", out, "--workers", 0))
    assert "Nothing is left to do" in again.stdout
    other = run_job("build_shards", *DEMO, "--out", out, "--workers", 0, "window.hop_bars=2")
    assert other.returncode == 2
    assert "exists" in other.stderr
    assert "--overwrite" in other.stderr
    assert contents(out) == before
    ok(run_job("build_shards", *DEMO, "--out", out, "--workers", 0, "window.hop_bars=2", "--overwrite"))
    assert ShardManifest.read(out).split("train").windows < ShardManifest.read(demo[0]).split("train").windows
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


def test_print_config_shows_every_setting_and_makes_nothing(tmp_path):
    result = ok(
        run_job(
            "build_shards", "--source", "demo", "--out", tmp_path / "s", "--seed", 7, "--print-config", "window.bars=2"
        )
    )
    shown = yaml.safe_load(result.stdout)
    assert shown["demo"] == {"performances": 360, "seed": 7}
    assert shown["window"] == {"bars": 2, "hop_bars": 1, "steps_per_beat": 4, "pad_last_bar": True}
    assert "# Bars of a window." in result.stdout
    assert list(tmp_path.iterdir()) == []


def only_rejected(folder: Path) -> list[object]:
    (folder / "in").mkdir()
    (folder / "in" / "a.mid").write_bytes(midi_file(hit(0, 36)))
    (folder / "in" / "b.mid").write_text("text")
    return ["--source", folder / "in", "--out", folder / "out"]


def no_midi(folder: Path) -> list[object]:
    (folder / "in").mkdir()
    (folder / "in" / "a.wav").write_bytes(b"RIFF")
    return ["--source", folder / "in", "--out", folder / "out"]


def a_file_as_parent(folder: Path) -> list[object]:
    (folder / "file").write_text("")
    return ["--source", "demo", "--out", folder / "file" / "out"]


def something_else_there(folder: Path) -> list[object]:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("years of work")
    return ["--source", "demo", "--out", folder / "out"]


def an_unfinished_build_there(folder: Path) -> list[object]:
    (folder / "out").mkdir()
    (folder / "out" / "train-000000.tar").write_text("")
    return ["--source", "demo", "--out", folder / "out"]


@pytest.mark.parametrize(
    ("arguments", "code", "messages"),
    [
        (no_midi, 3, ["no MIDI files under", "1 other files", "a wrong path"]),
        (only_rejected, 3, ["no file has a window that can be used", "not-midi 1, too-short 1", "report.json"]),
        (
            lambda folder: ["--source", folder / "none", "--out", folder / "out"],
            2,
            ["is not a source of MIDI files", "correct the path"],
        ),
        (a_file_as_parent, 2, ["cannot write", "Not a directory"]),
        (lambda folder: ["--source", "demo", "--out", "/proc/none/out"], 2, ["cannot write"]),
        (something_else_there, 2, ["exists", "did not write or did not finish", "choose another --out"]),
        (an_unfinished_build_there, 2, ["exists", "did not write or did not finish"]),
        (
            lambda folder: ["--source", "demo", "--out", folder / "out", "window.hop_bar=2"],
            2,
            ["unknown setting window.hop_bar", "did you mean window.hop_bars?"],
        ),
        (lambda folder: ["--source", "demo", "--out", folder / "out", "drum_map=rolland"], 2, ["general_midi, roland"]),
        (lambda folder: ["--source", "demo", "--out", folder / "out", "--wrokers", "1"], 2, ["No such option"]),
        (
            lambda folder: ["--source", "demo", "--out", folder / "out", "--ray-address", "127.0.0.1:1"],
            2,
            ["no Ray cluster answers at 127.0.0.1:1", "Connection refused"],
        ),
    ],
)
def test_bad_input(tmp_path, arguments, code, messages):
    command = arguments(tmp_path)
    before = contents(tmp_path)
    workers = [] if "--ray-address" in command else ["--workers", 0]
    result = run_job("build_shards", *command, *workers)
    assert result.returncode == code, result.stderr
    for message in messages:
        assert message in result.stderr
    assert "Traceback" not in result.stderr
    if "report.json" not in messages:
        assert contents(tmp_path) == before
        assert not (tmp_path / "out.building").exists()


def test_overwrite_deletes_nothing_but_shards(tmp_path):
    own = tmp_path / "in"
    write_demo_corpus(own, performances=3, seed=0)
    before = contents(tmp_path)
    for out in (own, tmp_path):
        result = run_job("build_shards", "--source", own, "--out", out, "--workers", 0, "--overwrite")
        assert result.returncode == 2
        assert "did not write" in result.stderr
    assert contents(tmp_path) == before


def test_overwrite_replaces_a_damaged_build(demo, tmp_path):
    out = tmp_path / "shards"
    shutil.copytree(demo[0], out)
    (out / "manifest.json").write_text("{")
    assert run_job("build_shards", *DEMO, "--out", out, "--workers", 0).returncode == 2
    ok(run_job("build_shards", *DEMO, "--out", out, "--workers", 0, "--overwrite"))
    assert contents(out) == contents(demo[0])


def test_overwrite_names_what_no_build_has_made(demo, tmp_path):
    out = tmp_path / "shards"
    shutil.copytree(demo[0], out)
    (out / "backup.tar").write_bytes(b"mine")
    result = run_job("build_shards", *DEMO, "--out", out, "--workers", 0, "--overwrite")
    assert result.returncode == 2
    assert "did not write" in result.stderr
    assert "backup.tar" in result.stderr
    assert (out / "backup.tar").read_bytes() == b"mine"
    assert (out / "manifest.json").exists()


def test_overwrite_keeps_a_source_within_the_shards(demo):
    out, _ = demo
    before = contents(out)
    result = run_job("build_shards", "--source", out / "midi", "--out", out, "--workers", 0, "--overwrite")
    assert result.returncode == 2
    assert "inside it" in result.stderr
    assert contents(out) == before


def test_an_empty_folder_may_stand_there(tmp_path):
    (tmp_path / "out").mkdir()
    ok(run_job("build_shards", "--source", "demo", "demo.performances=20", "--out", tmp_path / "out", "--workers", 0))
    assert ShardManifest.read(tmp_path / "out").split("train").windows > 0
