"""Commands whose output nobody reads any more: a training continues, others end quietly and keep their work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import CHECKOUT, QUIET, TINY, job_command, ok, run_job
from tests.support.runs.tiny_run import losses, status

pytestmark = pytest.mark.slow

LOST_READER = 141
ENVIRONMENT = {**os.environ, **QUIET}


def read_no_further(command: list[str], *, lines: int) -> tuple[int, str]:
    """Runs a command as `COMMAND 2>ERRORS | head -n LINES`; gives its exit code and its errors."""
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    return process.returncode, errors


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_training_whose_reader_is_gone_continues_to_its_end(small_shards, tmp_path, ranks):
    run = tmp_path / "run"
    command = job_command("train", "--shards", small_shards, "--run", run, *TINY, "train.steps=30", ranks=ranks)
    code, errors = read_no_further(command, lines=2)
    assert (code, errors) == (0, "")
    assert len(losses(run)) == 30
    assert status(run)["state"] == "finished"
    if ranks:
        assert "step 30/30" in (run / "logs" / "rank-00000.log").read_text()


def test_a_training_whose_terminal_is_gone_continues_to_its_end(small_shards, tmp_path):
    run = tmp_path / "run"
    terminal, end = os.openpty()
    command = job_command("train", "--shards", small_shards, "--run", run, *TINY, "train.steps=30")
    process = subprocess.Popen(command, cwd=CHECKOUT, env=ENVIRONMENT, stdout=end, stderr=end)
    os.close(end)
    os.read(terminal, 1)
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    assert len(losses(run)) == 30


@pytest.mark.parametrize("arguments", [["show", "SHARDS"], ["show", "--help"], ["status", "NOTHING"]])
def test_other_commands_end_quietly(small_shards, arguments):
    words = [str(small_shards) if word == "SHARDS" else word for word in arguments]
    code, errors = read_no_further(job_command(*words), lines=0)
    expected = (2, "error: ") if "NOTHING" in words else (LOST_READER, "")
    assert (code, errors[:7]) == expected
    assert "Traceback" not in errors


def test_the_list_of_commands_ends_quietly():
    assert read_no_further([sys.executable, "-m", "jobs"], lines=0) == (LOST_READER, "")


def test_a_build_whose_reader_left_is_continued_by_the_same_command(tmp_path):
    out = tmp_path / "shards"
    arguments = ["--source", "demo", "--out", out, "--workers", 0, "demo.performances=40"]
    code, errors = read_no_further(job_command("build_shards", *arguments), lines=0)
    assert code == LOST_READER, errors
    assert "Traceback" not in errors
    ok(run_job("build_shards", *arguments))
    assert (out / "manifest.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["shards"], "nothing else is left"


def test_figures_are_saved_before_they_are_shown(small_shards, tmp_path):
    file = tmp_path / "figures.json"
    command = job_command("evaluate", "--shards", small_shards, "--json", file, "--no-models", "--quick")
    code, errors = read_no_further(command, lines=0)
    assert (code, "Traceback" in errors) == (LOST_READER, False), errors
    assert json.loads(file.read_text())


def test_output_that_cannot_be_written_is_an_error(small_shards):
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            job_command("show", small_shards), cwd=CHECKOUT, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE
        )
    assert result.returncode == 1
    assert result.stderr == b"error: cannot write to standard output: No space left on device\n"


def test_an_error_keeps_its_exit_code_where_nobody_reads_it(tmp_path):
    command = ["sh", "-c", 'exec "$@" 2>&1', "sh", *job_command("show", tmp_path / "nothing")]
    assert read_no_further(command, lines=0) == (2, "")
