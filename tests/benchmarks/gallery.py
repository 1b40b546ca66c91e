"""How fast a gallery opens in chromium, from disk: seconds to the first grooves on the screen, and sizes of the page.

    python -m tests.benchmarks.gallery [--grooves 100,1000,5000,10000] [--runs 5]
    python -m tests.benchmarks.gallery --grooves 10000 --against COMMIT

*first paint*: from the start of the navigation to the first pixels, as the browser reports it. *grooves*: to the frame
after the first cards were made and drawn. *end*: from a jump to the end of the page to the frame that shows the last
groove. Median of the runs, each in the same browser; the file is in the cache of the operating system.

Against a commit, its page of the same grooves is opened in turn with that of this one; ratios are of the medians.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table

from jobs.command.command_line import console, run_command
from musicvae.errors import ConfigError
from tests.support.commands import CHECKOUT
from tests.support.pages.gallery_browser import GalleryBrowser, gallery_browser, missing_browser
from tests.support.pages.gallery_grooves import chance_gallery

GOAL_GROOVES, GOAL_SECONDS = 5_000, 3.0
WATCH = """
  const watcher = new MutationObserver(() => {
    if (!document.querySelector(".card")) return;
    watcher.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => { window.groovesShown = performance.now(); }));
  });
  watcher.observe(document, { childList: true, subtree: true });
"""
TO_THE_END = """
  const start = performance.now(), last = `card-${wall.items.at(-1)}`;
  wall.element.scrollTop = wall.element.scrollHeight;
  const frame = () => new Promise(requestAnimationFrame);
  while (!document.getElementById(last)) await frame();
  await frame();
  return performance.now() - start
"""


@dataclass(frozen=True, slots=True)
class Opening:
    """Seconds of one opening."""

    first_paint: float
    grooves: float
    end: float


def main(
    grooves: str = typer.Option("100,1000,5000,10000", help="Grooves of the pages."),
    runs: int = typer.Option(5, min=1, help="Openings of each page."),
    against: str = typer.Option("", help="A commit whose pages are opened in turn with those of this one."),
) -> None:
    """Open galleries in chromium."""
    if missing := missing_browser():
        raise ConfigError(f"there is no {missing}", do="apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory() as folder, gallery_browser(Path(folder)) as browser:
        counts = [int(count) for count in grooves.split(",")]
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        if against:
            compare(browser, Path(folder), counts, runs, against)
        else:
            measure(browser, Path(folder) / "gallery.html", counts, runs)


def compare(browser: GalleryBrowser, folder: Path, counts: list[int], runs: int, commit: str) -> None:
    """Prints ratios of this commit to another one, for each number of grooves."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", CHECKOUT, checkout], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=checkout, check=True)
    (module,) = checkout.glob("tests/**/gallery_grooves.py")
    name = module.relative_to(checkout).with_suffix("").as_posix().replace("/", ".")
    table = Table("grooves", "page, MB", "ratio", "first paint", "grooves", "end", title=f"this commit by {commit}")
    for count in counts:
        before, now = folder / f"before-{count}.html", folder / f"now-{count}.html"
        code = f"import pathlib, {name} as made; made.chance_gallery(pathlib.Path({str(before)!r}), {count})"
        subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True)
        chance_gallery(now, count)
        turns = [[seconds(opening(browser, page)) for page in (before, now)] for _ in range(runs)]
        old, new = ([statistics.median(turn[page][n] for turn in turns) for n in range(3)] for page in range(2))
        size = now.stat().st_size
        ratios = (size / before.stat().st_size, *(mine / theirs for mine, theirs in zip(new, old, strict=True)))
        table.add_row(f"{count:,}", f"{size / 1e6:.2f}", *(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)


def measure(browser: GalleryBrowser, page: Path, counts: list[int], runs: int) -> None:
    """Prints a row for each number of grooves."""
    table = Table("grooves", "page, MB", "written, s", "first paint, s", "grooves, s", "end, s")
    for count in counts:
        start = time.perf_counter()
        chance_gallery(page, count)
        written = time.perf_counter() - start
        openings = [opening(browser, page) for _ in range(runs)]
        medians = [statistics.median(values) for values in zip(*map(seconds, openings), strict=True)]
        table.add_row(
            f"{count:,}", f"{page.stat().st_size / 1e6:.2f}", f"{written:.2f}", *(f"{value:.2f}" for value in medians)
        )
    console.print(table)
    console.print(f"goal: {GOAL_GROOVES:,} grooves within {GOAL_SECONDS:g} s")


def opening(browser: GalleryBrowser, page: Path) -> Opening:
    """Opens a page once."""
    browser.open(page)
    first = "performance.getEntriesByName('first-contentful-paint')"
    browser.wait_for(f"window.groovesShown && {first}.length")
    painted = browser.run(f"return {first}[0].startTime")
    shown = browser.run("return window.groovesShown")
    return Opening(painted / 1e3, shown / 1e3, browser.run_async(TO_THE_END) / 1e3)


def seconds(one: Opening) -> tuple[float, float, float]:
    return one.first_paint, one.grooves, one.end


if __name__ == "__main__":
    run_command(main)
