"""What `jobs.doctor` looks at on the machine that it runs on."""

import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster.local import cpu_limits, usable_cpus
from cluster.ray_node import LONGEST_PARENT, ray_parent

OLDEST_PYTHON = (3, 11)
NEEDED = ("torch", "numpy", "webdataset", "safetensors", "pydantic", "pyyaml")
OPTIONAL = {"ray": "preprocessing on several processes, jobs.train_on_ray", "wandb": "tracking.wandb"}
GIB = 1 << 30
LITTLE_DISK, NO_DISK = 20 * GIB, GIB
FEW_FILES = 1024
CLOCK_SECONDS = 5.0
TORCH_SECONDS = 120
ASK_TORCH = (
    "import torch; nccl = torch.cuda.nccl.version() if torch.cuda.is_available() else ();"
    "print(torch.__version__, torch.cuda.device_count(), '.'.join(map(str, nccl)) or '-')"
)
INSTALL = "make install (in the checkout)"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor.

    Attributes:
        do: the cure; empty where all is well.
    """

    name: str
    level: Literal["ok", "warning", "error"]
    found: str
    do: str = ""


def machine_checks(shared: Path) -> Iterator[Check]:
    """Everything that needs no scheduler.

    Args:
        shared: the folder that runs and shards lie in.
    """
    yield python()
    yield from packages()
    yield gpus()
    yield host_name()
    yield network()
    yield cpus()
    yield folder_of_ray()
    yield open_files()
    yield folder(shared)
    if shared.is_dir():
        yield disk(shared)
        yield clock(shared)
    yield tracking()


def python() -> Check:
    """The interpreter."""
    summary = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", "error", summary, "install Python 3.11 or newer: make install PYTHON=python3.12")
    return Check("python", "ok", summary)


def packages() -> Iterator[Check]:
    """What training needs, and what some commands need."""
    there = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    if absent := [name for name in NEEDED if there[name] is None]:
        yield Check("packages", "error", f"not installed: {', '.join(absent)}", INSTALL)
    else:
        yield Check("packages", "ok", ", ".join(f"{name} {there[name]}" for name in NEEDED))
    for name, purpose in OPTIONAL.items():
        if there[name] is None:
            yield Check(name, "warning", f"not installed; needed for {purpose}", INSTALL)
        else:
            yield Check(name, "ok", str(there[name]))


def gpus() -> Check:
    """GPUs as the driver counts them, and as torch does, in a process of its own."""
    driver = _said(["nvidia-smi", "--list-gpus"])
    count = len(driver.splitlines()) if driver else 0
    if _version("torch") is None:
        return Check("gpus", "warning", f"{count} found by the driver; torch is not installed", INSTALL)
    said = _said([sys.executable, "-c", ASK_TORCH])
    if said is None:
        return Check("gpus", "error", "torch cannot be imported", f"python -c 'import torch' shows why; {INSTALL}")
    version, seen, nccl = said.split()
    summary = f"{seen} of {count}, torch {version}, NCCL {nccl}"
    if int(seen) < count:
        return Check("gpus", "error", summary, "install a CUDA build for this driver: make install TORCH_INDEX=URL")
    return Check("gpus", "ok", summary if count else f"none; training uses the CPU, torch {version}")


def host_name() -> Check:
    """Ranks on other nodes find this one by its name."""
    name = socket.gethostname()
    try:
        addresses = sorted({str(info[4][0]) for info in socket.getaddrinfo(name, None)})
    except OSError as error:
        return Check(
            "host name", "error", f"{name} has no address: {error}", f"add a line for {name} to /etc/hosts or DNS"
        )
    summary = f"{name}: {', '.join(addresses)}"
    if all(address.startswith("127.") or address == "::1" for address in addresses):
        cure = f"to train on several machines, {name} must resolve to an address that they can reach"
        return Check("host name", "warning", summary, cure)
    return Check("host name", "ok", summary)


def network() -> Check:
    """On which addresses a training waits for connections; everybody who reaches them can run code as this user."""
    interface = os.environ.get("GLOO_SOCKET_IFNAME")
    ranks = f"interface {interface}" if interface else f"the address of {socket.gethostname()}"
    several = f"all interfaces (rendezvous) and {ranks} (ranks)"
    return Check("network", "ok", f"trainings on this machine listen on loopback, on several machines on {several}")


def cpus() -> Check:
    """What limits the processes, threads and trials that are run at a time."""
    limits = ", ".join(f"{name} {count}" for name, count in cpu_limits().items())
    return Check("cpus", "ok", f"{usable_cpus()} usable ({limits})")


def folder_of_ray() -> Check:
    """Where a Ray of our own has its sockets, whose paths may not be long."""
    parent = ray_parent()
    if not os.access(parent, os.W_OK | os.X_OK):
        cure = f"export TMPDIR=FOLDER, a writable folder whose path has at most {LONGEST_PARENT} characters"
        return Check("folder of Ray", "error", f"{parent} cannot be written", cure)
    is_long = len(os.environ.get("TMPDIR", "")) > LONGEST_PARENT
    return Check(
        "folder of Ray", "ok", f"in {parent}" + (", because the path in TMPDIR is too long" if is_long else "")
    )


def open_files() -> Check:
    """Shards, sockets and logs of many ranks are many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FEW_FILES:
        return Check(
            "open files", "warning", f"limit {soft}, at most {hard}", "setup: [ulimit -n 65536] in the site file"
        )
    return Check("open files", "ok", f"limit {soft}")


def folder(shared: Path) -> Check:
    """Runs are written aside and renamed: that has to replace a file, and nobody may see half of it."""
    probe = shared / f".doctor-{uuid.uuid4().hex}"
    aside = probe.with_suffix(".aside")
    try:
        for text in ("before", "after"):
            with aside.open("w", encoding="utf-8") as file:
                file.write(text)
                os.fsync(file.fileno())
            aside.replace(probe)
        replaced = probe.read_text(encoding="utf-8") == "after" and not aside.exists()
    except OSError as error:
        return Check("folder", "error", f"{shared}: {error.strerror}", "choose a writable folder: --shared DIR")
    finally:
        for path in (probe, aside):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    if not replaced:
        return Check(
            "folder", "error", f"{shared}: a rename does not replace a file", "choose a POSIX file system: --shared DIR"
        )
    return Check("folder", "ok", f"{shared} can be written, and a rename replaces a file")


def disk(shared: Path) -> Check:
    """Room for checkpoints."""
    usage = shutil.disk_usage(shared)
    summary = f"{usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f}"
    if usage.free < NO_DISK:
        return Check("disk", "error", summary, "free some space, or choose another folder: --shared DIR")
    if usage.free < LITTLE_DISK:
        return Check(
            "disk", "warning", summary, "a run of `small` needs about 0.3 GiB; train.keep_checkpoints limits it"
        )
    return Check("disk", "ok", summary)


def clock(shared: Path) -> Check:
    """The clock of the machine that holds the folder stamps its files; heartbeats are compared with ours."""
    probe = shared / f".doctor-{uuid.uuid4().hex}"
    try:
        probe.touch()
        ahead = probe.stat().st_mtime - time.time()
    except OSError as error:
        return Check("clock", "warning", f"cannot be compared: {error.strerror}", "see `folder`")
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    if abs(ahead) > CLOCK_SECONDS:
        cure = "use the same time server for both (chrony, ntpd)"
        return Check("clock", "warning", f"the clock of the folder is {ahead:+.0f} s from this machine's", cure)
    return Check("clock", "ok", f"within {CLOCK_SECONDS:.0f} s of the clock of the folder")


def tracking() -> Check:
    """Where tracking.wandb=auto would send a run."""
    if _version("wandb") is None:
        return Check("W&B", "warning", "not installed; runs are recorded in their folders alone", INSTALL)
    if os.environ.get("WANDB_API_KEY"):
        return Check("W&B", "ok", "a key in WANDB_API_KEY")
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    if netrc.exists() and "wandb" in netrc.read_text(errors="replace", encoding="utf-8"):
        return Check("W&B", "ok", f"a key in {netrc}")
    return Check("W&B", "ok", "no key; tracking.wandb=auto records offline until you run `wandb login`")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _said(argv: list[str]) -> str | None:
    """What a command prints; None if it is absent, fails or hangs."""
    try:
        result = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", timeout=TORCH_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
