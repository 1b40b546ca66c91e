"""Options of modes: read as they are written, kept through JSON."""

import json

import pytest

from jobs.sampler.options import DEFAULT_STEPS, Modes, SampleOptions, amounts, numbers, span
from musicvae.errors import ConfigError


def test_options_come_back_from_json_as_they_were():
    modes = Modes(start="/a.mid", end="/b.mid", steps=4, move=("density=1", "ride=-2"), top_p=0.5, forbid="kick")
    options = SampleOptions(count=3, modes=modes)
    assert SampleOptions.from_values(json.loads(json.dumps(options.values()))) == options


def test_options_of_before_an_option_was_there_have_its_default():
    options = SampleOptions(count=3, seed=4)
    older = {name: value for name, value in options.values().items() if name != "feel"}
    assert SampleOptions.from_values(older) == options


def test_numbers_ranges_and_amounts_are_read():
    assert numbers("--bar-temperature", "1,0.5, 2") == [1, 0.5, 2]
    assert span("--density", "4:6.5") == (4, 6.5)
    assert span("--density", "5") == (5, 5)
    assert amounts(("density=+1.5", "ride=-1", "density=0.5")) == {"density": 2.0, "ride": -1.0}


@pytest.mark.parametrize("text", ["", "1,", "nan", "1,inf", "one"])
def test_what_is_no_list_of_numbers_is_refused(text: str):
    with pytest.raises(ConfigError, match="finite numbers"):
        numbers("--bar-temperature", text)


@pytest.mark.parametrize("text", ["6:4", "1:2:3"])
def test_what_is_no_range_is_refused(text: str):
    with pytest.raises(ConfigError, match="LEAST:MOST"):
        span("--density", text)


def test_a_way_says_how_many_grooves_it_has():
    assert Modes(start="/a.mid", end="/b.mid", steps=4).least_count == 4
    assert Modes(start="/a.mid", end="/b.mid").least_count == DEFAULT_STEPS
    with pytest.raises(ConfigError, match="--count is missing"):
        _ = Modes().least_count
