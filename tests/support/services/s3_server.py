"""An S3 server on this machine: moto, which has an environment of its own (`.ci/run` installs it into .venv/moto)."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.commands import CHECKOUT
from tests.support.requirements import skip_or_fail
from tests.support.services.free_ports import free_ports

MOTO = CHECKOUT / ".venv" / "moto"


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, str]]:
    """A server with an empty bucket; gives the variables of its clients."""
    if not MOTO.is_dir():
        skip_or_fail(f"no S3 server: pip install --target {MOTO.relative_to(CHECKOUT)} 'moto[s3]' flask flask-cors")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(MOTO)}, stderr=subprocess.PIPE) as server:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT")).close()
                    break
                except OSError:
                    assert server.poll() is None, server.communicate()[1]
                    time.sleep(0.1)
            keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
            yield {**keys, "AWS_ENDPOINT_URL": url}
        finally:
            server.kill()
