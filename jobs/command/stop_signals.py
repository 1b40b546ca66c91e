"""From the operating system's signals, a lost parent and a deadline to plain facts; nothing heavy is imported here."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

from musicvae.errors import ConfigError

HANDLED = (signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class StopSignals:
    """What has asked this process to stop.

    SIGUSR2 (schedulers; NCCL may take SIGUSR1), SIGTERM and SIGHUP ask to save and leave, Ctrl-C does the same for the
    user. The handlers only set a flag; a second Ctrl-C ends the process at once. Under our launcher, which hands every
    scheduler's signal on as SIGUSR2, SIGTERM is the torchrun agent's alone: it stops the ranks to start them again.

    Attributes:
        scheduler, user, restart: whether each of them has asked.
    """

    def __init__(self, *, launched: bool = False, agent: int | None = None) -> None:
        self.scheduler = self.user = self.restart = False
        self._term_restarts = launched
        self._agent = agent
        self._deadline: float | None = None

    def listen(self) -> None:
        """Installs the handlers."""
        for number in (signal.SIGUSR2, signal.SIGHUP):
            signal.signal(number, self._for_scheduler)
        signal.signal(signal.SIGTERM, self._for_restart if self._term_restarts else self._for_scheduler)
        signal.signal(signal.SIGINT, self._for_user)

    def stop_at(self, epoch_seconds: float) -> None:
        """From this time on, or an earlier one given before, the scheduler counts as having asked."""
        self._deadline = min(epoch_seconds, self._deadline or epoch_seconds)

    def stop_after(self, minutes: float | None) -> None:
        """The same, so many minutes from now."""
        if minutes is not None:
            self.stop_at(time.time() + 60 * minutes)

    def stop_ahead(self, deadline: float | None, margin: float) -> None:
        """The same, a margin in seconds ahead of `--stop-before`.

        Raises:
            ConfigError: that time has passed; however often such a command is run again, it would get nowhere.
        """
        if deadline is None:
            return
        left = deadline - margin - time.time()
        if left <= 0:
            raise ConfigError(
                "--stop-before leaves no time to train",
                expected=f"a time more than resources.stop_margin_seconds ({margin:g} s) ahead",
                found=f"{datetime.fromtimestamp(deadline):%Y-%m-%dT%H:%M:%S}; minus the margin, {-left:.0f} s ago",
                likely="the time of an earlier job, or a job that is shorter than the margin",
                do="give a later time, or lower resources.stop_margin_seconds",
            )
        self.stop_at(deadline - margin)

    def look(self) -> None:
        """Looks at what sends no signal: the clock, and an agent that died and left its ranks behind."""
        if self._deadline is not None and time.time() >= self._deadline:
            self.scheduler = True
        if self._agent is not None and os.getppid() != self._agent:
            self.scheduler = True

    @property
    def any(self) -> bool:
        """Whether anything has asked."""
        self.look()
        return self.scheduler or self.user or self.restart

    @contextmanager
    def ending_at_once(self) -> Iterator[None]:
        """Lets signals end the process by themselves: there is nothing to save yet, and the block waits in C, where
        no handler would be heard."""
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        if self.any:  # asked in between
            os.kill(os.getpid(), signal.SIGTERM)
        try:
            yield
        finally:
            self.listen()

    def _for_scheduler(self, number: int, frame: FrameType | None) -> None:
        self.scheduler = True

    def _for_restart(self, number: int, frame: FrameType | None) -> None:
        self.restart = True

    def _for_user(self, number: int, frame: FrameType | None) -> None:
        self.user = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def told_of_suspension(before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
    """Calls two functions around a stop by SIGTSTP (Ctrl-Z; SLURM sends it ahead of a suspension).

    A thread does, woken by the interpreter's own handler: the main thread may be waiting for a peer that is stopped
    already, where no Python handler is run.
    """
    signal_pipe, wakeup = os.pipe()
    os.set_blocking(wakeup, False)

    def stop_when_told() -> None:
        while numbers := os.read(signal_pipe, 1):
            if numbers[0] == signal.SIGTSTP:
                before()
                os.kill(os.getpid(), signal.SIGSTOP)
                after()
        os.close(signal_pipe)

    previous = signal.signal(signal.SIGTSTP, lambda number, frame: None)
    previous_wakeup = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    threading.Thread(target=stop_when_told, name="suspension", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_wakeup)
        signal.signal(signal.SIGTSTP, previous)
        os.close(wakeup)


def parse_time(text: str) -> float:
    """Seconds since the epoch of `--stop-before`: a number, an ISO time (local unless it names a zone), or `slurm`.

    Raises:
        ConfigError: none of these, a time that no calendar has, or SLURM_JOB_END_TIME is not set.
    """
    if text == "slurm":
        text = os.environ.get("SLURM_JOB_END_TIME", "")
        if not text:
            raise ConfigError(
                "--stop-before slurm needs SLURM_JOB_END_TIME",
                found="it is not set",
                likely="SLURM is older than 22.05, or this is not a SLURM job",
                do="give a time, or let SLURM signal the job: #SBATCH --signal=B:USR2@120",
            )
    try:
        try:
            seconds = float(text)
        except ValueError:
            seconds = datetime.fromisoformat(text).timestamp()
        datetime.fromtimestamp(seconds)  # not of `nan`, nor of a time beyond all calendars
        return seconds
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"--stop-before {text} is not a time",
            expected="seconds since 1970, an ISO time such as 2027-03-01T17:30, or slurm",
            do="give one of these",
        ) from None
