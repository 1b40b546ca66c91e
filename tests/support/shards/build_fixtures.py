"""A folder of MIDI as users have them, and what a build of it gives when nothing disturbs it."""

import shutil
from pathlib import Path

import pytest

from preprocess.sources.demo import write_demo_corpus
from tests.support.commands import ok, run_job
from tests.support.midi.midi_bytes import hit, metre, midi_file

BAR = 4 * 480
PERFORMANCES = 900
"""15 batches: enough to be killed between."""


def write_mixed_folder(folder: Path, performances: int, *, seed: int = 1) -> None:
    """Performances in several folders, and one file for each way to be of no use."""
    names = sorted(write_demo_corpus(folder / "all", performances=performances, seed=seed))
    for number, name in enumerate(names):
        place = folder / f"part{number % 5}"
        place.mkdir(exist_ok=True)
        (folder / "all" / name).replace(place / name)
    (folder / "all").rmdir()
    good = next(path for path in sorted(folder.rglob("*.mid")) if "waltz" not in path.name)
    shutil.copy(good, folder / "zzz-copy.MID")
    bad = folder / "bad"
    bad.mkdir()
    (bad / "text.mid").write_text("no music here")
    (bad / "cut.mid").write_bytes(good.read_bytes()[:200])
    (bad / "piano.mid").write_bytes(midi_file([e for bar in range(8) for e in hit(bar * BAR, 60, channel=0)]))
    (bad / "waltz.mid").write_bytes(midi_file([metre(0, 3, 4)], [e for bar in range(8) for e in hit(bar * BAR, 36)]))
    (bad / "short.midi").write_bytes(midi_file(hit(0, 36), hit(BAR, 36)))
    (bad / "gone.mid").symlink_to(bad / "nowhere.mid")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def mixed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`PERFORMANCES` files and some of no use; read only."""
    folder = tmp_path_factory.mktemp("mixed") / "midi"
    write_mixed_folder(folder, PERFORMANCES)
    return folder


@pytest.fixture(scope="session")
def undisturbed(mixed_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Everything that a build of `mixed_folder` in one process writes."""
    out = tmp_path_factory.mktemp("undisturbed") / "shards"
    ok(run_job("build_shards", "--source", mixed_folder, "--out", out, "--workers", 0))
    return contents(out)
