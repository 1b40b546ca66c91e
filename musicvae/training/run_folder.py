"""The run folder: the whole truth about a run. W&B, Ray and SLURM are only views of it.

config.yaml       what was asked for, on what data, with which versions; written once
status.json       state, phase, step, total, rate, ETA, restarts, heartbeat, and the launch that may write
metrics.jsonl     one line a logged step; evaluations stand in the same lines
nonfinite.jsonl   one line a step whose gradient was not finite
checkpoints/      the newest few, one folder a step
best.safetensors  the weights with the lowest validation -ELBO, with their figures
feel.safetensors  mean velocity and timing of the training data
manifest.json     of the shards: what the run was trained on, hash by hash
examples/         of each evaluation: validation windows, their reconstructions, samples, KL of each latent dimension
ranks/            where each rank is, and why it failed; its lock is held by whoever has launched the ranks
logs/             what each rank and torchrun said, under jobs.train --ranks
windows/          with train.log_windows: the window ids that each rank's forward pass received
lock              held by the rank that writes
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import yaml

from musicvae.data.manifest import ShardManifest
from musicvae.durable import append_line, aside_of, read_lines, remove_asides, whole_folder, write_json, write_whole
from musicvae.errors import ConfigError, DataError, DiskFullError, NotThereError, SupersededError
from musicvae.folder_lock import check_free, hold_folder
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.settings import read_yaml

FULL = (errno.ENOSPC, errno.EDQUOT)
PROBE_BYTES = 1 << 16
"""More than the records of a few ranks, less than any checkpoint."""
State = Literal["starting", "running", "finished", "preempted", "interrupted", "diverged", "failed"]


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What makes a run this run and no other.

    Attributes:
        result_settings: every setting that changes the result; world size, paths and hosts are not among them.
        fingerprint: of the shard manifest.
        grid, drum_map: of the shards, kept so that the run can be sampled without them.
    """

    result_settings: Mapping[str, Any]
    fingerprint: str
    grid: GridSpec
    drum_map: DrumMap

    @property
    def run_id(self) -> str:
        """A short hash of what changes the result."""
        content = json.dumps([self.result_settings, self.fingerprint], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @classmethod
    def of(cls, result_settings: Mapping[str, Any], manifest: ShardManifest) -> "RunIdentity":
        """The identity of a run with these settings on these shards."""
        return cls(result_settings, manifest.fingerprint, manifest.grid, manifest.drum_map)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths and files of one run.

    Attributes:
        writer: whoever may write, see `held`; None where the folder is only read, or written before training starts.
    """

    path: Path
    writer: str | None = None

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def feel(self) -> Path:
        return self.path / "feel.safetensors"

    @property
    def examples(self) -> Path:
        return self.path / "examples"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def nonfinite(self) -> Path:
        return self.path / "nonfinite.jsonl"

    @property
    def profile(self) -> Path:
        return self.path / "profile"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def ranks(self) -> Path:
        return self.path / "ranks"

    @contextmanager
    def launching(self, launch_id: str, *, alone: bool = True) -> Iterator[None]:
        """Keeps other launches away until the block ends; held before ranks/ and logs/ are written to.

        Args:
            alone: whether all ranks are launched here; other launchers of the same launch are let in otherwise.

        Raises:
            FolderInUseError: another launch is under way, or ranks that have lost their launcher are still saving.
            DiskFullError: nothing can be written.
        """
        with disk_full_explained(self), ExitStack() as held:
            self.ranks.mkdir(exist_ok=True)
            held.enter_context(hold_folder(self.path, at=self.ranks, group=None if alone else launch_id))
            if alone or self.read_status().get("launch") != launch_id:
                check_free(self.path)
            if full := disk_full(self):
                raise full
            yield

    @contextmanager
    def held(self, launch_id: str) -> Iterator["RunFolder"]:
        """This folder, to be written by one launch alone until the block ends.

        A second live launch is refused. One that was thought dead and comes back, as after a node's network did, finds
        another writer in status.json and stops before its next write.

        Raises:
            ConfigError: another launch holds it.
        """
        with hold_folder(self.path):
            mine = replace(self, writer=uuid4().hex)
            status = {**self.read_status(), "launch": launch_id, "writer": mine.writer}
            if status.get("state") in ("preempted", "interrupted", "diverged", "failed"):
                status["state"] = "starting"  # that was another launch's end, and would read as this one's
            status.pop("failure", None)
            write_json(self.status, status)
            for folder in (self.path, self.checkpoints):
                remove_asides(folder)
            yield mine

    def check_writer(self) -> None:
        """Asked before every write.

        Raises:
            SupersededError: another launch has taken the folder over.
        """
        if self.writer is None:
            return
        status = self.read_status()
        if status.get("writer") != self.writer:
            raise SupersededError(
                f"another launch trains in {self.path}",
                expected="no other launch",
                found=f"launch {status.get('launch', '?')} in status.json",
                likely="this process sent no heartbeat for so long that it counted as dead, and the run was restarted",
                do="nothing; the other launch has resumed from the last checkpoint",
            )

    def check(self, identity: RunIdentity) -> bool:
        """Whether the run was started before; nothing is written.

        Raises:
            ConfigError: the folder holds another run (the differing settings are named) or something else, or cannot
                be written to.
        """
        try:  # ahead of config.yaml, which another launcher may put there at this moment
            occupied = self.path.is_file() or any(self.path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            occupied = False
        if self.config.exists():
            self._check_same(identity)
            if not os.access(self.path, os.W_OK):
                raise ConfigError(
                    f"cannot write to {self.path}",
                    expected="a folder in which this run can resume",
                    likely="a file system that is mounted read-only, or a run of another user",
                    do="make it writable, or copy it to a writable folder and give the copy as --run",
                )
            return True
        if occupied:
            raise ConfigError(
                f"{self.path} is not a run folder",
                expected="a new path, or a run folder",
                found="a file" if self.path.is_file() else "other files and no config.yaml",
                do="choose another --run",
            )
        return False

    def open(self, identity: RunIdentity, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> bool:
        """Starts the run, or finds that it was started before; gives whether it was.

        Raises:
            ConfigError: as `check`, or the folder cannot be made.
            DiskFullError: it cannot, for want of space.
        """
        if self.check(identity):
            return True
        content = {
            "run_id": identity.run_id,
            "settings": dict(settings),
            "identity": dict(identity.result_settings),
            "shards": {
                "fingerprint": identity.fingerprint,
                "grid": asdict(identity.grid),
                "drum_map": {
                    "name": identity.drum_map.name,
                    "pitches": {drum: list(pitches) for drum, pitches in identity.drum_map.pitches.items()},
                },
            },
            "provenance": dict(provenance),
        }
        try:
            with disk_full_explained(self), whole_folder(self.path, replace=True) as aside:
                write_whole(aside / "config.yaml", yaml.safe_dump(content, sort_keys=False))
        except OSError as error:
            cure = "choose --run in a writable folder"
            raise ConfigError(f"cannot make {self.path}", found=error.strerror or str(error), do=cure) from None
        return False

    def read_config(self) -> dict[str, Any]:
        """What `open` wrote.

        Raises:
            NotThereError: the folder is no run.
            DataError: its config.yaml is damaged.
        """
        if not self.config.exists():
            raise NotThereError(
                f"there is no run in {self.path}",
                expected="a folder that jobs.train wrote",
                found="no such folder" if not self.path.exists() else "no config.yaml in it",
                do="correct the path, or train a run: python -m jobs.train --preset demo --shards SHARDS --run RUN",
            )
        config = read_yaml(self.config)
        if missing := {"run_id", "settings", "identity", "shards"} - set(config):
            raise DataError(f"{self.config} is damaged", found=f"{', '.join(sorted(missing))} missing")
        return config

    def shard_format(self) -> tuple[GridSpec, DrumMap, str]:
        """Grid, drum map and fingerprint of the shards that the run was trained on."""
        shards = self.read_config()["shards"]
        pitches = {drum: tuple(pitches) for drum, pitches in shards["drum_map"]["pitches"].items()}
        return GridSpec(**shards["grid"]), DrumMap(shards["drum_map"]["name"], pitches), shards["fingerprint"]

    def write_status(self, state: State, step: int, total: int, **more: Any) -> None:
        """Replaces status.json; `more` holds phase, rate, ETA, restarts or the reason of a failure."""
        self._update_status({"state": state, "step": step, "total": total, **more})

    def finish_status(self, state: State) -> None:
        """Sets the state of the last status, for a run that ends in any way."""
        self._update_status({"state": state})

    def close_status(self, launch_id: str, state: State, *, failure: Mapping[str, Any] | None = None) -> None:
        """Says how a launch ended where no rank lived to say it; another launch's status stays as it is.

        Args:
            failure: which rank failed first and why, with its category: whether another start may help.
        """
        status = self.read_status()
        if status.get("launch") in (None, launch_id) and (failure or status.get("state") != state):
            self._update_status({"state": state, "launch": launch_id, **({"failure": failure} if failure else {})})

    def saved_step(self) -> int:
        """The step of the newest checkpoint; 0 without one."""
        saved = checkpoints(self.checkpoints)
        return step_of(saved[-1]) if saved else 0

    def read_status(self) -> dict[str, Any]:
        """The last status, empty where there is none yet."""
        return json.loads(self.status.read_text(encoding="utf-8")) if self.status.exists() else {}

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        self.check_writer()
        append_line(self.metrics, record)

    def log_nonfinite(self, record: Mapping[str, Any]) -> None:
        """Appends a line to nonfinite.jsonl."""
        self.check_writer()
        append_line(self.nonfinite, record)

    def cut_logs(self, step: int) -> int:
        """Drops what was logged after a step; gives the last step that is left in metrics.jsonl, 0 without one."""
        self.check_writer()
        for path in (self.metrics, self.nonfinite):
            kept = [json.dumps(record) + "\n" for record in read_lines(path) if record["step"] <= step]
            if kept or path.exists():
                write_whole(path, "".join(kept))
        return max((record["step"] for record in read_lines(self.metrics)), default=0)

    def log_windows(self, step: int, window_ids: Sequence[int], *, rank: int, world_size: int) -> None:
        """Appends to the rank's log which windows it is about to train on at a step."""
        folder = self.path / "windows"
        folder.mkdir(exist_ok=True)
        record = {"step": step, "world_size": world_size, "windows": list(window_ids)}
        append_line(folder / f"rank-{rank:05d}.jsonl", record)

    def _update_status(self, changed: Mapping[str, Any]) -> None:
        self.check_writer()
        write_json(self.status, {**self.read_status(), **changed, "heartbeat": time.time()})

    def _check_same(self, identity: RunIdentity) -> None:
        config = self.read_config()
        if config["run_id"] == identity.run_id:
            return
        before, now = _flat(config["identity"]), _flat(identity.result_settings)
        differing = [
            f"{key} was {before.get(key, 'unset')}, is {now.get(key, 'unset')}"
            for key in sorted(before | now)
            if before.get(key) != now.get(key)
        ]
        if config["shards"]["fingerprint"] != identity.fingerprint:
            differing.append(f"shards were {config['shards']['fingerprint']}, are {identity.fingerprint}")
        raise ConfigError(
            f"{self.path} contains another run",
            expected=f"run {config['run_id']}, the run of its config.yaml",
            found="; ".join(differing) or f"run {identity.run_id}",
            likely="settings that change the result were changed; a run can only be resumed with its own settings",
            do="choose another --run, or use the settings that the run was started with",
        )


@contextmanager
def disk_full_explained(run: RunFolder) -> Iterator[None]:
    """What a user reads where the block cannot write to a run.

    Raises:
        DiskFullError: in place of an `OSError` that says so.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError(
            f"{run.path} cannot be written to",
            expected="free space for checkpoints and logs",
            found=error.strerror or str(error),
            likely="the disk is full, or your quota is used up",
            do="free some space and run the same command again to resume from the last checkpoint",
        ) from error


def disk_full(run: RunFolder) -> DiskFullError | None:
    """Why nothing more can be written to a run, found by writing a little; None if something can."""
    probe = aside_of(run.path / "probe")
    try:
        with disk_full_explained(run):
            probe.write_bytes(bytes(PROBE_BYTES))
    except DiskFullError as error:
        return error
    except OSError:  # something else is wrong
        return None
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; folders that somebody has put beside them are none."""
    return sorted(path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal())


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint is of."""
    return int(checkpoint.name.removeprefix("step-"))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
