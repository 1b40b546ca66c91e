"""The rows of `jobs.status`: runs and submissions below some folders, each told from what it wrote down itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.attempts import PLAN
from cluster.job import Told
from cluster.standing import Standing, scheduler_says, standings_told
from cluster.submission import Submission, read_submission
from jobs.submission.failures import FailureSummary, failures_of, failures_of_run
from jobs.submission.run_view import RunView, is_run, read_run_view
from musicvae.errors import ConfigError

ORDER = ("failed", "lost", "running", "saved", "waiting", "cancelled", "not submitted", "done")
"""Of several elements the first of these is the state of all."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run, or a job of a submission.

    Attributes:
        name: of the folder, and of the job.
        elements: how many elements of an array are in each state; empty for others.
        why: it waits or failed, or what of its folder cannot be read.
        run: what it trains, if anything.
        submission, standings: whose job it is, and how its elements stand.
    """

    name: str
    folder: Path
    state: str
    elements: Mapping[str, int]
    restarts: int
    why: str
    run: RunView | None
    submission: Submission | None = None
    standings: tuple[Standing, ...] = ()

    def failures(self) -> Iterator[FailureSummary]:
        """Of its elements, or of the run."""
        if self.submission is not None:
            yield from failures_of(self.submission, self.standings, self.run)
        elif self.run is not None:
            yield from failures_of_run(self.run)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "state": self.state,
            "elements": dict(self.elements),
            "restarts": self.restarts,
            "why": self.why,
            "run": None if self.run is None else {**asdict(self.run), "path": str(self.run.path)},
            "failures": [failure.to_json() for failure in self.failures()],
        }


def rows_of(folders: Iterable[Path]) -> Iterator[Row]:
    """The rows of runs, submissions, and folders that hold some, in the order of their names.

    Raises:
        ConfigError: a folder is none of these.
    """
    said: dict[tuple[str, str], Told] = {}
    for folder in folders:
        found = list(_below(folder))
        if not found and not folder.is_dir():
            raise ConfigError(
                f"there is nothing in {folder}",
                expected="a run, a submission, or a folder that holds some",
                do="name the folder; without one, ./runs and ./submissions are shown",
            )
        for path, kind in found:
            if kind == "run":
                yield run_row(path)
                continue
            try:
                submission = read_submission(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                yield Row(path.name, path, "unknown", {}, 0, f"{PLAN} is damaged: {error}", None)
                continue
            where = (submission.target, submission.ray_jobs)
            if where not in said:
                said[where] = scheduler_says(submission)
            yield from submission_rows(submission, said[where])


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in [folder, *(sorted(folder.iterdir()) if folder.is_dir() else [])]:
        if (path / PLAN).exists():
            yield path, "submission"
        elif is_run(path):
            yield path, "run"
        else:
            continue
        if path == folder:
            return


def run_row(path: Path) -> Row:
    """The row of a run by itself."""
    run = read_run_view(path)
    return Row(path.name, path, run.state, {}, run.restarts, "; ".join(run.problems), run)


def submission_rows(submission: Submission, scheduler: Told) -> Iterator[Row]:
    """A row for each job."""
    by_job: dict[str, list[Standing]] = {job.name: [] for job in submission.jobs}
    for standing in standings_told(submission, scheduler):
        by_job[standing.job.name].append(standing)
    for job in submission.jobs:
        own = by_job[job.name]
        counts = Counter(standing.state for standing in own)
        state = next(state for state in ORDER if counts[state])  # type: ignore[index]
        run = read_run_view(Path(job.status).parent) if job.status and is_run(Path(job.status).parent) else None
        yield Row(
            name=f"{submission.name} {job.name}",
            folder=submission.folder,
            state=state,
            elements=dict(counts) if job.array else {},
            restarts=sum(standing.restarts for standing in own),
            why=next((standing.why for standing in own if standing.state == state), ""),
            run=run,
            submission=submission,
            standings=tuple(own),
        )
