"""Commands on a folder of what musicians and collectors bring: the build's warnings, and the table of `jobs.show`."""

import json
from pathlib import Path

import pytest

from preprocess.checks import Sign
from tests.support.commands import ok, run_job
from tests.support.midi.collected_midi import COLLECTED

CONCERNED = {
    Sign.SHIFTED: ["octaves.mid", "octaves_unknown.mid"],
    Sign.ONE_DRUM: ["drum_per_channel.mid"],
    Sign.OFF_GRID: ["seconds.mid"],
    Sign.REPEATS: ["loop.mid"],
    Sign.NOT_READ: ["channel_3.mid", "gs_melodic.mid", "gs_rhythm.mid", "xg_rhythm.mid"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A file of each kind."""
    made = tmp_path_factory.mktemp("collected")
    for name, data in COLLECTED.items():
        (made / f"{name}.mid").write_bytes(data())
    return made


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory) -> tuple[Path, str]:
    """The shards of them all, and what the command printed."""
    out = tmp_path_factory.mktemp("built") / "shards"
    return out, ok(run_job("build_shards", "--source", folder, "--out", out, "--workers", 0)).stdout


def test_a_build_names_the_files_that_each_check_concerns(built):
    out, printed = built
    report = json.loads((out / "report.json").read_text())
    assert {warning["check"]: warning["names"] for warning in report["warnings"]} == CONCERNED
    page = (out / "report.html").read_text()
    for warning in report["warnings"]:
        assert f"warning: {warning['text']}\n  to do: {warning['remedy']}" in printed
        assert f"What to do: {warning['remedy']}" in page
    counted = {"extra_bytes": 4, "salvaged": 3, "late_tempo": 1, "triplets": 1}
    assert {name: report["reading"][name] for name in counted} == counted
    assert report["triplets"] == {"shuffle.mid": 1.0}
    assert report["other_metres"] == {"2/2": 8}
    assert "reading.metres=2/2 reads it as 4/4" in printed


def test_warnings_can_be_errors_and_are_no_part_of_the_identity(built, folder, tmp_path):
    out, _ = built
    again = ("--source", folder, "--workers", 0)
    result = run_job("build_shards", *again, "--out", out, "warnings.as_errors=true")
    assert result.returncode == 3
    assert "the collection has warnings" in result.stderr
    assert "and 4 more warnings" in result.stderr
    assert "Nothing is left to do" in ok(run_job("build_shards", *again, "--out", out)).stdout
    fresh = run_job("build_shards", *again, "--out", tmp_path / "s", "warnings.as_errors=true")
    assert fresh.returncode == 3
    assert not (tmp_path / "s").exists()


def test_a_report_of_an_earlier_commit_is_read(built, folder):
    out, _ = built
    path = out / "report.json"
    before = path.read_text()
    values = json.loads(before)
    outcomes = [json.dumps(record) for record in values.pop("outcomes")]
    for newer in ("warnings", "reading", "other_metres", "triplets"):
        del values[newer]
    for newer in ("salvage", "metres", "transpose"):
        del values["settings"]["reading"][newer]
    head = json.dumps(values, indent=1).removesuffix("\n}")
    lines = ",\n".join(outcomes)
    path.write_text(f'{head},\n "outcomes": [\n{lines}\n ]\n}}\n')
    result = run_job("build_shards", "--source", folder, "--out", out, "--workers", 0)
    path.write_text(before)
    assert "Nothing is left to do" in ok(result).stdout


def test_a_folder_is_one_table_with_the_worst_first(folder):
    lines = ok(run_job("show", folder)).stdout.splitlines()
    rejected = sum("  none  " in line for line in lines)
    assert f"{len(COLLECTED)} files: " in lines[0]
    rows = [line.split()[0] for line in lines if ".mid " in line and not line.startswith("warning")]
    assert len(rows) == 15 > rejected > 0
    assert {"channel_3.mid", "cut_time.mid", "broken_drums.mid"} <= set(rows[:rejected])
    assert rows[rejected] in ("octaves.mid", "drum_per_channel.mid", "seconds.mid", "loop.mid")
    assert f"and {len(COLLECTED) - 15} files with fewer problems" in lines
    assert len(lines) < 40
    shown = json.loads(ok(run_job("show", folder, "reading.metres=2/2", "--json")).stdout)
    assert shown["files"] == len(COLLECTED) == shown["accepted"] + sum(shown["rejected"].values())
    assert "cut_time.mid" not in [record["name"] for record in shown["worst"] if record["outcome"] == "rejected"]
