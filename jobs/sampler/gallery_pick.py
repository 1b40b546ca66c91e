"""The list of grooves that a gallery saves, as `jobs.sample --pick LIST` takes it: one id a line."""

import re
from pathlib import Path

from musicvae.errors import ConfigError

PICKED = re.compile(r"groove-([0-9]{5,15})", re.ASCII)


def read_pick(path: Path) -> list[int]:
    """The numbers of the items that a list names, in its order. An id that occurs again counts once.

    Raises:
        ConfigError: the list cannot be read, names nothing, or has a line that is no id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else "a file that is no text"
        raise _refused(path, f"{found}", "give the list that a gallery saved") from None
    picked: dict[int, None] = {}
    for number, line in enumerate(lines, start=1):
        if not (text := line.strip()):
            continue
        if not (match := PICKED.fullmatch(text)):
            raise _refused(path, f"{_short(text)} in line {number}", "take the line out, or give the list of a gallery")
        picked[int(match[1])] = None
    if not picked:
        raise _refused(path, "no ids", "mark favourites in a gallery and save the list")
    return list(picked)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _refused(path: Path, found: str, do: str) -> ConfigError:
    expected = "text with one id a line, as groove-00012"
    return ConfigError(f"--pick {path} cannot be used", expected=expected, found=found, do=do)
