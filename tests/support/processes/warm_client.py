"""Stands in for `python` in the shell of a documentation's test: asks the server of `warm_python` to run a job.

Jobs that start processes of their own, and whatever else a shell runs, get a new interpreter. Started with `-I -S`, it
loads the standard library alone.
"""

import json
import os
import signal
import socket
import sys

WARM = {"build_shards", "evaluate", "export", "latent", "map", "report", "sample", "show", "train"}


def main(arguments: list[str]) -> int:
    """Runs `python ARGUMENTS` and gives its exit status."""
    is_warm = arguments[:1] == ["-m"] and arguments[1].removeprefix("jobs.") in WARM and "--ranks" not in arguments
    if not is_warm:
        os.execv(sys.executable, [sys.executable, *arguments])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect("\0" + os.environ["WARM_PYTHON"])
        _, module, *rest = arguments
        request = {"module": module, "arguments": rest, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109 - pathlib takes longer to load than the rest
        socket.send_fds(server, [json.dumps(request).encode()], [1, 2])
        pid = int(server.recv(20))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        status = os.waitstatus_to_exitcode(int(server.recv(20)))
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
