"""Runs `python -m MODULE` from an interpreter that has loaded torch, which takes most of a small command's time.

A server process loads libraries of others, none of this project, and forks itself for each command. The fork runs the
module through `runpy`, as `-m` does, with arguments, folder and environment of its own, and ends as interpreters do.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

LOADED = (
    *("numpy", "torch", "torch.distributed", "torch.nn.parallel", "safetensors.torch"),
    *("pydantic", "rich.console", "typer", "yaml", "jaxtyping", "webdataset", "jinja2"),
    *("pyarrow", "pandas", "PIL.PngImagePlugin", "rich.progress"),
)
READ_ONCE = ("PYTHON", "LD_", "OMP_", "GOMP_", "MKL_", "OPENBLAS_", "CUDA_")
"""Beginnings of variables that an interpreter and these libraries read as they start; torch's are not among them,
since it sets some itself as it is used."""
ADDRESS_VARIABLE = "WARM_PYTHON"
MOST_BYTES = 200_000
"""Of a request."""


def starts_alike(environment: Mapping[str, str]) -> bool:
    """Whether an interpreter would start in this environment as the server did."""
    return _read_once(environment) == _server()[1]


def run_module(
    module: str, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` gives of `python -m MODULE`, as text.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    argv = [sys.executable, "-m", module, *arguments]
    request = {"module": module, "arguments": arguments, "folder": str(folder), "environment": dict(environment)}
    ended, end = socket.socketpair()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, ended:
        with end:
            socket.send_fds(_server()[0], [json.dumps(request).encode()], [out.fileno(), err.fileno(), end.fileno()])
        pid = int(_line(ended))
        ended.settimeout(timeout)
        try:
            status = int(_line(ended))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(argv, timeout, _text(out), _text(err)) from None
        return subprocess.CompletedProcess(argv, os.waitstatus_to_exitcode(status), _text(out), _text(err))


@cache
def _server() -> tuple[socket.socket, dict[str, str], str]:
    """A socket to the server of this process, the variables that it read as it started, and its address for shells.

    The address is a name in the abstract namespace of Unix sockets. It is listened to before the server has loaded.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    shells, address = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), f"warm-python-{os.getpid()}"
    environment = dict(os.environ)
    with theirs, shells:
        shells.bind("\0" + address)
        shells.listen()
        handed_on = [theirs.fileno(), shells.fileno()]
        command = [sys.executable, "-m", "tests.support.processes.warm_python", *map(str, handed_on)]
        subprocess.Popen(command, pass_fds=handed_on, cwd=Path(__file__).parents[3], env=environment)
    atexit.register(ours.close)
    return ours, _read_once(environment), address


def _read_once(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_ONCE)}


def _line(source: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = source.recv(1)
        if not piece:
            raise ConnectionError("the server of warm interpreters has died")
        line += piece
    return line


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


def shell_variables() -> dict[str, str]:
    """What `warm_client` needs, which stands in for `python` in a shell, to find the server of this process."""
    return {ADDRESS_VARIABLE: _server()[2]}


def serve(requests: socket.socket, shells: socket.socket) -> None:
    """Forks for each request, from the process of the tests or a shell, until the former can send no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        ready, _, _ = select.select([requests, shells], [], [])
        source = requests if requests in ready else shells.accept()[0]
        request, descriptors, *_ = socket.recv_fds(source, MOST_BYTES, 3)
        if not request and source is requests:
            return
        if source is not requests:
            descriptors.append(source.detach())
        if request and os.fork() == 0:
            requests.close()
            shells.close()
            _wait_for_command(json.loads(request), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _wait_for_command(request: dict, descriptors: list[int]) -> NoReturn:
    """Forks once more for the command itself, and tells its number and then its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *outputs, end = descriptors
    pid = os.fork()
    if pid == 0:
        os.close(end)
        _run(request, outputs)
    os.write(end, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # it took too long, and nobody waits any more
        os.write(end, f"{status}\n".encode())
    os._exit(0)


def _run(request: dict, outputs: Sequence[int]) -> NoReturn:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, standard in zip((nothing, *outputs), range(3), strict=True):
        os.dup2(source, standard)
        os.close(source)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0], sys.argv[:] = request["folder"], ["-m", *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    for name in LOADED:
        import_module(name)
    gc.collect()
    gc.freeze()  # or every command, as it ends, would visit and so copy all that torch is made of
    serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:]))
