"""How fast a gallery opens in chromium, from disk: seconds to the first grooves on the screen, and sizes of the page.

    python -m tests.benchmarks.gallery [--grooves 100,1000,5000,10000] [--runs 5]
    python -m tests.benchmarks.gallery --picture docs/images/gallery.png

*first paint*: from the start of the navigation to the first pixels, as the browser reports it. *grooves*: to the frame
after the first cards were made and drawn. *end*: from a jump to the end of the page to the frame that shows the last
groove. Median of the runs, each in the same browser; the file is in the cache of the operating system.
"""

import io
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from PIL import Image
from rich.table import Table

import musicvae
from jobs.command.command_line import console, run_command
from jobs.sampler.gallery import FigureColumn, GalleryGroove, write_gallery
from musicvae.errors import ConfigError
from musicvae.groove.features import hits_per_bar, polyphony, self_similarity, syncopation
from tests.support.gallery_browser import GalleryBrowser, gallery_browser, missing_browser
from tests.support.gallery_grooves import chance_gallery

GOAL_GROOVES, GOAL_SECONDS = 5_000, 3.0
PICTURED, PICTURE_SIZE = 200, (1280, 800)
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
FIGURES = (
    FigureColumn("hits", "hits per bar", "onsets of all drums", decimals=1),
    FigureColumn("syncopation", "syncopation", "after Longuet-Higgins and Lee, per bar", decimals=1),
    FigureColumn("polyphony", "polyphony", "drums struck together"),
    FigureColumn("alike", "likeness of bars", "of neighbours, 0 to 1"),
    FigureColumn("dense", "dense", "25 hits per bar or more", kind="flag"),
)


@dataclass(frozen=True, slots=True)
class Opening:
    """Seconds of one opening."""

    first_paint: float
    grooves: float
    end: float


def main(
    grooves: str = typer.Option("100,1000,5000,10000", help="Grooves of the pages."),
    runs: int = typer.Option(5, min=1, help="Openings of each page."),
    picture: Path | None = typer.Option(None, metavar="FILE.png", help="Only a picture of a gallery, for the README."),
) -> None:
    """Open galleries in chromium."""
    if missing := missing_browser():
        raise ConfigError(f"there is no {missing}", do="apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory() as folder, gallery_browser(Path(folder)) as browser:
        if picture:
            picture.write_bytes(pictured(browser, Path(folder) / "gallery.html"))
        else:
            measure(browser, Path(folder) / "gallery.html", [int(count) for count in grooves.split(",")], runs)


def measure(browser: GalleryBrowser, page: Path, counts: list[int], runs: int) -> None:
    """Prints a row for each number of grooves."""
    table = Table("grooves", "page, MB", "written, s", "first paint, s", "grooves, s", "end, s")
    browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
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


def pictured(browser: GalleryBrowser, page: Path) -> bytes:
    """A gallery of the shipped model in use, light beside dark, as the bytes of a PNG."""
    model = musicvae.load("generation")
    sampled = model.sample(PICTURED, seed=0)
    hits = np.stack([groove.hits for groove in sampled])
    figures = {
        "hits": hits_per_bar(hits, model.grid),
        "syncopation": syncopation(hits, model.grid),
        "polyphony": polyphony(hits),
        "alike": self_similarity(hits, model.grid),
    }
    figures["dense"] = figures["hits"] >= 25
    made = (
        GalleryGroove.of(f"groove-{item:05d}", groove, {name: values[item].item() for name, values in figures.items()})
        for item, groove in enumerate(sampled)
    )
    title = "Grooves from the prior of “generation”"
    write_gallery(page, made, title=title, grid=model.grid, drum_map=model.drum_map, figures=FIGURES)
    light, dark = (screenshot(browser, page, dark=dark) for dark in (False, True))
    between = browser.run("return document.querySelector('.card[aria-colindex=\"3\"]').getBoundingClientRect().left")
    half = (round(between) - 6, 0, *light.size)
    light.paste(dark.crop(half), half)
    buffer = io.BytesIO()
    light.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def screenshot(browser: GalleryBrowser, page: Path, *, dark: bool) -> Image.Image:
    """The page with a favourite and a groove that plays."""
    browser.open(page, PICTURE_SIZE, dark=dark)
    browser.run("localStorage.clear()")
    browser.open(page, PICTURE_SIZE, dark=dark)
    browser.run("[1, 3, 8].forEach((item) => favourites.toggle(item)); wall.activate(4); stage.show(4)")
    browser.press(" ")
    # Two steps last a quarter of a second, less than the time from one question of the driver to the next.
    browser.run_async(
        "while (!(player.item === 4 && player.position() > 21 && player.position() < 23)) "
        "await new Promise(requestAnimationFrame);"
    )
    return Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")


if __name__ == "__main__":
    run_command(main)
