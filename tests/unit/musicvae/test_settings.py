"""Settings: YAML and overrides in, validated models out, every mistake named."""

import pytest
from pydantic import Field, ValidationError

from musicvae.errors import ConfigError
from musicvae.settings import Settings, apply_overrides, parse_settings, read_yaml


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
        ("inner.zzzzzz=1", r"legal here: inner\.rate, inner\.steps"),
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
    with pytest.raises(ConfigError, match="name is a plain value"):
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
