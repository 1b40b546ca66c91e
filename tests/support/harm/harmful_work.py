"""Work that takes what hostile input does to a process.

The processes that do it import this module and nothing of pytest, which each of them would load anew.
"""

import ctypes
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

TOGETHER = 3
"""Items that are handed over at once."""


@dataclass
class Work:
    """Gathers its items; some of them do harm."""

    gathered: list[str] = field(default_factory=list)

    def do(self, item: str) -> bool:
        match item:
            case "segfault":
                ctypes.string_at(0)
            case "sleep":
                time.sleep(3600)
            case "spin":
                while True:
                    pass
            case "allocate":
                kept = []
                while True:
                    kept.append(bytes(10_000_000))
            case "exit":
                os._exit(7)
            case "raise":
                raise ValueError("no such thing")
            case "print":
                print("into the answers?")
                os.write(1, b"or so?")
        self.gathered.append(item)
        return len(self.gathered) == TOGETHER

    def hand_over(self) -> list[str]:
        done, self.gathered = self.gathered, []
        return done


@dataclass
class FailsOnce:
    """Dies the first time that it is tried, as an item does whose process somebody else kills."""

    marker: Path

    def do(self, item: str) -> bool:
        if item == "unlucky" and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    def hand_over(self) -> str:
        return "done"
