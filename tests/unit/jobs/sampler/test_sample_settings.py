"""The settings of jobs.sample: kept through JSON, from a file and from flags, and read as they are written."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.command.command_line import JobCommand, compose_settings, flags_of, settings_text
from jobs.sample import main
from jobs.sampler.inputs import amounts, numbers, span
from jobs.sampler.settings import DEFAULT_STEPS, OutputFormat, SampleSettings
from musicvae.errors import ConfigError
from musicvae.settings import parse_settings

RECORD: dict[str, Any] = json.loads(
    """{
    "audio": "none", "best": null, "by": null, "count": 7, "distance": 0.4, "drop_duplicates": false,
    "drop_memorised": false, "dry": true, "feel": null, "form": "zip", "gallery": true, "like": null,
    "midi_format": 1, "pick": [2, 6], "pitches": null, "preset": null, "refill": false, "run": "/runs/a", "seed": 1,
    "shards": null, "temperature": null, "tempo": null, "ticks": 480,
    "modes": {
        "bar_temperature": null, "bars": null, "continued": null, "density": null, "end": null, "forbid": null,
        "keep": "kick", "keep_bars": "2", "move": ["density=0.5"], "must_have": null, "precision": null,
        "source": "/grooves/a.mid", "start": null, "steps": null, "tempo_range": "90:120", "top_p": null
    }}"""
)
"""What sampling-work/job.json holds of a sampling, as versions before `SampleSettings` wrote it too."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sample.yaml"
    path.write_text("from: a.mid\nkeep: kick\ncount: 3\nfeel: plain\ngallery: false\npack: zip\n")
    return path


def test_a_record_of_any_version_is_read_and_written_as_it_was():
    settings = SampleSettings.of_record(json.loads(json.dumps(RECORD)))
    assert (settings.feel, settings.pack, settings.source) == ("plain", OutputFormat.ZIP, "/grooves/a.mid")
    assert settings.record() == RECORD
    older = {name: value for name, value in RECORD.items() if name != "feel"}
    assert SampleSettings.of_record(older) == settings


def test_settings_come_back_from_json_as_they_were():
    modes = {"interpolate": ("/a.mid", "/b.mid"), "steps": 4, "move": ("density=1", "ride=-2"), "forbid": "kick"}
    settings = SampleSettings(count=3, top_p=0.5, **modes)
    assert SampleSettings.of_record(json.loads(json.dumps(settings.record()))) == settings
    square = SampleSettings(count=3, interpolate=("/a.mid", "/b.mid", "/c.mid", "/d.mid"), first_bar="1,2,3,4")
    assert SampleSettings.of_record(json.loads(json.dumps(square.record()))) == square
    assert square.first_bars == (0, 1, 2, 3)


def test_flags_go_before_the_file_and_paths_are_absolute(config: Path):
    flags = {"source": "b.mid", "gallery": True, "seed": 0, "keep": None}
    settings = compose_settings(SampleSettings, config=config, flags=flags)
    assert (settings.source, settings.keep, settings.count) == (str(Path("b.mid").absolute()), "kick", 3)
    assert (settings.feel, settings.style, settings.gallery, settings.pack) == ("plain", None, True, OutputFormat.ZIP)


def test_what_is_printed_of_settings_gives_them_again(config: Path, tmp_path: Path):
    settings = compose_settings(SampleSettings, config=config)
    (tmp_path / "printed.yaml").write_text(settings_text(settings))
    assert compose_settings(SampleSettings, config=tmp_path / "printed.yaml") == settings


def test_a_file_that_cannot_be_used_is_refused_in_words(config: Path):
    config.write_text("count: 3\ndensiti: 4\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean density"):
        compose_settings(SampleSettings, config=config)
    with pytest.raises(ConfigError, match=r"^--top-p 2\.0 cannot be used\n  expected  above 0, up to 1"):
        parse_settings(SampleSettings, {"count": 3, "top_p": 2})


def test_each_setting_is_a_flag_in_its_group_and_one_that_is_not_given_is_none():
    given: dict[str, Any] = {}

    @flags_of(SampleSettings)
    def command(out: str = typer.Option("x"), **flags: Any) -> None:
        given.update(flags)

    app = typer.Typer(rich_markup_mode=None)
    app.command(cls=JobCommand)(command)
    line = ["--continue", "a.mid", "--move", "a=1", "--move", "b=2", "--interpolate", "c", "d", "--no-gallery"]
    line += ["--interpolate=e", "f"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert given.keys() == SampleSettings.model_fields.keys()
    expected = {"continued": "a.mid", "move": ["a=1", "b=2"], "interpolate": ["c\0d", "e\0f"], "gallery": False}
    assert {name: value for name, value in given.items() if value is not None} == expected
    settings = compose_settings(SampleSettings, flags={"count": 1, "interpolate": given["interpolate"]})
    assert settings.interpolate == tuple(str(Path(name).absolute()) for name in "cdef")
    for missing in (["--interpolate", "c"], ["--interpolate", "c", "--steps", "3"], ["--interpolate=c"]):
        result = CliRunner().invoke(app, missing)
        assert (result.exit_code, "Option '--interpolate' requires 2 arguments" in result.output) == (2, True)


@pytest.mark.parametrize("plain", ["--dry", "--plain", "--feel=plain"])
def test_older_flags_are_short_for_newer_ones(config: Path, tmp_path: Path, plain: str):
    app = typer.Typer(rich_markup_mode=None)
    app.command(cls=JobCommand)(main)
    line = ["--out", "out", "--config", str(config), plain, "--no-files", "--weights", "models/a", "--print-config"]
    result = CliRunner().invoke(app, line)
    (tmp_path / "printed.yaml").write_text(result.output)
    settings = compose_settings(SampleSettings, config=tmp_path / "printed.yaml")
    assert (settings.feel, settings.pack, settings.run) == (
        "plain",
        OutputFormat.NONE,
        str(Path("models/a").absolute()),
    )
    for more in (["--run", "b"], ["--pack", "tar"], *([["--feel", "rock"]] if plain != "--feel=plain" else [])):
        assert isinstance(CliRunner().invoke(app, [*line, *more]).exception, ConfigError)


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


def test_an_interpolation_and_a_list_say_how_many_grooves_they_have(tmp_path: Path):
    ends = ("/a.mid", "/b.mid")
    assert parse_settings(SampleSettings, {"interpolate": ends, "steps": 4}).count == 4
    assert parse_settings(SampleSettings, {"interpolate": ends}).count == DEFAULT_STEPS
    assert parse_settings(SampleSettings, {"interpolate": [*ends, *ends], "steps": 4}).count == 16
    for wrong in (ends[:1], [*ends, "/c.mid"], [*ends] * 3):
        with pytest.raises(ConfigError, match="two files, or two and two"):
            parse_settings(SampleSettings, {"interpolate": wrong})
    (tmp_path / "list").write_text("groove-00007\ngroove-00002\n")
    picked = parse_settings(SampleSettings, {"pick": str(tmp_path / "list")})
    assert (picked.count, picked.pick, picked.wanted) == (8, (2, 7), 2)
    with pytest.raises(ConfigError, match="--count is missing"):
        parse_settings(SampleSettings, {})


def test_the_bar_that_files_are_used_from_is_counted_from_one_and_on_record_where_it_is_given(tmp_path: Path):
    sampling = SampleSettings(count=1, like="/a.mid", first_bar=5)
    assert (sampling.first_bar, sampling.first_bars) == ("5", (4,))
    assert SampleSettings.of_record(json.loads(json.dumps(sampling.record()))) == sampling
    assert "first_bar" not in SampleSettings(count=1, like="/a.mid").record()
    assert SampleSettings(count=1, interpolate=("/a.mid", "/b.mid"), first_bar="5, 9").first_bars == (4, 8)
    assert SampleSettings(count=1, interpolate=("/a.mid", "/b.mid"), first_bar="5").first_bars == (4, 4)
    for values in (
        {"first_bar": "5"},
        {"first_bar": "0", "like": "/a.mid"},
        {"first_bar": "5,9", "like": "/a.mid"},
        {"first_bar": "1,2,3", "interpolate": ("/a.mid", "/b.mid")},
        {"first_bar": "2", "like": str(tmp_path)},
    ):
        with pytest.raises(ConfigError, match=r"--first-bar .* cannot be used"):
            parse_settings(SampleSettings, {"count": 1, **values})
