"""The command `musicvae`, in process, with a tiny model: what it writes, what it refuses and what it says."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import musicvae
from musicvae.command_line import main
from musicvae.groove.picture import drum_grid
from musicvae.pretrained.load import load_run, write_export
from musicvae.training.best_weights import read_best
from tests.support.midi.midi_bytes import hit, midi_file
from tests.support.runs.run_folders import run_with_weights
from tests.support.shards.shard_fixtures import DRUM_MAP

pytestmark = pytest.mark.usefixtures("without_shape_checks")

DRUMS = DRUM_MAP.name


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a tiny model, not to be changed."""
    folder = tmp_path_factory.mktemp("model")
    run = run_with_weights(folder / "run", sparse=True)
    (folder / "export").mkdir()
    write_export(folder / "export", load_run(run.path), read_best(run.best), {})
    return folder / "export"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def groove(model: Path) -> musicvae.DrumGroove:
    return next(groove for groove in musicvae.load(model).sample(8, seed=9) if groove.hits[-16:].any())


@pytest.fixture
def loop(groove: musicvae.DrumGroove, tmp_path: Path) -> Path:
    """A MIDI file with a groove."""
    groove.to_midi(tmp_path / "loop.mid", drum_map=DRUMS)
    return Path("loop.mid")


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command says that ends with status 2, as all mistakes of the command line do."""
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_new_writes_the_grooves_of_the_seed_with_a_picture_and_says_what_is_next(model, capsys):
    assert main(["new", "--count", "3", "--seed", "4", "--tempo", "97", "--model", str(model)]) == 0
    printed = capsys.readouterr().out
    made = files("grooves/new")
    assert {*made} == {"groove-00.mid", "groove-01.mid", "groove-02.mid", "picture.png", "musicvae.json"}
    assert made["picture.png"].startswith(b"\x89PNG")
    trained = musicvae.load(model)
    for number, groove in enumerate(trained.sample(3, seed=4, tempo=97.0)):
        groove.to_midi("expected.mid", drum_map=DRUMS)
        assert made[f"groove-0{number}.mid"] == Path("expected.mid").read_bytes()
    assert drum_grid(trained.sample(1, seed=4, tempo=97.0)[0], trained.drum_map.classes) in printed
    assert f"3 MIDI files in {Path('grooves/new').resolve()}: groove-00.mid to groove-02.mid" in printed
    assert printed.endswith("next: musicvae vary grooves/new/groove-00.mid\n")


def test_vary_continue_and_interpolate_make_what_the_library_makes_of_the_file(model, loop, capsys):
    trained, given = musicvae.load(model), musicvae.DrumGroove.from_midi(loop, drum_map=DRUMS)
    common = ("--model", str(model), "--count", "3")
    expected = {
        "vary": trained.vary(given, 0.6, 3, seed=2),
        "continue": trained.continued(given, 2, 3, seed=2, temperature=0.8),
        "interpolate": trained.interpolate(given, given, 3),
    }
    assert main(["vary", str(loop), "--distance", "0.6", "--seed", "2", *common]) == 0
    assert main(["continue", str(loop), "--bars", "2", "--seed", "2", "--temperature", "0.8", *common]) == 0
    assert main(["interpolate", str(loop), str(loop), *common]) == 0
    for command, grooves in expected.items():
        paths = sorted(Path("grooves", command).glob("*.mid"))
        found = [musicvae.DrumGroove.from_midi(path, bar=0, short="silence", drum_map=DRUMS) for path in paths]
        assert len(found) == 3
        for groove, written in zip(grooves, found, strict=True):
            np.testing.assert_array_equal(groove.hits, written.hits)


def test_humanize_keeps_the_hits_and_plays_them_by_amounts(tmp_path, capsys):
    music = [event for beat in range(16) for event in (*hit(480 * beat, 36, velocity=90), *hit(480 * beat, 42))]
    Path("loop.mid").write_bytes(midi_file(music))
    given = musicvae.DrumGroove.from_midi("loop.mid")
    assert main(["humanize", "loop.mid", "--count", "2", "--timing", "1", "--velocity", "1"]) == 0
    printed = capsys.readouterr().out
    takes = [musicvae.DrumGroove.from_midi(f"grooves/humanize/played-0{take}.mid") for take in range(2)]
    assert "next: musicvae vary grooves/humanize/played-00.mid" in printed
    for take in takes:
        assert (take.hits == given.hits).all()
        assert len(np.unique(take.velocity[take.hits])) > 4
        assert take.offset[take.hits].std() > 0.03
    assert not np.array_equal(takes[0].velocity, takes[1].velocity)
    assert main(["humanize", "loop.mid", "--out", "same", "--count", "1", "--timing", "0", "--velocity", "0"]) == 0
    same = musicvae.DrumGroove.from_midi("same/played-00.mid")
    assert np.array_equal(same.velocity, given.velocity)
    assert np.array_equal(same.offset, given.offset)


def test_show_prints_every_window_and_draws_only_a_new_picture(model, loop, capsys):
    assert main(["show", str(loop), ".", "--out", "loop.png"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("loop.mid, from bar 1, ") == 2, "by its name, and in its folder"
    assert Path("loop.png").read_bytes().startswith(b"\x89PNG")
    assert "loop.png exists" in refused(capsys, "show", loop, "--out", "loop.png")
    Path("empty").mkdir()
    assert "there are no MIDI files in empty" in refused(capsys, "show", "empty")


def test_what_it_wrote_is_replaced_only_when_told_and_as_a_whole(model, capsys):
    new = ("new", "--model", model, "--out", "out", "--count")
    assert main([*map(str, new), "3"]) == 0
    before = files("out")
    assert "replace them with --overwrite" in refused(capsys, *new, "2", "--seed", "1")
    assert files("out") == before
    assert main([*map(str, new), "2", "--seed", "1", "--overwrite"]) == 0
    after = files("out")
    assert {*before} - {*after} == {"groove-02.mid"}, "no groove of the other seed is left"
    assert after["groove-00.mid"] != before["groove-00.mid"]


@pytest.mark.parametrize("name", ["groove-01.mid", "picture.png", "musicvae.json"])
def test_a_file_that_somebody_made_or_changed_is_never_replaced(model, capsys, name):
    new = ("new", "--model", model, "--out", "out", "--count", "2", "--overwrite")
    Path("out").mkdir()
    Path("out", name).write_bytes(b"[]")
    Path("out", "notes.txt").write_text("mine", encoding="utf-8")
    assert f"out/{name} exists" in refused(capsys, *new)
    Path("out", name).unlink()
    assert main([*map(str, new)]) == 0
    Path("out", name).write_bytes(b"mine")
    before = files("out")
    assert "did not write, or that was changed later" in refused(capsys, *new)
    assert files("out") == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("new --count 0", "--count 0 cannot be used"),
        ("new --seed -1", "--seed -1 cannot be used"),
        ("new --temperature nan", "--temperature nan cannot be used"),
        ("vary loop.mid --distance 1.5", "--distance 1.5 cannot be used"),
        ("interpolate a.mid b.mid --count 1", "--count 1 cannot be used"),
        ("continue loop.mid --model {model} --bars 4", "expected  1 to 3"),
        ("vary absent.mid --model {model}", "cannot read absent.mid"),
        ("vary loop.mid --model {model} --first-bar 1,2", "expected  a bar, counted from 1\n"),
        ("interpolate loop.mid loop.mid --model {model} --first-bar 0", "or 2, with commas between them"),
        ("show absent.mid", "cannot read absent.mid"),
        ("new --model absent", "there is no model 'absent'"),
        ("new --model {model} --style rock", "which styles codes have is not known"),
        ("new --model {model} --out loop.mid/folder", "cannot write loop.mid/folder/musicvae.json"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(model, loop, capsys, arguments, words):
    assert words in refused(capsys, *arguments.format(model=model).split())
    assert {*files(".")} == {"loop.mid"}


def test_a_url_is_refused_where_a_path_is_written(loop, capsys):
    for command in (["new", "--out", "s3://bucket/x"], ["show", "loop.mid", "--out", "gs://bucket/x.png"]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert f"{command[-1]} is a URL" in capsys.readouterr().err
    assert {*files(".")} == {"loop.mid"}


def test_a_file_without_a_groove_is_left_out_and_alone_ends_with_the_status_of_bad_data(loop, capsys):
    Path("text.mid").write_text("no MIDI", encoding="utf-8")
    assert main(["show", "text.mid", "loop.mid"]) == 0
    printed = capsys.readouterr().out
    assert "loop.mid, from bar 1" in printed
    assert "text.mid is skipped: not-midi" in printed
    assert printed.endswith("next: musicvae vary loop.mid\n")
    assert main(["show", "text.mid"]) == 3
    assert "has no usable groove" in capsys.readouterr().err


def test_of_a_longer_file_the_bars_that_are_used_are_named_and_can_be_chosen_like_the_tempo(model, capsys):
    music = [event for beat in range(32) for event in hit(480 * beat, 36 if beat < 16 else 38)]
    Path("long.mid").write_bytes(midi_file([], music))
    assert main(["vary", "long.mid", "--model", str(model), "--count", "1", "--tempo", "90"]) == 0
    assert musicvae.DrumGroove.from_midi("grooves/vary/variation-00.mid").tempo == pytest.approx(90, abs=0.01)
    assert "bars        8; bars 1 to 4 are used" in capsys.readouterr().out
    assert main(["continue", "long.mid", "--first-bar", "5", "--model", str(model), "--count", "1"]) == 0
    assert "bars        8; bars 5 to 8 are used" in capsys.readouterr().out
    continued = musicvae.DrumGroove.from_midi("grooves/continue/continued-00.mid", bar=0, short="silence")
    np.testing.assert_array_equal(continued.tokens[:16], np.tile([2, 0, 0, 0], 4))
    between = ("interpolate", "long.mid", "long.mid", "--first-bar", "1,5", "--model", str(model), "--count", "2")
    assert main(between) == 0
    printed = capsys.readouterr().out
    assert printed.index("bars 1 to 4 are used") < printed.index("bars 5 to 8 are used")


def test_help_loads_nothing_heavy_and_a_closed_pipe_is_no_error(loop):
    code = """
import sys
from musicvae.command_line import main
try:
    main(["vary", "--help"])
finally:
    print(*{"torch", "numpy", "yaml", "PIL"} & {*sys.modules}, file=sys.stderr)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "\n")
    assert "example: musicvae vary loop.mid" in shown.stdout
    code = "import sys; from musicvae.command_line import main; sys.exit(main(['show', 'loop.mid']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_files_are_written_though_nobody_reads_what_is_said(model):
    code = f"import sys; from musicvae.command_line import main; sys.exit(main(['new', '--model', {str(model)!r}]))"
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 141
    assert len(files("grooves/new")) == 18


def test_a_path_that_the_system_refuses_is_named_without_a_traceback(model, loop, capsys):
    long = "x" * 300
    for arguments in (("new", "--model", model, "--out", long), ("vary", long), ("show", long)):
        assert "File name too long" in refused(capsys, *arguments)
    os.mkfifo("pipe.mid")
    for path in ("pipe.mid", "/dev/zero", "."):
        assert "no regular file" in refused(capsys, "vary", path, "--model", model)
    assert main(["show", "."]) == 0


def test_an_empty_word_is_refused(loop, capsys):
    for command in (
        ["new", "--out", ""],
        ["vary", "loop.mid", "--model", ""],
        ["show", "loop.mid", "--out="],
        ["show", ""],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert "it is empty" in capsys.readouterr().err
