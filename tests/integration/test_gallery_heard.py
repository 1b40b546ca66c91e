"""What is heard in a gallery is what it saves: the groove or its source, played in each way, at the tempo set."""

import numpy as np
import pytest
import symusic
from selenium.webdriver.common.keys import Keys

from tests.support.pages.gallery_grooves import chance_groove, chance_sources, mean_feel, sourced_groove

pytestmark = pytest.mark.slow

STRIKES = """
  // Every strike of two loops, given to the audio clock in as many small steps as in a real hour, without its waiting.
  const { context, kit } = player, loop = grooves.numSteps * player.stepSeconds, strikes = [];
  const start = player.anchor.time - player.anchor.step * player.stepSeconds;
  let now = start;
  Object.defineProperty(context, "currentTime", { get: () => now, configurable: true });
  kit.strike = (output, voice, velocity, time) =>
    strikes.push([grooves.drums.find((drum) => drum.voice === voice).pitch, velocity, time - start - loop]);
  player.given = 0;
  for (; now < start + 2 * loop; now += 0.05) player.giveHits();
  delete kit.strike;
  delete context.currentTime;
  player.play(player.item);
  return strikes.filter(([, , time]) => time > -1e-6 && time < loop - 1e-6)"""
OTHER_TEMPO = 123


def heard(gallery) -> dict[int, list[tuple[float, int]]]:
    """(second, velocity) of the hits of each pitch in one loop of what plays."""
    return by_pitch(gallery.run(STRIKES))


def saved(gallery, name: str, tempo: float) -> dict[int, list[tuple[float, int]]]:
    """The same of the MIDI file that the page saves."""
    gallery.element("#wall").send_keys("m")
    data = gallery.downloaded(f"{name}.mid")
    score = symusic.Score.from_midi(data)
    assert data[8:12] == b"\0\1\0\2"  # format 1, two tracks
    assert [signature.numerator for signature in score.time_signatures] == [4]
    assert score.tempos[0].qpm == pytest.approx(tempo, rel=1e-5)
    seconds = score.tempos[0].mspq / 1e6 / score.ticks_per_quarter
    notes = [note for track in score.tracks for note in track.notes]
    return by_pitch([(note.pitch, note.velocity, note.time * seconds) for note in notes])


def by_pitch(hits) -> dict[int, list[tuple[float, int]]]:
    pitches = sorted({pitch for pitch, _, _ in hits})
    return {number: sorted((time, velocity) for pitch, velocity, time in hits if pitch == number) for number in pitches}


@pytest.mark.parametrize(
    ("choice", "name"),
    [("source", "-source"), ("played", ""), ("mean", "-mean"), ("plain", "-plain")],
)
def test_what_is_saved_is_what_is_heard(gallery, sourced_page, choice, name):
    gallery.open(sourced_page)
    gallery.press(Keys.ARROW_RIGHT, Keys.SPACE)
    gallery.wait_for("player.context.state === 'running'")
    gallery.element(f".choices input[value='{choice}']").click()
    groove, source = sourced_groove(1), chance_sources(2)[1:2]
    velocity = source.velocity[0] if choice == "source" else groove.velocity
    expected = velocity.T[velocity.T > 0]
    feel = mean_feel()
    if choice == "mean":
        of_mean = np.tile(np.rint(feel.velocity * 127), (4, 1)).clip(1)
        expected = np.where(groove.kept, groove.velocity, of_mean).T[velocity.T > 0]
    if choice == "plain":
        expected = np.full_like(expected, 100)
    for tempo in (groove.tempo, OTHER_TEMPO):
        if tempo == OTHER_TEMPO:
            gallery.type_into("#bpm", f"{OTHER_TEMPO}\n")
        sound, file = heard(gallery), saved(gallery, f"groove-00001{name}", tempo)
        assert sound.keys() == file.keys()
        for pitch, hits in sound.items():
            assert [velocity for _, velocity in hits] == [velocity for _, velocity in file[pitch]]
            assert [time for time, _ in hits] == pytest.approx([time for time, _ in file[pitch]], abs=0.001)
        assert sorted(velocity for hits in file.values() for _, velocity in hits) == sorted(expected.tolist())
        steps = [time / (60 / tempo / 4) for hits in sound.values() for time, _ in hits]
        assert all(abs(step - round(step)) < 1e-4 for step in steps) == (choice == "plain")


def test_a_tempo_may_be_that_of_all_grooves(gallery, sourced_page):
    gallery.open(sourced_page)
    tempo = "return Number(byId('bpm').value)"
    assert gallery.run(tempo) == round(chance_groove(0).tempo)
    gallery.type_into("#bpm", "120\n")
    gallery.driver.refresh()
    gallery.press(Keys.ARROW_RIGHT)
    assert gallery.run(tempo) == 120, "the address keeps it"
    assert gallery.run("return byId('same-tempo').checked")
    gallery.element("#same-tempo").click()
    assert gallery.run(tempo) == round(chance_groove(1).tempo)


def test_one_key_compares_a_groove_with_its_source(gallery, sourced_page):
    gallery.open(sourced_page)
    gallery.press(Keys.ARROW_RIGHT)
    assert gallery.element(".origin").text == "from my song 1.mid, bar 5"
    pixels = "return document.querySelector('.large canvas').toDataURL()"
    hits = "return hearing.hits(1).map(({ step, drum, velocity, kept }) => [step, drum, velocity, kept])"
    own, groove = gallery.run(pixels), sourced_groove(1)
    assert gallery.run(hits) == [
        [step, drum, groove.velocity[step, drum], groove.kept[step, drum]]
        for step, drum in np.argwhere(groove.velocity > 0).tolist()
    ]
    gallery.press(Keys.SPACE, "s")
    velocity = chance_sources(2).velocity[1]
    assert gallery.run(hits) == [
        [step, drum, velocity[step, drum], False] for step, drum in np.argwhere(velocity > 0).tolist()
    ]
    assert gallery.run("return player.hits.length") == (velocity > 0).sum()
    assert gallery.run(pixels) != own
    assert gallery.element(".choices input:checked").get_attribute("value") == "source"
    assert gallery.element("#said").get_attribute("textContent") == "source is heard"
    gallery.press("f")
    gallery.element("#save-midi").click()
    gallery.downloaded("groove-00001.mid")  # favourites are the grooves themselves
    assert gallery.run(pixels) == own
    gallery.press("s", Keys.ARROW_LEFT)
    assert gallery.run("return [hearing.choice.name, player.item]") == ["played", 0]


def test_hits_that_are_kept_are_underlined(gallery, sourced_page):
    gallery.open(sourced_page, sharpness=4)
    pixel = """
      const canvas = document.querySelector("#card-1 canvas"), [step, drum] = arguments;
      const lane = canvas.height / grooves.drums.length;
      const { offset } = grooves.hits(1).find((hit) => hit.step === step && hit.drum === drum);
      const middle = stepX(grooves.whole, step + offset + MARK_WIDTH / 2, canvas.width);
      const bottom = (grooves.drums.length - drum - (1 - MARK_HEIGHT) / 2) * lane;
      const read = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
      read.drawImage(canvas, 0, 0);
      return [...read.getImageData(Math.floor(middle), Math.floor(bottom - 0.5), 1, 1).data]"""
    groove = sourced_groove(1)
    alone = np.argwhere((groove.velocity > 0) & (groove.velocity < 90))

    def dark(step: int, drum: int) -> bool:
        return max(gallery.run(pixel, step, drum)[:3]) < 80

    kept = [dark(step, drum) for step, drum in alone.tolist() if groove.kept[step, drum]]
    new = [dark(step, drum) for step, drum in alone.tolist() if not groove.kept[step, drum]]
    assert len(kept) > 5
    assert len(new) > 5
    assert np.mean(kept) > 0.9 > 0.1 > np.mean(new)
