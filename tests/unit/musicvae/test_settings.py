"""Settings: YAML and overrides in, validated models out, every mistake named."""

import pytest
import yaml
from pydantic import Field, ValidationError

from musicvae.errors import ConfigError
from musicvae.settings import Settings, apply_overrides, load_yaml, parse_settings, read_yaml


class Inner(Settings):
    rate: float = Field(default=0.5, gt=0)
    """How fast."""
    steps: int = 3


class Outer(Settings):
    name: str = "a"
    inner: Inner = Field(default_factory=Inner)
    maybe: Inner | None = None


def test_overrides_are_yaml_and_later_ones_win():
    values = apply_overrides({"inner": {"steps": 1}}, ["inner.rate=1e-3", "name=b", "inner.steps=7", "inner.steps=8"])
    settings = parse_settings(Outer, values)
    assert (settings.inner.rate, settings.name, settings.inner.steps) == (0.001, "b", 8)


def test_the_given_values_are_not_changed():
    values = {"inner": {"steps": 1}}
    apply_overrides(values, ["inner.steps=2"])
    assert values == {"inner": {"steps": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.stebs=1", r"unknown setting inner\.stebs \(did you mean inner\.steps\?\)"),
        ("maybe.rat=1", r"unknown setting maybe\.rat \(did you mean maybe\.rate\?\)"),
        ("stesp=1", r"unknown setting stesp \(did you mean inner\.steps\?\)"),
        ("inner.zzzzzz=1", r"allowed: inner\.rate, inner\.steps"),
        ("inner.rate=0", r"inner\.rate = 0: .*greater than 0"),
        ("inner.steps=many", r"inner\.steps = 'many'"),
    ],
)
def test_a_mistake_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(Outer, apply_overrides({}, [override]))


def test_all_mistakes_at_once():
    with pytest.raises(ConfigError, match=r"inner\.rate = -1.*; unknown setting nam \(did you mean name"):
        parse_settings(Outer, {"nam": 1, "inner": {"rate": -1}})


@pytest.mark.parametrize("override", ["steps", "=3", "inner.=3", "--steps", ".a=1"])
def test_what_is_no_override(override):
    with pytest.raises(ConfigError, match=r"key\.sub=value"):
        apply_overrides({}, [override])


def test_through_a_plain_value():
    with pytest.raises(ConfigError, match="name is a value, not"):
        apply_overrides({"name": "a"}, ["name.first=b"])


def test_a_value_that_yaml_cannot_read():
    with pytest.raises(ConfigError, match="value of name"):
        apply_overrides({}, ["name=[1, 2"])


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Outer().name = "b"  # type: ignore[misc]


def test_yaml_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("inner:\n  steps: 4\n")
    assert parse_settings(Outer, read_yaml(path)).inner.steps == 4
    path.write_text("")
    assert read_yaml(path) == {}
    path.write_text("- a\n")
    with pytest.raises(ConfigError, match="list"):
        read_yaml(path)
    path.write_text("a: [\n")
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("word", ["010", "008", "2026-11-28", "on", "1:30", "off", "no", "1e-3", "2026-11-28 10:00:00"])
def test_a_word_that_yaml_1_1_takes_for_something_else_is_left_to_the_setting(word):
    assert load_yaml(word) == word


@pytest.mark.parametrize(
    ("word", "value"), [("10", 10), ("-3", -3), ("0", 0), ("0x10", 16), ("1_000", 1000), ("true", True), ("null", None)]
)
def test_plain_values_of_yaml(word, value):
    assert load_yaml(word) == value


@pytest.mark.parametrize("word", ["1.5", "-0.25", "1.0e-05", ".5", ".inf", "6.", "+1.5e+3"])
def test_numbers_with_a_point_are_those_of_yaml(word):
    assert load_yaml(word) == yaml.safe_load(word)
    assert isinstance(load_yaml(word), float)


def test_what_was_dumped_is_what_is_read():
    values = {
        "name": "on",
        "day": "2026-11-28",
        "padded": "010",
        "rate": 1e-05,
        "flag": True,
        "none": None,
        "text": "1:30",
    }
    assert load_yaml(yaml.safe_dump(values)) == values


@pytest.mark.parametrize("text", ["a: &a [1]\nb: *a", "[" * 3000, "a: &a [*a]"])
def test_yaml_that_may_grow_without_bounds_is_refused(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        apply_overrides({}, [f"a={text}"])


def test_a_word_is_read_by_the_type_of_its_setting():
    words = ["inner.steps=010", "inner.rate=1e-3", "name=010"]
    outer = parse_settings(Outer, apply_overrides({}, words))
    assert (outer.inner.steps, outer.inner.rate, outer.name) == (10, 0.001, "010")
    with pytest.raises(ConfigError, match="steps"):
        parse_settings(Outer, apply_overrides({}, ["inner.steps=1:30"]))
