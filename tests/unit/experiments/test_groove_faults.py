"""What is counted as a fault of a groove, on grooves that have it and grooves that lack it."""

import numpy as np
import pytest

from musicvae.groove.grid import GridSpec
from tests.experiments.groove_faults import Faults

DRUMS = ("kick", "snare", "closed_hihat", "open_hihat", "low_tom", "mid_tom", "high_tom", "crash", "ride")
FAULTS = Faults(GridSpec(), DRUMS)
ROCK = {
    "kick": "x.......x.......",
    "snare": "....x.......x...",
    "closed_hihat": "x.x.x.x.x.x.x.x.",
}
EMPTY: dict[str, str] = {}


def window(*bars: dict[str, str]) -> np.ndarray:
    """Hits of one window, bar by bar."""
    hits = np.zeros((1, 4, 16, len(DRUMS)), dtype=bool)
    for number, bar in enumerate(bars):
        for drum, steps in bar.items():
            hits[0, number, :, DRUMS.index(drum)] = [step == "x" for step in steps]
    return hits.reshape(1, 64, len(DRUMS))


def test_a_plain_groove_has_no_fault():
    found = {name: measure(window(ROCK, ROCK, ROCK, ROCK))[0] for name, measure in FAULTS.all().items()}
    good = {name for name, value in found.items() if value == 1}
    assert good == {
        "bars with a kick on one",
        "bars with a snare on two and on four",
        "bars that repeat the one before exactly",
        "bars whose kick repeats that of the bar before exactly",
        "bars whose snare repeats that of the bar before exactly",
    }
    assert {value for name, value in found.items() if name not in good and not np.isnan(value)} == {0}


def test_three_hands_are_more_than_a_kick_and_two_sticks():
    three = window(ROCK | {"crash": "....x..........."})
    assert FAULTS.three_hands(three)[0] == pytest.approx(1 / 8)
    with_kick = dict.fromkeys(("kick", "snare", "ride"), "x" + "." * 15)
    assert FAULTS.three_hands(window(with_kick))[0] == 0
    hats = with_kick | {"closed_hihat": "x" + "." * 15, "open_hihat": "x" + "." * 15}
    assert FAULTS.both_hats(window(hats))[0] == 1
    assert FAULTS.both_hats(window(with_kick))[0] == 0


def test_an_empty_bar_counts_between_bars_only():
    assert FAULTS.lone_empty_bar(window(ROCK, EMPTY, ROCK, ROCK))[0] == 1
    assert FAULTS.lone_empty_bar(window(EMPTY, ROCK, ROCK, EMPTY))[0] == 0
    assert FAULTS.density_jump(window(ROCK, EMPTY, ROCK, ROCK))[0] == 1


def test_a_timekeeper_changes_only_where_both_bars_have_one():
    ride = {"ride" if drum == "closed_hihat" else drum: steps for drum, steps in ROCK.items()}
    assert FAULTS.timekeeper_changes(window(ROCK, ROCK, ride, ride))[0] == 1
    assert FAULTS.timekeeper_changes(window(ROCK, EMPTY, ride, ride))[0] == 0


def test_a_backbeat_may_give_way_to_a_fill():
    lost = {drum: steps for drum, steps in ROCK.items() if drum != "snare"}
    fill = {"high_tom": "xxxxxxxx........", "low_tom": "........xxxxxxxx"}
    assert FAULTS.lost_backbeat(window(ROCK, ROCK, lost, ROCK))[0] == 1
    assert FAULTS.lost_backbeat(window(ROCK, ROCK, ROCK, fill))[0] == 0
    assert FAULTS.fills(window(ROCK, ROCK, ROCK, fill))[0] == 1 / 4
    assert FAULTS.fills_together(window(ROCK, ROCK, ROCK, fill))[0] == 1
    assert FAULTS.fills_together(window(fill, ROCK, ROCK, fill))[0] == 1 / 2


def test_runs_of_the_kick_and_crashes_between_eighths():
    assert FAULTS.kick_run(window({"kick": "xxxxxx.........."}))[0] == 1
    assert FAULTS.kick_run(window({"kick": "xxxxx.xxxxx....."}))[0] == 0
    assert FAULTS.crash_between_eighths(window({"crash": "x..x............"}))[0] == 1 / 2
    assert np.isnan(FAULTS.crash_between_eighths(window(ROCK))[0])


def test_kick_and_snare_repeat_each_for_itself():
    moved = ROCK | {"kick": "x.....x........."}
    assert FAULTS.kick_repeat(window(ROCK, moved, moved, ROCK))[0] == pytest.approx(1 / 3)
    assert FAULTS.snare_repeat(window(ROCK, moved, moved, ROCK))[0] == 1
    assert FAULTS.exact_repeat(window(ROCK, moved, moved, ROCK))[0] == pytest.approx(1 / 3)
    assert FAULTS.unlike_bars(window(ROCK, {"ride": "x" * 16}, ROCK, ROCK))[0] == pytest.approx(2 / 3)
