"""What a gallery's page carries, and that nothing in it comes from elsewhere or is taken for markup."""

import base64
import itertools
import json
import re
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from jobs.sampler import gallery
from jobs.sampler.gallery import HITS, PARTS, SCRIPTS, SOURCE_HITS, GalleryGroove, pack, write_gallery
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens
from musicvae.groove.picture import DRUM_COLOURS
from tests.support.pages.gallery_grooves import (
    COLUMNS,
    DRUM_MAP,
    GRID,
    chance_gallery,
    chance_groove,
    chance_grooves,
    chance_sources,
    drum_groove,
    sourced_groove,
)

ARRAYS = {*HITS, *SOURCE_HITS, "kept", "sources", "figures"}


def packed(grooves, **changes):
    known = {"grid": GRID, "drum_map": DRUM_MAP, "figures": COLUMNS}
    return pack(grooves, **(known | changes))


def array(data, name, dtype):
    return np.frombuffer(base64.b64decode(data.arrays[name]), dtype=dtype)


def test_every_hit_and_figure_is_in_the_arrays():
    grooves = list(chance_grooves(25))
    data = packed(grooves)
    tokens = array(data, "tokens", "<i2").reshape(25, 64)
    velocity, offset = array(data, "velocity", "u1"), array(data, "offset", "<i2")
    place = 0
    for item, groove in enumerate(grooves):
        assert (tokens[item] == groove.tokens).all()
        for step, drum in np.argwhere(hits_from_tokens(groove.tokens, 9)):
            assert (velocity[place], offset[place]) == (groove.velocity[step, drum], groove.offset[step, drum])
            place += 1
    assert place == len(velocity) == len(offset)

    figures = array(data, "figures", "<f8").reshape(5, 25)
    assert figures[0].tolist() == [groove.tempo for groove in grooves]
    assert figures[1].tolist() == [groove.figures["hits"] for groove in grooves]
    assert np.isnan(figures[2]).nonzero()[0].tolist() == [9, 19]
    assert figures[3].nonzero()[0].tolist() == [0, 7, 14, 21]
    assert figures[4, :4].tolist() == [0, 1, 3, 0]
    assert data.about["ids"] == [groove.id for groove in grooves]
    assert [column["name"] for column in data.about["columns"]] == ["tempo", "hits", "score", "copy", "style"]
    assert data.arrays.keys() == ARRAYS


def test_every_source_and_kept_hit_is_in_the_arrays():
    grooves, sources = [sourced_groove(item) for item in range(1, 6)], chance_sources(2)
    data = packed(grooves, sources=sources)
    assert data.about["sources"] == ["my song 1.mid, bar 5", "my song 0.mid, bar 1"]  # in the order of their first use
    assert array(data, "sources", "<i2").tolist() == [0, 1, 0, 1, 0]
    assert array(data, "sourceTokens", "<i2").reshape(2, 64).tolist() == sources.tokens[::-1].tolist()
    for name, stored, dtype in (("sourceVelocity", sources.velocity, "u1"), ("sourceOffset", sources.offset, "<i2")):
        hits = [stored[row][sources.velocity[row] > 0] for row in (1, 0)]
        assert array(data, name, dtype).tolist() == np.concatenate(hits).tolist()
    kept = np.concatenate([groove.kept[groove.hits] for groove in grooves])
    assert kept.any()
    assert not kept.all()
    assert np.unpackbits(array(data, "kept", "u1"), bitorder="little")[: len(kept)].tolist() == kept.tolist()


def test_a_groove_goes_in_and_out_of_its_stored_units():
    groove = chance_groove(8)
    again = GalleryGroove.of(groove.id, drum_groove(groove), groove.figures)
    for name in ("tokens", "velocity", "offset"):
        assert (getattr(again, name) == getattr(groove, name)).all()
    assert (again.id, again.tempo, again.figures) == (groove.id, groove.tempo, groove.figures)


def test_a_page_takes_so_many_and_one_more_to_know_that_there_are_more(monkeypatch, tmp_path):
    monkeypatch.setattr(gallery, "MOST_SHOWN", 5)
    endless = (chance_groove(item) for item in itertools.count())
    data = packed(endless)
    assert (data.count, data.whole) == (5, False)
    assert next(endless).id == "groove-00006"
    assert packed(chance_grooves(5)).whole
    page = chance_gallery(tmp_path / "gallery.html", 6).read_text()
    assert "the first 5 grooves; the manifest lists all" in page
    assert "5 grooves ·" in chance_gallery(tmp_path / "gallery.html", 5).read_text()


def test_memory_is_that_of_what_is_packed():
    """Silent grooves, twenty times as many: each costs its tokens and figures, not its 1,728 bytes of empty cells."""
    silent = chance_groove(3)

    def peak(count: int) -> int:
        tracemalloc.start()
        packed(replace(silent, id=f"groove-{item}", velocity=silent.velocity.copy()) for item in range(count))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(2_000) - peak(100) < 1_900 * 1_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "groove 1"}, "an id must consist of"),
        ({"id": "../groove"}, "an id must consist of"),
        ({"id": ""}, "an id must consist of"),
        ({"tempo": 0.0}, "tempo must be positive"),
        ({"tempo": float("nan")}, "tempo must be positive"),
        ({"tokens": np.zeros(64, np.int16)}, "velocity must be 1 to 127"),
        ({"tokens": np.zeros(32, np.int16)}, "shapes that do not match"),
        ({"offset": np.ones((64, 9), np.int16)}, "offset must be 0"),
        ({"offset": np.zeros((64, 8), np.int16)}, "shapes that do not match"),
        ({"kept": np.ones((64, 9), bool)}, "only hits can be kept"),
        ({"velocity": chance_groove(1).velocity * np.uint8(0)}, "velocity must be 1 to 127"),
    ],
)
def test_a_groove_that_contradicts_itself_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(chance_groove(1), **change)


def test_grooves_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="at least one groove"):
        packed([])
    with pytest.raises(ValueError, match="two grooves have the id 'groove-00001'"):
        packed([chance_groove(1), chance_groove(1)])
    with pytest.raises(ValueError, match=r"groove-00002: expected 1 sources as of the other grooves, found \(\)"):
        packed([sourced_groove(1), chance_groove(2)], sources=chance_sources(2))
    with pytest.raises(ValueError, match=r"velocity must have shape \(32, 9\), found \(64, 9\)"):
        packed(chance_grooves(2), grid=GridSpec(bars=2))


class Scripts(HTMLParser):
    """The scripts of a page, their attributes, and the attributes of everything else."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.links: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.lasttag == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)


def test_nothing_comes_from_elsewhere_and_nothing_given_is_taken_for_markup(tmp_path):
    hostile = "</script><script>alert(1)</script><!--<img src=//x.example>"
    columns = [replace(COLUMNS[0], label=hostile, about=hostile), *COLUMNS[1:]]
    page = tmp_path / "gallery.html"
    write_gallery(page, chance_grooves(3), title=f"{hostile} \udcff", grid=GRID, drum_map=DRUM_MAP, figures=columns)
    html = page.read_text()
    found = Scripts(html)
    assert found.links == ["data:,"]
    assert len(found.scripts) == 1 + len(ARRAYS) + len(SCRIPTS)
    assert all("src" not in attributes for attributes, _ in found.scripts)
    about = json.loads(next(text for attributes, text in found.scripts if attributes.get("id") == "about"))
    assert about["columns"][1]["label"] == hostile
    assert about["drums"][2] == {"label": "closed hihat", "pitch": 42, "voice": "closed_hihat"}
    assert "default-src 'none'" in html
    assert not re.search(r"https?://", re.sub(r"http://www\.w3\.org/2000/svg", "", html))


def test_the_same_grooves_give_the_same_page_whole_or_not_at_all(tmp_path):
    one, two = (chance_gallery(tmp_path / name, 4).read_bytes() for name in ("one.html", "two.html"))
    assert one == two
    with pytest.raises(ValueError, match="at least one"):
        write_gallery(tmp_path / "no.html", [], title="", grid=GRID, drum_map=DRUM_MAP, figures=())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "two.html"]


def test_every_script_is_in_the_page_and_small():
    assert sorted(SCRIPTS) == sorted(path.name for path in PARTS.glob("*.js"))
    for name in SCRIPTS:
        text = (PARTS / name).read_text()
        assert text.startswith('"use strict";\n//'), name
        assert len(text.splitlines()) <= 300, name


def test_drums_have_the_colours_of_the_pictures():
    style = (PARTS / "gallery.css").read_text()
    for drum, colour in enumerate(DRUM_COLOURS):
        assert f"--drum-{drum}: #{bytes(colour).hex()};" in style
    assert f"DRUM_COLOURS = {len(DRUM_COLOURS)};" in (PARTS / "drawing.js").read_text()
