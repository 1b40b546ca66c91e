"""The page of a sweep in chromium, as it opens from the disk."""

from pathlib import Path

import pytest

from jobs.sweeps.page import sweep_page
from jobs.sweeps.status import ranking
from tests.support.pages.gallery_browser import LAPTOP, SIDEWAYS, UPRIGHT, GalleryBrowser
from tests.support.sweeps.played_sweep import played_sweep, with_runs

pytestmark = pytest.mark.slow
HEIGHTS = """
const pictures = document.querySelectorAll(".plot, .parallel, .bars, .seeds");
return [...pictures].map((own) => own.getBoundingClientRect().height)
"""
OUTSIDE = """
return [...document.querySelectorAll(".plot span, .parallel b, .parallel span")].filter((label) => {
  const room = label.closest("section"), scrolled = label.closest(".scroll") ?? room;
  const own = label.getBoundingClientRect(), outer = room.getBoundingClientRect();
  return own.left < outer.left || own.right > outer.left + Math.max(outer.width, scrolled.scrollWidth + 30);
}).map((label) => label.textContent)
"""
"""Labels of a picture that stand outside of what can be seen or scrolled to."""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    sweep, state = played_sweep()
    path = folder / "report.html"
    path.write_text(sweep_page(with_runs(state, folder), sweep, state))
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [LAPTOP, SIDEWAYS, UPRIGHT], ids=["laptop", "sideways", "upright"])
def test_it_is_whole_and_fits(chromium: GalleryBrowser, page, size, dark):
    chromium.open(page, size, dark=dark)
    assert chromium.console() == []
    assert {address.split(":")[0] for address in chromium.requests()} <= {"file", "data"}
    assert chromium.run("return document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    pictures = chromium.run(HEIGHTS)
    assert len(pictures) == 8, "parallel coordinates, importance, curves, four slices, repeats"
    assert min(pictures) > 20
    assert chromium.run(OUTSIDE) == []
    light = chromium.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] > 128")
    assert light is not dark


def test_what_one_sees_is_what_the_ledger_says(chromium: GalleryBrowser, page):
    chromium.open(page)
    sweep, state = played_sweep()
    seen = chromium.run("return [...document.querySelectorAll('table')[0].rows].slice(1).map((row) => row.innerText)")
    ranked = ranking(sweep, state)
    assert len(seen) == min(15, len(ranked))
    for row, one in zip(seen, ranked, strict=False):
        cells = row.split("\t")
        assert cells[0] == one.id
        assert float(cells[1].split()[0]) == pytest.approx(one.mean, rel=1e-4)
        assert int(cells[2]) == len(one.results)
