"""The pictures of README and docs, made from this checkout: `make pictures`.

    python -m tests.experiments.page_pictures --out docs/images [report.png ...]

It runs the commands whose results the pictures show, in a temporary folder, and takes screenshots of their pages in
headless chromium. Curves of trainings that need hours are drawn from tables of docs/model-history.md. Where chromium or
GROOVE_DIR (a copy of the Groove MIDI Dataset) is missing, it names the pictures that it leaves out. On one machine the
same checkout gives the same bytes, except for run-report.png and sweep.png, which show how long trainings took.
"""

import io
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import typer
from PIL import Image

from cluster.local import python_module
from jobs.command.command_line import console, run_command
from musicvae.errors import ConfigError
from musicvae.pretrained.load import load_run
from musicvae.pretrained.shipped import model_folder
from tests.experiments.model_pictures import (
    curves_picture,
    distortion_picture,
    numbered,
    numbered_picture,
    tabled_curves,
    write_picture,
)
from tests.experiments.rate_distortion import read_table
from tests.support.commands import CHECKOUT
from tests.support.pages.gallery_browser import GalleryBrowser, gallery_browser, missing_browser

Size = tuple[int, int]

GALLERY_GROOVES = 200
GALLERY_SIZE, REPORT_SIZE, RUN_REPORT_SIZE, SWEEP_SIZE = (1280, 800), (1200, 1725), (1280, 1520), (1280, 1900)
"""Of screenshots, in pixels: width and height. What lies further down a page is cut off."""
FAVOURITES, PLAYING, PLAYHEAD = (1, 3, 8), 4, 22
"""Of the gallery: grooves with a star, the groove that plays, and the step that it has reached."""
USE_THE_GALLERY = """
  const [favoured, playing, step] = given;
  favoured.forEach((item) => favourites.toggle(item));
  wall.activate(playing);
  player.position = () => step;
  player.play(playing);
  stage.show(playing);
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
"""
TABLE_PAGE = CHECKOUT / "docs" / "model-history.md"
DISTORTION_TABLE, CURVES_TABLE = "### The rate-distortion curve", "### Learning curves"
"""Headings of the tables that curves are drawn from."""
COLOURS = 256


class Workshop:
    """What pictures are made from. What several of them share is made when the first one needs it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """
        Args:
            folder: an empty folder for everything that is not kept.
            stack: closes what was opened.
        """
        self.folder = folder
        self._stack = stack

    @cached_property
    def samples(self) -> Path:
        """Output of `jobs.sample` with the shipped model."""
        return self.run("sample", "--count", GALLERY_GROOVES, "--seed", 0, "--out", self.folder / "samples")

    @cached_property
    def demo_shards(self) -> Path:
        """Shards of the demo corpus."""
        return self.run("build_shards", "--source", "demo", "--workers", 0, "--out", self.folder / "demo-shards")

    @cached_property
    def browser(self) -> GalleryBrowser:
        (folder := self.folder / "chromium").mkdir()
        return self._stack.enter_context(gallery_browser(folder))

    def run(self, job: str, *arguments: object) -> Path:
        """Runs a job, whose last argument is the folder that it writes; returns this folder.

        Raises:
            ConfigError: the job failed; its output is shown.
        """
        argv = python_module(f"jobs.{job}", *arguments)
        console.print(f"$ {shlex.join(['python', *argv[1:]])}", soft_wrap=True)
        result = subprocess.run(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode:
            raise ConfigError(f"jobs.{job} failed with status {result.returncode}", found=result.stdout[-2000:])
        return Path(argv[-1])

    def screenshot(self, page: Path, size: Size) -> bytes:
        """The top of a page without scripts, as a PNG of few colours."""
        self.browser.open(page, size)
        return png(self.shown().quantize(COLOURS, dither=Image.Dither.NONE))

    def shown(self) -> Image.Image:
        """What the browser shows now."""
        return Image.open(io.BytesIO(self.browser.driver.get_screenshot_as_png())).convert("RGB")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def sampled_sheet(workshop: Workshop) -> bytes:
    """The first grooves of a sampling, as `jobs.sample` draws them."""
    return (workshop.samples / "grooves.png").read_bytes()


def many_grooves(_: Workshop) -> bytes:
    """The 64 grooves that docs/model.md names by their numbers."""
    trained = load_run(model_folder("generation"))
    return numbered_picture(trained, numbered(trained, seed=0, temperature=1.0))


def gallery(workshop: Workshop) -> bytes:
    """The page of a sampling in use, light beside dark."""
    light, dark = (used_gallery(workshop, dark=dark) for dark in (False, True))
    third_card = "document.querySelector('.card[aria-colindex=\"3\"]')"
    between = workshop.browser.run(f"return {third_card}.getBoundingClientRect().left")
    half = (round(between) - 6, 0, *light.size)
    light.paste(dark.crop(half), half)
    return png(light)


def used_gallery(workshop: Workshop, *, dark: bool) -> Image.Image:
    """The page with favourites and a groove that plays; the playhead stands still."""
    browser, page = workshop.browser, workshop.samples / "gallery.html"
    browser.open(page, GALLERY_SIZE, dark=dark)
    browser.run("localStorage.clear()")
    browser.open(page, GALLERY_SIZE, dark=dark)
    browser.run_async(USE_THE_GALLERY, FAVOURITES, PLAYING, PLAYHEAD)
    return workshop.shown()


def build_report(workshop: Workshop) -> bytes:
    """The report of the shards of the Groove MIDI Dataset."""
    shards = workshop.run("build_shards", "--source", "groove", "--workers", 0, "--out", workshop.folder / "groove")
    return workshop.screenshot(shards / "report.html", REPORT_SIZE)


def run_report(workshop: Workshop) -> bytes:
    """The report of a training with the preset `demo`."""
    run = workshop.run("train", "--preset", "demo", "--shards", workshop.demo_shards, "--run", workshop.folder / "demo")
    workshop.run("report", run)
    return workshop.screenshot(run / "report.html", RUN_REPORT_SIZE)


def sweep_report(workshop: Workshop) -> bytes:
    """The page of the sweep `demo`, as docs/sweeps.md runs it."""
    sweep = workshop.run("sweep", "run", "demo", "--shards", workshop.demo_shards, "--out", workshop.folder / "sweep")
    return workshop.screenshot(sweep / "report.html", SWEEP_SIZE)


def rate_distortion(_: Workshop) -> bytes:
    """The curve of a table: its runs need half an hour after `make model`."""
    return distortion_picture(read_table(TABLE_PAGE, DISTORTION_TABLE))


def learning_curves(_: Workshop) -> bytes:
    """The curves of a table: its runs are stages of `make model`, which needs hours."""
    return curves_picture(tabled_curves(TABLE_PAGE, CURVES_TABLE))


def chromium(_: Workshop) -> str:
    missing = missing_browser()
    return missing and f"there is no {missing} (apt-get install chromium chromium-driver)"


def groove_data(_: Workshop) -> str:
    # Without the variable the build would download the data set.
    there = Path(os.environ.get("GROOVE_DIR", ""), "info.csv").is_file()
    return "" if there else "GROOVE_DIR names no folder with GMD's info.csv"


Need = Callable[[Workshop], str]
"""What a picture needs and is missing, with the cure; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Picture:
    """How a picture is made: the bytes of its file, from a workshop that has what it needs."""

    draw: Callable[[Workshop], bytes]
    needs: tuple[Need, ...] = ()


PICTURES = {
    "grooves.png": Picture(sampled_sheet),
    "grooves-generation.png": Picture(many_grooves),
    "rate-distortion.png": Picture(rate_distortion),
    "learning-curves.png": Picture(learning_curves),
    "gallery.png": Picture(gallery, (chromium,)),
    "report.png": Picture(build_report, (chromium, groove_data)),
    "run-report.png": Picture(run_report, (chromium,)),
    "sweep.png": Picture(sweep_report, (chromium,)),
}
"""Every picture of README and docs, by the name of its file."""


def main(
    names: list[str] = typer.Argument(None, metavar="NAME.png", help="Pictures to make; all if none is named."),
    out: Path = typer.Option(..., help="Folder of the pictures."),
) -> None:
    """Make the pictures of README and docs."""
    chosen = names or [*PICTURES]
    if unknown := ", ".join(name for name in chosen if name not in PICTURES):
        raise ConfigError(f"there is no picture {unknown}", expected=", ".join(PICTURES), do="correct the name")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workshop = Workshop(Path(folder), stack)
        left_out = dict(missing_of(chosen, workshop))
        for name in chosen:
            if name not in left_out:
                write_picture(out / name, PICTURES[name].draw(workshop))
    for name, reasons in left_out.items():
        console.print(f"left out: {name}: {reasons}", soft_wrap=True)


def missing_of(names: Sequence[str], workshop: Workshop) -> Iterator[tuple[str, str]]:
    """Pictures that cannot be made here, each with the reasons."""
    for name in names:
        if reasons := "; ".join(reason for need in PICTURES[name].needs if (reason := need(workshop))):
            yield name, reasons


if __name__ == "__main__":
    run_command(main)
