"""Runs and submissions below some folders: the rows of `jobs.status`, and which submissions a command is about."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from cluster.attempts import PLAN
from cluster.job import Job, SchedulerStates
from cluster.status import ElementStatus, scheduler_says, statuses_from
from cluster.submission import Submission, read_submission, submissions_in
from jobs.submission.failures import FailureSummary, failures_of, failures_of_run, log_of_element
from jobs.submission.run_view import RunView, RunViews
from musicvae.errors import DAMAGES, ConfigError, DataError

ORDER = ("failed", "lost", "running", "saved", "waiting", "cancelled", "not submitted", "done")
"""Of several elements the first of these is the state of all."""
SUBMISSIONS = Path("submissions")


@dataclass(frozen=True, slots=True)
class Row:
    """A run, or a job of a submission.

    Attributes:
        name: of the folder, and of the job.
        elements: how many elements of an array are in each state; empty for others.
        why: it waits or failed, or what of its folder cannot be read.
        run: what it trains, if anything.
        submission, statuses: whose job it is, and how its elements stand.
        numbers: the target's, of elements that wait or run.
    """

    name: str
    folder: Path
    state: str
    elements: Mapping[str, int]
    restarts: int
    why: str
    run: RunView | None
    submission: Submission | None = None
    statuses: tuple[ElementStatus, ...] = ()
    numbers: tuple[str, ...] = ()

    def failures(self) -> list[FailureSummary]:
        """Of its elements, or of the run; none where the records of them are damaged."""
        with suppress(*DAMAGES):
            if self.submission is not None:
                return list(failures_of(self.submission, self.statuses, self.run))
            if self.run is not None:
                return list(failures_of_run(self.run))
        return []

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "state": self.state,
            "elements": dict(self.elements),
            "restarts": self.restarts,
            "why": self.why,
            "numbers": self.numbers,
            "run": None if self.run is None else {**asdict(self.run), "path": str(self.run.path)},
            "failures": [failure.to_json() for failure in self.failures()],
        }


def rows_of(folders: Iterable[Path], views: RunViews | None = None) -> Iterator[Row]:
    """The rows of runs, submissions, and folders that hold some, in the order of their names.

    Args:
        views: of an earlier look, where there was one.

    Raises:
        ConfigError: a folder is none of these.
    """
    views = views or RunViews()
    for folder in folders:
        entries = list(_below(folder, views))
        if not entries and not folder.is_dir():
            raise ConfigError(
                f"there is no run or submission in {folder}",
                expected="a run, a submission, or a folder of them",
                do="correct the path; without one, ./runs and ./submissions are shown",
            )
        submissions, said = _read_all(path for path, run in entries if run is None)
        for path, run in entries:
            if run is not None:
                yield Row(path.name, path, run.state, {}, run.restarts, "; ".join(run.problems), run)
                continue
            try:
                if not isinstance(submission := submissions[path], Submission):
                    raise submission
                rows = list(submission_rows(submission, said[submission.target, submission.ray_jobs], views))
            except DAMAGES as error:  # the others are shown all the same
                rows = [Row(path.name, path, "unknown", {}, 0, f"{PLAN} is damaged: {error}", None)]
            yield from rows
    views.keep()


def _read_all(
    paths: Iterable[Path],
) -> tuple[dict[Path, Submission | Exception], dict[tuple[str, str], SchedulerStates]]:
    """Submissions, or how they are damaged; and what each of their schedulers says, which is asked once."""
    submissions: dict[Path, Submission | Exception] = {}
    by_target: dict[tuple[str, str], list[Submission]] = {}
    for path in paths:
        try:
            submission = submissions[path] = read_submission(path)
            submission.receipts()
        except DAMAGES as error:
            submissions[path] = error
        else:
            by_target.setdefault((submission.target, submission.ray_jobs), []).append(submission)
    return submissions, {where: scheduler_says(group) for where, group in by_target.items()}


def _below(folder: Path, views: RunViews) -> Iterator[tuple[Path, RunView | None]]:
    """The runs and submissions that a folder is or holds; those without a view are submissions."""
    entries = sorted(folder.iterdir(), key=attrgetter("name")) if folder.is_dir() else []
    for path in (folder, *entries):
        run = views.kept(path)
        if run is None and (path / PLAN).is_file():
            yield path, None
        elif run or (run := views.read(path)):
            yield path, run
        else:
            continue
        if path == folder:
            return


def submission_rows(submission: Submission, scheduler: SchedulerStates, views: RunViews) -> Iterator[Row]:
    """A row for each job."""
    by_job: dict[str, list[ElementStatus]] = {job.name: [] for job in submission.jobs}
    for status in statuses_from(submission, scheduler):
        by_job[status.job.name].append(status)
    for job in submission.jobs:
        job_statuses = by_job[job.name]
        counts = Counter(status.state for status in job_statuses)
        state = next(state for state in ORDER if counts[state])  # type: ignore[index]
        why = next((status.why for status in job_statuses if status.state == state), "")
        yield Row(
            name=f"{submission.name} {job.name}",
            folder=submission.folder,
            state=state,
            elements=dict(counts) if job.array else {},
            restarts=sum(status.restarts for status in job_statuses),
            why="; ".join(filter(None, (why, _restarts(submission, job_statuses)))),
            run=_run_of(job, job_statuses, views),
            submission=submission,
            statuses=tuple(job_statuses),
            numbers=tuple(dict.fromkeys(number for status in job_statuses for number in status.numbers))
            if submission.target != "local"
            else (),
        )


def _run_of(job: Job, statuses: Iterable[ElementStatus], views: RunViews) -> RunView | None:
    """The run of a job; None if another job or command trained it last."""
    folder = Path(job.status).parent if job.status else None
    run = (views.kept(folder) or views.read(folder)) if folder else None
    if run is None:
        return None
    starts = {attempt.start for status in statuses for attempt in status.attempts}
    return run if run.launch is None or run.launch in starts else None


def _restarts(submission: Submission, statuses: Iterable[ElementStatus]) -> str:
    """What elements of a job have come again after."""
    again = (status for status in statuses if status.restarts)
    counts = Counter(
        cause for status in again for cause in status.restart_causes(log_of_element(submission, status)[1])
    )
    causes = ", ".join(f"{count} x {cause}" if count > 1 else cause for cause, count in counts.items())
    return f"restarted after: {causes}" if causes else ""


def chosen(folders: Iterable[Path], *, to_change: bool = False) -> list[Submission]:
    """The submissions that folders are, hold, or whose run they are; those in ./submissions without a folder.

    Args:
        to_change: whether the command changes them, which only their owner may do.

    Raises:
        TargetError: a submission to change is somebody else's.
        ConfigError: a folder has nothing to do with a submission.
        DataError: a plan is damaged.
    """
    submissions: dict[Path, Submission] = {}
    for folder in list(folders) or [SUBMISSIONS]:
        in_folder = [_read(path) for path in submissions_in(folder.absolute())] or _that_train(folder)
        if not in_folder:
            raise ConfigError(
                f"there is no submission in {folder}",
                expected="a submission, a folder of submissions, or a run of a submission in ./submissions",
                do="give the folder of a submission; python -m jobs.status shows those in ./submissions",
            )
        submissions |= {submission.folder: submission for submission in in_folder}
    for submission in submissions.values() if to_change else ():
        submission.check_ours()
    return list(submissions.values())


def _that_train(run: Path) -> list[Submission]:
    status = str((run / "status.json").absolute())
    submissions = map(_read, submissions_in(SUBMISSIONS.absolute()))
    return [submission for submission in submissions if any(job.status == status for job in submission.jobs)]


def _read(folder: Path) -> Submission:
    try:
        return read_submission(folder)
    except DAMAGES as error:
        raise DataError(
            f"the plan of {folder} is damaged", found=str(error), do="submit again, or delete the folder"
        ) from None
