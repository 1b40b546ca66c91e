"""What each mode of jobs.sample promises, on files that it wrote, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import musicvae
from jobs.sample import main
from jobs.sampler.options import Modes, SampleOptions
from jobs.sampler.recipe import recipe_of
from musicvae.errors import ConfigError, DataError, UserError
from musicvae.generation.generate import generate_batch
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.pretrained.load import load_run
from tests.support.commands import ok, run_job
from tests.support.midi_bytes import hit, metre, midi_file
from tests.support.sample_fixtures import DRUMS, GRID, manifest_of, sampled

KICK, SNARE, HAT, CRASH = (DRUMS.classes.index(name) for name in ("kick", "snare", "closed_hihat", "crash"))
BAR = GRID.steps_per_bar


@pytest.fixture(scope="module")
def files(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Grooves of 4 bars at different tempos, none of them silent."""
    folder = tmp_path_factory.mktemp("grooves")
    generator = np.random.default_rng(5)
    for number in range(3):
        hits = generator.random((GRID.num_steps, DRUMS.num_drums)) < 0.25
        hits[[0, -1], KICK] = True
        groove = DrumGroove(GRID, hits, hits * np.float32(0.5), hits * np.float32(0), tempo=90.0 + 10 * number)
        groove.to_midi(folder / f"{number}.mid")
    return sorted(folder.iterdir())


def hits_of(path: Path) -> np.ndarray:
    return DrumGroove.from_midi(path).hits


def made(run: Path, out: Path, modes: Modes, count: int = 40) -> np.ndarray:
    """Hits of the grooves of a sampling, of shape (groove, step, drum)."""
    sampled(run, out, count=count, modes=modes)
    tokens = np.array([record["tokens"] for record in manifest_of(out)], dtype=np.int16)
    return hits_from_tokens(tokens, DRUMS.num_drums)


def test_drums_and_bars_of_a_file_are_kept(sample_run: Path, files: list[Path], tmp_path: Path):
    modes = Modes(source=str(files[0]), keep="kick,snare", keep_bars="2,4")
    hits, given = made(sample_run, tmp_path / "out", modes), hits_of(files[0])
    assert (hits[:, :, [KICK, SNARE]] == given[:, [KICK, SNARE]]).all()
    assert (hits[:, BAR : 2 * BAR] == given[BAR : 2 * BAR]).all()
    assert (hits[:, 3 * BAR :] == given[3 * BAR :]).all()
    free = hits[:, :BAR, HAT]
    assert free.any()
    assert not free.all()
    first = DrumGroove.from_midi(tmp_path / "out" / manifest_of(tmp_path / "out")[0]["file"], short="silence")
    assert (first.hits == hits[0]).all()
    assert first.tempo == pytest.approx(90)


@pytest.mark.parametrize("bars", [None, 1, 3])
def test_the_first_bars_are_left_untouched_and_the_rest_is_new(
    sample_run: Path, files: list[Path], tmp_path: Path, bars: int | None
):
    hits = made(sample_run, tmp_path / "out", Modes(continued=str(files[1]), bars=bars))
    kept = (bars or 1) * BAR
    assert (hits[:, :kept] == hits_of(files[1])[:kept]).all()
    assert len(np.unique(hits[:, kept:], axis=0)) > 30


def test_forbidden_drums_never_occur_and_those_that_must_do(sample_run: Path, tmp_path: Path):
    modes = Modes(forbid="kick, ride", must_have="crash", density="4:6.5")
    hits = made(sample_run, tmp_path / "out", modes, count=300)
    assert not hits[:, :, [KICK, DRUMS.classes.index("ride")]].any()
    assert hits[:, :, CRASH].any(axis=1).all()
    number = hits.sum(axis=(1, 2))
    assert number.min() >= 16
    assert number.max() <= 26


def test_an_interpolation_goes_from_reconstruction_to_reconstruction(
    sample_run: Path, files: list[Path], tmp_path: Path
):
    out = tmp_path / "out"
    command = ["sample", "--run", sample_run, "--interpolate", files[0], files[2], "--steps", 5, "--out", out]
    ok(run_job(*command))
    records, trained = manifest_of(out), load_run(sample_run)
    ends = trained.decode(trained.encode([DrumGroove.from_midi(file) for file in (files[0], files[2])]))
    assert [records[0]["tokens"], records[4]["tokens"]] == [groove.tokens.tolist() for groove in ends]
    assert [record["tempo"] for record in records] == [90, 95, 100, 105, 110]
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["origin"], settings["ends"], settings["steps"]) == ("interpolation", ["0.mid", "2.mid"], 5)


def test_a_folder_is_varied_file_by_file_and_what_cannot_be_is_said(
    sample_run: Path, files: list[Path], tmp_path: Path
):
    folder = tmp_path / "songs"
    (folder / "deeper").mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / ("deeper" if number else "") / f"{number}.mid").write_bytes(file.read_bytes())
    (folder / "notes.mid").write_bytes(b"no MIDI at all")
    command = [
        "sample",
        "--run",
        sample_run,
        "--like",
        folder,
        "--distance",
        0,
        "--count",
        4,
        "--out",
        tmp_path / "out",
    ]
    printed = ok(run_job(*command)).stdout
    records, trained = manifest_of(tmp_path / "out"), load_run(sample_run)
    assert [one["like"]["file"] for one in records] == ["0.mid", "deeper/1.mid", "deeper/2.mid", "0.mid"]
    again = trained.decode(trained.encode([DrumGroove.from_midi(file) for file in files]))
    assert [one["tokens"] for one in records[:3]] == [groove.tokens.tolist() for groove in again]
    assert "1 of 4 files are left out" in printed
    assert "notes.mid" in printed


def test_every_groove_has_a_tempo_of_the_range_whatever_the_count(sample_run: Path, tmp_path: Path):
    made(sample_run, tmp_path / "many", Modes(tempo_range="80:120"), count=60)
    made(sample_run, tmp_path / "few", Modes(tempo_range="80:120"), count=5)
    tempos = [record["tempo"] for record in manifest_of(tmp_path / "many")]
    assert 80 <= min(tempos) < 85
    assert 115 < max(tempos) <= 120
    assert [record["tempo"] for record in manifest_of(tmp_path / "few")] == tempos[:5]


def test_every_mode_is_a_part_of_what_a_folder_holds(sample_run: Path, files: list[Path], tmp_path: Path):
    """Other settings than those that made it are refused, by name."""
    plain = Modes(source=str(files[0]), keep="kick")
    made(sample_run, tmp_path / "out", plain, count=3)
    others = {
        "top_p": Modes(source=str(files[0]), keep="kick", top_p=0.9),
        "temperature": Modes(source=str(files[0]), keep="kick", bar_temperature="1,1,1,2"),
        "given": Modes(source=str(files[0]), keep="snare"),
        "whole": Modes(source=str(files[0]), keep="kick", must_have="crash"),
        "tempo": Modes(source=str(files[0]), keep="kick", tempo_range="90:100"),
        "codes": Modes(source=str(files[1]), keep="kick"),
        "precision": Modes(source=str(files[0]), keep="kick", precision="float32"),
    }
    if load_run(sample_run).precision == "float32":
        del others["precision"]
    for key, modes in others.items():
        with pytest.raises(ValueError, match="grooves of other settings") as refused:
            sampled(sample_run, tmp_path / "out", count=3, modes=modes)
        assert key in str(refused.value)


def three_four(path: Path) -> Path:
    path.write_bytes(midi_file([metre(0, 3, 4), *(event for beat in range(24) for event in hit(480 * beat, 36))]))
    return path


def without_drums(path: Path) -> Path:
    path.write_bytes(midi_file([event for beat in range(16) for event in hit(480 * beat, 60, channel=0)]))
    return path


def refusal(run: Path, out: Path, *options: object) -> UserError:
    """What the command line says no with, in this process."""
    command = typer.Typer()
    command.command()(main)
    result = CliRunner().invoke(command, ["--run", str(run), "--out", str(out), *map(str, options)])
    assert isinstance(result.exception, UserError), result.output
    assert not out.exists()
    return result.exception


def test_files_that_no_groove_can_be_read_from_are_refused(sample_run: Path, files: list[Path], tmp_path: Path):
    waltz, piano = three_four(tmp_path / "waltz.mid"), without_drums(tmp_path / "piano.mid")
    (tmp_path / "empty").mkdir()
    for options, kind, words in (
        (["--continue", waltz], DataError, "bars of drums on channel 10"),
        (["--continue", piano], DataError, "bars of drums on channel 10"),
        (["--from", tmp_path / "nowhere.mid", "--keep", "kick"], ConfigError, "cannot read"),
        (["--interpolate", files[0], piano], DataError, "bars of drums on channel 10"),
        (["--like", tmp_path / "empty"], ConfigError, "no MIDI files"),
    ):
        refused = refusal(sample_run, tmp_path / "out", "--count", 2, *options)
        assert isinstance(refused, kind)
        assert words in str(refused)


def test_the_command_itself_says_what_is_wrong_without_a_traceback(sample_run: Path, tmp_path: Path):
    waltz = three_four(tmp_path / "waltz.mid")
    refused = run_job("sample", "--run", sample_run, "--count", 2, "--continue", waltz, "--out", tmp_path / "out")
    assert refused.returncode == 3
    assert "holds no such groove" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "FILE", "--keep", "kick", "--forbid", "kick"], "given and forbidden"),
        (["--from", "FILE", "--keep-bars", "1", "--density", "0:0.5"], "exclude each other"),
        (["--must-have", "kick", "--forbid", "kick"], "exclude each other"),
        (["--density", "200:300"], "exclude each other"),
        (["--density", "9:5"], "--density 9:5 cannot be used"),
        (["--density", "many"], "--density many cannot be used"),
        (["--forbid", "cowbell"], "there is no drum 'cowbell'"),
        (["--from", "FILE", "--keep-bars", "5"], "expected  bars 1 to 4"),
        (["--from", "FILE"], "--keep or --keep-bars beside it"),
        (["--keep", "kick"], "--from FILE beside it"),
        (["--continue", "FILE", "--bars", "4"], "--bars 4 cannot be used"),
        (["--continue", "FILE", "--from", "FILE", "--keep", "kick"], "exclude each other"),
        (["--like", "FILE", "--interpolate", "FILE", "FILE"], "no --interpolate beside it"),
        (["--steps", "3"], "--interpolate A B beside it"),
        (["--interpolate", "FILE", "FILE", "--steps", "1"], "both ends belong to it"),
        (["--top-p", "0"], "--top-p 0.0 cannot be used"),
        (["--bar-temperature", "1,1"], "4 numbers above 0"),
        (["--bar-temperature", "1,1,1,1", "--temperature", "1"], "no --bar-temperature"),
        (["--tempo-range", "0:90"], "--tempo-range 0:90 cannot be used"),
        (["--tempo-range", "80:90", "--tempo", "80"], "no --tempo-range beside it"),
        (["--move", "density=a lot"], "--move a lot cannot be used"),
        (["--move", "density=1"], "cannot be moved along attributes"),
        (["--precision", "int8"], "float32 or bfloat16"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    sample_run: Path, files: list[Path], tmp_path: Path, options: list[str], message: str
):
    words = [files[0] if word == "FILE" else word for word in options]
    refused = refusal(sample_run, tmp_path / "out", "--count", 2, *words)
    assert isinstance(refused, ConfigError)
    assert message in str(refused)


def test_a_number_is_asked_for_unless_a_way_has_one(sample_run: Path, tmp_path: Path):
    assert "--count is missing" in str(refusal(sample_run, tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("attribute", ["density", "syncopation", "ride"])
def test_moves_move_their_attribute_on_average(tmp_path: Path, attribute: str):
    model = musicvae.load("generation")
    means = {}
    for amount in (-1.5, 0, 1.5):
        options = SampleOptions(count=256, preset="generation", modes=Modes(move=(f"{attribute}={amount}",)))
        recipe = recipe_of(options, model).recipe
        means[amount] = model.measure(generate_batch(model.model, recipe, 0))[attribute].mean()
    assert means[-1.5] < means[0] < means[1.5]
