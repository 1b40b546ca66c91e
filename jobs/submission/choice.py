"""Which submissions a command is about, from the folders that it is given."""

from collections.abc import Iterable
from pathlib import Path

from cluster.submission import Submission, read_submission, submissions_in
from musicvae.errors import ConfigError, DataError

SUBMISSIONS = Path("submissions")


def chosen(folders: Iterable[Path]) -> list[Submission]:
    """The submissions that folders are, hold, or whose run they are; those in ./submissions without a folder.

    Raises:
        ConfigError: a folder has nothing to do with a submission.
        DataError: a plan is damaged.
    """
    found: dict[Path, Submission] = {}
    for folder in list(folders) or [SUBMISSIONS]:
        own = [_read(path) for path in submissions_in(folder.absolute())] or _that_train(folder)
        if not own:
            raise ConfigError(
                f"no submission in {folder}",
                expected="a folder that jobs.submit made, one that holds some, or a run of one in ./submissions",
                do="name it; python -m jobs.status shows those of ./submissions",
            )
        found |= {submission.folder: submission for submission in own}
    return list(found.values())


def _that_train(run: Path) -> list[Submission]:
    status = str((run / "status.json").absolute())
    submissions = map(_read, submissions_in(SUBMISSIONS.absolute()))
    return [one for one in submissions if any(job.status == status for job in one.jobs)]


def _read(folder: Path) -> Submission:
    try:
        return read_submission(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the plan of {folder} is damaged", found=str(error), do="submit again, or remove the folder"
        ) from None
