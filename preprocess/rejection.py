"""Why a file gave no windows."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Every file that is seen is accepted or has exactly one of these."""

    UNREADABLE = "unreadable"
    """The file system refuses to give its bytes."""
    TOO_LARGE = "too-large"
    """More bytes or bars than the limits allow."""
    NOT_MIDI = "not-midi"
    """Another format, or damaged."""
    NO_DRUMS = "no-drums"
    """No hit of a known pitch on channel 10."""
    METRE = "metre"
    """Not in 4/4 from start to end."""
    TOO_SHORT = "too-short"
    """Fewer bars than one window."""
    DUPLICATE_FILE = "duplicate-file"
    """The same content as a file earlier by name, in a collection that does not list its files."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A file that is not used, with the numbers that decided it."""

    source: str
    reason: Reason
    detail: str = ""
