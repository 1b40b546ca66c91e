"""The gallery in a browser, opened from disk: what a visitor sees, hears, chooses and takes along."""

import io
import subprocess
import sys
import zipfile

import numpy as np
import pretty_midi
import pytest
import symusic
from selenium.webdriver.common.keys import Keys

from jobs.gallery_pick import read_pick
from musicvae.groove import DrumGroove
from musicvae.midi import groove_to_midi
from tests.commands import CHECKOUT, ok
from tests.fenced_code import fenced
from tests.gallery_browser import DESKTOP, PHONE
from tests.gallery_fixtures import FEW
from tests.gallery_grooves import DRUM_MAP, GRID, chance_gallery, chance_groove, drum_groove

pytestmark = pytest.mark.slow

MANY, MOST = 5_000, 10_000
IDS = "return wall.items.map((item) => grooves.ids[item])"


def numbers(ids: list[str]) -> list[int]:
    return [int(name.removeprefix("groove-")) for name in ids]


def test_it_shows_every_groove_as_a_grid(gallery):
    assert numbers(gallery.run(IDS)) == list(range(FEW))
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
    expected = sorted(
        (round(64 * loop + s + groove.offset[s, d] / 65536, 6), int(d), int(groove.velocity[s, d]))
        for loop in (0, 1)
        for s, d in zip(step.tolist(), drum.tolist(), strict=True)
    )
    played = gallery.run("return player.hitsBetween(-0.5, 127.5).map((hit) => [hit.place, hit.drum, hit.velocity])")
    assert sorted((round(place, 6), drum, velocity) for place, drum, velocity in played) == expected
    assert gallery.run("return player.stepSeconds") == pytest.approx(60 / groove.tempo / 4)

    gallery.run("const tempo = byId('tempo'); tempo.value = 150; tempo.dispatchEvent(new Event('input'))")
    assert gallery.run("return player.stepSeconds") == pytest.approx(60 / groove.tempo / 4 / 1.5)
    gallery.element("#as-played").click()
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


def test_its_filters_and_sorting_are_those_of_the_figures(gallery):
    grooves = [chance_groove(item) for item in range(FEW)]
    hits = [groove.figures["hits"] for groove in grooves]
    gallery.type_into("[aria-label='hits per bar, at least']", "18.5")
    gallery.type_into("[aria-label='hits per bar, at most']", "20")
    expected = [item for item in range(FEW) if 18.5 <= hits[item] <= 20]
    assert 0 < len(expected) < FEW
    assert numbers(gallery.run(IDS)) == expected
    assert gallery.element("#shown").text == f"{len(expected)} of {FEW} grooves"

    gallery.element("#clear").click()
    assert numbers(gallery.run(IDS)) == list(range(FEW))
    gallery.run(
        """const select = document.querySelector("select[aria-label='duplicate']");
        select.value = arguments[0]; select.dispatchEvent(new Event("change"))""",
        "yes",
    )
    assert numbers(gallery.run(IDS)) == list(range(0, FEW, 7))
    gallery.element("#clear").click()

    gallery.press("/")
    gallery.press("0002")
    assert numbers(gallery.run(IDS)) == [2, *range(20, 30)]
    gallery.element("#clear").click()

    choose = "const sort = byId('sort'); sort.value = arguments[0]; sort.dispatchEvent(new Event('change'))"
    gallery.run(choose, "2")
    scores = {item: grooves[item].figures["score"] for item in range(FEW)}
    scored = sorted((item for item in scores if scores[item] is not None), key=lambda item: scores[item])
    without = [item for item in scores if scores[item] is None]
    assert numbers(gallery.run(IDS)) == scored + without
    gallery.element("#descending").click()
    assert numbers(gallery.run(IDS)) == scored[::-1] + without
    assert gallery.run("return [wall.activeItem, wall.element.scrollTop]") == [scored[-1], 0]


def test_favourites_survive_sorting_filtering_and_closing(gallery, gallery_page):
    gallery.press("f", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "f")
    gallery.element("#card-4 .favour").click()
    gallery.run("const sort = byId('sort'); sort.value = 1; sort.dispatchEvent(new Event('change'))")
    gallery.type_into("#text", "0001")
    gallery.element("#clear").click()
    assert gallery.run("return favourites.inOrder()") == [0, 2, 4]
    gallery.element("#favourites-only").click()
    assert sorted(numbers(gallery.run(IDS))) == [0, 2, 4]
    assert gallery.element("#shown").text == f"3 of {FEW} grooves"
    assert gallery.element("#card-2 .favour").get_attribute("aria-pressed") == "true"

    gallery.open(gallery_page)
    assert gallery.run("return favourites.inOrder()") == [0, 2, 4]
    gallery.press("f")
    assert gallery.run("return favourites.inOrder()") == [2, 4]
    gallery.open(gallery_page)
    assert gallery.run("return favourites.inOrder()") == [2, 4]
    assert gallery.element("#favourites").text == "2"


def test_favourites_belong_to_grooves_and_a_larger_job_has_them_too(gallery, tmp_path):
    gallery.press("f")
    larger = chance_gallery(tmp_path / "larger.html", FEW + 5)
    gallery.open(larger)
    assert gallery.run("return favourites.inOrder()") == [0]


def test_a_browser_without_a_store_says_so(gallery, gallery_page):
    hide = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
    added = gallery.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": hide})
    gallery.open(gallery_page)
    gallery.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    gallery.press("f")
    gallery.run("const sort = byId('sort'); sort.value = 1; sort.dispatchEvent(new Event('change'))")
    assert gallery.run("return favourites.inOrder()") == [0]
    assert gallery.element("#not-kept").is_displayed()


def midi_hits(data: bytes) -> list[tuple[int, int, int]]:
    """(tick, pitch, velocity) of every note, as symusic reads them."""
    score = symusic.Score.from_midi(data)
    assert (score.ticks_per_quarter, len(score.tracks), score.tracks[0].is_drum) == (480, 1, True)
    return sorted((note.time, note.pitch, note.velocity) for note in score.tracks[0].notes)


def test_the_midi_it_saves_has_the_hits_that_the_project_writes(gallery, tmp_path):
    chosen = [0, 1, 3, 5, 8, 13, 21, 34, 55]
    for item in chosen:
        gallery.run("favourites.toggle(arguments[0])", item)
    gallery.element("#save-midi").click()
    with zipfile.ZipFile(io.BytesIO(gallery.downloaded("favourites.zip"))) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert list(files) == [f"groove-{item:05d}.mid" for item in chosen]
    for item, (name, data) in zip(chosen, files.items(), strict=True):
        groove = drum_groove(chance_groove(item))
        own = groove_to_midi(groove, DRUM_MAP)
        if groove.hits.any():
            assert midi_hits(data) == midi_hits(own)
            assert symusic.Score.from_midi(data).tempos[0].mspq == symusic.Score.from_midi(own).tempos[0].mspq
        (tmp_path / name).write_bytes(data)
        song = pretty_midi.PrettyMIDI(str(tmp_path / name))
        assert song.get_tempo_changes()[1] == pytest.approx([groove.tempo], rel=1e-5)
        assert song.time_signature_changes[0].numerator == 4
        assert sum(len(track.notes) for track in song.instruments) == groove.hits.sum()
        if groove.hits.any():
            again = DrumGroove.from_midi(tmp_path / name, short="silence")
            assert (again.hits == groove.hits).all()


def test_one_groove_is_saved_as_one_file_as_long_as_its_loop(gallery):
    gallery.press(Keys.END, "m")
    data = gallery.downloaded(f"groove-{FEW - 1:05d}.mid")
    assert midi_hits(data) == midi_hits(groove_to_midi(drum_groove(chance_groove(FEW - 1)), DRUM_MAP))
    assert symusic.Score.from_midi(data).tracks[0].name == f"groove-{FEW - 1:05d}"
    ticks = gallery.run(
        """const bytes = [...midiFile(grooves, wall.activeItem)].slice(22);
        let tick = 0, place = 0;
        const length = () => { let value = 0, byte; do { byte = bytes[place++]; value = value << 7 | byte & 127 }
          while (byte & 128); return value };
        while (place < bytes.length) {
          tick += length();
          if (bytes[place] === 255) { place += 2; const size = length(); place += size } else place += 3;
        }
        return tick"""
    )
    assert ticks == 4 * GRID.bars * 480


def test_the_list_it_saves_is_one_that_can_be_picked_from(gallery, tmp_path):
    for item in (17, 4):
        gallery.run("favourites.toggle(arguments[0])", item)
    gallery.element("#save-list").click()
    path = tmp_path / "favourites.txt"
    path.write_bytes(gallery.downloaded("favourites.txt"))
    assert path.read_text() == "groove-00004\ngroove-00017\n"
    assert read_pick(path) == [4, 17]


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


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_everything_that_can_be_used_has_a_name_and_fits(gallery, gallery_page, size):
    gallery.open(gallery_page, size)
    if size == PHONE:
        gallery.element("#filter-button").click()
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
    outside = """return [...document.querySelectorAll("button, input, select, canvas, h1")].filter((element) => {
      const box = element.getBoundingClientRect();
      return box.width && (box.left < 0 || box.right > innerWidth + 0.5);
    }).map((element) => element.outerHTML)"""
    assert gallery.run(outside) == []


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
    assert numbers(gallery.run(IDS)) == list(range(64))
