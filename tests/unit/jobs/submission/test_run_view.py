"""Run folders in any state, as tables show them."""

import json
import threading

import pytest

from jobs.submission.rows import rows_of
from jobs.submission.run_view import read_run_view
from musicvae.training.run_folder import RunFolder
from tests.benchmarks.status import write_runs
from tests.support.run_folders import run_with_weights, validation_line


@pytest.fixture
def run(tmp_path):
    write_runs(tmp_path, 1)
    return tmp_path / "run-00000"


def test_what_a_run_says(run):
    view = read_run_view(run)
    assert (view.state, view.step, view.total, view.rate, view.validation) == ("running", 0, 1000, 391.5, 101.5)
    assert view.problems == ()


def test_the_validation_figure_of_real_weights(tmp_path):
    folder = run_with_weights(tmp_path / "run")
    view = read_run_view(folder.path)
    assert "best.safetensors is damaged" not in view.problems
    assert view.validation == validation_line(40, 70.0)["validation.negative_elbo"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("status.json", None, "status.json is missing"),
        ("status.json", b"", "status.json is damaged"),
        ("status.json", b'{"state": "runn', "status.json is damaged"),
        ("status.json", b"[]", "status.json is damaged"),
        ("status.json", b"\xff\xfe", "status.json is damaged"),
        ("status.json", b'{"state": "running", "step": "many"}', "status.json has step = 'many'"),
        ("best.safetensors", b"", "best.safetensors is damaged"),
        ("best.safetensors", b"\xff" * 8, "best.safetensors is damaged"),
        ("best.safetensors", b"\x02" + bytes(7) + b"{}", "best.safetensors is damaged"),
    ],
)
def test_a_torn_or_missing_file_shows_as_such(run, name, content, problem):
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    view = read_run_view(run)
    assert view.problems == (problem,)
    (row,) = rows_of([run])
    assert row.why == problem
    json.dumps(row.to_json())


def test_a_run_that_is_being_written_is_never_torn(run):
    """The run folder replaces its status, so that a reader sees the one before or the one after."""
    folder, done = RunFolder(run), threading.Event()

    def write() -> None:
        for step in range(300):
            folder.write_status("running", step, 1000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    steps = []
    while not done.is_set():
        view = read_run_view(run)
        assert view.problems == ()
        steps.append(view.step)
    writer.join()
    assert steps == sorted(steps)


def test_folders_of_runs_and_submissions_are_gone_through(tmp_path):
    write_runs(tmp_path / "runs", 3)
    (tmp_path / "runs" / "no run").mkdir()
    (tmp_path / "submissions" / "torn").mkdir(parents=True)
    (tmp_path / "submissions" / "torn" / "plan.json").write_text('{"target": "sl')
    found = list(rows_of([tmp_path / "runs", tmp_path / "submissions"]))
    assert [row.state for row in found] == ["running", "finished", "preempted", "unknown"]
    assert found[-1].why.startswith("plan.json is damaged")
