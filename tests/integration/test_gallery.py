"""The gallery in a browser, opened from disk: what a visitor sees, hears and chooses."""

import subprocess
import sys

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from jobs.sampler.gallery import write_gallery
from musicvae.groove.groove import onset_ticks
from tests.support.commands import CHECKOUT, ok
from tests.support.pages.accessibility import serious_problems
from tests.support.pages.fenced_code import fenced
from tests.support.pages.gallery_browser import LAPTOP, LARGE, PHONES, SIDEWAYS, UPRIGHT
from tests.support.pages.gallery_fixtures import FEW
from tests.support.pages.gallery_grooves import COLUMNS, DRUM_MAP, GRID, chance_gallery, chance_groove

pytestmark = pytest.mark.slow

MANY, MOST = 5_000, 10_000


def test_it_shows_every_groove_as_a_grid(gallery):
    assert gallery.shown() == list(range(FEW))
    inked = """
      const [item, drum] = arguments, drawn = document.querySelector(`#card-${item} canvas`);
      const canvas = new OffscreenCanvas(drawn.width, drawn.height);
      canvas.getContext("2d", { willReadFrequently: true }).drawImage(drawn, 0, 0);
      const lane = canvas.height / 9, top = Math.round((8 - drum) * lane);
      const pixels = canvas.getContext("2d").getImageData(0, top, canvas.width, Math.round(lane)).data;
      let coloured = 0;
      for (let at = 0; at < pixels.length; at += 4)
        if (Math.max(...pixels.slice(at, at + 3)) - Math.min(...pixels.slice(at, at + 3)) > 40) coloured++;
      return coloured;"""
    for item in (0, 1, 4):
        velocity = chance_groove(item).velocity
        for drum in (1, 4, 8):
            assert (gallery.run(inked, item, drum) > 20) == (velocity[:, drum] > 0).any()
    assert gallery.run(inked, 3, 1) == 0  # has no hits


def test_it_plays_in_a_loop_at_the_hits_own_times(gallery):
    gallery.press(Keys.SPACE)
    gallery.wait_for("player.item === 0 && player.context.state === 'running'")
    before = gallery.run("return [player.context.currentTime, player.position(), player.given]")
    gallery.wait_for(f"player.context.currentTime > {before[0]} + 0.5")
    assert gallery.run("return player.given") > before[2]
    assert gallery.element("#card-0 .play").get_attribute("aria-pressed") == "true"
    moved = gallery.run("return document.querySelector('#card-0 .playhead').style.transform")
    gallery.wait_for(f"document.querySelector('#card-0 .playhead').style.transform !== {moved!r}")

    groove = chance_groove(0)
    step, drum = np.nonzero(groove.velocity)
    ticks = onset_ticks(step, groove.offset[step, drum] / 65536, GRID, 480)
    expected = sorted(
        (round(64 * loop + tick / 120, 6), d, int(groove.velocity[s, d]))
        for loop in (0, 1)
        for s, d, tick in zip(step.tolist(), drum.tolist(), ticks.tolist(), strict=True)
    )
    played = gallery.run("return player.hitsBetween(-0.5, 127.5).map((hit) => [hit.place, hit.drum, hit.velocity])")
    assert sorted((round(place, 6), drum, velocity) for place, drum, velocity in played) == expected
    assert gallery.run("return player.stepSeconds") == pytest.approx(60 / groove.tempo / 4)

    gallery.run("const tempo = byId('tempo'); tempo.value = 150; tempo.dispatchEvent(new Event('input'))")
    assert gallery.run("return player.stepSeconds") == pytest.approx(60 / groove.tempo / 4 / 1.5)
    gallery.element(".choices input[value='plain']").click()
    plain = gallery.run("return player.hitsBetween(0, 64).map((hit) => [hit.place, hit.velocity])")
    assert [place for place, _ in plain] == step.tolist()
    assert {velocity for _, velocity in plain} == {100}

    gallery.element("#wall").send_keys(Keys.ARROW_RIGHT)
    assert gallery.run("return [player.item, wall.activeItem]") == [1, 1]
    gallery.press(Keys.SPACE)
    assert gallery.run("return player.item") is None


def test_what_is_touched_is_what_is_heard(gallery):
    heard = "return [player.item, wall.activeItem, stage.item]"
    gallery.element("#card-2 .play").click()
    assert gallery.run(heard) == [2, 2, 2]
    gallery.element("#card-4 .play").click()
    assert gallery.run(heard) == [4, 4, 4]
    gallery.element("#card-1 .id").click()
    assert gallery.run(heard) == [1, 1, 1]
    gallery.element("#card-5 .favour").click()
    assert gallery.run(heard) == [1, 1, 1]
    gallery.type_into("#text", "00009")
    assert gallery.run(heard) == [1, 9, 1]  # what plays goes on, and can be stopped
    gallery.element("#stage .play").click()
    assert gallery.run(heard) == [None, 9, 9]


def test_drums_and_likeness_choose_grooves_and_the_address_keeps_the_view(gallery):
    hits = np.array([chance_groove(item).velocity > 0 for item in range(FEW)])
    gallery.run("act.choose(5)")
    gallery.press("l")
    apart = (hits != hits[5]).sum(axis=(1, 2))
    expected = sorted(range(FEW), key=lambda item: (apart[item], item))
    assert gallery.shown() == expected
    assert gallery.element("#sort option:checked").text == f"like {chance_groove(5).id}"
    without = """
      const select = document.querySelector(`#filters select[aria-label='${grooves.drums[8].label}']`);
      select.value = "yes"; select.dispatchEvent(new Event("change"))"""
    gallery.run(without)
    expected = [item for item in expected if hits[item, :, 8].any()]
    assert 0 < len(expected) < FEW
    assert gallery.shown() == expected

    kept = gallery.run("return location.hash")
    gallery.element("#clear").click()
    gallery.run("location.hash = ''")
    gallery.wait_for(f"wall.items.length === {FEW}")
    gallery.run("location.hash = arguments[0]", kept)
    gallery.wait_for(f"wall.items.length === {len(expected)}")
    assert gallery.shown() == expected


def test_a_page_may_begin_with_the_best_and_has_the_other_order_too(chromium, tmp_path):
    columns = [column.name for column in COLUMNS]
    grooves = [chance_groove(item) for item in range(FEW)]
    write_gallery(
        tmp_path / "best.html", grooves, title="", grid=GRID, drum_map=DRUM_MAP, figures=COLUMNS, sorted_by="hits"
    )
    chromium.open(tmp_path / "best.html")
    hits = [groove.figures["hits"] for groove in grooves]
    best = sorted(range(FEW), key=lambda item: (-hits[item], item))
    assert chromium.shown() == best
    assert chromium.run("return location.hash") == ""
    assert chromium.element("#descending").get_attribute("aria-pressed") == "true"
    choose = "const sort = byId('sort'); sort.value = arguments[0]; sort.dispatchEvent(new Event('change'))"
    for column, address, order in (
        (-1, "#sort=place", range(FEW)),
        (columns.index("hits") + 1, "", best),
        (0, "#sort=tempo", sorted(range(FEW), key=lambda item: (grooves[item].tempo, item))),
    ):
        chromium.run(choose, str(column))
        assert chromium.shown() == list(order)
        assert chromium.run("return location.hash") == address
        chromium.driver.refresh()
        assert chromium.shown() == list(order)


@pytest.mark.parametrize("size", [LAPTOP, UPRIGHT], ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_compact_list_shows_a_line_for_each_groove_and_is_kept_in_the_address(gallery, gallery_page, size):
    gallery.open(gallery_page, size)
    seen = "[...document.querySelectorAll('.card')].filter((c) => c.getBoundingClientRect().top < innerHeight).length"
    cards = gallery.run(f"return {seen}")
    gallery.press("v")
    assert gallery.run("return [wall.columns, document.querySelector('.card').offsetHeight]") == [1, 46]
    gallery.wait_for(f"{seen} > {cards if size == UPRIGHT else 5}")
    assert gallery.run("return document.documentElement.scrollWidth") == size[0]
    assert gallery.run("return document.querySelector('#card-0 canvas').width") > 100
    assert serious_problems(gallery) == []
    assert gallery.run("return location.hash") == "#view=list"
    gallery.driver.refresh()
    assert gallery.run("return [byId('compact').checked, wall.columns]") == [True, 1]
    gallery.press("v")
    assert gallery.run("return [byId('compact').checked, location.hash]") == [False, ""]


def test_its_filters_and_sorting_are_those_of_the_figures(gallery):
    grooves = [chance_groove(item) for item in range(FEW)]
    hits = [groove.figures["hits"] for groove in grooves]
    gallery.type_into("[aria-label='hits per bar, at least']", "18.5")
    gallery.type_into("[aria-label='hits per bar, at most']", "20")
    expected = [item for item in range(FEW) if 18.5 <= hits[item] <= 20]
    assert 0 < len(expected) < FEW
    assert gallery.shown() == expected
    assert gallery.element("#shown").text == f"{len(expected)} of {FEW} grooves"

    shares = "return [...document.querySelectorAll('.filter')][1].querySelectorAll('rect.out').length"
    assert 0 < gallery.run(shares) < 40

    gallery.element("#clear").click()
    assert gallery.shown() == list(range(FEW))
    assert gallery.run(shares) == 0
    gallery.run(
        """const select = document.querySelector("select[aria-label='duplicate']");
        select.value = arguments[0]; select.dispatchEvent(new Event("change"))""",
        "yes",
    )
    assert gallery.shown() == list(range(0, FEW, 7))
    gallery.element("#clear").click()

    names = "return [...document.querySelector(\"select[aria-label='style']\").options].map((option) => option.text)"
    assert gallery.run(names) == ["any", *(f"{name} {FEW // 3}" for name in ("funk", "jazz", "rock"))]
    gallery.run(
        """const select = document.querySelector("select[aria-label='style']");
        select.value = arguments[0]; select.dispatchEvent(new Event("change"))""",
        "3",
    )
    assert gallery.shown() == list(range(2, FEW, 3))
    assert gallery.run("return location.hash") == "#style=rock"
    assert gallery.run("return grooves.figureText(grooves.columns.length - 1, 1)") == "jazz"
    gallery.run("location.hash = '#style=jazz'")
    gallery.wait_for("wall.items[0] === 1")
    assert gallery.shown() == list(range(1, FEW, 3))
    gallery.run("location.hash = '#style=waltz'")
    gallery.wait_for(f"wall.items.length === {FEW}")

    gallery.press("/")
    gallery.press("0002")
    assert gallery.shown() == [2, *range(20, 30)]
    gallery.element("#clear").click()

    choose = "const sort = byId('sort'); sort.value = arguments[0]; sort.dispatchEvent(new Event('change'))"
    gallery.run(choose, "2")
    scores = {item: grooves[item].figures["score"] for item in range(FEW)}
    scored = sorted((item for item in scores if scores[item] is not None), key=lambda item: scores[item])
    without = [item for item in scores if scores[item] is None]
    assert gallery.shown() == scored + without
    gallery.element("#descending").click()
    assert gallery.shown() == scored[::-1] + without
    assert gallery.run("return [wall.activeItem, wall.element.scrollTop]") == [scored[-1], 0]


def test_a_distribution_counts_every_value_once(gallery):
    """Whole numbers lie in bins as wide as each other, so that an even distribution looks even."""
    counted = """const [values] = arguments, least = Math.min(...values), most = Math.max(...values);
      return histogram(values, binsOf(values, least, most)).map((bar) => Number(bar.getAttribute("height")))"""
    assert gallery.run(counted, [3, 4, 5, 5, 7]) == [0.5, 0.5, 1, 0, 0.5]
    assert gallery.run(counted, list(range(80))) == [1] * 40
    uneven = gallery.run(counted, [0, 0.5, 0.5, 100])
    assert (len(uneven), uneven[0], uneven[-1]) == (40, 1, pytest.approx(1 / 3))


def test_keys_do_what_the_help_says(gallery):
    columns = gallery.run("return wall.columns")
    assert columns > 1
    gallery.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert gallery.run("return wall.activeItem") == columns + 1
    assert gallery.element("#wall").get_attribute("aria-activedescendant") == f"card-{columns + 1}"
    gallery.press(Keys.END)
    assert gallery.run("return wall.activeItem") == FEW - 1
    gallery.press(Keys.HOME, "?")
    assert gallery.element("#help").is_displayed()
    assert "favourite" in gallery.element("#help").text
    gallery.press("f", Keys.ESCAPE)
    assert not gallery.element("#help").is_displayed()
    assert gallery.run("return favourites.size") == 0
    gallery.press("/", "f")
    assert gallery.run("return [byId('text').value, favourites.size]") == ["f", 0]
    gallery.press(Keys.ESCAPE, "f")
    assert gallery.run("return favourites.size") == 0  # no id has an f in front of its number: nothing is shown
    gallery.element("#clear").click()
    gallery.press("f")
    assert gallery.run("return favourites.size") == 1


INTERACTIVE = {"button", "checkbox", "combobox", "slider", "spinbutton", "searchbox", "gridcell", "grid", "textbox"}


OUTSIDE = """return [...document.querySelectorAll("button, input, select, canvas, h1, .drums li")].filter((element) => {
  const box = element.getBoundingClientRect(), below = box.bottom > innerHeight && element.closest("#stage");
  return box.width && (box.left < 0 || box.right > innerWidth + 0.5 || below);
}).map((element) => element.outerHTML)"""
SMALL = """return [...document.querySelectorAll("button, input, select")].map((element) => {
  const target = element.matches("[type=checkbox], [type=radio]") ? element.closest("label") : element;
  return [element, target.getBoundingClientRect()];
}).filter(([, box]) => box.width && (box.width < 44 || box.height < 44)).map(([element, box]) =>
  `${element.outerHTML} ${box.width} x ${box.height}`)"""
NAMES = """return [...document.querySelectorAll(".drums li")].filter((name) => {
  const { left, top, width, height } = name.getBoundingClientRect();
  const seen = document.elementFromPoint(left + width / 2, top + height / 2);
  return name.textContent && height >= 8 && seen && name.contains(seen) && name.scrollWidth <= name.clientWidth;
}).length"""


@pytest.mark.parametrize("size", [UPRIGHT, SIDEWAYS, LAPTOP, LARGE], ids=lambda size: f"{size[0]}x{size[1]}")
def test_on_every_screen_all_has_a_name_fits_and_sounds(gallery, sourced_page, size):
    gallery.open(sourced_page, size)
    assert gallery.run(NAMES) == DRUM_MAP.num_drums
    assert gallery.run("return document.querySelector('.large canvas').clientHeight") >= 140
    assert gallery.run("return document.documentElement.scrollWidth") == size[0]
    if size in PHONES:
        assert gallery.run(SMALL) == []
        gallery.tap("#card-1 .picture")
        assert gallery.run("return [player.item, stage.item]") == [1, 1]
        gallery.wait_for("player.context.state === 'running'")
        gallery.tap("#stage .play")
        gallery.tap("#stage .edit")
        assert gallery.run(SMALL) == []
        assert gallery.run(OUTSIDE) == []
        gallery.tap("#filter-button")
    else:
        gallery.element("#card-1 .picture").click()
        assert gallery.run("return [player.item, stage.item]") == [None, 1]
        gallery.element("#card-1 .play").click()
        gallery.wait_for("player.item === 1 && player.context.state === 'running'")
    nodes = gallery.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in INTERACTIVE
    ]
    assert {role for role, _ in named} >= INTERACTIVE - {"textbox"}
    assert [role for role, name in named if not name.strip()] == []
    assert ("button", "play groove-00000") in named
    assert ("slider", "tempo") in named
    assert ("spinbutton", "score, at most") in named
    assert gallery.run("return document.documentElement.scrollWidth") == size[0]
    assert gallery.run(OUTSIDE) == []
    if size in PHONES:
        assert gallery.run(SMALL) == []
        gallery.tap("#filter-button")
        gallery.tap("#help-button")
        assert gallery.run(SMALL) == []


@pytest.mark.parametrize(("size", "dark"), [(LAPTOP, False), (LAPTOP, True), (UPRIGHT, False), (SIDEWAYS, True)])
def test_a_checker_of_accessibility_finds_nothing_serious(gallery, sourced_page, size, dark):
    gallery.open(sourced_page, size, dark=dark)
    gallery.press("f", "e", "s", Keys.SPACE)
    assert serious_problems(gallery) == []
    label = gallery.element("#card-0").get_attribute("aria-label")
    assert label == "groove-00000, 185 bpm, duplicate, hits per bar 16.25, score 0.534, playing, favourite"
    gallery.run("openFilters(true); act.help()")
    assert serious_problems(gallery) == []


def test_who_wants_less_motion_sees_a_playhead_that_moves_by_beats(gallery):
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    gallery.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    gallery.run("window.steps = new Set(); stage.movePlayhead = (step) => steps.add(step)")
    gallery.press(Keys.SPACE)
    gallery.wait_for("steps.size > 2")
    assert all(step % GRID.steps_per_beat == 0 for step in gallery.run("return [...steps]"))


def test_what_has_the_focus_is_seen(gallery):
    gallery.press(Keys.ARROW_RIGHT)
    assert gallery.run("return getComputedStyle(document.querySelector('#card-1')).boxShadow") != "none"
    assert gallery.run("return getComputedStyle(document.querySelector('#card-0')).boxShadow") == "none"
    gallery.press(Keys.TAB)
    assert gallery.run("return document.activeElement.closest('#stage') !== null")
    assert gallery.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_dark_and_light_follow_the_visitor(gallery, gallery_page):
    paper = "return getComputedStyle(document.body).backgroundColor"
    gallery.open(gallery_page, dark=True)
    dark = gallery.run(paper)
    palette = gallery.run("return wall.palette.drum[0]")
    gallery.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )
    gallery.wait_for(f"wall.palette.drum[0] !== {palette!r}")
    assert gallery.run(paper) != dark


@pytest.mark.parametrize("count", [MANY, MOST])
def test_thousands_open_and_scroll_to_the_end(gallery, tmp_path, count):
    gallery.open(chance_gallery(tmp_path / "many.html", count))
    assert gallery.run("return wall.items.length") == count
    assert gallery.run("return document.querySelectorAll('.card').length") < 60
    for share in (0.25, 0.5, 0.75, 1):
        gallery.run("wall.element.scrollTop = arguments[0] * wall.element.scrollHeight", share)
        gallery.wait_for(
            "[...document.querySelectorAll('.card')].some((card) => { const box = card.getBoundingClientRect();"
            " return box.top > 0 && box.bottom < innerHeight })"
        )
        assert gallery.run("return document.querySelectorAll('.card').length") < 60
    gallery.wait_for(f"document.getElementById('card-{count - 1}') !== null")
    assert (
        gallery.run(f"return document.querySelector('#card-{count - 1} .id').textContent") == f"groove-{count - 1:05d}"
    )
    gallery.press(Keys.HOME, Keys.END)
    assert gallery.run("return wall.activeItem") == count - 1
    assert gallery.run("return wall.element.scrollTop") > 10_000


def test_the_example_of_the_docs_makes_a_page(gallery, tmp_path):
    (example,) = fenced(CHECKOUT / "docs" / "gallery.md", "python")
    ok(subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300))
    gallery.open(tmp_path / "gallery.html")
    assert gallery.run("return grooves.columns.map(({ label }) => label)") == ["tempo", "hits per bar", "with ride"]
    assert gallery.shown() == list(range(64))
