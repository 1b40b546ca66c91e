"""The feel of styles against sums written out by hand, and what is kept of it in a model's record."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from musicvae.data.feel import SHRINKAGE, TEMPO_STEPS, StyleFeels, measure_feel, measure_styles, primary_style
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.pretrained.training_record import TrainingRecord, record_of
from tests.support.shards.shard_fixtures import STYLES, styled_windows

GRID, DRUMS = GridSpec(), DrumMap.load("roland")


def test_a_style_is_what_stands_before_the_stroke():
    assert [primary_style(style) for style in ("jazz/swing", "jazz", "")] == ["jazz", "jazz", ""]
    feels = measure_styles([styled_windows(40)], GRID)
    assert feels.names == ("jazz", "rock"), "windows without a style are none"
    assert [style.windows for style in feels.styles] == [20, 10]


def test_a_cell_is_the_mean_of_its_hits_and_of_so_many_of_all_styles():
    windows = styled_windows(400)
    feels, overall = measure_styles([windows], GRID), measure_feel([windows], GRID)
    jazz = [row for row, meta in enumerate(windows.meta) if meta.style.startswith("jazz")]
    hits_of_cell = (windows.velocity[jazz] > 0).reshape(-1, GRID.steps_per_bar, DRUMS.num_drums).sum(axis=0)
    step, drum = np.unravel_index(hits_of_cell.argmax(), hits_of_cell.shape)
    places = range(step, GRID.num_steps, GRID.steps_per_bar)
    own = [(row, place) for row in jazz for place in places if windows.velocity[row, place, drum]]
    assert len(own) > 20
    for name, values, unit in (("velocity", windows.velocity, 127), ("offset", windows.offset, 65536)):
        total = sum(int(values[row, place, drum]) for row, place in own) / unit
        mean = getattr(overall, name)[step, drum]
        expected = (total + SHRINKAGE * mean) / (len(own) + SHRINKAGE)
        assert getattr(feels.of("jazz"), name)[step, drum] == pytest.approx(expected, abs=1e-6)


def test_the_fewer_windows_a_style_has_the_nearer_it_is_to_the_mean_of_all():
    windows = styled_windows(4000)
    overall = measure_feel([windows], GRID).velocity
    rare = WindowBlock(
        windows.tokens,
        windows.velocity,
        windows.offset,
        [
            replace(meta, style="jazz" if row == 0 else "rock" if meta.style == "rock" else "")
            for row, meta in enumerate(windows.meta)
        ],
    )
    of_many, of_one = (measure_styles([some], GRID).of("jazz").velocity for some in (windows, rare))
    assert np.abs(of_one - overall).max() < 0.01 < np.abs(of_many - overall).max()


def test_the_cut_into_blocks_and_their_order_change_nothing():
    whole = styled_windows(60)
    one, many = measure_styles([whole], GRID), measure_styles([whole[30:], whole[:7], whole[7:30]], GRID)
    for style, other in zip(one.styles, many.styles, strict=True):
        assert (style.name, style.windows) == (other.name, other.windows)
        for name in ("velocity", "offset", "tempos"):
            np.testing.assert_array_equal(getattr(style, name), getattr(other, name))


def test_tempos_are_those_that_were_played_and_go_from_the_slowest_to_the_fastest():
    rock = measure_styles([styled_windows(400)], GRID).of("rock")
    assert rock.tempos[[0, -1]].tolist() == [103.0, 499.0]
    assert rock.applied(measure_feel([styled_windows(400)], GRID)).tempo == rock.tempos[TEMPO_STEPS // 2] == 299.0
    assert [rock.tempo_at(share) for share in (0.0, 1.0)] == [103.0, 499.0]
    drawn = np.array([rock.tempo_at(share) for share in np.random.default_rng(0).random(1000)])
    assert np.median(drawn) == pytest.approx(299, abs=20)


def test_a_feel_with_a_style_is_the_rest_of_it_as_it_was():
    feel, rock = measure_feel([styled_windows(40)], GRID), measure_styles([styled_windows(40)], GRID).of("rock")
    with_style = rock.applied(feel)
    assert with_style.statistics is feel.statistics
    np.testing.assert_array_equal(with_style.velocity, rock.velocity)
    np.testing.assert_array_equal(with_style.offset, rock.offset)


@pytest.mark.parametrize(("name", "meant"), [("jaz", "jazz"), ("Rock", "rock"), ("jazz/swing", "jazz"), ("polka", "")])
def test_an_unknown_style_is_refused_with_the_nearest_and_all_of_them(name: str, meant: str):
    with pytest.raises(ConfigError, match=f"there is no style '{name}'") as refused:
        measure_styles([styled_windows(40)], GRID).of(name)
    assert refused.value.details["expected"] == "jazz, rock"
    assert refused.value.details["likely"] == (f"{meant} was meant" if meant else "")


def test_without_styles_there_are_none():
    for feels in (measure_styles([], GRID), measure_styles([styled_windows(8, styles=("",))], GRID)):
        assert feels.names == ()
        with pytest.raises(ConfigError, match="those of this model have none"):
            feels.of("rock")


@pytest.mark.parametrize("styles", [STYLES, ("",)])
def test_styles_travel_with_the_record_and_an_older_one_has_none(styles: Sequence[str]):
    windows = styled_windows(40, styles=styles)
    record = record_of(windows.tokens, GRID, DRUMS, measure_styles([windows], GRID))
    back = TrainingRecord.from_bytes(record.to_bytes(), GRID, DRUMS)
    assert back.styles is not None
    assert back.to_bytes() == record.to_bytes()
    older = record_of(windows.tokens, GRID, DRUMS)
    assert TrainingRecord.from_bytes(older.to_bytes(), GRID, DRUMS).styles is None


def test_styles_of_another_grid_or_damaged_ones_are_refused():
    tensors = measure_styles([styled_windows(40)], GRID).tensors()
    for changes, grid in (
        ({}, GridSpec(steps_per_beat=3)),
        ({"style_names": np.frombuffer(b'["jazz"]', dtype=np.uint8)}, GRID),
        ({"style_names": np.frombuffer(b"jazz", dtype=np.uint8)}, GRID),
        ({"style_tempos": -tensors["style_tempos"]}, GRID),
    ):
        with pytest.raises(ValueError, match=r"."):
            StyleFeels.from_tensors(tensors | changes, grid, DRUMS.num_drums)
