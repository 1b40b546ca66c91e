"""Why a file gave no windows."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Every file that is seen is accepted or has exactly one of these."""

    UNREADABLE = "unreadable"
    """The file system or the archive refuses to give its bytes."""
    TOO_LARGE = "too-large"
    """More bytes, drum hits or bars than the limits allow."""
    NOT_MIDI = "not-midi"
    """Another format, or damaged."""
    SMPTE = "smpte"
    """Time in frames of film instead of beats: it has no bars."""
    NO_DRUMS = "no-drums"
    """No hit of a known pitch on the drum channels."""
    UNKNOWN_PITCH = "unknown-pitch"
    """A hit that the drum map does not know, where `reading.unknown_pitch` is reject."""
    METRE = "metre"
    """Not a bar in 4/4."""
    TOO_SHORT = "too-short"
    """No section in 4/4 has as many bars as a window."""
    FILTERED = "filtered"
    """Every one of its windows is left out by the filters."""
    DUPLICATE_FILE = "duplicate-file"
    """The same content as a file earlier by name, in a collection that does not list its files."""
    TIMEOUT = "timeout"
    """Its conversion took more than `limits.cpu_seconds` or `limits.wall_seconds`, twice, alone."""
    MEMORY = "memory"
    """Its conversion needed more than `limits.memory_mib`, twice, alone."""
    WORKER_DIED = "worker-died"
    """Its conversion ended the process that did it, twice, alone."""
    INTERNAL_ERROR = "internal-error"
    """A bug of this program; the detail belongs in a report to its authors."""


PASSING = frozenset({Reason.UNREADABLE, Reason.TIMEOUT, Reason.MEMORY, Reason.WORKER_DIED, Reason.INTERNAL_ERROR})
"""Reasons that may be gone when the file is tried again another day, on another machine or by a mended program."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A file that is not used, with the numbers that decided it."""

    source: str
    reason: Reason
    detail: str = ""
