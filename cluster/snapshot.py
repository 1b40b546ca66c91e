"""The code of a submission as it was: an edit of the checkout changes nothing for jobs that wait."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.errors import TargetError

NAME = "snapshot.json"
PATCH = "changes.patch"


def take_snapshot(checkout: Path, packages: Sequence[str], folder: Path) -> None:
    """Copies packages of a checkout as they stand, changed and new files too, but none that git ignores.

    Beside them `snapshot.json` names the commit and whether the tree had been changed since; `changes.patch` has the
    changes of the whole checkout.

    Raises:
        TargetError: this is no checkout of git.
    """
    listed = _git(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *packages)
    for name in sorted({*listed.split("\0")} - {""}):
        source, target = checkout / name, folder / name
        if source.is_file():  # a file that was removed is still listed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    about = {
        "commit": _git(checkout, "rev-parse", "HEAD").strip(),
        "dirty": bool(_git(checkout, "status", "--porcelain")),
    }
    (folder / NAME).write_text(json.dumps(about) + "\n")
    (folder / PATCH).write_text(_git(checkout, "diff", "--binary", "HEAD"), errors="surrogateescape")


def read_snapshot(folder: Path) -> dict[str, Any] | None:
    """`commit` and `dirty` of the checkout that a folder is a snapshot of; None if it is no snapshot."""
    try:
        return json.loads((folder / NAME).read_text())
    except OSError:
        return None


def _git(checkout: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TargetError(
            f"cannot keep a copy of the code in {checkout}",
            expected="a checkout of git with a commit, and git itself",
            found=(getattr(error, "stderr", b"") or str(error).encode()).decode(errors="replace").strip(),
            do="submit from a clone of the repository",
        ) from None
    return result.stdout.decode(errors="surrogateescape")
