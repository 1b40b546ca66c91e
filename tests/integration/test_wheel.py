"""The wheel: the package musicvae alone, which imports without anything heavy."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pretty_midi
import pytest

from tests.support.commands import CHECKOUT, ONE_THREAD, SOAK
from tests.support.runs.shipped import need_shipped_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `make wheel` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, CHECKOUT]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    return path


def test_it_holds_musicvae_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"musicvae"}
    assert "musicvae/groove/drum_maps.yaml" in names
    assert "musicvae/py.typed" in names


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a fresh environment with the wheel and nothing that it depends on."""
    return installed(wheel, tmp_path_factory.mktemp("bare"), "--no-deps")


@pytest.fixture(scope="module")
def complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a fresh environment with the wheel and all that it depends on.

    That comes from this environment, so that no gigabytes are downloaded: a soak downloads them. A line of a .pth file
    adds a folder behind the fresh environment's own, and none of the .pth files in it, such as our editable install.
    """
    need_shipped_models()
    folder = tmp_path_factory.mktemp("complete")
    if SOAK:
        return installed(wheel, folder)
    programs = installed(wheel, folder, "--no-deps")
    (own,) = (folder / "env" / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return programs


def installed(wheel: Path, folder: Path, *options: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    programs = folder / "env" / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", *options, wheel], check=True, cwd=folder)
    return programs


def sounding(folder: Path) -> int:
    """How many MIDI files of a folder have notes."""
    files = sorted(folder.glob("*.mid"))
    return sum(any(track.notes for track in pretty_midi.PrettyMIDI(str(file)).instruments) for file in files)


def test_it_imports_without_torch_in_a_fresh_environment(bare, tmp_path):
    code = "import sys, musicvae; print(musicvae.__file__, musicvae.GridSpec().num_steps, 'torch' in sys.modules)"
    result = subprocess.run([bare / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, env=ONE_THREAD)
    assert result.returncode == 0, result.stderr
    where, steps, torch_loaded = result.stdout.split()
    assert str(bare.parent) in where, "the wheel's package, not the checkout's"
    assert (steps, torch_loaded) == ("64", "False")


def test_the_command_shows_its_help_with_nothing_else_installed(bare, tmp_path):
    for command in ([], ["new"], ["vary"], ["continue"], ["interpolate"], ["show"]):
        words = [bare / "musicvae", *command, "--help"]
        result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=ONE_THREAD)
        assert result.returncode == 0, result.stderr
        assert "musicvae new" in result.stdout or f"example: musicvae {command[0]}" in result.stdout


def test_three_lines_of_python_give_sixteen_grooves(complete, tmp_path):
    code = """
import musicvae
for number, groove in enumerate(musicvae.load("generation").sample(16, seed=0)):
    groove.to_midi(f"groove-{number:02d}.mid")
print(musicvae.__file__)
"""
    result = subprocess.run(
        [complete / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, env=ONE_THREAD
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert str(complete.parent) in result.stdout, "the wheel's package, not the checkout's"
    assert sounding(tmp_path) == len(list(tmp_path.iterdir())) == 16


def test_one_command_gives_sixteen_grooves(complete, tmp_path):
    result = subprocess.run(
        [complete / "musicvae", "new"], cwd=tmp_path, capture_output=True, text=True, env=ONE_THREAD
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert sounding(tmp_path / "grooves" / "new") == 16
    assert result.stdout.endswith("next: musicvae vary grooves/new/groove-00.mid\n")
