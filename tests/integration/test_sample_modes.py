"""What each mode of jobs.sample promises, on files that it wrote, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import symusic
import typer
from click.testing import Result
from typer.testing import CliRunner

import musicvae
from jobs.command.command_line import JobCommand
from jobs.sample import main
from jobs.sampler.job import job_of
from jobs.sampler.recipe import resolve
from jobs.sampler.settings import Execution, SampleSettings
from jobs.sampler.work import SampleWork
from musicvae.data.feel import PLAIN_VELOCITY
from musicvae.errors import ConfigError, DataError, UserError
from musicvae.generation.generate import generate_batch
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.pretrained.load import load_run
from tests.support.commands import ok, run_job
from tests.support.midi.midi_bytes import hit, metre, midi_file
from tests.support.pages.packed_page import PackedPage
from tests.support.requirements import only_in_a_soak
from tests.support.runs.sample_fixtures import DRUMS, GRID, manifest_of, output_of, sampled, write_sample_run

KICK, SNARE, HAT, CRASH = (DRUMS.classes.index(name) for name in ("kick", "snare", "closed_hihat", "crash"))
BAR = GRID.steps_per_bar
TICKS_PER_STEP = 120
LAID_BACK = [
    *((step, 38, velocity, late) for step, velocity, late in ((4, 112, 36), (7, 26, 35), (9, 25, 26), (12, 126, 32))),
    *((step, 36, 90 + step, 5 - step) for step in (0, 6, 10)),
    *((step, 42, 127 - 9 * step, (-1) ** (step // 2) * 2 * step) for step in range(0, 14, 2)),
]
"""(step, pitch, velocity, ticks that it is late) of a bar: a late snare with ghost notes, a kick and a hi-hat."""
Notes = dict[tuple[int, int], tuple[int, int]]
"""(tick, velocity) of the hit at each (step, pitch)."""


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


def made(run: Path, out: Path, modes: dict[str, Any], count: int = 40) -> np.ndarray:
    """Hits of the grooves of a sampling, of shape (groove, step, drum)."""
    sampled(run, out, count=count, **modes)
    tokens = np.array([record["tokens"] for record in manifest_of(out)], dtype=np.int16)
    return hits_from_tokens(tokens, DRUMS.num_drums)


def test_drums_and_bars_of_a_file_are_kept(sample_run: Path, files: list[Path], tmp_path: Path):
    modes = {"source": str(files[0]), "keep": "kick,snare", "keep_bars": "2,4"}
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
    hits = made(sample_run, tmp_path / "out", {"continued": str(files[1]), "bars": bars})
    kept = (bars or 1) * BAR
    assert (hits[:, :kept] == hits_of(files[1])[:kept]).all()
    assert len(np.unique(hits[:, kept:], axis=0)) > 30


def test_the_bar_that_a_file_is_used_from_can_be_chosen(sample_run: Path, tmp_path: Path):
    events = [event for beat in range(32) for event in hit(480 * beat, 36 if beat < 16 else 38)]
    song = tmp_path / "song.mid"
    song.write_bytes(midi_file(events))
    for first_bar, drum in (("5", SNARE), (None, KICK)):
        out = tmp_path / f"from {first_bar}"
        hits = made(sample_run, out, {"continued": str(song), "first_bar": first_bar}, count=2)
        assert (np.flatnonzero(hits[0, :BAR]) == np.arange(0, BAR, 4) * DRUMS.num_drums + drum).all()
        assert manifest_of(out)[0]["like"] == {"file": "song.mid", "bar": int(first_bar or 1) - 1}


def notes_of(path: Path, ticks_per_step: int = TICKS_PER_STEP) -> Notes:
    """The hits of a file as symusic reads them."""
    notes = [note for track in symusic.Score(path).tracks for note in track.notes]
    cells = {
        (round(note.time / ticks_per_step) % GRID.num_steps, note.pitch): (note.time, note.velocity) for note in notes
    }
    assert len(cells) == len(notes)
    return cells


@pytest.fixture(scope="module")
def laid_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`LAID_BACK` four times, each bar a little louder and another tick late."""
    events = [
        event
        for bar in range(GRID.bars)
        for step, pitch, velocity, late in LAID_BACK
        for event in hit((bar * BAR + step) * TICKS_PER_STEP + late + bar, pitch, min(127, velocity + bar), length=20)
    ]
    path = tmp_path_factory.mktemp("played") / "laid-back.mid"
    path.write_bytes(midi_file(events))
    return path


def mean_notes(run: Path, cells: set[tuple[int, int]]) -> Notes:
    """How hits are played that nobody played: as the mean of the training data."""
    feel, pitches = load_run(run).feel, DRUMS.written_pitch.tolist()
    played = {}
    for step, pitch in cells:
        cell = step % BAR, pitches.index(pitch)
        tick = round((step + float(feel.offset[cell])) * TICKS_PER_STEP) % (GRID.num_steps * TICKS_PER_STEP)
        played[step, pitch] = tick, round(float(feel.velocity[cell]) * 127)
    return played


def check_playing(run: Path, out: Path, given: Notes) -> int:
    """Every hit of a sampling is played as in what is given, or else as the mean; the number of the former."""
    kept = 0
    for record in manifest_of(out):
        written = notes_of(out / record["file"])
        assert written == mean_notes(run, written.keys() - given.keys()) | {
            cell: given[cell] for cell in written.keys() & given.keys()
        }
        kept += len(written.keys() & given.keys())
    return kept


@pytest.mark.parametrize(
    "modes",
    [
        {"continued": "FILE"},
        {"continued": "FILE", "bars": 3},
        {"source": "FILE", "keep": "snare"},
        {"source": "FILE", "keep_bars": "2,4"},
        {"like": "FILE", "distance": 0.0},
        {"like": "FILE", "distance": 0.4},
    ],
)
def test_kept_hits_keep_velocity_and_timing_and_new_ones_have_the_mean(
    sample_run: Path, laid_back: Path, tmp_path: Path, modes: dict[str, Any]
):
    out, options = tmp_path / "out", {name: str(laid_back) if v == "FILE" else v for name, v in modes.items()}
    sampled(sample_run, out, count=20, **options)
    given = notes_of(laid_back)
    if "continued" in modes:
        given = {cell: note for cell, note in given.items() if cell[0] < BAR * modes.get("bars", 1)}
    least_kept = 1 if "like" in modes else 14
    kept = check_playing(sample_run, out, given)
    assert kept >= 20 * least_kept
    page = PackedPage(out / "gallery.html")
    assert page.source_names() == [["laid-back.mid, bar 1"]] * 20
    assert page.kept.sum() == kept
    assert (hits_from_tokens(page.source_tokens[0], DRUMS.num_drums) == hits_of(laid_back)).all()
    assert page.about["writtenAs"] == "mean"
    assert "playing" in json.loads((out / "settings.json").read_text())


@pytest.mark.parametrize("ticks", [96, 480, 960])
def test_kept_timing_is_that_of_the_file_to_a_tick_of_any_division(
    sample_run: Path, laid_back: Path, tmp_path: Path, ticks: int
):
    sampled(sample_run, tmp_path / "out", count=3, source=str(laid_back), keep_bars="1,2,3", ticks=ticks)
    for record in manifest_of(tmp_path / "out"):
        written = notes_of(tmp_path / "out" / record["file"], ticks // 4)
        for (step, pitch), (tick, velocity) in notes_of(laid_back).items():
            if step < 3 * BAR:
                assert abs(written[step, pitch][0] - tick * ticks / 480) <= (0.5 if ticks < 480 else 0)
                assert written[step, pitch][1] == velocity


def test_an_interpolation_keeps_how_its_ends_were_played(
    sample_run: Path, laid_back: Path, files: list[Path], tmp_path: Path
):
    out, ends = tmp_path / "out", [notes_of(laid_back), notes_of(files[2])]
    sampled(sample_run, out, count=5, steps=5, interpolate=(str(laid_back), str(files[2])))
    shared = 0
    for record in manifest_of(out):
        nearer, farther = ends if record["index"] < 3 else ends[::-1]
        given = nearer if record["index"] in (0, 4) else farther | nearer
        written = notes_of(out / record["file"])
        for cell in written.keys() & given.keys():
            assert written[cell] == given[cell]
            shared += 1
        new = written.keys() - given.keys()
        assert {cell: written[cell] for cell in new} == mean_notes(sample_run, new)
    assert shared > 10
    page = PackedPage(out / "gallery.html")
    assert page.source_names() == [["laid-back.mid, bar 1", "2.mid, bar 1"]] * 5
    assert page.kept.sum() == shared


def test_a_folder_keeps_how_each_of_its_windows_was_played(
    sample_run: Path, laid_back: Path, files: list[Path], tmp_path: Path
):
    folder, out = tmp_path / "songs", tmp_path / "out"
    folder.mkdir()
    for number, file in enumerate((laid_back, files[1])):
        (folder / f"{number}.mid").write_bytes(file.read_bytes())
    sampled(sample_run, out, count=300, like=str(folder), distance=0.2, execution=Execution(chunk=70))
    sampled(sample_run, tmp_path / "whole", count=300, like=str(folder), distance=0.2)
    assert output_of(out) == output_of(tmp_path / "whole")
    page = PackedPage(out / "gallery.html")
    assert page.source_names() == [["0.mid, bar 1"], ["1.mid, bar 1"]] * 150
    assert page.about["sortedBy"] is None, "variations stay beside their sources"
    for record in manifest_of(out)[:20]:
        given, written = notes_of(folder / record["like"]["file"]), notes_of(out / record["file"])
        assert all(written[cell] == given[cell] for cell in written.keys() & given.keys())


def test_a_plain_feel_plays_kept_hits_plainly_too(sample_run: Path, laid_back: Path, tmp_path: Path):
    sampled(sample_run, tmp_path, count=3, source=str(laid_back), keep="snare", feel="plain")
    assert "playing" not in json.loads((tmp_path / "settings.json").read_text())
    for record in manifest_of(tmp_path):
        for (step, _), note in notes_of(tmp_path / record["file"]).items():
            assert note == (step * TICKS_PER_STEP, round(PLAIN_VELOCITY * 127))


def test_a_file_that_is_played_otherwise_makes_another_sampling(sample_run: Path, laid_back: Path, tmp_path: Path):
    file = tmp_path / "loop.mid"
    file.write_bytes(laid_back.read_bytes())
    sampled(sample_run, tmp_path / "out", count=3, source=str(file), keep="snare")
    groove = DrumGroove.from_midi(file)
    DrumGroove(GRID, groove.hits, groove.velocity / 2, groove.offset, groove.tempo).to_midi(file)
    with pytest.raises(ValueError, match="grooves made with other settings") as refused:
        sampled(sample_run, tmp_path / "out", count=3, source=str(file), keep="snare")
    assert "playing kept" in str(refused.value)


def begun_by_an_earlier_version(
    run: Path, out: Path, options: dict[str, Any], count: int, finished: int, without: tuple[str, ...]
) -> None:
    """A sampling as a version left it that had fewer settings, with some of its grooves made."""
    settings = SampleSettings(run=str(run), count=finished, **options)
    recorded = job_of(settings, out).settings
    for name in without:
        del recorded[name]
    SampleWork(out).claim(recorded, settings)
    sampled(run, out, count=finished, **options)
    (out / "settings.json").unlink()
    SampleWork(out).grow(SampleSettings(run=str(run), count=count, **options))


def run_here(run: Path, out: Path, *options: object) -> Result:
    """The command line, in this process."""
    app = typer.Typer()
    app.command(cls=JobCommand)(main)
    return CliRunner().invoke(app, ["--run", str(run), "--out", str(out), *map(str, options)])


@pytest.mark.parametrize("overwrite", [False, pytest.param(True, marks=only_in_a_soak)])
@pytest.mark.parametrize("without", [("performer", "playing"), pytest.param(("performer",), marks=pytest.mark.slow)])
def test_what_an_earlier_version_began_is_finished_as_it_began(
    sample_run: Path, laid_back: Path, tmp_path: Path, overwrite: bool, without: tuple[str, ...]
):
    options, given = {"source": str(laid_back), "keep": "snare"}, notes_of(laid_back)
    begun_by_an_earlier_version(sample_run, tmp_path / "out", options, count=8, finished=5, without=without)
    first = tmp_path / "out" / "000" / "groove-00000.mid"
    before = first.stat().st_mtime_ns
    line = ["--count", 8, "--from", laid_back, "--keep", "snare", *(["--overwrite"] if overwrite else [])]
    result = run_here(sample_run, tmp_path / "out", *line)
    assert result.exit_code == 0, result.output
    which = "all" if "playing" in without else "new"
    assert result.output.count(f"was begun by an earlier version: {which} hits have the mean") == 1
    assert first.stat().st_mtime_ns == before, "what was made stays"
    recorded = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert not recorded.keys() & set(without)
    check_playing(sample_run, tmp_path / "out", {} if "playing" in without else given)

    # Complete, it can be replaced; then, as in a new folder, what was played stays, and the rest is played.
    result = run_here(sample_run, tmp_path / "out", *line, *([] if overwrite else ["--overwrite"]))
    assert result.exit_code == 0, result.output
    assert "earlier version" not in result.output
    kept, new = 0, []
    for record in manifest_of(tmp_path / "out"):
        written = notes_of(tmp_path / "out" / record["file"])
        assert all(written[cell] == given[cell] for cell in written.keys() & given.keys())
        kept += len(written.keys() & given.keys())
        new += [velocity for cell, (_, velocity) in written.items() if cell not in given]
    assert kept > 8 * 16
    assert np.std(new) > 20


def test_a_sampling_that_was_begun_with_the_mean_is_not_played_where_that_is_asked_for(
    sample_run: Path, tmp_path: Path
):
    begun_by_an_earlier_version(sample_run, tmp_path / "out", {}, count=4, finished=2, without=("performer",))
    refused = run_here(sample_run, tmp_path / "out", "--count", 4, "--feel", "played").exception
    assert isinstance(refused, ConfigError)
    assert "expected  performer None" in str(refused)
    result = run_here(sample_run, tmp_path / "out", "--count", 4, "--feel", "mean")
    assert result.exit_code == 0, result.output
    assert "earlier version" not in result.output
    sampled(sample_run, tmp_path / "mean", count=4, feel="mean")
    assert output_of(tmp_path / "out") == output_of(tmp_path / "mean")


def test_a_model_that_the_performance_model_does_not_fit_plays_by_the_mean_and_says_so(tmp_path: Path):
    run = write_sample_run(tmp_path / "run", grid=GridSpec(bars=2))
    result = run_here(run, tmp_path / "out", "--count", 2)
    assert result.exit_code == 0, result.output
    assert "the performance model does not fit the grid or the drums of this model" in result.output
    sampled(run, tmp_path / "mean", count=2, feel="mean")
    assert output_of(tmp_path / "out") == output_of(tmp_path / "mean")
    refused = refusal(run, tmp_path / "other", "--count", 2, "--feel", "played")
    assert "the performance model does not fit these grooves" in str(refused)


@pytest.mark.slow
def test_forbidden_drums_never_occur_and_those_that_must_do(sample_run: Path, tmp_path: Path):
    modes = {"forbid": "kick, ride", "must_have": "crash", "density": "4:6.5"}
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


@pytest.mark.slow
def test_a_square_between_four_files_has_the_interpolations_of_its_edges(
    sample_run: Path, files: list[Path], tmp_path: Path
):
    out, ends = tmp_path / "out", (files[0], files[2])
    command = ["sample", "--feel", "mean", "--run", sample_run, "--steps", 3, "--out"]
    ok(run_job(*command, out, "--interpolate", *ends, "--interpolate", *reversed(ends)))
    records = manifest_of(out)
    assert [record["tempo"] for record in records] == [90, 100, 110, 100, 100, 100, 110, 100, 90]
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["origin"], settings["steps"]) == ("interpolation", [3, 3])
    assert settings["ends"] == ["0.mid", "2.mid", "2.mid", "0.mid"]
    ok(run_job(*command, tmp_path / "edge", "--interpolate", *ends))
    for number in range(3):
        name = f"000/groove-{number:05d}.mid"
        assert (out / name).read_bytes() == (tmp_path / "edge" / name).read_bytes()
    tokens = [record["tokens"] for record in records]
    assert (tokens[8], tokens[6]) == (tokens[0], tokens[2])
    assert '"pad": [3, 3]' in (out / "gallery.html").read_text()


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
    assert "1 of 4 files are skipped" in printed
    assert "notes.mid" in printed


def test_every_groove_has_a_tempo_of_the_range_whatever_the_count(sample_run: Path, tmp_path: Path):
    made(sample_run, tmp_path / "many", {"tempo_range": "80:120"}, count=60)
    made(sample_run, tmp_path / "few", {"tempo_range": "80:120"}, count=5)
    tempos = [record["tempo"] for record in manifest_of(tmp_path / "many")]
    assert 80 <= min(tempos) < 85
    assert 115 < max(tempos) <= 120
    assert [record["tempo"] for record in manifest_of(tmp_path / "few")] == tempos[:5]


def test_of_several_candidates_the_one_of_the_highest_quality_is_kept(sample_run: Path, tmp_path: Path):
    """Groove i is one of 4 i to 4 i + 3 of a sampling without a choice, whatever the count and the chunks."""
    modes = {"forbid": "crash", "gallery": False}
    made(sample_run, tmp_path / "all", {**modes, "unchosen": True}, count=276)
    line = ["--count", 280, "--forbid", "crash", "--no-gallery", "--feel", "mean"]
    said = run_here(sample_run, tmp_path / "all", *line).output
    assert "was begun with --all, or by an earlier version: no groove is chosen from several, as it began" in said
    made(sample_run, tmp_path / "out", {**modes, "execution": Execution(chunk=3)}, count=5)
    made(sample_run, tmp_path / "out", modes, count=70)
    every = manifest_of(tmp_path / "all")
    for record in manifest_of(tmp_path / "out"):
        candidates = every[4 * record["index"] : 4 * record["index"] + 4]
        best = max(candidates, key=lambda candidate: candidate["quality"])
        assert {name: record[name] for name in ("tokens", "quality", "log_likelihood")} == {
            name: best[name] for name in ("tokens", "quality", "log_likelihood")
        }
    for out, wanted in (("out", {"unchosen": True}), ("all", {"best_of": 4})):
        with pytest.raises(ConfigError, match="grooves made with other settings") as refused:
            made(sample_run, tmp_path / out, {**modes, **wanted}, count=70)
        assert "best_of" in str(refused.value)


def test_every_mode_is_a_part_of_what_a_folder_holds(sample_run: Path, files: list[Path], tmp_path: Path):
    """Other settings than those that made it are refused, by name."""
    plain = {"source": str(files[0]), "keep": "kick"}
    made(sample_run, tmp_path / "out", plain, count=3)
    others = {
        "top_p": {"source": str(files[0]), "keep": "kick", "top_p": 0.9},
        "temperature": {"source": str(files[0]), "keep": "kick", "bar_temperature": "1,1,1,2"},
        "given": {"source": str(files[0]), "keep": "snare"},
        "whole": {"source": str(files[0]), "keep": "kick", "must_have": "crash"},
        "tempo": {"source": str(files[0]), "keep": "kick", "tempo_range": "90:100"},
        "codes": {"source": str(files[1]), "keep": "kick"},
        "precision": {"source": str(files[0]), "keep": "kick", "precision": "float32"},
    }
    if load_run(sample_run).precision == "float32":
        del others["precision"]
    for key, modes in others.items():
        with pytest.raises(ValueError, match="grooves made with other settings") as refused:
            sampled(sample_run, tmp_path / "out", count=3, **modes)
        assert key in str(refused.value)


def three_four(path: Path) -> Path:
    path.write_bytes(midi_file([metre(0, 3, 4), *(event for beat in range(24) for event in hit(480 * beat, 36))]))
    return path


def without_drums(path: Path) -> Path:
    path.write_bytes(midi_file([event for beat in range(16) for event in hit(480 * beat, 60, channel=0)]))
    return path


def refusal(run: Path, out: Path, *options: object) -> UserError:
    """What the command line says no with, in this process."""
    result = run_here(run, out, *options)
    assert isinstance(result.exception, UserError), result.output
    assert not out.exists()
    return result.exception


def test_files_that_no_groove_can_be_read_from_are_refused(sample_run: Path, files: list[Path], tmp_path: Path):
    waltz, piano = three_four(tmp_path / "waltz.mid"), without_drums(tmp_path / "piano.mid")
    (tmp_path / "empty").mkdir()
    for options, kind, words in (
        (["--continue", waltz], DataError, "a MIDI file with drums in 4/4"),
        (["--continue", piano], DataError, "a MIDI file with drums in 4/4"),
        (["--from", tmp_path / "nowhere.mid", "--keep", "kick"], ConfigError, "cannot read"),
        (["--interpolate", files[0], piano], DataError, "a MIDI file with drums in 4/4"),
        (["--like", tmp_path / "empty"], ConfigError, "no MIDI files"),
    ):
        refused = refusal(sample_run, tmp_path / "out", "--count", 2, *options)
        assert isinstance(refused, kind)
        assert words in str(refused)


def test_the_command_itself_says_what_is_wrong_without_a_traceback(sample_run: Path, tmp_path: Path):
    waltz = three_four(tmp_path / "waltz.mid")
    refused = run_job("sample", "--run", sample_run, "--count", 2, "--continue", waltz, "--out", tmp_path / "out")
    assert refused.returncode == 3
    assert "has no usable groove" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "FILE", "--keep", "kick", "--forbid", "kick"], "given and forbidden"),
        (["--from", "FILE", "--keep-bars", "1", "--density", "0:0.5"], "contradict each other"),
        (["--must-have", "kick", "--forbid", "kick"], "contradict each other"),
        (["--density", "200:300"], "contradict each other"),
        (["--density", "9:5"], "--density 9:5 cannot be used"),
        (["--density", "many"], "--density many cannot be used"),
        (["--forbid", "cowbell"], "there is no drum 'cowbell'"),
        (["--from", "FILE", "--keep-bars", "5"], "expected  bars from 1 to 4"),
        (["--from", "FILE"], "--keep or --keep-bars with it"),
        (["--keep", "kick"], "--from FILE with it"),
        (["--continue", "FILE", "--bars", "4"], "--bars 4 cannot be used"),
        (["--continue", "FILE", "--from", "FILE", "--keep", "kick"], "exclude each other"),
        (["--like", "FILE", "--interpolate", "FILE", "FILE"], "no --interpolate with it"),
        (["--steps", "3"], "--interpolate A B with it"),
        (["--interpolate", "FILE", "FILE", "--steps", "1"], "both ends are included"),
        (["--top-p", "0"], "--top-p 0.0 cannot be used"),
        (["--bar-temperature", "1,1"], "4 numbers above 0"),
        (["--bar-temperature", "1,1,1,1", "--temperature", "1"], "no --bar-temperature"),
        (["--tempo-range", "0:90"], "--tempo-range 0:90 cannot be used"),
        (["--tempo-range", "80:90", "--tempo", "80"], "no --tempo-range with it"),
        (["--move", "density=a lot"], "--move a lot cannot be used"),
        (["--move", "density=1"], "cannot be moved along attributes"),
        (["--precision", "int8"], "float32 or bfloat16"),
        (["--best-of", "0"], "1, or more for new grooves"),
        (["--best-of", "4", "--all"], "no --all with it"),
        (["--best-of", "4", "--like", "FILE"], "1, or more for new grooves"),
        (["--best-of", "4", "--humanize", "FILE"], "1, or more for new grooves"),
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
        options = SampleSettings(count=256, preset="generation", move=(f"{attribute}={amount}",))
        recipe = resolve(options, model).recipe
        means[amount] = model.measure(generate_batch(model.model, recipe, 0))[attribute].mean()
    assert means[-1.5] < means[0] < means[1.5]
