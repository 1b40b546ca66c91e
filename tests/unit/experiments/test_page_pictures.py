"""The pictures of README and docs: `make pictures` makes each of them, and names those that it cannot make."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from musicvae.errors import ConfigError, DataError
from tests.experiments import page_pictures
from tests.experiments.model_pictures import FIGURES, tabled_curves
from tests.experiments.page_pictures import (
    CURVES_TABLE,
    DISTORTION_TABLE,
    PICTURES,
    TABLE_PAGE,
    Workshop,
    main,
    missing_of,
)
from tests.experiments.rate_distortion import ModelPoint, read_table
from tests.support.commands import CHECKOUT

IMAGES = CHECKOUT / "docs" / "images"
SHOWN = re.compile(r"!\[[^\]]*\]\((?!https?:)([^)\s]+)|<img[^>]*\ssrc=\"(?!https?:)([^\"]+)")


@pytest.fixture
def workshop(tmp_path):
    with ExitStack() as stack:
        yield Workshop(tmp_path, stack)


def test_every_picture_of_a_page_is_made_and_no_other_file_lies_beside_them():
    pages = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")]
    shown = {
        (page.parent / (markdown or html)).resolve()
        for page in pages
        for markdown, html in SHOWN.findall(page.read_text())
    }
    assert shown == {IMAGES / name for name in PICTURES}
    assert {*IMAGES.iterdir()} == shown


def test_what_is_missing_is_named_for_each_picture(workshop, monkeypatch):
    monkeypatch.delenv("GROOVE_DIR", raising=False)
    monkeypatch.setattr(page_pictures, "missing_browser", lambda: "chromedriver")
    missing = dict(missing_of([*PICTURES], workshop))
    drawn = {"grooves.png", "grooves-generation.png", "rate-distortion.png", "learning-curves.png"}
    assert PICTURES.keys() - missing == drawn
    assert "no chromedriver" in missing["gallery.png"]
    assert "no chromedriver" in missing["report.png"]
    assert "GROOVE_DIR" in missing["report.png"]

    (workshop.folder / "info.csv").touch()
    monkeypatch.setenv("GROOVE_DIR", str(workshop.folder))
    monkeypatch.setattr(page_pictures, "missing_browser", str)
    assert [*missing_of([*PICTURES], workshop)] == []


def test_an_unknown_picture_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no picture galery\.png"):
        main(["galery.png"], out=tmp_path)


def test_the_rate_distortion_curve_is_read_from_the_table_of_its_page(tmp_path):
    (ours, figures), (other, others) = read_table(TABLE_PAGE, DISTORTION_TABLE)
    assert (ours, other) == ("reconstruction", "feed-forward VAE")
    assert len(figures.points) == len(others.points) >= 4
    assert figures.points[0] == ModelPoint("15", 15.0, 89.8, 0.641)
    page = tmp_path / "page.md"
    for table in ("", "| about | ours: KL | -ELBO | accuracy |\n|---|---|---|---|\n| 15 | 15.0 | ? | .6 |\n"):
        page.write_text(f"text\n\n# A curve\n\n{table}\n")
        with pytest.raises(DataError, match="no table of figures"):
            read_table(Path(page), "# A curve")


def test_learning_curves_are_read_from_the_table_of_their_page():
    charts = tabled_curves(TABLE_PAGE, CURVES_TABLE)
    stages = ("generation_settle", "reconstruction_settle", "reconstruction")
    assert [chart.title for chart in charts] == [
        f"{stage}: {title}, nats per window" for stage in stages for title in FIGURES.values()
    ]
    for elbo, reconstruction, kl in zip(charts[::3], charts[1::3], charts[2::3], strict=True):
        of_step = zip(*(chart.curves[0].points for chart in (elbo, reconstruction, kl)), strict=True)
        for (step, sum_of_both), (_, first), (_, second) in of_step:
            assert sum_of_both == pytest.approx(first + second, rel=0.005), f"{elbo.title} at step {step}"
    assert [chart.curves[0].points[-1] for chart in charts[:2]] == [(1500, 74.8), (1500, 66.59)]
