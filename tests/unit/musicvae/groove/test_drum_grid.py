"""Drum grids as text, against a golden file, and as a picture, by looking at its pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.groove.picture import LOUDNESS, drum_grid, drum_sheet
from tests.support.commands import CHECKOUT

GOLDEN = CHECKOUT / "tests" / "golden" / "drum_grid.txt"
DRUMS = DrumMap.load("roland").classes


def groove_of(hits: dict[tuple[int, str], float], grid: GridSpec | None = None) -> DrumGroove:
    """A groove from {(step, drum): velocity}."""
    grid = grid or GridSpec()
    velocity = np.zeros((grid.num_steps, len(DRUMS)), dtype=np.float32)
    for (step, drum), loudness in hits.items():
        velocity[step, DRUMS.index(drum)] = loudness
    return DrumGroove(grid, velocity > 0, velocity, np.zeros_like(velocity), tempo=96.0, source="example")


def backbeat() -> DrumGroove:
    hits: dict[tuple[int, str], float] = {(0, "crash"): 1.0}
    for bar in range(4):
        first = 16 * bar
        hits |= {(first + step, "closed_hihat"): 0.7 if step % 4 == 0 else 0.3 for step in range(0, 16, 2)}
        hits |= {(first + step, "kick"): 0.9 for step in (0, 7, 10)}
        hits |= {(first + step, "snare"): 1.0 for step in (4, 12)} | {(first + 9, "snare"): 0.1}
    hits |= {(60, "high_tom"): 0.6, (61, "mid_tom"): 0.7, (62, "low_tom"): 0.8, (63, "low_tom"): 0.9}
    return groove_of(hits)


def test_the_grid_is_the_golden_one():
    text = drum_grid(backbeat(), DRUMS) + "\n"
    assert text == GOLDEN.read_text(), (
        f"the drum grid has changed; if that was meant, replace {GOLDEN} by this and look at it:\n{text}"
    )


def test_four_bars_of_the_shipped_drums_fit_a_terminal_of_80_columns():
    lines = drum_grid(backbeat(), DRUMS).splitlines()
    assert {len(line) for line in lines} == {80}


def test_the_kick_is_at_the_bottom_and_each_hit_in_its_column():
    lines = drum_grid(groove_of({(5, "kick"): 1.0, (63, "ride"): 1.0}), DRUMS).splitlines()
    assert lines[-1].split("│")[1:] == ["┊···┊█··┊···┊···", *["┊···┊···┊···┊···"] * 3]
    assert lines[1].endswith("█")
    assert sum(line.count("█") for line in lines) == 2


@pytest.mark.parametrize(("velocity", "mark"), [(0.01, 0), (0.26, 1), (0.5, 2), (0.76, 3), (1.0, 3)])
def test_louder_is_darker(velocity: float, mark: int):
    assert LOUDNESS[mark] in drum_grid(groove_of({(2, "snare"): velocity}), DRUMS)


def test_other_grids_have_their_own_bars_and_beats():
    groove = groove_of({(0, "kick"): 1.0}, GridSpec(bars=2, beats_per_bar=3, steps_per_beat=2))
    assert drum_grid(groove, DRUMS).splitlines()[-1] == "        kick│█·┊·┊·│┊·┊·┊·"


def picture(*grooves: DrumGroove, columns: int = 2) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(drum_sheet(grooves, DRUMS, columns=columns))).convert("RGB"), dtype=int)


def ink(image: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Where a picture differs from the one without hits, darker the more."""
    return np.abs(image - empty).sum(axis=2)


def test_a_picture_is_a_png_that_grows_by_rows_of_columns():
    one, two, three = (picture(*[backbeat()] * count) for count in (1, 2, 3))
    assert one.shape[0] == two.shape[0] < three.shape[0]
    assert one.shape[1] < two.shape[1] == three.shape[1]


def test_a_picture_of_the_same_grooves_has_the_same_bytes():
    assert drum_sheet([backbeat()], DRUMS) == drum_sheet([backbeat()], DRUMS)


def test_a_louder_hit_has_more_colour():
    empty = picture(groove_of({}))
    soft, loud = (ink(picture(groove_of({(8, "kick"): v})), empty) for v in (0.1, 1.0))
    assert 0 < soft.max() < loud.max()


def test_marks_stand_in_time_and_drum_order_and_move_with_their_offset():
    empty = picture(groove_of({}))

    def corner(groove: DrumGroove) -> tuple[int, int]:
        rows, columns = np.nonzero(ink(picture(groove), empty) > 20)
        return int(columns.min()), int(rows.min())

    on_grid = groove_of({(8, "kick"): 1.0})
    offset = np.where(on_grid.hits, np.float32(0.4), np.float32(0))
    late = DrumGroove(on_grid.grid, on_grid.hits, on_grid.velocity, offset, tempo=96.0, source="example")
    x, y = corner(on_grid)
    assert corner(late)[0] > x
    assert corner(groove_of({(9, "kick"): 1.0}))[0] > corner(late)[0]
    assert corner(groove_of({(8, "ride"): 1.0}))[1] < y
