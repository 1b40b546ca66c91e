"""A web server on this machine, with a certificate of its own, that serves a folder and can be told to fail."""

import http.server
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.requirements import skip_or_fail


class FolderServer(http.server.ThreadingHTTPServer):
    """Serves a folder; counts the requests of each path.

    Attributes:
        failures: how many of the next requests of a path are answered with an error 503.
        cut: bytes after which every answer for a path breaks off, without a length that would tell.
        certificate: the file that a client has to trust, None where the server speaks plain http.
    """

    daemon_threads = True

    def __init__(self, folder: Path, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.certificate = certificate
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.cut: dict[str, int] = {}
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_name("key.pem"))
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://localhost:{self.server_address[1]}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: FolderServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests[path] += 1
        if self.server.failures[path]:
            self.server.failures[path] -= 1
            self.send_error(503)
        elif path in self.server.cut:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(Path(self.translate_path(path)).read_bytes()[: self.server.cut[path]])
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[FolderServer]:
    """A server of a folder while the block runs."""
    with FolderServer(folder, certificate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody but a test trusts, its key beside it."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        skip_or_fail("openssl, which makes the certificate, is not installed")
    return folder / "certificate.pem"
