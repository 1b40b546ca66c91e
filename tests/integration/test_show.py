"""`jobs.show` on MIDI files and on shards: what it tells is true, and it refuses what it cannot show."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard
from musicvae.data.statistics import WindowStatistics, count_windows
from musicvae.groove.picture import drum_grid
from tests.support.commands import ok, run_job
from tests.support.harm.damage import damage_file, each_damage
from tests.support.midi.midi_bytes import Event, hit, metre, midi_file, tempo
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID, SMALL_SPLITS

BAR = 4 * 480


def beat(bars: int, first: int = 0) -> list[Event]:
    """A kick on one and three, a snare on two and four."""
    return [event for beat in range(4 * bars) for event in hit(first + 480 * beat, 38 if beat % 2 else 36)]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """Five bars of 4/4, two of 3/4, six of 4/4 again; one doubled hit, two hits of no known pitch."""
    waltz = 5 * BAR
    again = waltz + 2 * 3 * 480
    odd = [*hit(5, 36), *hit(480, 3), *hit(960, 3), *hit(waltz + 480, 36), *hit(again - 480, 36)]
    path = tmp_path / "song.mid"
    path.write_bytes(
        midi_file(
            [tempo(0, 93), tempo(again, 140), metre(0, 4, 4), metre(waltz, 3, 4), metre(again, 4, 4)],
            sorted([*beat(5), *beat(6, again), *odd], key=lambda event: event[0]),
        )
    )
    return path


def values(*arguments: object) -> dict[str, Any]:
    """The one JSON object that the command prints, and nothing else."""
    return json.loads(ok(run_job("show", *arguments, "--json")).stdout)


def drawn(block_text: str) -> list[str]:
    """The lines of drum grids in an output."""
    return [line for line in block_text.splitlines() if "│" in line]


def test_a_file_is_told_in_words(song):
    text = ok(run_job("show", song)).stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "accepted 5 windows of 4 bars",
        "drum map general_midi (auto)",
        "tempo map 93 bpm, 140 bpm from bar 8",
        "metre map 4/4, 3/4 from bar 6, 4/4 from bar 8",
        "bars 11",
        "hits 49 found, 44 kept",
        "merged 1 left out: a louder hit of that drum is on the same step (32nds, flams)",
        "outside 2 left out: in bars that are not used",
        "unknown pitch 3 (2): drum map general_midi has no drum for them",
        "metre 2 bars in 3/4 are not read",
        "pitch 3 2 unknown",
        "pitch 36 25 kick Bass Drum 1",
        "2 other metre",
        "window 0: song.mid, bar 1, 93 bpm",
        "window 2: song.mid, bar 8, 140 bpm",
        "3 more windows; to draw one, add --window 0 to 4",
    ):
        assert line in lines
    assert len(drawn(text)) == 2 * 10


def test_a_file_as_json(song):
    shown = values(song)
    assert (shown["outcome"], shown["num_windows"]) == ("accepted", 5)
    assert shown["drum_map"]["name"] == "general_midi"
    assert shown["reading"]["hits"] == 49
    assert shown["reading"]["unknown"] == {"3": 2}
    assert shown["reading"]["other_metres"] == {"3/4": 2}
    assert shown["dropped_bars"]["other metre"] == 2
    assert [m[1:] for m in shown["performances"][0]["metres"]] == [[4, 4], [3, 4], [4, 4]]
    assert [t for _, t in shown["performances"][0]["tempos"]] == pytest.approx([93, 140], abs=0.01)
    assert shown["pitches"]["3"] == {"name": "", "drum": None, "hits": 2}
    assert [window["bar"] for window in shown["windows"]] == [0, 1, 7, 8, 9]
    assert "hits" not in shown["windows"][0]


def test_one_window_of_a_file(song):
    (window,) = values(song, "--window", 2)["windows"]
    assert (window["window"], window["bar"]) == (2, 7)
    assert [h["step"] for h in window["hits"]] == list(range(0, 64, 4))
    assert window["hits"][1] == {"step": 4, "drum": "snare", "velocity": 100, "offset": 0.0}
    assert window["tokens"] == [(1 if step % 8 == 0 else 2) if step % 4 == 0 else 0 for step in range(64)]
    text = ok(run_job("show", song, "--window", 2)).stdout
    assert "window 2: song.mid, bar 8, 140 bpm" in text
    assert len(drawn(text)) == 10


def test_settings_change_what_is_shown(song):
    shown = values(song, "window.hop_bars=4", "filters.min_tempo=100", "reading.unknown_pitch=nearest")
    assert [window["bar"] for window in shown["windows"]] == [7]
    assert shown["filtered"]["tempo"] == 1
    text = ok(run_job("show", song, "reading.unknown_pitch=nearest", "filters.min_tempo=100")).stdout
    assert "has no drum for them; the nearest is used" in text
    assert "windows left out by filters" in text


def test_a_file_of_gmd_is_shown_as_gmd(groove_dir):
    shown = values(groove_dir / "drummer1" / "session1" / "1_funk_80_beat_4-4.mid", "--window", 0)
    assert shown["drum_map"]["name"] == "roland"
    assert shown["file"] == "drummer1/session1/1_funk_80_beat_4-4.mid"
    assert shown["windows"][0]["style"] == "funk"


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"hello, world", "not-midi", "no MIDI header"),
        (midi_file(beat(3)), "too-short", "3 bars"),
        (midi_file([metre(0, 3, 4)], beat(8)), "metre", "3/4"),
        (midi_file([]), "no-drums", "channel 10"),
    ],
)
def test_a_rejected_file_says_why(tmp_path, data, reason, detail):
    path = tmp_path / "a.mid"
    path.write_bytes(data)
    for arguments in ([path], [path, "--json"]):
        result = run_job("show", *arguments)
        assert result.returncode == 3
        assert reason in result.stdout
        assert detail in result.stderr
    shown = json.loads(result.stdout)
    assert (shown["outcome"], shown["reason"]) == ("rejected", reason)


def test_shards_are_told_in_words(small_shards):
    text = ok(run_job("show", small_shards)).stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    fingerprint = ShardManifest.read(small_shards).fingerprint
    assert f"fingerprint {fingerprint}" in text
    for line in ("train validation", "windows 200 41", "shards 3 1", "with the right hash all all"):
        assert line in lines
    assert any(line.startswith("kick, share of hits") for line in lines)
    alone = ok(run_job("show", small_shards, "--split", "validation")).stdout
    assert "train" not in alone


def test_shards_as_json(small_shards):
    shown = values(small_shards)
    manifest = ShardManifest.read(small_shards)
    assert shown["fingerprint"] == manifest.fingerprint
    for split, counts in SMALL_SPLITS.items():
        own = shown["splits"][split]
        assert (own["windows"], own["shards"], own["damaged"]) == (sum(counts), len(counts), {})
        expected = WindowStatistics.zero(DRUM_MAP.num_drums)
        for shard in manifest.split(split).shards:
            block = read_shard(small_shards / shard.name, shard, grid=GRID, num_drums=DRUM_MAP.num_drums)
            expected += count_windows(block, GRID)
        assert own["statistics"] == expected.to_json()
        assert own["offset_deviation"] == expected.offset_deviation


@pytest.mark.parametrize(
    ("split", "window", "shard", "row"),
    [("train", 0, 0, 0), ("train", 70, 1, 0), ("train", 130, 1, 60), ("train", 199, 2, 68), ("validation", 40, 0, 40)],
)
def test_a_window_of_shards_is_that_of_its_id(small_shards, split, window, shard, row):
    entry = ShardManifest.read(small_shards).split(split).shards[shard]
    block = read_shard(small_shards / entry.name, entry, grid=GRID, num_drums=DRUM_MAP.num_drums)
    shown = values(small_shards, "--split", split, "--window", window)
    assert shown["tokens"] == block.tokens[row].tolist()
    assert (shown["source"], shown["window"]) == (block.meta[row].source, window)
    assert len(shown["hits"]) == np.count_nonzero(block.velocity[row])
    if window == 130:
        text = ok(run_job("show", small_shards, "--window", window)).stdout  # of train, unless another split is named
        assert drum_grid(block.groove(row, GRID), DRUM_MAP.classes) in text
        assert f"train 130: {block.meta[row].source}, bar 1, {100 + row} bpm" in text


@each_damage
def test_damaged_shards_are_named_and_the_others_shown(small_shards_copy, damage):
    damage_file(small_shards_copy / "train-000001.tar", damage)
    for arguments in ([small_shards_copy], [small_shards_copy, "--json"]):
        result = run_job("show", *arguments)
        assert result.returncode == 3
        assert "1 of 4 shards cannot be used" in result.stderr
        assert "train-000001.tar" in result.stderr
    shown = json.loads(result.stdout)["splits"]
    assert list(shown["train"]["damaged"]) == ["train-000001.tar"]
    assert shown["train"]["statistics"]["windows"] == 200 - 61
    assert shown["validation"]["damaged"] == {}


@pytest.mark.slow
def test_what_cannot_be_shown_is_refused_with_its_numbers(small_shards, song, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([tmp_path / "nothing"], ["nothing at that path"]),
        ([tmp_path / "empty", "--window", 0], ["no shards in", "no manifest.json in it"]),
        ([small_shards, "--window", 200], ["no window 200 in split 'train'", "0 to 199"]),
        ([small_shards, "--window", -1], ["no window -1"]),
        ([small_shards, "--split", "valid"], ["no split 'valid'", "train (200 windows), validation (41 windows)"]),
        ([small_shards, "window.hop_bars=2"], ["settings cannot be used here"]),
        (
            [small_shards / "train-000000.tar"],
            ["one file of a folder of shards", f"python -m jobs.show {small_shards}"],
        ),
        ([small_shards / "manifest.json"], ["one file of a folder of shards"]),
        (["https://host/shards"], ["a URL cannot be shown", "https://host/shards"]),
        ([song, "--window", 5], ["no window 5", "0 to 4"]),
        ([song, "--split", "train"], ["--split cannot be used here"]),
        ([song, "window.hop_bar=2"], ["did you mean window.hop_bars?"]),
        ([song, "drum_map=rolland"], ["general_midi, roland"]),
    ):
        result = run_job("show", *arguments)
        assert result.returncode == 2, result.stdout + result.stderr
        for word in words:
            assert word in result.stderr
        assert not result.stdout


def test_hostile_names_do_not_reach_the_terminal(tmp_path, song):
    path = tmp_path / "\x1b[31mred\n.mid"
    shutil.copy(song, path)
    text = ok(run_job("show", path)).stdout
    assert "\x1b" not in text
    assert "\\x1b[31mred\\x0a.mid" in text


def test_the_command_is_listed():
    assert "show" in ok(run_job("__main__")).stdout
