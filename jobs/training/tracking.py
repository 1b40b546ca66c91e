"""W&B and the terminal as views of a run.

On a terminal a live line shows rate and ETA; where nobody watches, plain lines do.

W&B works in a process of its own, which training never waits for. A library that starts slowly, blocks on a lost
network, prints, forks and waits at exit is kept apart from the ranks: this side only puts small messages into a bounded
queue, from which a thread writes them to `jobs.training.wandb_session`.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, Full, Queue
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jobs import CHECKOUT
from jobs.training.settings import TrackingSettings
from musicvae.training.examples import Examples
from musicvae.training.settings import main_figure

QUEUED = 10_000
"""Messages that may wait, some megabytes."""
SECONDS_WHEN_LEAVING = 15.0
"""A run that was told to leave has no time to wait for a view of it."""


class TerminalTracker:
    """Shows progress. On a terminal one line is redrawn; elsewhere (a log file, a scheduler) lines are appended."""

    def __init__(self, console: Console, *, total: int, global_batch: int) -> None:
        self.console = console
        self.total, self.global_batch = total, global_batch
        self.live = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.live.add_task("starting", total=total)
        self.live.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if "loss" in values:
            text = f"loss {values['loss']:.1f}  {_of_kind(values)}  {values['windows_per_second']:.0f} windows/s"
            self.live.update(self.task, completed=step, description=text)
            if not self.console.is_terminal:
                self.say(f"step {step}/{self.total}  {text}  ETA {self._left(step, values['windows_per_second'])}")
        if main_figure(values):
            self.say(f"step {step}: validation {_validation(values)}")

    def show(self, step: int, examples: Examples) -> None:
        """Drum grids would push the line of progress away; `jobs.report` draws them."""

    def say(self, text: str) -> None:
        self.live.console.print(text, soft_wrap=True)

    def close(self, state: str) -> None:
        self.live.stop()
        self.say(state)

    def _left(self, step: int, windows_per_second: float) -> str:
        if not windows_per_second:
            return "unknown"
        seconds = int((self.total - step) * self.global_batch / windows_per_second)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _of_kind(values: Mapping[str, float]) -> str:
    """What a step of a model is told by, beside its loss."""
    if "kl_bits" in values:
        return f"KL {values['kl_bits']:.1f} bits"
    return f"velocity {values['velocity_nats']:.2f}, timing {values['offset_nats']:.2f} nats per hit"


def _validation(values: Mapping[str, float]) -> str:
    if "validation.nats_per_hit" in values:
        velocity, offset = values["validation.velocity_nats"], values["validation.offset_nats"]
        return f"velocity {velocity:.3f}, timing {offset:.3f} nats per hit"
    free = values.get("validation.token_accuracy_free_running")
    return (
        f"-ELBO {values['validation.negative_elbo']:.2f} nats per window "
        f"(reconstruction {values['validation.reconstruction']:.2f}, KL {values['validation.kl_nats']:.2f} nats = "
        f"{values['validation.kl_bits']:.1f} bits, {values['validation.active_units']:.0f} active units), "
        f"token accuracy {values['validation.token_accuracy_teacher_forced']:.3f} teacher-forced"
        + (f", {free:.3f} free-running" if free is not None else "")
    )


class WandbTracker:
    """Hands figures and examples to W&B's process. No method waits, save `close`, which waits for a bounded time.

    Args:
        run: the run folder, where W&B's files are put, and where its process finds settings and examples.
        warn: told what the user should know, from other threads too.
    """

    def __init__(self, settings: TrackingSettings, run: Path, warn: Callable[[str], object]) -> None:
        self.settings = settings
        self.run = run.resolve()
        self.warn = warn
        self.dropped = 0
        self._messages: Queue[Mapping[str, Any]] = Queue(QUEUED)
        self._process: subprocess.Popen[str] | None = None
        self._has_spoken = self._given_up = False
        self._thread = threading.Thread(target=self._deliver, name="wandb", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._offer({"kind": "figures", "step": step, "values": dict(values)})

    def show(self, step: int, examples: Examples) -> None:
        """The process reads them from the run folder, where they are before any tracker is told."""
        self._offer({"kind": "examples", "step": step})

    def say(self, text: str) -> None:
        """Sentences are for people at a terminal."""

    def close(self, state: str) -> None:
        seconds = self.settings.finish_timeout
        if state != "finished":
            seconds = min(seconds, SECONDS_WHEN_LEAVING)
        deadline = time.monotonic() + seconds
        if self.dropped:
            self.warn(f"W&B was too slow for {self.dropped} messages; metrics.jsonl has all figures")
        try:
            self._messages.put({"kind": "close", "state": state}, timeout=seconds)
        except Full:
            deadline = 0.0
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._given_up = True
            if self._process is not None:
                self._process.kill()
            self.warn(
                f"W&B did not receive everything within {seconds:g} s; to send the rest: "
                f"wandb sync {self.run}/wandb/*run-*"
            )

    def _offer(self, message: Mapping[str, Any]) -> None:
        if not self._thread.is_alive():
            return
        try:
            self._messages.put_nowait(message)
        except Full:
            self.dropped += 1
            if self.dropped == 1:
                self.warn("W&B is too slow: figures are not sent until it catches up; metrics.jsonl has all of them")

    def _deliver(self) -> None:
        """The thread's whole life: starts the process, feeds it, waits for its end."""
        log = self.run / "wandb" / "session.log"
        try:
            log.parent.mkdir(exist_ok=True)
            with log.open("w", encoding="utf-8") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", "from jobs.training.wandb_session import main; main()"],
                    cwd=CHECKOUT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    encoding="utf-8",
                    start_new_session=True,  # Ctrl-C is for the ranks, who then say how the run ended
                )
            with self._process as process:
                assert process.stdin is not None
                assert process.stdout is not None
                listener = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
                listener.start()
                self._feed(process.stdin)
                process.wait()
                listener.join()
        except OSError as error:
            self._leave_out(f"{type(error).__name__}: {error}")
            return
        if process.returncode and not self._has_spoken:
            self._leave_out(f"its process ended with status {process.returncode}, see {log}")

    def _feed(self, pipe: IO[str]) -> None:
        message: Mapping[str, Any] = {
            "kind": "start",
            "run": str(self.run),
            **self.settings.model_dump(),
        }
        try:
            while True:
                pipe.write(json.dumps(message) + "\n")
                pipe.flush()
                if message["kind"] == "close":
                    return
                message = self._next(pipe)
        except BrokenPipeError:
            return  # it has ended; why is told by what it said or by its status

    def _next(self, pipe: IO[str]) -> Mapping[str, Any]:
        while True:
            try:
                return self._messages.get(timeout=1.0)
            except Empty:
                if self._process is None or self._process.poll() is not None:
                    raise BrokenPipeError from None

    def _listen(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._has_spoken = True
            self.warn(line.rstrip("\n"))

    def _leave_out(self, reason: str) -> None:
        if not self._given_up:
            self.warn(f"W&B is not used: {reason}")
