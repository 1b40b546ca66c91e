"""Training on a terminal: a live line with rate and ETA, or plain lines where nobody watches."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from musicvae.training.examples import Examples


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
            text = (
                f"loss {values['loss']:.1f}  KL {values['kl_bits']:.1f} bits  "
                f"{values['windows_per_second']:.0f} windows/s"
            )
            self.live.update(self.task, completed=step, description=text)
            if not self.console.is_terminal:
                self.say(f"step {step}/{self.total}  {text}  ETA {self._left(step, values['windows_per_second'])}")
        if "validation.negative_elbo" in values:
            self.say(_validation(step, values))

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


def _validation(step: int, values: Mapping[str, float]) -> str:
    free = values.get("validation.token_accuracy_free_running")
    return (
        f"step {step}: validation -ELBO {values['validation.negative_elbo']:.2f} nats per window "
        f"(reconstruction {values['validation.reconstruction']:.2f}, KL {values['validation.kl_nats']:.2f} nats = "
        f"{values['validation.kl_bits']:.1f} bits, {values['validation.active_units']:.0f} active units), "
        f"token accuracy {values['validation.token_accuracy_teacher_forced']:.3f} teacher-forced"
        + (f", {free:.3f} free-running" if free is not None else "")
    )
