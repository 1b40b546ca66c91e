"""Words of a bash script that stand for exactly one argument each, whatever is in it."""

import re
import shlex

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def quoted(text: str) -> str:
    """One word of bash, on one line.

    Control characters are written as escapes: sbatch refuses scripts with carriage returns, and a line break would end
    a comment or an option. Everything else stands as it is, so that a person can read it.

    Raises:
        ValueError: a NUL, which no argument can hold.
    """
    if "\0" in text:
        raise ValueError(f"an argument cannot hold NUL, found {text!r}")
    if not _CONTROL.search(text):
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _CONTROL.sub(_escape, escaped) + "'"


def _escape(match: re.Match[str]) -> str:
    # Bytes in octal: bash reads at most three digits, while \x would go on into a digit that follows.
    return "".join(f"\\{byte:03o}" for byte in match[0].encode(errors="surrogateescape"))


def sbatch_value(text: str) -> str:
    """The value of an option in a line #SBATCH, whose quotes and backslashes sbatch reads by itself.

    Raises:
        ValueError: a control character: such a line cannot be continued.
    """
    if _CONTROL.search(text):
        raise ValueError(f"an option of sbatch cannot hold control characters, found {text!r}")
    if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
