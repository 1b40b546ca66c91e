"""The reports of a run, a build, a sampling and a sweep in chromium: header, footer, screens, paper, accessibility."""

from pathlib import Path
from urllib.parse import unquote

import pytest

from jobs.run_report.page import report_page as run_page
from jobs.run_report.record import read_run
from jobs.sweeps.page import sweep_page
from preprocess.report import report_page as build_page
from tests.support.pages.accessibility import serious_problems
from tests.support.pages.gallery_browser import LAPTOP, LARGE, SIDEWAYS, UPRIGHT, GalleryBrowser
from tests.support.runs.run_folders import trained_run
from tests.support.runs.sample_fixtures import sampled
from tests.support.shards.report_fixtures import build_report
from tests.support.sweeps.played_sweep import WIDE_SPACE, played_sweep, with_runs

pytestmark = pytest.mark.slow

PAPER = (703, 1032)
"""CSS pixels of A4 within the margins."""
KINDS = ("run", "build", "sampling", "sweep")
CUT = """
const all = document.querySelectorAll("table, svg, h1, h2, p, td, th, .tile, figure, .axis b");
return [...all].filter((element) => {
  const box = element.getBoundingClientRect();
  const room = (element.closest("section") ?? document.body).getBoundingClientRect();
  return box.width && (box.left < room.left || box.right > Math.min(innerWidth, room.right) + 0.5);
}).map((element) => element.outerHTML.slice(0, 300))"""


@pytest.fixture(scope="module")
def reports(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of each kind."""
    pages = {kind: tmp_path_factory.mktemp(kind) / "report.html" for kind in KINDS}
    run = trained_run(pages["run"].parent / "run")
    pages["run"].write_text(run_page([read_run(run.path, 0, "first")], pages["run"].parent))
    pages["build"].write_text(build_page(build_report(), []))
    for name in ("report.json", "manifest.json"):
        pages["build"].with_name(name).touch()
    sampled(sample_run, pages["sampling"].parent, count=30)
    sweep, state = played_sweep(WIDE_SPACE)
    folder = with_runs(state, pages["sweep"].parent)
    folder.table("csv").touch()
    pages["sweep"].write_text(sweep_page(folder, sweep, state))
    return pages


def check_links(browser: GalleryBrowser, page: Path) -> None:
    """The footer links to files beside the page."""
    links = browser.run(
        "return [...document.querySelectorAll('footer nav a')].map((link) => link.getAttribute('href'))"
    )
    assert links
    assert [link for link in links if not (page.parent / unquote(link)).is_file()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_says_what_came_out_links_to_its_files_and_fits_every_screen(chromium, reports, kind):
    page = reports[kind]
    for size in (UPRIGHT, SIDEWAYS, LAPTOP, LARGE):
        chromium.open(page, size)
        assert chromium.console() == []
        assert chromium.run("return document.documentElement.scrollWidth") <= size[0]
        sentence = chromium.element("header .result").text
        assert sentence.endswith(".")
        assert chromium.run("return document.querySelector('header .result').getBoundingClientRect().bottom") < 200
        if size[0] >= LAPTOP[0]:
            assert chromium.run(CUT) == []
    check_links(chromium, page)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checker_of_accessibility_finds_nothing_serious(chromium, reports, kind):
    for dark in (False, True):
        chromium.open(reports[kind], LAPTOP, dark=dark)
        assert serious_problems(chromium) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_can_be_printed_on_a4(chromium, reports, kind):
    chromium.open(reports[kind], PAPER)
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert chromium.run("return document.documentElement.scrollWidth") <= PAPER[0]
        assert chromium.run(CUT) == []
        assert chromium.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
