"""The course of a sampling: what is missing is made, and once nothing is, all is put together."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from rich.progress import track

from jobs.command.command_line import console
from jobs.sampler.parts import Span
from jobs.sampler.sample_chunk import ChunkMaker
from jobs.sampler.sample_job import SampleJob
from jobs.sampler.sample_merge import Merged, merge, selection
from jobs.sampler.sample_options import REFILL_LIMIT, SampleOptions
from jobs.sampler.sample_runner import sample_runner
from jobs.sampler.sample_shard import Shard
from jobs.sampler.sample_work import SampleWork
from jobs.sampler.selection import Selected
from musicvae.errors import ConfigError, DataError, FolderInUseError
from musicvae.generation.generate import BATCH
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord, record_of
from musicvae.pretrained.training_windows import training_windows
from preprocess.on_ray import TaskRunner
from preprocess.work_folder import check_shared


@dataclass(frozen=True, slots=True)
class Means:
    """What a sampling is made with; nothing of it changes the output.

    Attributes:
        chunk: items of a task, and of a part.
        workers: processes, or tasks at a time on Ray; None is one process, or what the cluster has.
    """

    chunk: int
    workers: int | None = None
    ray_address: str | None = None


def make_shard(job: SampleJob, work: SampleWork, options: SampleOptions, shard: Shard, means: Means) -> None:
    """Makes what is missing of a shard.

    Raises:
        ConfigError: somebody else makes it, a worker was killed, or no cluster answers.
        OSError: something cannot be written.
    """
    with work.writer(shard) as scratch:
        work.grow(options)
        chunks = work.chunks(shard.stretches(options), means.chunk)
        _make(ChunkMaker(job, work.parts.folder, scratch), chunks, means)


def finish(
    job: SampleJob, work: SampleWork, options: SampleOptions, training: TrainingRecord | None, means: Means
) -> Merged | None:
    """Puts the output together if nothing is missing; None if something is, or somebody else is at it.

    Raises:
        ConfigError: a worker was killed.
        DataError: nothing is kept, --refill finds too little, or a part is damaged.
        OSError: something cannot be written.
    """
    if work.parts.missing(Shard().stretches(options)):
        return None
    try:
        with work.merging() as scratch:
            selected = _selected(job, work, options, training, means)
            return merge(job, work, options, training, selected, scratch)
    except FolderInUseError:
        return None


def training_record(job: SampleJob, options: SampleOptions, trained: TrainedModel) -> TrainingRecord | None:
    """What is known of the training windows: from the shards, or carried by the model.

    Raises:
        ConfigError: other shards, or nothing is known where the options need it.
    """
    if job.shards is not None:
        return record_of(training_windows(trained, job.shards), trained.grid, trained.drum_map)
    by_distance = (options.by or "").endswith("nearest_training")
    if by_distance or (options.drop_memorised and trained.training is None):
        raise ConfigError(
            "--by nearest_training needs the training windows" if by_distance else "what is memorised is not known",
            expected="--shards, the shards that the model was trained on",
            found="no --shards" + ("" if by_distance else ", and a model without hashes of its training windows"),
            likely="" if by_distance else "a run folder, or an export without --shards",
            do="add --shards" + ("" if by_distance else ", or sample what python -m jobs.export --shards wrote"),
        )
    return trained.training


def _selected(
    job: SampleJob, work: SampleWork, options: SampleOptions, training: TrainingRecord | None, means: Means
) -> Selected:
    """What to keep; with --refill more is made until there is enough."""
    trained, made = job.trained(), options.count
    while (found := selection(work, options, trained, training, made)).lacking:
        if made >= REFILL_LIMIT * options.count:
            raise DataError(
                f"--refill finds no {options.count} grooves",
                expected=f"{options.count} that are kept",
                found=f"{options.count - found.lacking} of {made}",
                likely="a model, or a temperature, that makes the same few grooves again and again",
                do="raise --temperature, or leave --refill out",
            )
        # As many as would do at the share kept so far, in whole inner batches.
        kept = max(1, options.count - found.lacking)
        more = -(-found.lacking * made // (kept * BATCH)) * BATCH
        until = min(made + more, REFILL_LIMIT * options.count)
        with work.writer(Shard()) as scratch:
            chunks = work.chunks([Span(made, until)], means.chunk)
            _make(ChunkMaker(job, work.parts.folder, scratch), chunks, means)
        made = until
    if not len(found.items):
        raise DataError(
            "no groove is kept",
            expected="at least one",
            found=", ".join(f"{reason}: {count}" for reason, count in found.dropped.items()),
            do="leave --drop-memorised out to see what the model makes",
        )
    return found


def _make(maker: ChunkMaker, chunks: list[Span], means: Means) -> None:
    if not chunks:
        return
    with sample_runner(means.workers, means.ray_address) as run:
        sources = [path for path in (maker.job.model.run, maker.job.shards) if path is not None]
        check_shared(run, maker.scratch, sources)
        for _ in _with_progress(partial(_sizes, run, maker, chunks)(), sum(c.last - c.first for c in chunks)):
            pass


def _sizes(run: TaskRunner, maker: ChunkMaker, chunks: list[Span]) -> Iterator[int]:
    for _, made in run(maker, chunks):
        yield from range(made)


def _with_progress(made: Iterator[int], total: int) -> Iterator[int]:
    """A moving line on a terminal, nothing elsewhere."""
    quiet = not console.is_terminal
    yield from track(made, "decoding", total=total, console=console, transient=True, disable=quiet)
