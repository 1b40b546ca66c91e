"""What Ray's job server answers, and what is made of it; the server is the fake."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster import ray_jobs
from cluster.errors import ExitCode, TargetError
from cluster.job import Job
from cluster.site import Site
from cluster.submission import Submission
from jobs.retry import main as retry_command


@contextmanager
def job_server(*answers: tuple[int, str]) -> Iterator[tuple[str, list[dict]]]:
    """A server that gives these answers in turn, the last one again and again, and the list of what it was sent."""
    heard: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            code, text = answers[min(len(heard), len(answers) - 1)]
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base names it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()


STARTING = (500, "Traceback ...\nException: No available agent to submit job, please try again later.")


def test_a_head_whose_agent_still_starts_is_asked_again(monkeypatch):
    monkeypatch.setattr(ray_jobs, "AGENT_PAUSE", 0.0)
    with job_server(STARTING, STARTING, (200, "{}")) as (url, heard):
        ray_jobs.submit(url, "mine-1", "echo it", {"about": "a test"})
    job = {"entrypoint": "echo it", "submission_id": "mine-1", "metadata": {"about": "a test"}}
    assert heard == [job] * 3


def test_one_whose_agent_never_starts_is_given_up(monkeypatch):
    monkeypatch.setattr(ray_jobs, "AGENT_SECONDS", 0.0)
    with job_server(STARTING) as (url, _), pytest.raises(TargetError, match="accepts no jobs") as refused:
        ray_jobs.submit(url, "mine-1", "echo it", {})
    assert "No available agent" in refused.value.details["found"]
    assert "another Ray" in refused.value.details["likely"]


@pytest.mark.parametrize("code", [401, 403])
def test_a_cluster_that_does_not_let_in_is_asked_once(code):
    with job_server((code, "no")) as (url, heard), pytest.raises(TargetError) as refused:
        ray_jobs.submit(url, "mine-1", "echo it", {})
    assert "token" in refused.value.details["likely"]
    assert len(heard) == 1


def test_a_retry_goes_on_past_a_cluster_that_is_gone(tmp_path, capsys):
    with job_server((200, "{}")) as (url, _):
        gone = url
    with job_server((200, "{}")) as (url, heard):
        for name, address in (("a-gone", gone), ("b-there", url)):
            made = Submission(tmp_path / name, "ray", tmp_path, Site(), (Job("train", ("true",)),), address)
            made.write_plan()
            made.take_receipt(made.jobs[0], "7", [0])
        with pytest.raises(SystemExit) as ended:
            retry_command([tmp_path], failed=True)
    assert ended.value.code == ExitCode.USAGE
    assert len(heard) == 1
    assert heard[0]["metadata"] == {"folder": str(tmp_path / "b-there")}
    told = capsys.readouterr()
    assert f"error: {tmp_path / 'a-gone'}: no Ray cluster answers at {gone}" in told.err
    assert f"on {url}" in told.out
