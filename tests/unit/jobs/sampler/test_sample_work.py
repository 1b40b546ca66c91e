"""The work area of a sampling: whose it is, who works there, what is left to do."""

import json
import os
import time
from pathlib import Path

import pytest

from jobs.sampler.parts import Span
from jobs.sampler.settings import SampleSettings
from jobs.sampler.work import SETTINGS, SampleShare, SampleWork
from musicvae.errors import ConfigError, DataError, FolderInUseError
from tests.unit.jobs.sampler.test_sample_part import rows_of

SOME = {"seed": 1, "temperature": 1.0}


@pytest.fixture
def work(tmp_path: Path) -> SampleWork:
    work = SampleWork(tmp_path / "out")
    work.claim(SOME, SampleSettings(count=10))
    return work


def test_the_same_job_may_come_again_and_grow(work):
    work.claim(SOME, SampleSettings(count=10))
    work.claim(SOME, SampleSettings(count=20))
    assert work.options().count == 10
    work.grow(SampleSettings(count=20))
    assert work.options().count == 20
    with pytest.raises(ConfigError, match="contains more grooves"):
        work.claim(SOME, SampleSettings(count=10))


def test_other_settings_are_refused_by_name(work):
    with pytest.raises(ConfigError, match="other settings") as refused:
        work.claim({"seed": 1, "temperature": 0.5}, SampleSettings(count=10))
    assert "expected  temperature 1.0" in str(refused.value)
    assert "found     temperature 0.5" in str(refused.value)
    assert "seed" not in str(refused.value).replace("seed 1", "")


def test_options_come_back(work):
    work.grow(options := SampleSettings(count=12, tempo=99.0, best=3, by="syncopation"))
    assert work.options() == options


def test_a_record_that_was_edited_is_named(work):
    (work.path / "job.json").write_text("{}")
    with pytest.raises(DataError, match=r"job\.json cannot be used"):
        work.claim(SOME, SampleSettings(count=10))


def test_a_shard_has_one_writer_and_others_have_theirs(work):
    with work.writer(SampleShare(0, 2)), work.writer(SampleShare(1, 2)):
        with pytest.raises(FolderInUseError), work.writer(SampleShare(1, 2)):
            pass
        for other in (SampleShare(0, 3), SampleShare(0, 1)):
            with pytest.raises(FolderInUseError), work.writer(other):
                pass
    with work.writer(SampleShare(0, 1)):
        pass


def test_a_writer_finds_its_folder_without_what_a_killed_one_left(work):
    with work.writer(SampleShare()) as scratch:
        (scratch / ".chunk.abc.tmp").mkdir()
        (scratch / ".chunk.abc.tmp" / "groove-00000.mid").write_bytes(b"half")
    with work.writer(SampleShare()) as scratch:
        assert [path.name for path in scratch.iterdir()] == ["lock"]


def test_one_puts_together_and_its_folder_goes(work):
    (work.out / SETTINGS).write_text('{"count": 10}')
    with work.merging() as scratch:
        assert not work.is_whole, "what is being replaced does not look whole"
        (scratch / "manifest.jsonl").touch()
        with pytest.raises(FolderInUseError), work.merging():
            pass
    assert not scratch.exists()


def test_chunks_are_what_is_missing_cut_at_round_places(work):
    assert work.chunks([Span(0, 10)], 4) == [Span(0, 4), Span(4, 8), Span(8, 10)]
    work.finished.write(rows_of(3, 5))
    assert work.chunks([Span(0, 10)], 4) == [Span(0, 3), Span(5, 8), Span(8, 10)]
    assert work.chunks([Span(0, 10)], 100) == [Span(0, 3), Span(5, 10)]
    work.finished.write(rows_of(0, 10))
    assert work.chunks([Span(0, 10)], 4) == []


def test_overwriting_keeps_what_this_very_job_has_begun(work):
    work.finished.write(rows_of(0, 4))
    work.clear(SOME, SampleSettings(count=10))
    assert work.finished.missing([Span(0, 4)]) == []
    (work.out / SETTINGS).write_text(json.dumps({"count": 10}))
    work.clear(SOME, SampleSettings(count=10))
    assert list(work.out.iterdir()) == []


@pytest.mark.parametrize("name", ["favourites.json", "000/groove-00001.mid", "song.als"])
def test_overwriting_names_what_somebody_saved_or_edited(work, name):
    work.finished.write(rows_of(0, 4))
    (work.out / "000").mkdir()
    (work.out / "000" / "groove-00001.mid").touch()
    (work.out / SETTINGS).write_text(json.dumps({"count": 4}))
    (work.out / name).write_text("mine")
    os.utime(work.out / name, (time.time() + 60, time.time() + 60))
    for _ in range(2):  # a refusal leaves nothing that makes the next one believe it
        with pytest.raises(ConfigError, match=rf"did not write(.|\n)* {name}\n"):
            work.clear({"seed": 2}, SampleSettings(count=10))
    assert (work.out / name).read_text() == "mine"
    assert (work.out / "000" / "groove-00001.mid").exists()


def test_overwriting_clears_what_cannot_be_read(work):
    (work.path / "job.json").write_text("{")
    work.clear(SOME, SampleSettings(count=10))
    assert list(work.out.iterdir()) == []


def test_overwriting_leaves_what_is_being_worked_on(work):
    with work.writer(SampleShare()), pytest.raises(FolderInUseError):
        work.clear({"seed": 2}, SampleSettings(count=10))
    assert work.options().count == 10


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").touch()
    work = SampleWork(tmp_path)
    for refuse in (work.check_out, lambda: work.clear(SOME, SampleSettings(count=1))):
        with pytest.raises(ConfigError, match="exists"):
            refuse()
