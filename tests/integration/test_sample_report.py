"""The page that a sampling ends with: every figure of its report, nothing from elsewhere, the same every time."""

import json
import re
from pathlib import Path

import pytest

from jobs.sampler.settings import Execution
from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.shards import write_shard
from tests.support.pages.parsed_page import Page
from tests.support.runs.sample_fixtures import DRUMS, GRID, sampled, write_sample_run
from tests.support.shards.shard_fixtures import patterned_windows

COUNT = 300


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output beside its training data."""
    shards = tmp_path_factory.mktemp("shards")
    entry = write_shard(shards / "train-000000.tar", patterned_windows(200, seed=1))
    manifest = ShardManifest(GRID, DRUMS, {"train": SplitEntry(200, 1, (entry,))})
    manifest.write(shards)
    folder = tmp_path_factory.mktemp("out")
    run = write_sample_run(folder / "run", manifest.fingerprint)
    sampled(run, folder / "out", count=COUNT, shards=str(shards), drop_duplicates=True, temperature=0.05)
    return folder / "out"


def test_it_says_what_the_report_says(out):
    html, report = (out / "report.html").read_text(), json.loads((out / "report.json").read_text())
    page = Page(html)
    assert page.loads_nothing()
    assert f"{report['grooves']:,} grooves of seed 0" in page.text
    assert f"left out of 300: {report['dropped']['duplicate']:,} duplicate" in page.text
    assert "50 training windows" in page.text, "those that velocity and timing were measured on"
    shown = report["features"] | report["structure"]
    for name, feature in shown.items():
        assert name.replace("_", " ") in page.text
        assert f"overlap {feature['overlap']:.3f}" in page.text
        assert f"mean: training {feature['training_mean']:.4g}"[:17] in page.text
    assert page.tags.count("figure") == len(shown)


def test_the_training_data_lies_behind_what_was_made(out):
    html = (out / "report.html").read_text()
    shapes = re.findall(r'<path class="(fill|line) (training|made)" d="M0 100 ([^"Z]*)', html)
    assert {shape[:2] for shape in shapes} == {("fill", "training"), ("line", "made")}
    for _, _, steps in shapes:
        heights = [100 - float(height) for height in re.findall(r"V([\d.]+) H", steps)]
        assert 0 < max(heights) <= 100
        assert min(heights) >= 0


def test_every_step_of_the_bar_has_a_place_of_its_own(out):
    html = (out / "report.html").read_text()
    of_steps = html[html.index("<h2>onset step</h2>") :]
    shares = [float(share) for share in re.findall(r"<title>step \d+\ntraining [\d.<]+%\nmade <?([\d.]+)%", of_steps)]
    assert len(shares) == GRID.steps_per_bar
    assert sum(shares) == pytest.approx(100, abs=1)


def test_without_training_data_it_shows_what_was_made_and_is_the_same_every_time(sample_run, tmp_path):
    sampled(sample_run, tmp_path / "one", count=COUNT)
    sampled(sample_run, tmp_path / "two", count=COUNT, execution=Execution(chunk=64))
    html = (tmp_path / "one" / "report.html").read_text()
    assert html == (tmp_path / "two" / "report.html").read_text()
    page = Page(html)
    assert "The distributions of the training data are not known" in page.text
    assert "overlap" not in page.text
    assert ("class", "fill made") in page.attributes
