"""The commands of the pages in docs/ on sampling, run as they are written."""

import pytest

from tests.support.commands import CHECKOUT
from tests.support.pages.fenced_code import run_shell_blocks
from tests.support.runs.sample_fixtures import manifest_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # whole pages of commands


def test_sampling(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "sampling.md", tmp_path)
    grooves = tmp_path / "grooves"
    counts = {folder.name: len(manifest_of(folder)) for folder in sorted(grooves.iterdir())}
    expected = {
        "a": 300,
        "far": 20,
        "loops": 8,
        "new": 200,
        "none": 50,
        "picked": 2,
        "shards": 200,
        "tars": 50,
        "zip": 50,
    }
    assert counts == expected
    assert len(list(grooves.glob("loops/*/*.flac"))) == 8
    for name in ("groove-00012.mid", "groove-00190.mid"):
        assert (grooves / "picked" / "000" / name).read_bytes() == (grooves / "a" / "000" / name).read_bytes()
    assert "1,000,000 grooves will need about" in printed
    assert "still missing: 0 to 99 (shares 0 of 2)" in printed


def test_sampling_modes(tmp_path):
    run_shell_blocks(CHECKOUT / "docs" / "sampling-modes.md", tmp_path)
    grooves = {folder.name: len(list(folder.rglob("*.mid"))) for folder in (tmp_path / "grooves").iterdir()}
    names = ("new", "like", "moved", "continued", "kept", "wanted", "drawn", "funk", "jazz")
    assert grooves == {"humanized": 4, "path": 5} | dict.fromkeys(names, 16)
    wanted = manifest_of(tmp_path / "grooves" / "wanted")
    bars = [
        [sum(map(int.bit_count, record["tokens"][bar : bar + 16])) for bar in range(0, 64, 16)] for record in wanted
    ]
    assert all(20 <= sum(hits) <= 36 and hits[:2] != [0, 0] != hits[2:] for hits in bars)
    assert all(record["steered"] >= 0 for record in wanted)
    assert {record["tempo"] for record in manifest_of(tmp_path / "grooves" / "funk")} == {96}
