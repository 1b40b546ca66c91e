"""A groove that is edited in the gallery: heard at once, saved, marked, kept by the browser, and undone."""

import numpy as np
import pytest
import symusic
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support.pages.gallery_browser import UPRIGHT, GalleryBrowser
from tests.support.pages.gallery_grooves import DRUM_MAP, chance_groove

pytestmark = pytest.mark.slow

SNARE = DRUM_MAP.classes.index("snare")
PLACE = """
  const [step, drum] = arguments, { clientWidth, clientHeight } = stage.part("large");
  const hit = hearing.hits(stage.item).find((one) => one.step === step && one.drum === drum);
  const x = stepX(stage.view, step + (hit?.offset ?? 0) + MARK_WIDTH / 2, clientWidth);
  const y = ((grooves.drums.length - drum - 0.5) * clientHeight) / grooves.drums.length;
  return [x - clientWidth / 2, y - clientHeight / 2]"""
"""Where a cell is on the large grid, in pixels from its middle."""


def drag(gallery: GalleryBrowser, step: int, drum: int, up: int = 0) -> None:
    """Presses on a cell of the large grid, moves the pointer up by some pixels and lets go."""
    x, y = gallery.run(PLACE, step, drum)
    canvas = gallery.element(".large canvas")
    chain = ActionChains(gallery.driver).move_to_element_with_offset(canvas, round(x), round(y)).click_and_hold()
    if up:
        chain.move_by_offset(0, -up // 2).move_by_offset(0, -up + up // 2)
    chain.release().perform()


def velocities(gallery: GalleryBrowser) -> np.ndarray:
    """Of the hits that are heard of the groove on the stage, of shape (step, drum)."""
    heard = gallery.run("return hearing.hits(stage.item).map(({ step, drum, velocity }) => [step, drum, velocity])")
    table = np.zeros_like(chance_groove(1).velocity)
    for step, drum, velocity in heard:
        table[step, drum] = velocity
    return table


def empty_and_hit(groove: np.ndarray) -> tuple[int, int]:
    """A step without a snare whose neighbours have none, and one with a snare of middle velocity."""
    snare = groove[:, SNARE]
    alone = [step for step in range(1, 63) if not snare[step - 1 : step + 2].any()]
    return alone[0], int(np.flatnonzero((snare > 30) & (snare < 100))[0])


def test_keys_edit_at_a_cursor_and_say_what_is_there(gallery):
    expected = chance_groove(1).velocity.copy()
    empty, hit = empty_and_hit(expected)
    gallery.press(Keys.ARROW_RIGHT, "e")
    gallery.press(*[Keys.ARROW_UP] * SNARE, *[Keys.ARROW_RIGHT] * empty, Keys.ENTER, "+")
    expected[empty, SNARE] = 105
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    said = gallery.element("#said").text or gallery.run("return byId('said').textContent")
    assert said == f"snare, bar {empty // 16 + 1}, step {empty % 16 + 1}: velocity 105"
    moves = [Keys.ARROW_RIGHT if hit > empty else Keys.ARROW_LEFT] * abs(hit - empty)
    gallery.press(*moves, "-", "-")
    expected[hit, SNARE] -= 10
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    gallery.press(Keys.ENTER)
    expected[hit, SNARE] = 0
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    assert gallery.run("return document.querySelector('.cursor').offsetWidth") > 4
    gallery.press("u", "u", "u", "u", "u", "e", Keys.ARROW_RIGHT)
    assert gallery.run("return [edits.has(1), stage.item]") == [False, 2]


def test_a_hit_is_set_removed_and_made_louder_heard_saved_marked_and_undone(gallery, gallery_page):
    expected = chance_groove(1).velocity.copy()
    empty, hit = empty_and_hit(expected)
    gallery.press(Keys.ARROW_RIGHT)
    drag(gallery, empty, SNARE)
    assert (velocities(gallery) == expected).all(), "nothing is edited by chance"
    gallery.press("e", Keys.SPACE)
    drag(gallery, empty, SNARE)
    expected[empty, SNARE] = 100
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    drag(gallery, hit, SNARE, up=20)
    expected[hit, SNARE] += 20
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    assert gallery.run("return player.hits.length") == (expected > 0).sum()
    drag(gallery, hit, SNARE)
    expected[hit, SNARE] = 0
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    assert "edited" in gallery.element("#card-1").get_attribute("aria-label")

    gallery.press(Keys.SPACE, "m")
    score = symusic.Score.from_midi(gallery.downloaded("groove-00001-edited.mid"))
    pitch = int(DRUM_MAP.written_pitch[SNARE])
    saved = sorted(note.velocity for note in score.tracks[-1].notes if note.pitch == pitch)
    assert saved == sorted(expected[:, SNARE][expected[:, SNARE] > 0].tolist())
    assert empty * 120 in [note.time for note in score.tracks[-1].notes if note.pitch == pitch]

    gallery.open(gallery_page)
    gallery.press(Keys.ARROW_RIGHT)
    assert (velocities(gallery) == expected).all(), "the browser keeps it"
    gallery.press("e")
    drag(gallery, hit, SNARE)
    assert velocities(gallery)[hit, SNARE] == chance_groove(1).velocity[hit, SNARE], "as it was made"
    gallery.element("#stage .undo").click()
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    drag(gallery, 3, SNARE)
    gallery.press(Keys.ESCAPE, Keys.ARROW_RIGHT, "u", Keys.ARROW_LEFT, "u")
    assert np.argwhere(velocities(gallery) != expected).tolist() == [], "undo is of the groove that is seen"
    gallery.press("u")
    assert np.argwhere(velocities(gallery) != chance_groove(1).velocity).tolist() == [], "after a reload all at once"
    assert not gallery.element("#stage .undo").is_enabled()


def test_what_is_undone_is_the_groove_again(gallery):
    expected = chance_groove(1).velocity
    _, hit = empty_and_hit(expected)
    gallery.press(Keys.ARROW_RIGHT, "e")
    unedited = gallery.run("return document.querySelector('#card-1 canvas').toDataURL()")
    drag(gallery, hit, SNARE, up=-30)
    drag(gallery, hit, SNARE)
    marked = "return document.querySelector('#card-1 canvas').toDataURL()"
    assert gallery.run(marked) != unedited
    gallery.press("u", "u", "u")
    assert np.argwhere(velocities(gallery) != expected).tolist() == []
    assert gallery.run(marked) == unedited
    assert gallery.run("return JSON.parse(localStorage.getItem(EDITS_KEY))") == {}


def test_on_a_phone_one_bar_is_edited_with_a_finger(gallery, gallery_page):
    gallery.open(gallery_page, UPRIGHT)
    gallery.run("wall.activate(1); setStage()")
    gallery.tap("#stage .edit")
    gallery.tap("[aria-label='edit bar 3']")
    assert gallery.run("return stage.view") == {"first": 32, "steps": 16}
    snare = chance_groove(1).velocity[:, SNARE]
    empty = next(step for step in range(33, 47) if not snare[step - 1 : step + 2].any())
    x, y = gallery.run(PLACE, empty, SNARE)
    gallery.tap(".large canvas", x, y)
    assert velocities(gallery)[empty, SNARE] == 100
    assert gallery.run("return document.documentElement.scrollWidth") == UPRIGHT[0]
