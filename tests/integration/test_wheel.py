"""The wheel: the package musicvae alone, which imports without anything heavy."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pretty_midi
import pytest

from tests.support.commands import CHECKOUT
from tests.support.shipped import need_shipped_models

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


def test_it_imports_without_torch_in_a_fresh_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, cwd=tmp_path)
    code = "import sys, musicvae; print(musicvae.__file__, musicvae.GridSpec().num_steps, 'torch' in sys.modules)"
    result = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    where, steps, torch_loaded = result.stdout.split()
    assert str(tmp_path) in where, "the wheel's package, not the checkout's"
    assert (steps, torch_loaded) == ("64", "False")


def test_three_lines_of_python_give_sixteen_grooves(wheel, tmp_path):
    need_shipped_models()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, cwd=tmp_path)
    # What the wheel depends on comes from this environment, so that no gigabytes are downloaded. A line of a .pth file
    # adds a folder behind the fresh environment's own, and none of the .pth files in it, such as our editable install.
    (own,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    code = """
import musicvae
for number, groove in enumerate(musicvae.load("generation").sample(16, seed=0)):
    groove.to_midi(f"groove-{number:02d}.mid")
print(musicvae.__file__)
"""
    (tmp_path / "grooves").mkdir()
    result = subprocess.run([python, "-c", code], cwd=tmp_path / "grooves", capture_output=True, text=True, env={})
    assert result.returncode == 0, result.stderr[-3000:]
    assert str(tmp_path) in result.stdout, "the wheel's package, not the checkout's"
    files = sorted((tmp_path / "grooves").glob("*.mid"))
    assert len(files) == 16
    assert sum(any(track.notes for track in pretty_midi.PrettyMIDI(str(file)).instruments) for file in files) == 16
