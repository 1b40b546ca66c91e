"""What a terminal is given: no character that it would obey instead of showing it, and none that it cannot show."""

import codecs
import io
import re
import sys
from contextlib import suppress

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Escape sequences, other directions of writing."""
ASCII = str.maketrans("░▒▓█·┊│−–×", "-xxX.:|--x")


def shown(text: str) -> str:
    """A text whose control characters, but for tabs and ends of lines, are spelt out: `\\x1b`."""
    return CONTROLS.sub(lambda control: repr(control.group())[1:-1], text)


def degrade_to_ascii() -> None:
    """Has stdout and stderr write in ASCII what they cannot encode, so that no character ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            with suppress(OSError):  # a stream that was made over a pipe as if it were a file
                stream.reconfigure(errors="in ASCII")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(ASCII)
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("in ASCII", _in_ascii)
