"""The course of a sampling, beside others on the same machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jobs.sampler import run as course
from jobs.sampler.job import job_of
from jobs.sampler.options import SampleOptions
from jobs.sampler.work import SampleWork, Shard


class Here:
    """A runner on this machine, which does something else before it looks at what its node sees."""

    def __init__(self, before: Callable[[], object]) -> None:
        self._before = before

    def __call__(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        return ((number, function(task)) for number, task in enumerate(tasks))

    def on_every_node(self, function: Callable[[], Any]) -> list[tuple[str, Any]]:
        self._before()
        return [("here", function())]


def test_two_shards_may_begin_at_the_same_moment(sample_run, tmp_path, monkeypatch):
    options = SampleOptions(count=4, run=str(sample_run))
    job, work, means = job_of(options, tmp_path / "out"), SampleWork(tmp_path / "out"), course.Means(chunk=4)
    work.claim(job.settings, options)
    waiting = [Shard(1, 2)]

    def other() -> None:
        if waiting:
            course.make_shard(job, work, options, waiting.pop(), means)

    @contextmanager
    def runner(*_: object, **__: object) -> Iterator[Here]:
        yield Here(other)

    monkeypatch.setattr(course, "task_runner", runner)
    course.make_shard(job, work, options, Shard(0, 2), means)
    assert work.missing_words(options) == ""
    assert not list((work.path / "writers").glob("*/seen-by-*"))
