"""What a newcomer does first: `make demo` in a fresh clone, then the README's commands as they are written."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pretty_midi
import pytest

from musicvae.durable import read_lines
from tests.experiments.like import like_f1
from tests.support.commands import CHECKOUT, SOAK
from tests.support.pages.fenced_code import fenced, run_shell_blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # whole pages of commands
README = CHECKOUT / "README.md"


def lend_packages(clone: Path) -> None:
    """Gives a clone an environment that counts as installed and has the packages of this one, but its own code.

    A second installation takes 80 seconds and tests nothing of ours: a soak makes it.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    (site,) = (clone / ".venv" / "lib").glob("python*/site-packages")
    lent = Path(sysconfig.get_path("purelib"))
    (site / "lent.pth").write_text(f"{lent}\n{clone}\n")
    for measuring in lent.glob("*coverage.pth"):
        shutil.copy(measuring, site)
    (clone / ".venv" / ".installed").touch()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A fresh clone in which `make demo` was run, and what it printed."""
    clone = tmp_path_factory.mktemp("fresh") / "clone"
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
    if not SOAK:
        lend_packages(clone)
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "OMP_NUM_THREADS", "PYTHONPATH"}}
    result = subprocess.run(["make", "demo"], cwd=clone, env=environment, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return clone, result.stdout


@pytest.fixture(scope="module")
def after_readme(demo: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which every shell command of the README was run as it stands there, and what they printed.

    The demo has made the same shards and trained the same preset: two commands find their work done, unless all is
    to be done again, in a soak.
    """
    folder = tmp_path_factory.mktemp("newcomer")
    if not SOAK:
        shutil.copytree(demo[0] / "demo" / "shards", folder / "shards" / "demo")
        shutil.copytree(demo[0] / "demo" / "run", folder / "runs" / "demo")
    return folder, run_shell_blocks(README, folder)


def test_make_demo_in_a_fresh_clone(demo):
    clone, printed = demo
    assert "beats silence" in printed
    files = sorted((clone / "demo" / "grooves").rglob("*.mid"))
    assert str(clone / "demo" / "grooves") in printed
    assert len(files) == 64
    drums = [[i for i in pretty_midi.PrettyMIDI(str(file)).instruments if i.is_drum] for file in files]
    assert sum(any(track.notes for track in tracks) for tracks in drums) >= 60
    assert read_lines(clone / "demo" / "run" / "metrics.jsonl")
    assert list((clone / "demo" / "run" / "wandb").glob("offline-run-*"))
    assert not subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout, "the demo leaves nothing that git would want to commit"


def test_bug_15_readme_commands_run(after_readme):
    folder, _ = after_readme
    assert "".join(fenced(README, "sh")).count("python -m jobs.") >= 6
    assert len(list((folder / "grooves" / "new").rglob("*.mid"))) == 64
    assert len(list((folder / "grooves" / "like").rglob("*.mid"))) == 8
    assert json.loads((folder / "runs" / "two-ranks" / "status.json").read_text())["state"] == "finished"


def test_bug_15_readme_python_runs(after_readme):
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(fenced(README, "python"))],
        cwd=after_readme[0],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "64" in result.stdout


def test_the_demo_model_beats_what_always_plays_the_same(after_readme):
    _, printed = after_readme
    assert "beats silence" in printed


def test_like_keeps_what_it_was_given(after_readme, tmp_path):
    """Measured on held-out windows: far closer to its own input than grooves of the same data are to each other."""
    folder, _ = after_readme
    shards, run = folder / "shards" / "demo", folder / "runs" / "demo"
    own, other = like_f1(run, shards, windows=50, distance=0.0, folder=tmp_path)
    assert own >= other + 0.15
