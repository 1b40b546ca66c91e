"""A part of a build is kept as long as the code that made it is the same."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from musicvae.groove.drum_map import DrumMap
from preprocess import tasks
from preprocess.settings import BuildSettings
from tests.support.commands import CHECKOUT

USED_BUT_DECIDING_NOTHING = {
    # Names of splits, errors, and how settings are checked; the settings themselves are in the key.
    *("musicvae/__init__.py", "musicvae/data/__init__.py", "musicvae/data/manifest.py"),
    *("musicvae/errors.py", "musicvae/settings.py"),
}


@pytest.fixture
def checkout(tmp_path) -> Path:
    for package in ("musicvae", "preprocess"):
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=ignored)
    return tmp_path


def key(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    tasks.conversion_code.cache_clear()
    code = tasks.conversion_code(checkout)
    monkeypatch.setattr(tasks, "conversion_code", lambda: code)
    made = tasks.part_key(tasks.Batch((), checkout / "part"), BuildSettings(), DrumMap.load("general_midi"))
    monkeypatch.undo()
    return made


@pytest.mark.parametrize(
    ("edited", "again"),
    [
        ("musicvae/model/model.py", False),
        ("musicvae/training/step.py", False),
        ("musicvae/data/loader.py", False),
        ("musicvae/midi/parser.py", True),
        ("musicvae/midi/quantize.py", True),
        ("musicvae/groove/groove.py", True),
        ("musicvae/data/windows.py", True),
        ("musicvae/durable.py", True),
        ("preprocess/convert.py", True),
        ("preprocess/sources/table.py", True),
    ],
)
def test_an_edit_of_a_conversion_makes_parts_again_and_of_the_model_none(checkout, edited, again, monkeypatch):
    before = key(checkout, monkeypatch)
    assert key(checkout, monkeypatch) == before
    with (checkout / edited).open("a") as file:
        file.write("# edited\n")
    assert (key(checkout, monkeypatch) != before) == again


def test_what_the_code_of_a_cluster_says_is_what_this_checkout_says(checkout):
    assert tasks.conversion_code(checkout) == tasks.conversion_code()


def test_whatever_a_conversion_imports_is_part_of_the_key():
    code = """
import json, sys
import preprocess.outcome, preprocess.parts, preprocess.sandbox, preprocess.sandbox_child, preprocess.sources.listing
files = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ("musicvae", "preprocess")]
print(json.dumps(files))
"""
    printed = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    used = {Path(file).relative_to(CHECKOUT).as_posix() for file in json.loads(printed.stdout)}
    assert "musicvae/midi/quantize.py" in used
    assert {name for name in used if not name.startswith(tasks.CONVERSION)} <= USED_BUT_DECIDING_NOTHING
