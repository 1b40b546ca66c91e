"""A part holds what was converted, and is believed only if it is whole and of the same making."""

import json
from pathlib import Path

import numpy as np
import pytest

from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.groove.groove import hits_from_tokens
from preprocess.outcome import FileOutcome
from preprocess.parts import Chunk, PartSummary, read_records, read_summary, read_windows, writing_part
from preprocess.rejection import Reason, Rejection
from tests.support.harm.damage import damage_file, each_damage

STEPS, DRUMS = 64, 9


def block(name: str, windows: int, seed: int) -> WindowBlock:
    random = np.random.default_rng(seed)
    tokens = random.integers(0, 512, (windows, STEPS)).astype(np.int16)
    hits = hits_from_tokens(tokens, DRUMS)
    return WindowBlock(
        tokens,
        (random.integers(1, 128, hits.shape) * hits).astype(np.uint8),
        (random.integers(-(2**15), 2**15, hits.shape) * hits).astype(np.int16),
        [WindowMeta(name, bar, 90.5, "röck") for bar in range(windows)],
    )


def accepted(name: str, windows: int, seed: int) -> tuple[FileOutcome, WindowBlock]:
    return FileOutcome(name, seed, "train", windows, {"filtered": {"min_hits": 3}}), block(name, windows, seed)


def rejected(name: str) -> tuple[FileOutcome, None]:
    rejection = Rejection(name, Reason.TOO_SHORT, "3 bars")
    return FileOutcome(name, 2**64 - 1, None, 0, {}, rejection), None


CHUNKS = [[accepted("a", 3, 1), rejected("b")], [rejected("c")], [accepted("d", 2, 4), accepted("e", 5, 5)]]


def write(path: Path, key: str = "key") -> PartSummary:
    with writing_part(path) as part:
        for chunk in CHUNKS:
            part.add(Chunk.of(chunk))
        return part.finish(key)


def test_the_summary_is_read_as_it_was_written(tmp_path):
    written, read = write(tmp_path / "part"), read_summary(tmp_path / "part", "key")
    assert read is not None
    assert read.content == written.content
    for name in ("windows", "split", "digest", "hashes"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert read.windows.tolist() == [3, 0, 0, 2, 5]
    assert read.split.tolist() == [0, -1, -1, 0, 0]
    assert read.digest.tolist() == [1, 2**64 - 1, 2**64 - 1, 4, 5]
    assert len(set(read.hashes.tolist())) == 10


@pytest.mark.parametrize("rows", [[0], [2, 3], [0, 1, 4, 9], list(range(10)), [9]])
def test_windows_are_found_across_chunks(tmp_path, rows):
    write(tmp_path / "part")
    whole = WindowBlock.joined([own for chunk in CHUNKS for _, own in chunk if own is not None])
    expected, found = whole.take(np.array(rows)), read_windows(tmp_path / "part", np.array(rows))
    for name in ("tokens", "velocity", "offset"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert list(found.meta) == list(expected.meta)


def test_records_are_one_line_a_file(tmp_path):
    write(tmp_path / "part")
    records = [json.loads(line) for line in read_records(tmp_path / "part")]
    assert [record["name"] for record in records] == list("abcde")
    assert records[0] == {
        "name": "a",
        "outcome": "accepted",
        "split": "train",
        "windows": 3,
        "filtered": {"min_hits": 3},
    }
    assert records[1] == {"name": "b", "outcome": "rejected", "reason": "too-short", "detail": "3 bars"}


def test_the_same_windows_give_the_same_content(tmp_path):
    assert write(tmp_path / "one").content == write(tmp_path / "two").content
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_part_of_another_making_is_not_believed(tmp_path):
    write(tmp_path / "part", key="other settings")
    assert read_summary(tmp_path / "part", "key") is None


@each_damage
def test_nor_is_a_damaged_one(tmp_path, damage):
    write(tmp_path / "part")
    damage_file(tmp_path / "part", damage)
    assert read_summary(tmp_path / "part", "key") is None


def test_one_with_a_rejection_that_may_pass_is_made_again(tmp_path):
    outcome = FileOutcome("a", 1, None, 0, {}, Rejection("a", Reason.TIMEOUT), settled=False)
    with writing_part(tmp_path / "part") as part:
        part.add(Chunk.of([(outcome, None)]))
        part.add(Chunk.of([rejected("b")]))
        part.finish("key")
    assert read_summary(tmp_path / "part", "key") is None
    assert len(read_records(tmp_path / "part")) == 2


def test_nor_one_torn_anywhere(tmp_path):
    write(tmp_path / "part")
    data = (tmp_path / "part").read_bytes()
    for length in range(0, len(data), len(data) // 40):
        (tmp_path / "part").write_bytes(data[:length])
        assert read_summary(tmp_path / "part", "key") is None


def test_an_error_leaves_nothing(tmp_path):
    def fail() -> None:
        with writing_part(tmp_path / "part") as part:
            part.add(Chunk.of(CHUNKS[0]))
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert list(tmp_path.iterdir()) == []
