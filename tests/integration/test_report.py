"""The command jobs.report, and its page in a browser."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.commands import ok, run_job
from tests.support.requirements import skip_or_fail
from tests.support.runs.run_folders import trained_run

pytestmark = pytest.mark.slow

PHONE, DESKTOP = (390, 2000), (1280, 2000)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs that differ, none of them trained."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / name for name in ("first", "second", "third")]
    for number, path in enumerate(paths):
        trained_run(path, f"train.seed={number}", steps=300, floor=70.0 + number)
    return paths


def test_the_page_of_a_run_lies_in_its_folder_and_of_several_where_it_is_told(runs, tmp_path):
    alone = ok(run_job("report", runs[0]))
    assert "first: running, step 300, best −ELBO 70.33 at step 300" in alone.stdout
    assert (runs[0] / "report.html").stat().st_size > 20_000
    ok(run_job("report", *runs, "--out", tmp_path / "three.html"))
    assert "3 runs" in (tmp_path / "three.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{absent}"], "no run in"),
        (["{first}", "{second}"], "a page about several runs needs a file name"),
        (["{first}", "{first}", "--out", "{absent}.html"], "a run is given twice"),
        (["{first}", "--out", "{absent}/page.html"], "cannot write"),
    ],
)
def test_what_cannot_be_done_is_refused(runs, tmp_path, arguments, words):
    places = {"absent": tmp_path / "absent", "first": runs[0], "second": runs[1]}
    result = run_job("report", *(argument.format(**places) for argument in arguments))
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def browser() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        skip_or_fail("there is no chromium")
    return str(path)


def in_browser(browser: str, profile: Path, page: Path, size: tuple[int, int], *more: str) -> str:
    """What chromium prints when it has opened a page."""
    result = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", *more, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


MEASURE = """<script>
addEventListener("load", () => {
  const box = (e) => e.getBoundingClientRect(), all = (s) => [...document.querySelectorAll(s)];
  const found = {
    page: document.documentElement.scrollWidth, window: innerWidth,
    curves: all("g > path.curve").filter((e) => box(e).width > 50).length,
    outside: all("main .plot svg path.curve").filter((e) => {
      const chart = box(e.closest(".plot")), own = box(e);
      return own.left < chart.left - 3 || own.right > chart.right + 3
        || own.top < chart.top - 3 || own.bottom > chart.bottom + 3;
    }).length,
    wide: all("section").filter((e) => box(e).right > innerWidth + 1).length,
    hits: all("rect.hit").filter((e) => box(e).width > 1 && box(e).height > 4).length,
    bars: all(".latent rect.active").filter((e) => box(e).height > 1).length,
    overlapping: all(".plot").filter((plot) => {
      const labels = [...plot.querySelectorAll(".x")].map(box);
      return labels.some((label, i) => i && label.left < labels[i - 1].right);
    }).length,
  };
  document.body.setAttribute("data-found", JSON.stringify(found));
});
</script></body>"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_browser_shows_everything_within_the_page(runs, browser, tmp_path, count, size):
    page = tmp_path / "page.html"
    ok(run_job("report", *runs[:count], "--out", page))
    # The page itself has no script: one is put into a copy, to measure what the browser made of it.
    page.write_text(page.read_text().replace("</body>", MEASURE))
    dom = in_browser(browser, tmp_path / "profile", page, size, "--virtual-time-budget=5000", "--dump-dom")
    attribute = re.search(r'data-found="([^"]*)"', dom)
    assert attribute, dom[-500:]
    found = json.loads(html.unescape(attribute[1]))
    assert found["page"] <= found["window"], "nothing is wider than the page"
    assert found["wide"] == found["outside"] == found["overlapping"] == 0
    assert found["curves"] == 11 * count
    assert found["hits"] > 100 * count
    assert found["bars"] >= 10 * count


def test_a_browser_draws_the_curves_in_the_colours_of_their_runs(runs, browser, tmp_path):
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    ok(run_job("report", *runs, "--out", page))
    in_browser(browser, tmp_path / "profile", page, DESKTOP, f"--screenshot={picture}")
    with Image.open(picture) as image:
        assert image.size == DESKTOP
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert (np.abs(pixels - colour).max(axis=1) < 8).sum() > 200, colour
