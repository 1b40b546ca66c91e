"""What a submission keeps of itself, in a folder of its own.

plan.json          the jobs, where they go, and the site; written before anything is submitted
code               a link to the packages as they were: an edit of the checkout changes nothing for jobs that wait
JOB.sbatch         the script of each job, on SLURM
receipts.jsonl     what the target has taken: a line for each number that it gave
attempts/          what each element says when it starts and ends, see `cluster.attempts`
logs/              what each start of it printed
cancelled          there after a cancel
ends.jsonl         how jobs ended, as SLURM said when it was asked; it forgets them after a while

Beside the submissions lies `.code`, with a snapshot of the code for each content, named by its hash. Submissions of the
same code share one. The shipped models lie beside the snapshots, by a hash of their own, and snapshots link to them.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from cluster.attempts import ATTEMPTS, CANCELLED, PLAN, Attempt, Record
from cluster.code import BASELINES, SHIPPED_MODELS, is_secret
from cluster.errors import TargetError
from cluster.job import Job, SchedulerState, job_from_json
from cluster.sbatch import Place
from cluster.site import Site

CODE = "code"
STORE = ".code"
NAME = "snapshot.json"
UNFINISHED_SNAPSHOT = ".new-"
SNAPSHOT = re.compile(rf"[0-9a-f]{{16}}(-\d+)?|{re.escape(UNFINISHED_SNAPSHOT)}.+")
IN_USE_SECONDS = 3600
"""A snapshot that was taken or chosen so lately may be about to get its submission."""
PATCH = "changes.patch"
ENDS = "ends.jsonl"
MADE = re.compile(
    r"plan\.json|\.plan\.json\.tmp|receipts\.jsonl|ends\.jsonl|cancelled|ray-token\..+|[^/]+\.sbatch|(code|attempts|logs|meeting\.[^/]+)/.+"
)
"""Paths of what belongs to a submission in its folder."""
Target = Literal["local", "slurm", "ray"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The target has taken elements of a job under a number.

    Attributes:
        first: what the target's number of an element is counted from.
        elements: the numbers of the elements, counted in the job.
        host: where it was submitted.
        when: seconds since the epoch.
    """

    job: str
    number: str
    first: int
    elements: tuple[int, ...]
    host: str
    when: float


@dataclass(frozen=True, slots=True)
class Submission:
    """The folder of one submission.

    Attributes:
        ray_jobs: the URL of the Ray cluster that it was given to.
    """

    folder: Path
    target: Target
    working_folder: Path
    site: Site
    jobs: tuple[Job, ...]
    ray_jobs: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def code(self) -> Path:
        return self.folder / CODE

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def place(self) -> Place:
        """Where its scripts find everything."""
        return Place(self.folder, self.code, self.working_folder)

    def check_ours(self) -> None:
        """Lets pass what this user may change.

        Raises:
            TargetError: somebody else's.
        """
        if os.access(self.folder, os.W_OK):
            return
        try:
            owner = self.folder.owner()
        except KeyError:  # a user of another machine
            owner = f"user {self.folder.stat().st_uid}"
        raise TargetError(
            f"{self.folder} belongs to {owner}",
            expected="a submission that you may change; of others you can see the status and logs",
            do=f"ask {owner} to run this command, or run jobs.submit in a folder of your own",
        )

    def write_plan(self) -> None:
        """Makes the folder, which only its owner can open, and says what is meant to be done, before it is."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True)
        plan = {
            "target": self.target,
            "working_folder": str(self.working_folder),
            "site": self.site.model_dump(mode="json"),
            "ray_jobs": self.ray_jobs,
            "jobs": [job.to_json() for job in self.jobs],
        }
        aside = self.folder / f".{PLAN}.tmp"
        aside.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
        aside.replace(self.folder / PLAN)

    def take_receipt(self, job: Job, number: str, elements: Sequence[int], *, first: int = 0) -> None:
        """Writes down that the target has taken elements of a job."""
        receipt = Receipt(job.name, number, first, tuple(elements), socket.gethostname(), time.time())
        with (self.folder / "receipts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(receipt)) + "\n")

    def receipts(self) -> list[Receipt]:
        """In order."""
        try:
            whole, _, _ = (self.folder / "receipts.jsonl").read_text(encoding="utf-8").rpartition("\n")
        except OSError:
            return []
        values = [json.loads(line) for line in whole.splitlines()]
        return [Receipt(**{**fields, "elements": tuple(fields["elements"])}) for fields in values]

    def remember_ends(
        self, scheduler: Mapping[tuple[str, int], SchedulerState], *, live: Sequence[str]
    ) -> Mapping[tuple[str, int], SchedulerState]:
        """What the scheduler says, and how it said that jobs had ended that it has forgotten since.

        Args:
            live: its words for jobs that have not ended.
        """
        path = self.folder / ENDS
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            lines = []
        known = {(number, element): SchedulerState(state, reason) for number, element, state, reason in lines}
        keys = {(receipt.number, n - receipt.first) for receipt in self.receipts() for n in receipt.elements}
        states = {key: scheduler[key] for key in keys & scheduler.keys()}
        new = [[*key, *astuple(state)] for key, state in states.items() if state.state not in live and key not in known]
        if new:
            with suppress(OSError), path.open("a", encoding="utf-8") as file:  # of somebody else, or on a full disk
                file.write("".join(f"{json.dumps(line)}\n" for line in new))
        return known | states

    def attempts(self, job: Job, element: int) -> list[Attempt]:
        """At an element of a job, in order."""
        return Record.of(self.folder, job.name, element).attempts()

    def forget(self) -> None:
        """Forgets what was done, so that all of it is done once more."""
        shutil.rmtree(self.folder / ATTEMPTS, ignore_errors=True)
        for name in ("receipts.jsonl", ENDS):
            (self.folder / name).unlink(missing_ok=True)

    @property
    def cancelled(self) -> bool:
        return (self.folder / CANCELLED).exists()

    def mark_cancelled(self, cancelled: bool) -> None:
        """Nothing of a cancelled submission starts again, until it is submitted again."""
        if cancelled:
            (self.folder / CANCELLED).touch()
        else:
            (self.folder / CANCELLED).unlink(missing_ok=True)

    def job_logs(self, job: Job) -> list[Path]:
        """The logs of a job, the one written last at the end."""
        logs = [path for path in self.logs.glob("*.log") if path.name.startswith(f"{job.name}-")]
        return sorted(logs, key=lambda path: path.stat().st_mtime)


def log_name(job: Job, number: str, element: int) -> str:
    """The log of an element that a target has taken under a number, which counts elements from a receipt's `first`."""
    return f"{job.name}-{number}_{element}.log" if job.array else f"{job.name}-{number}.log"


def read_submission(folder: Path) -> Submission:
    """What `write_plan` wrote.

    Raises:
        OSError, ValueError, KeyError: there is none, or it is damaged.
    """
    plan: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    return Submission(
        folder=folder,
        target=plan["target"],
        working_folder=Path(plan["working_folder"]),
        site=Site.model_validate(plan["site"]),
        jobs=tuple(job_from_json(values) for values in plan["jobs"]),
        ray_jobs=plan["ray_jobs"],
    )


def submissions_in(folder: Path) -> Iterator[Path]:
    """The submissions below a folder, or itself, in the order of their names."""
    if (folder / PLAN).is_file():
        yield folder
        return
    if folder.is_dir():
        yield from sorted(path.parent for path in folder.glob(f"*/{PLAN}"))


def keep_snapshot(checkout: Path, packages: Sequence[str], submission: Submission) -> list[str]:
    """Links a submission to a snapshot of the code as it stands, which it shares with others of the same content.

    In a folder of submissions that has the store of another user, the submission gets a snapshot of its own.

    Returns:
        What was left out of the snapshot.

    Raises:
        TargetError: this is no checkout of git.
    """
    store, link = submission.folder.parent / STORE, submission.code
    if link.is_symlink():
        link.unlink()
    shutil.rmtree(link, ignore_errors=True)
    store.mkdir(exist_ok=True, mode=0o700)
    if store.is_symlink() or store.stat().st_uid != os.getuid():
        return take_snapshot(checkout, packages, link)
    aside = Path(tempfile.mkdtemp(prefix=UNFINISHED_SNAPSHOT, dir=store))
    try:
        left_out = take_snapshot(checkout, packages, aside)
        for models in (aside / name for name in (SHIPPED_MODELS, BASELINES)):
            if models.is_dir():
                _link(models, _stored(models, store))
        _link(link, _stored(aside, store))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return left_out


def _link(path: Path, kept: Path) -> None:
    """Puts a link to what a store has in the place of a folder with the same content."""
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(os.path.relpath(kept, path.parent))


def _stored(folder: Path, store: Path) -> Path:
    """The place of a folder's content in a store; it is moved there where the store does not have it."""
    content = _content_hash(folder)
    for number in count(1):
        kept = store / (content if number == 1 else f"{content}-{number}")
        with suppress(OSError):  # there is something
            folder.rename(kept)
        # Somebody may have edited what is there.
        if not folder.exists() or _content_hash(kept) == content:
            os.utime(kept)
            return kept
    raise AssertionError("numbers end")


def _content_hash(folder: Path) -> str:
    """Of the names, modes and bytes of its files, and of its links, without what Python adds."""
    content = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.parent.name != "__pycache__"):
        if path.is_symlink():
            kept = str(path.readlink())
        elif path.is_file():
            kept = f"{path.stat().st_mode & 0o700}\0{hashlib.sha256(path.read_bytes()).hexdigest()}"
        else:
            continue
        content.update(f"{path.relative_to(folder)}\0{kept}\n".encode(errors="replace"))
    return content.hexdigest()[:16]


def unused_snapshots(submissions: Path) -> list[Path]:
    """What no submission uses, of the snapshots and models in the store of a folder of submissions."""
    store = submissions / STORE
    entries = [path for path in store.glob("*") if SNAPSHOT.fullmatch(path.name)]
    used = {link.readlink().name for link in submissions.glob(f"*/{CODE}") if link.is_symlink()}
    used |= {path.name for path in entries if path.stat().st_mtime > time.time() - IN_USE_SECONDS}
    kept = [path / name for path in entries if path.name in used for name in (SHIPPED_MODELS, BASELINES)]
    used |= {link.readlink().name for link in kept if link.is_symlink()}
    return sorted(path for path in entries if path.name not in used)


def take_snapshot(checkout: Path, packages: Sequence[str], folder: Path) -> list[str]:
    """Copies packages of a checkout as they stand, changed and new files too, but none that git ignores.

    Modes are kept, within the umask. Links, and files that look like secrets (`cluster.code.is_secret`), are left out.
    Beside the packages `snapshot.json` names the commit, whether the tree had been changed since, and what was left
    out; `changes.patch` has the changes of what was copied.

    Returns:
        What was left out.

    Raises:
        TargetError: this is no checkout of git.
    """
    listed = _git(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *packages)
    folder.mkdir(parents=True, exist_ok=True)
    left_out = []
    for name in sorted({*listed.split("\0")} - {""}):
        source, target = checkout / name, folder / name
        if is_secret(name) or source.resolve() != checkout.resolve() / name:  # a link, or behind one
            left_out.append(name)
        elif source.is_file():  # a file that was removed is still listed
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(mode=source.stat().st_mode & 0o777 | 0o200)  # the umask holds here too
            shutil.copyfile(source, target)
    about = {
        "commit": _git(checkout, "rev-parse", "HEAD").strip(),
        "dirty": bool(_git(checkout, "status", "--porcelain")),
        "left_out": left_out,
    }
    (folder / NAME).write_text(json.dumps(about) + "\n", encoding="utf-8")
    kept = [*packages, *(f":(exclude,literal){name}" for name in left_out)]
    (folder / PATCH).write_text(
        _git(checkout, "diff", "--binary", "HEAD", "--", *kept), errors="surrogateescape", encoding="utf-8"
    )
    return left_out


def read_snapshot(folder: Path) -> dict[str, Any] | None:
    """`commit` and `dirty` of the checkout that a folder is a snapshot of; None if it is no snapshot."""
    try:
        return json.loads((folder / NAME).read_text(encoding="utf-8"))
    except OSError:
        return None


def _git(checkout: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TargetError(
            f"cannot keep a copy of the code in {checkout}",
            expected="git, and a checkout with a commit",
            found=(getattr(error, "stderr", b"") or str(error).encode()).decode(errors="replace").strip(),
            do="submit from a clone of the repository",
        ) from None
    return result.stdout.decode(errors="surrogateescape")
