"""A build's report with every count in it, each another number."""

from typing import Any

from musicvae.data.statistics import count_windows
from musicvae.groove.drum_map import DrumMap
from preprocess.report import BuildReport
from preprocess.settings import BuildSettings
from tests.support.shards.shard_fixtures import GRID, patterned_windows

DRUMS = DrumMap.load("roland").classes
COUNTS = {"train": 900, "validation": 100}
HOSTILE = '"><script>alert(1)</script>&amp;\u202e.mid'


def build_report(**changed: object) -> BuildReport:
    """The report, with some of its fields changed."""
    windows = {split: patterned_windows(count, seed=count) for split, count in COUNTS.items()}
    values: dict[str, Any] = {
        "identity": "ab" * 32,
        "fingerprint": "0123456789abcdef",
        "source": "folder",
        "drum_map": "general_midi",
        "drums": DRUMS,
        "settings": BuildSettings().model_dump(mode="json"),
        "seen": 1_234_567,
        "accepted": 1_234_000,
        "rejected": {"no-drums": 500, "metre": 67},
        "windows_cut": 1066,
        "filtered": {"min_hits": 11},
        "left_out": {"train": 22, "validation": 0},
        "repeated": {"train": 33, "validation": 0},
        "windows": COUNTS,
        "files": {"train": 90, "validation": 10},
        "shards": {"train": 9, "validation": 1},
        "hits": 100_000,
        "doubled_hits": 7_001,
        "unknown_hits": 5_002,
        "outside_hits": 3_003,
        "unknown_pitches": {str(pitch): 1000 - pitch for pitch in range(90, 120)} | {"56": 2000},
        "dropped_bars": {"other metre": 44, "too short": 5},
        "equal_files": (("a.mid", HOSTILE),),
        "statistics": {split: count_windows(block, GRID) for split, block in windows.items()},
    }
    return BuildReport(**{**values, **changed})
