"""The course of a sampling, beside others on the same machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jobs.sampler import run as course
from jobs.sampler.job import job_of
from jobs.sampler.settings import Execution, SampleSettings
from jobs.sampler.work import SampleShare, SampleWork


class Here:
    """A runner on this machine, which does something else before it looks at what its node sees."""

    def __init__(self, before: Callable[[], object]) -> None:
        self._before = before

    def __call__(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], *, look: Callable[[], str]
    ) -> Iterator[tuple[int, Any]]:
        self._before()
        assert look() == ""
        return ((number, function(task)) for number, task in enumerate(tasks))


def test_two_shards_may_begin_at_the_same_moment(sample_run, tmp_path, monkeypatch):
    options = SampleSettings(count=4, run=str(sample_run))
    job, work, execution = job_of(options, tmp_path / "out"), SampleWork(tmp_path / "out"), Execution(chunk=4)
    work.claim(job.settings, options)
    waiting = [SampleShare(1, 2)]

    def other() -> None:
        if waiting:
            course.make_share(job, work, waiting.pop(), execution)

    @contextmanager
    def runner(*_: object, **__: object) -> Iterator[Here]:
        yield Here(other)

    monkeypatch.setattr(course, "task_runner", runner)
    course.make_share(job, work, SampleShare(0, 2), execution)
    assert work.missing_words(options) == ""
    assert not list((work.path / "writers").glob("*/seen-by-*"))
