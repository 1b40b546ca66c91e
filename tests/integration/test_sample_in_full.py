"""The job as it is meant: thousands of grooves of the shipped model, in one command or in ten shards of it.

SOAK=1 makes 10,000 grooves, otherwise it is a twentieth of that.
"""

import random
from pathlib import Path

import numpy as np
import pytest
import symusic

from musicvae.groove.groove import hits_from_tokens
from tests.support.commands import SOAK, ok, run_job
from tests.support.requirements import only_in_a_soak
from tests.support.runs.sample_fixtures import DRUMS, GRID, hits_in, manifest_of, output_of
from tests.support.runs.shipped import need_shipped_models

pytestmark = pytest.mark.slow
SHARDS = 10
SECONDS = 1800
"""For a command, on a machine that does much else."""
COUNT = 10_000 if SOAK else 500


@pytest.fixture(scope="module", autouse=True)
def _shipped() -> None:
    need_shipped_models()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one command made."""
    out = tmp_path_factory.mktemp("whole") / "out"
    make(out)
    return out


@pytest.fixture(scope="module")
def content(whole: Path) -> dict[str, bytes]:
    """All files of it."""
    return output_of(whole)


def make(out: Path, *options: object) -> str:
    """Runs the command, or a share of it, and gives what it printed."""
    return ok(run_job("sample", "--count", COUNT, "--seed", 5, "--out", out, *options, timeout=SECONDS)).stdout


def same(out: Path, content: dict[str, bytes]) -> bool:
    """Whether an output is the same; pytest would take minutes to say how thousands of files differ."""
    made = output_of(out)
    print({name for name in made.keys() | content.keys() if made.get(name) != content.get(name)})
    return made == content


def test_every_file_opens_in_both_libraries_with_the_tokens_of_the_manifest(whole):
    records = manifest_of(whole)
    assert [record["index"] for record in records] == list(range(COUNT))
    assert {path.relative_to(whole).as_posix() for path in whole.rglob("*.mid")} == {one["file"] for one in records}
    for record in records:
        expected = hits_from_tokens(np.array(record["tokens"], dtype=np.int16), DRUMS.num_drums)
        path = whole / record["file"]
        assert (hits_in(path, record["tempo"]) == expected).all(), record["file"]
        score = symusic.Score(path)
        found = np.zeros_like(expected)
        for note in (note for track in score.tracks for note in track.notes):
            step = round(note.time * GRID.steps_per_beat / score.ticks_per_quarter)  # early hits end the loop
            found[step % GRID.num_steps, DRUMS.class_of_pitch[note.pitch]] = True
        assert (found == expected).all(), record["file"]


@only_in_a_soak
def test_ten_shards_in_any_order_give_the_same_bytes(content, tmp_path):
    order = random.Random(COUNT).sample(range(SHARDS), SHARDS)
    for place, number in enumerate(order):
        printed = make(tmp_path / "out", "--shard", f"{number}/{SHARDS}")
        assert f"share {number}/{SHARDS}: {COUNT // SHARDS:,} grooves in" in printed
        assert ("still missing" in printed) == (place < SHARDS - 1)
    assert same(tmp_path / "out", content)


@pytest.mark.parametrize(("chunk", "workers"), [(64, 2), pytest.param(1000, 1, marks=only_in_a_soak)])
def test_chunks_and_workers_give_the_same_bytes(content, tmp_path, chunk, workers):
    make(tmp_path / "out", "--chunk", chunk, "--workers", workers)
    assert same(tmp_path / "out", content)
