"""Favourites in the gallery: kept whatever happens to the page, and taken along as MIDI and as a list."""

import base64
import io
import zipfile

import pretty_midi
import pytest
import symusic
from selenium.webdriver.common.keys import Keys

from jobs.sampler.settings import read_pick
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.midi.writer import MidiLayout, grooves_to_midi
from tests.support.pages.gallery_fixtures import FEW
from tests.support.pages.gallery_grooves import DRUM_MAP, GRID, chance_gallery, chance_groove, drum_groove

pytestmark = pytest.mark.slow


def test_favourites_survive_sorting_filtering_and_closing(gallery, gallery_page):
    gallery.press("f", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "f")
    gallery.element("#card-4 .favour").click()
    gallery.run("const sort = byId('sort'); sort.value = 1; sort.dispatchEvent(new Event('change'))")
    gallery.type_into("#text", "0001")
    gallery.element("#clear").click()
    assert gallery.run("return favourites.inOrder()") == [0, 2, 4]
    gallery.element("#favourites-only").click()
    assert sorted(gallery.shown()) == [0, 2, 4]
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


def file_of(item: int, grid: GridSpec = GRID) -> bytes:
    """The MIDI file of a groove as `jobs.sample` writes it: format 1, with name, tempo and metre."""
    groove, layout = drum_groove(chance_groove(item, grid), grid), MidiLayout(tuple(DRUM_MAP.written_pitch.tolist()))
    arrays = (groove.hits[None], groove.velocity[None], groove.offset[None])
    return grooves_to_midi(*arrays, [groove.tempo], [groove.source], grid, layout)[0]


def test_the_midi_it_saves_is_the_file_that_the_project_writes(gallery, tmp_path):
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
        assert data == file_of(item)
        (tmp_path / name).write_bytes(data)
        song = pretty_midi.PrettyMIDI(str(tmp_path / name))
        assert song.get_tempo_changes()[1] == pytest.approx([groove.tempo], rel=1e-5)
        assert song.time_signature_changes[0].numerator == 4
        assert sum(len(track.notes) for track in song.instruments) == groove.hits.sum()
        if groove.hits.any():
            again = DrumGroove.from_midi(tmp_path / name, short="silence")
            assert (again.hits == groove.hits).all()


def test_no_note_of_it_outlasts_the_next_of_its_pitch_or_the_loop(gallery):
    gallery.press(Keys.ARROW_RIGHT, "m")
    score = symusic.Score.from_midi(gallery.downloaded("groove-00001.mid"))
    for drum, pitch in enumerate(DRUM_MAP.written_pitch.tolist()):
        notes = sorted((note.time, note.end) for note in score.tracks[0].notes if note.pitch == pitch)
        assert len(notes) == (chance_groove(1).velocity[:, drum] > 0).sum()
        limits = [start for start, _ in notes[1:]] + [GRID.num_steps * 120]
        assert all(start < end <= limit for (start, end), limit in zip(notes, limits, strict=True))


def test_grooves_of_another_grid_are_written_and_played_too(gallery, tmp_path):
    grid = GridSpec(bars=2, beats_per_bar=3, steps_per_beat=3)
    gallery.open(chance_gallery(tmp_path / "waltz.html", 3, grid))
    gallery.press(Keys.SPACE)
    groove = drum_groove(chance_groove(0, grid), grid)
    assert gallery.run("return player.hitsBetween(-0.5, 17.5).length") == groove.hits.sum() > 0
    gallery.press("m")
    assert gallery.downloaded("groove-00000.mid") == file_of(0, grid)


def test_one_groove_is_saved_as_one_file(gallery):
    gallery.press(Keys.END, "m")
    assert gallery.downloaded(f"groove-{FEW - 1:05d}.mid") == file_of(FEW - 1)


def test_favourites_in_a_row_are_one_file(gallery):
    chosen = [0, 1, 3, 5]
    for item in chosen:
        gallery.run("favourites.toggle(arguments[0])", item)
    gallery.type_into("#bpm", "120\n")
    gallery.element("#same-tempo").click()
    gallery.element("#save-row").click()
    score = symusic.Score.from_midi(gallery.downloaded("favourites.mid"))
    ticks = GRID.bars * 4 * 480
    assert [(marker.time, marker.text) for marker in score.markers] == [
        (place * ticks, f"groove-{item:05d}") for place, item in enumerate(chosen)
    ]
    tempos = [chance_groove(item).tempo for item in chosen]
    assert [(tempo.time, tempo.qpm) for tempo in score.tempos] == [
        (place * ticks, pytest.approx(tempo, rel=1e-5)) for place, tempo in enumerate(tempos)
    ]
    expected = []
    for place, item in enumerate(chosen):
        alone = symusic.Score.from_midi(file_of(item))
        for note in alone.tracks[-1].notes if alone.tracks else []:
            early = (note.time + 60) // 120 == GRID.num_steps
            start = (place - 1) % len(chosen) if early else place
            expected.append((start * ticks + note.time, note.pitch, note.velocity))
    assert sorted((note.time, note.pitch, note.velocity) for note in score.tracks[-1].notes) == sorted(expected)


def test_a_groove_can_be_dragged_out_as_a_file(gallery):
    gallery.element(".choices input[value='plain']").click()
    dragged = gallery.run_async(
        """const transfer = new DataTransfer(), card = document.querySelector("#card-1");
        card.dispatchEvent(new DragEvent("dragstart", { dataTransfer: transfer, bubbles: true }));
        const [file] = transfer.files, bytes = [...new Uint8Array(await file.arrayBuffer())];
        return [card.draggable, file.name, file.type, bytes, transfer.getData("DownloadURL")]"""
    )
    assert dragged[:3] == [True, "groove-00001-plain.mid", "audio/midi"]
    kind, name, scheme, data = dragged[4].split(":")
    assert (kind, name, scheme) == ("audio/midi", "groove-00001-plain.mid", "data")
    assert base64.b64decode(data.removeprefix("audio/midi;base64,")) == bytes(dragged[3])
    notes = symusic.Score.from_midi(bytes(dragged[3])).tracks[-1].notes
    assert {note.velocity for note in notes} == {100}
    gallery.element(".choices input[value='as written']").click()
    assert bytes(gallery.run("return [...midiFile(grooves, 'groove-00001', [hearing.of(1)])]")) == file_of(1)


def test_the_list_it_saves_is_one_that_can_be_picked_from(gallery, tmp_path):
    for item in (17, 4):
        gallery.run("favourites.toggle(arguments[0])", item)
    gallery.element("#save-list").click()
    path = tmp_path / "favourites.txt"
    path.write_bytes(gallery.downloaded("favourites.txt"))
    assert path.read_text() == "groove-00004\ngroove-00017\n"
    assert read_pick(path) == [4, 17]
