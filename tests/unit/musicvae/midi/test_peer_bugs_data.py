"""Bugs that users of such tools have met, as tests: those of reading, the grid and the splits."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.tasks import task_runner
from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, hits_from_tokens, tokens_from_hits
from musicvae.midi.performance import read_performance
from musicvae.midi.quantize import QuantizedSong, quantize
from musicvae.midi.settings import TICKS_PER_QUARTER
from musicvae.midi.writer import groove_to_midi
from preprocess.build import build
from preprocess.settings import BuildSettings
from preprocess.sources.demo import compose
from tests.support.midi.midi_bytes import hit, midi_file, tempo

GRID = GridSpec()
ROLAND = DrumMap.load("roland")
TD11_PITCHES = (22, 26, 36, 37, 38, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 55, 57, 58, 59)
"""Every pitch that occurs in GMD."""
BAR = 4 * TICKS_PER_QUARTER


def song(data: bytes) -> QuantizedSong:
    return quantize(read_performance(data), GRID, ROLAND)


def test_bug_1_kick_survives_encode_and_decode():
    kicks = np.zeros((64, 9), dtype=bool)
    kicks[::4, 0] = True
    groove = DrumGroove(GRID, kicks, kicks.astype(np.float32), np.zeros((64, 9), np.float32))
    assert groove.tokens[0] == 1
    assert np.array_equal(hits_from_tokens(groove.tokens, 9), kicks)
    windows = song(groove_to_midi(groove, ROLAND)).windows()
    assert np.array_equal(windows.groove(0, GRID).hits, kicks)


@pytest.mark.parametrize("name", ["roland", "general_midi"])
def test_bug_2_every_gmd_pitch_maps_and_an_unknown_one_is_counted_not_fatal(name):
    drum_map = DrumMap.load(name)
    events = [event for i, pitch in enumerate(TD11_PITCHES) for event in hit(i * 120, pitch)]
    assert quantize(read_performance(midi_file(events)), GRID, drum_map).unknown_pitches == {}
    some_unknown = midi_file(events, hit(0, 3), hit(5, 3), hit(9, 100))
    found = quantize(read_performance(some_unknown), GRID, drum_map)
    assert found.unknown_pitches == {3: 2, 100: 1}
    assert len(found.step) == len(TD11_PITCHES)


@pytest.fixture(scope="module")
def split_collection(tmp_path_factory):
    """Composed performances under GMD's table, one of them listed in train, validation and test."""
    folder = tmp_path_factory.mktemp("gmd")
    rows = []
    for number in range(24):
        name, style, data = compose(number, seed=5)
        split = ("train", "train", "validation", "test")[number % 4]
        copies = {"train", "validation", "test"} if number == 0 else {split}
        for copy in sorted(copies):
            (folder / f"{copy}-{name}").write_bytes(data)
            rows.append({"style": style, "midi_filename": f"{copy}-{name}", "split": copy})
    with (folder / "info.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, ["style", "midi_filename", "split"])
        writer.writeheader()
        writer.writerows(rows)
    out = folder.parent / "shards"
    with task_runner("here", code={}) as run:
        report = build(str(folder), out, BuildSettings(), run)
    manifest = ShardManifest.read(out)
    blocks = {
        split: [read_shard(out / shard.name, shard, grid=GRID, num_drums=9) for shard in entry.shards]
        for split, entry in manifest.splits.items()
    }
    return rows, report, blocks


def test_bug_7_no_file_and_no_window_crosses_splits_and_the_official_split_is_kept(split_collection):
    rows, report, blocks = split_collection
    official = {row["midi_filename"]: row["split"] for row in rows}
    sources = {split: {meta.source for block in own for meta in block.meta} for split, own in blocks.items()}
    windows = {split: {row.tobytes() for block in own for row in block.tokens} for split, own in blocks.items()}
    assert set(blocks) == {"train", "validation", "test"}
    for split, names in sources.items():
        assert {official[name] for name in names} == {split}
    assert not windows["train"] & windows["validation"]
    assert not windows["train"] & windows["test"]
    assert not windows["validation"] & windows["test"]
    copied = [row["midi_filename"] for row in rows if row["midi_filename"].endswith(rows[0]["midi_filename"][6:])]
    assert {official[name] for name in copied if any(name in own for own in sources.values())} == {"test"}
    assert report.left_out["train"] > 0
    assert report.left_out["validation"] > 0
    assert report.left_out["test"] == 0


def test_bug_8_the_grid_starts_at_tick_0_and_not_at_the_first_hit():
    found = song(midi_file(hit(2 * TICKS_PER_QUARTER, 36), hit(4 * BAR - 240, 38)))
    assert found.step.tolist() == [8, 62]
    assert found.windows().meta[0].bar == 0


@given(st.lists(st.tuples(st.integers(0, 4 * BAR), st.integers(20, 300)), max_size=5))
def test_bug_8_tempo_changes_move_no_hit(changes):
    hits = [event for step in range(0, 64, 3) for event in hit(step * 120 + step % 7, 36 + step % 3)]
    steady = song(midi_file(hits)).windows()
    changing = song(midi_file([tempo(tick, bpm) for tick, bpm in changes], hits)).windows()
    assert np.array_equal(changing.tokens, steady.tokens)
    assert np.array_equal(changing.offset, steady.offset)


@pytest.mark.parametrize("length", [0, 1, 60, 480, 4 * BAR])
def test_bug_9_a_hit_is_an_onset_and_not_a_sustained_note(length):
    found = song(midi_file(hit(0, 49, length=length), hit(4 * BAR - 120, 36)))
    assert found.step.tolist() == [0, 63]
    assert found.windows().tokens[0].astype(bool).sum() == 2


@given(st.integers(-32768, 32767), st.integers(0, 63))
def test_bug_10_offsets_survive_midi_within_one_tick(offset, step):
    hits = np.zeros((64, 9), dtype=bool)
    hits[step, 1] = hits[63, 0] = True
    groove = DrumGroove(
        GRID, hits, hits.astype(np.float32), np.where(hits & (np.arange(9) == 1), offset / 65536, 0).astype(np.float32)
    )
    back = song(groove_to_midi(groove, ROLAND)).windows().groove(0, GRID)
    assert np.array_equal(tokens_from_hits(back.hits), groove.tokens)
    ticks_per_step = TICKS_PER_QUARTER / 4
    assert abs(back.offset[step, 1] - groove.offset[step, 1]) * ticks_per_step <= 1 + 1e-3
