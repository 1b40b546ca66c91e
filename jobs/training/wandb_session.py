"""W&B's own process: the only file that knows wandb. It reads messages from its input, one JSON object a line.

What it prints is shown to the user. It ends when it is told how the run ended, or when its input ends because nobody
is left to tell it.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from musicvae.errors import UserError
from musicvae.groove.picture import drum_sheet
from musicvae.groove.sound import render, write_wav
from musicvae.training.examples import ExampleGrooves, example_files
from musicvae.training.run_folder import RunFolder

COMPLETE = ("finished", "interrupted", "diverged")
"""States in which nobody starts a run again by himself."""
AUDIBLE = 3
"""Samples that are sent as sound, about 400 kB each."""
EXIT_CODES: Mapping[str, int] = {"finished": 0, "preempted": 75, "interrupted": 130, "diverged": 4}
"""What W&B is told, by state; every other end is 1. A sweep requeues a run that was preempted."""


class Session:
    """One W&B run, from its start to its end.

    Args:
        wandb: the library.
        start: the first message: settings, and the run folder that everything else is read from.
        tell: shows the user a sentence.
    """

    def __init__(self, wandb: Any, start: Mapping[str, Any], tell: Callable[[str], object]) -> None:
        self.wandb = wandb
        self.tell = tell
        self.folder = RunFolder(Path(start["run"]))
        self.media_seconds = 60 * start["media_minutes"]
        self.shown_at: float | None = None
        self.shown_step: int | None = None
        self.has_manifest = False
        config = self.folder.read_config()
        # W&B would put files that it still has to send under the user's home; a run folder is whole by itself.
        os.environ.setdefault("WANDB_DATA_DIR", str(self.folder.path / "wandb"))
        self.run = self._open(start, config)
        self.run.define_metric("*", step_metric="step")

    def _open(self, start: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
        mode = start["wandb"]
        if mode == "auto":
            mode = "online" if _has_key() else "offline"
        if mode == "online":
            before = set(self._online_folders())
            try:
                return self._init(start, config, mode)
            except Exception as error:
                # Its service would hold the id of the run that it could not start.
                self.wandb.teardown()
                for begun in set(self._online_folders()) - before:
                    shutil.rmtree(begun, ignore_errors=True)
                self.tell(
                    f"W&B cannot be reached ({_first_line(error)}); the run is recorded offline; to send it later: "
                    f"wandb sync {self.folder.path}/wandb/offline-run-*"
                )
        return self._init(start, config, "offline")

    def _online_folders(self) -> Iterable[Path]:
        return (self.folder.path / "wandb").glob("run-*")

    def _init(self, start: Mapping[str, Any], config: Mapping[str, Any], mode: str) -> Any:
        return self.wandb.init(
            project=start["project"],
            group=start["group"],
            id=config["provenance"]["tracking_id"],
            name=self.folder.path.name,
            dir=self.folder.path,
            config=dict(config),
            mode=mode,
            resume="allow",
            settings=self.wandb.Settings(
                init_timeout=start["init_timeout"], silent=True, console="off", x_stats_pid=os.getppid()
            ),
        )

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        # W&B's own count is ours too: figures of a step that a resumed run repeats, which are equal, are not taken
        # twice, and offline files of several launches join without a gap.
        self.run.log({"step": step, **{name.replace(".", "/"): value for name, value in values.items()}}, step=step)
        if not self.has_manifest:
            self.has_manifest = True
            self._artifact(f"shards-{self.folder.shard_format()[2]}", "dataset", self.folder.path / "manifest.json")

    def examples(self, step: int) -> None:
        """Shows an evaluation's examples, unless others were shown a moment ago."""
        if self.shown_at is not None and time.monotonic() - self.shown_at < self.media_seconds:
            return
        self._show(step)

    def close(self, state: str) -> None:
        """The last examples and the best weights, unless the run goes on elsewhere, and how it ended."""
        if state in COMPLETE:
            if files := example_files(self.folder.examples):
                last = max(files)
                if last != self.shown_step:
                    self._show(last)
            self._artifact(f"model-{self.run.id}", "model", self.folder.best)
        elif state != "failed":
            self.run.mark_preempting()
        self.run.finish(exit_code=EXIT_CODES.get(state, 1))

    def _show(self, step: int) -> None:
        self.shown_at, self.shown_step = time.monotonic(), step
        grooves = ExampleGrooves.load(self.folder, step)
        drums = grooves.drum_map.classes
        with tempfile.TemporaryDirectory(dir=self.folder.path / "wandb", prefix=".media-") as name:
            media = Path(name)
            (media / "pairs.png").write_bytes(drum_sheet([g for pair in grooves.pairs() for g in pair], drums))
            (media / "samples.png").write_bytes(drum_sheet(grooves.samples, drums))
            sounds = {}
            for number, groove in enumerate(grooves.samples[:AUDIBLE]):
                write_wav(media / f"{number}.wav", render(groove, grooves.drum_map))
                # One key each: a list of them would need the soundfile library.
                sounds[f"examples/sound_{number}"] = self.wandb.Audio(
                    str(media / f"{number}.wav"), caption=f"{groove.source}, step {step}"
                )
            self.run.log(
                {
                    "step": step,
                    "examples/reconstructions": self.wandb.Image(str(media / "pairs.png"), caption=f"step {step}"),
                    "examples/samples": self.wandb.Image(str(media / "samples.png"), caption=f"step {step}"),
                    **sounds,
                },
                step=step,
            )

    def _artifact(self, name: str, kind: str, path: Path) -> None:
        if path.exists():
            artifact = self.wandb.Artifact(name, type=kind)
            artifact.add_file(str(path), skip_cache=True)
            self.run.log_artifact(artifact)


def main() -> None:
    """Reads messages until the run has ended."""
    tell = _own_output()
    try:
        import wandb

        start = json.loads(sys.stdin.readline())
        session = Session(wandb, start, tell)
    except Exception as error:
        tell(f"W&B is not used: {_first_line(error)}")
        sys.exit(1)
    failed: set[str] = set()
    for line in sys.stdin:
        message = json.loads(line)
        kind = message["kind"]
        try:
            match kind:
                case "figures":
                    session.figures(message["step"], message["values"])
                case "examples":
                    session.examples(message["step"])
                case "close":
                    session.close(message["state"])
                    return
        except Exception as error:  # one picture that cannot be drawn must not cost the curves
            if kind not in failed:
                failed.add(kind)
                tell(f"W&B has not received {kind}: {_first_line(error)}")
    # Nobody is left: the run was killed. W&B gets as long as it would have had, then this ends too.
    deadline = threading.Timer(start["finish_timeout"], os._exit, (1,))
    deadline.daemon = True
    deadline.start()
    session.close("failed")


def _own_output() -> Callable[[str], object]:
    """Takes the output for sentences to the user; what wandb or its service prints goes to the log."""
    user_output = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return lambda text: print(text, file=user_output)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() if not isinstance(error, UserError) else [error.problem]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return netrc.exists() and "wandb" in netrc.read_text(errors="replace", encoding="utf-8")
