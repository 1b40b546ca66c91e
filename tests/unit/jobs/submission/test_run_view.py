"""Run folders in any state, as tables show them."""

import hashlib
import io
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Column, Table
from rich.text import Text

from cluster.job import Job
from cluster.site import Site
from cluster.submission import Submission
from jobs import logs
from jobs.command.command_line import PlainConsole
from jobs.status import StatusTable, table_of
from jobs.status import main as status_command
from jobs.submission import run_view
from jobs.submission.rows import rows_of
from jobs.submission.run_view import LEAST_KEPT, read_run_view
from jobs.training.rank_logs import log_of
from musicvae.errors import ConfigError
from musicvae.training.run_folder import RunFolder
from tests.benchmarks.status import write_runs
from tests.support.runs.run_folders import run_with_weights, validation_line


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
        ("status.json", b'{"state": "running", "eta_seconds": NaN}', "status.json has eta_seconds = nan"),
        ("status.json", b'{"state": "running", "total": 1e999}', "status.json has total = inf"),
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


STRANGE = (
    '{"state": "[/red]\\u001b[2J"}',
    '{"state": ["failed"], "step": NaN}',
    '{"state": "failed", "failure": {"category": "?", "rank": 0, "traceback": 7}, "launch": []}',
    '{"state": "running", "heartbeat": "soon", "eta_seconds": 1e999, "total": {}}',
)


def test_a_strange_run_or_submission_never_hides_the_others(tmp_path, capsys):
    write_runs(tmp_path, 1)
    for number, status in enumerate(STRANGE):
        (tmp_path / f"strange-{number}").mkdir()
        (tmp_path / f"strange-{number}" / "status.json").write_text(status)
    for number, plan in enumerate(("[]", '{"jobs": 7}', '{"jobs": [7]}', "7")):
        (tmp_path / f"plan-{number}").mkdir()
        (tmp_path / f"plan-{number}" / "plan.json").write_text(plan)
    for as_json in (False, True):
        status_command([tmp_path], json_=as_json)
        said = capsys.readouterr().out
        assert "run-00000" in said
        assert all(f"strange-{number}" in said for number in range(len(STRANGE)))
        assert "\x1b" not in said


def test_what_a_log_holds_is_shown_and_commands_no_terminal(run, capsys, monkeypatch):
    log = log_of(run, 0)

    def write_and_end(folder) -> bool:
        log.parent.mkdir()
        log.write_bytes(b"\x1b]0;owned\x07 loss [/red] 1.5\r\nstep 1\rstep 2\n")
        return False

    monkeypatch.setattr(logs, "_run_lives", write_and_end)
    logs.main([run], follow=True)
    followed = capsys.readouterr().out
    logs.main([run])
    text = "\\x1b]0;owned\\x07 loss [/red] 1.5\nstep 1\nstep 2\n"
    assert capsys.readouterr().out == text
    assert followed == f"==> {run.name}/{log.parent.name}/{log.name} <==\n{text}"


def test_logs_of_several_submissions(tmp_path, capsys):
    folders = [tmp_path / "submissions" / name for name in ("train-1", "train-2")]
    for number, folder in enumerate(folders):
        submission = Submission(folder, "ray", tmp_path, Site(), (Job("train", ("true",)),), "http://head:8265")
        submission.write_plan()
        (submission.logs / "train-7.log").write_text(f"of {folder.name}\n")
        os.utime(submission.logs / "train-7.log", (number, number))
    logs.main(folders)
    assert capsys.readouterr().out == "of train-2\n"
    logs.main(folders, json_=True)
    assert json.loads(capsys.readouterr().out)["lines"] == ["of train-2"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    with pytest.raises(ConfigError, match="one of them is a run"):
        logs.main([*folders, tmp_path / "run"])


@pytest.mark.parametrize("width", [80, 160])
def test_no_figure_is_broken_at_the_end_of_a_line(tmp_path, width):
    write_runs(tmp_path, 3)
    output = io.StringIO()
    PlainConsole(file=output, width=width).print(table_of(list(rows_of([tmp_path])), width))
    assert max(map(len, output.getvalue().splitlines())) <= width
    for figure in ("run-00002", "preempted", "1/1,000", "392", "1:23:45", "101.50", "ago"):
        assert figure in output.getvalue()


WORDS = ("a", "job", "status.json", "x" * 30, "−ELBO", "日本", "é", "\n", " ")


def texts(*more: str) -> st.SearchStrategy[str]:
    words = st.lists(st.sampled_from([*WORDS, *more]), max_size=9)
    return st.builds(lambda words, gap: gap.join(words), words, st.sampled_from(["", " ", "  "]))


ROWS = st.tuples(texts("\t"), texts(), texts("\t"), texts("\t"), st.sampled_from(["", "red"]))


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, max_size=4), st.integers(1, 130), st.booleans())
def test_the_table_has_the_bytes_of_rich(rows, width, is_terminal):
    columns, unwrapped = ("name", "state", "progress", "why"), ("name",)
    expected = Table(*(Column(name, no_wrap=name in unwrapped) for name in columns), box=None)
    for name, state, progress, why, style in rows:
        expected.add_row(name, Text(state, style), progress, why)
    table = StatusTable(columns, unwrapped, [row[:4] for row in rows], [row[4] for row in rows])
    printed = []
    for renderable in (expected, table):
        output = io.StringIO()
        PlainConsole(file=output, width=width, force_terminal=is_terminal, color_system="truecolor").print(
            renderable, crop=False
        )
        printed.append(output.getvalue())
    assert printed[1] == printed[0]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder of runs after a look at it, and the file of what was kept of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(run_view, "SETTLED_SECONDS", 0.0)
    write_runs(tmp_path / "runs", 2 * LEAST_KEPT)
    look(tmp_path / "runs")
    (file,) = (tmp_path / "cache" / "musicvae" / "status").iterdir()
    return tmp_path / "runs", file


def look(folder: Path) -> list[dict]:
    return [row.to_json() for row in rows_of([folder])]


def without_kept(folder: Path, monkeypatch) -> list[dict]:
    with monkeypatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", os.devnull)
        return look(folder)


def write_kept(file: Path, content: bytes) -> None:
    file.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def test_an_ended_run_is_read_once(kept, monkeypatch):
    runs, file = kept
    expected = look(runs)
    assert expected == without_kept(runs, monkeypatch)
    write_kept(file, file.read_bytes().partition(b"\n")[2].replace(b'"preempted"', b'"from the cache"'))
    states = {row["name"]: row["state"] for row in look(runs)}
    assert states["run-00119"] == "from the cache"
    assert {row["name"]: row["state"] for row in expected if row["state"] == "running"}.items() <= states.items()
    file.unlink()
    assert look(runs) == expected
    monkeypatch.chdir(runs)
    assert [row["state"] for row in look(Path())] == [row["state"] for row in expected]


def in_place(run: Path) -> None:
    with (run / "status.json").open("r+") as file:
        file.write('{"state": "finisheD"')


def swap(run: Path) -> None:
    other = run.with_name("run-00001")
    other.rename(run.with_name("aside"))
    run.rename(other)
    run.with_name("aside").rename(run)


CHANGES = {
    "begun again": lambda run: RunFolder(run).write_status("running", 7, 1000),
    "changed in place": in_place,
    "other best weights": lambda run: (run / "best.safetensors").write_bytes(b""),
    "no best weights": lambda run: (run / "best.safetensors").unlink(),
    "no status": lambda run: (run / "status.json").unlink(),
    "deleted": shutil.rmtree,
    "renamed": lambda run: run.rename(run.with_name("renamed")),
    "replaced by another": swap,
    "a submission": lambda run: (run / "plan.json").write_text("{}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_an_ended_run_is_seen_at_once(kept, monkeypatch, change):
    runs, _ = kept
    before = look(runs)
    CHANGES[change](runs / "run-00119")
    after = look(runs)
    assert after != before
    assert after == without_kept(runs, monkeypatch)


@pytest.mark.parametrize("content", [b"", b"torn", b"[]", b'[[0, [], "/"], {"run-00119": ["", []]}]', None])
def test_a_useless_file_of_kept_runs_is_written_anew(kept, monkeypatch, capsys, content):
    runs, file = kept
    whole = file.read_bytes()
    if content is None:
        file.write_bytes(whole[: len(whole) // 2])
    else:
        write_kept(file, content)
    assert look(runs) == without_kept(runs, monkeypatch)
    assert file.read_bytes() == whole
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("count", "settled_seconds"), [(20, 0.0), (2 * LEAST_KEPT, 60.0)])
def test_few_runs_and_those_that_just_changed_are_not_kept(tmp_path, monkeypatch, count, settled_seconds):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(run_view, "SETTLED_SECONDS", settled_seconds)
    write_runs(tmp_path / "runs", count)
    look(tmp_path / "runs")
    assert not (tmp_path / "cache").exists()
