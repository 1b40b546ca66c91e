"""The pad of an interpolation in chromium: fingers and keys play its points, and what plays changes at a bar line."""

from itertools import pairwise

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.pages.accessibility import serious_problems
from tests.support.pages.gallery_browser import LAPTOP, LARGE, SIDEWAYS, UPRIGHT, GalleryBrowser
from tests.support.pages.gallery_grooves import pad_gallery

pytestmark = pytest.mark.slow
WATCH = """
window.parts = [];
const hits = player.hitsBetween;
player.hitsBetween = function (from, to) {
  parts.push([this.item, from, to]);
  return hits.call(this, from, to);
};
"""
FINGER = """
const box = document.querySelector(".points").getBoundingClientRect();
return [box.x + box.width * (arguments[1] + 0.5) / 3, box.y + box.height * (arguments[0] + 0.5) / 3];
"""


@pytest.fixture
def pad(chromium: GalleryBrowser, tmp_path) -> GalleryBrowser:
    chromium.open(pad_gallery(tmp_path / "gallery.html"), UPRIGHT)
    return chromium


def touch(pad: GalleryBrowser, kind: str, row: int = 0, column: int = 0) -> None:
    points = [] if kind == "touchEnd" else [dict(zip("xy", pad.run(FINGER, row, column), strict=True))]
    pad.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_what_plays_follows_the_finger_at_the_next_bar_line(pad: GalleryBrowser):
    pad.run(WATCH)
    touch(pad, "touchStart", 0, 0)
    touch(pad, "touchEnd")
    pad.wait_for("player.item === 0 && player.context.state === 'running' && parts.length > 3")
    touch(pad, "touchStart", 0, 0)
    touch(pad, "touchMove", 1, 1)
    touch(pad, "touchMove", 1, 2)
    pad.wait_for("wall.activeItem === 5")
    touch(pad, "touchEnd")
    pad.wait_for("player.item === 5")
    assert pad.run("return [player.next, stage.item, document.querySelectorAll('.playing.card').length]") == [
        None,
        5,
        1,
    ]
    parts = pad.run("return parts")
    for (_, _, end), (_, start, _) in pairwise(parts):
        assert start == max(end, start) >= end, "each hit is played once"
    lines = [start + 0.5 for (before, _, _), (item, start, _) in pairwise(parts) if item != before]
    assert lines
    assert [line % 16 for line in lines] == [0] * len(lines), "hits of both lie within half a step of their own"
    assert pad.run("return player.anchor.step") == lines[-1]
    where = pad.run("return [player.timeAt(player.anchor.step + 4) - player.anchor.time, grooves.tempo(5)]")
    assert where[0] == pytest.approx(60 / where[1])


def test_keys_move_on_the_pad_and_a_point_without_a_groove_gives_the_nearest(pad: GalleryBrowser):
    pad.run("document.querySelector('.points').focus()")
    pad.press(Keys.ARROW_RIGHT)
    pad.wait_for("player.item === 1")
    pad.press(Keys.END, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert pad.run("return [player.next, pad.place]") == [7, 8]
    pad.press(Keys.ARROW_LEFT)
    assert pad.run("return pad.place") in (4, 6, 8)
    pad.press(Keys.SPACE)
    assert pad.run("return [player.item, player.next]") == [None, None]


def test_what_was_touched_is_on_the_stage_though_filters_hide_it_and_a_source_ends_at_the_bar_line(pad: GalleryBrowser):
    pad.run("criteria.text = '00000'; showCriteria(); choose()")
    touch(pad, "touchStart", 1, 1)
    touch(pad, "touchEnd")
    pad.wait_for("player.item === 4 && player.context.state === 'running'")
    pad.run("document.querySelector('.points').focus()")
    pad.press("f")
    assert pad.run("return [favourites.inOrder(), stage.item]") == [[4], 4]
    pad.press("s")
    assert pad.run("return hearing.choice.name") == "A"
    touch(pad, "touchStart", 0, 2)
    touch(pad, "touchEnd")
    pad.wait_for("player.item === 2")
    assert pad.run("return [hearing.choice.name, player.anchor.step % 16, stage.item]") == ["as written", 0, 2]
    pad.press(Keys.SPACE)
    assert pad.run("return [player.item, stage.item]") == [None, 2]
    pad.press(Keys.SPACE)
    assert pad.run("return player.item") == 2
    pad.run("favourites.toggle(4)")


@pytest.mark.parametrize("size", [UPRIGHT, SIDEWAYS, LAPTOP, LARGE], ids=lambda size: f"{size[0]}x{size[1]}")
def test_it_fits_every_screen_names_its_corners_and_can_be_used_by_all(pad: GalleryBrowser, tmp_path, size):
    pad.open(tmp_path / "gallery.html", size)
    assert pad.run("return document.documentElement.scrollWidth") == size[0]
    names = pad.run("return [...document.querySelectorAll('.corners span')].map((name) => name.textContent)")
    assert names == [f"{corner}: my song {row}.mid, bar {4 * row + 1}" for row, corner in enumerate("ABCD")]
    sizes = pad.run("return ['.points', '#wall'].map((name) => document.querySelector(name).clientHeight)")
    assert min(sizes) >= 100
    pad.press("s")
    assert pad.run("return hearing.choice.name") == "A"
    assert serious_problems(pad) == []
