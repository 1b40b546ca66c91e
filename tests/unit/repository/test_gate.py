"""What a run of the gate says of itself: its table, and the test that a layer was in when its time was over."""

import os
import subprocess
import sys

import pytest

from tests.support.commands import CHECKOUT
from tests.support.layers.gate import read_layers, summary

HANGING = """
import time
from pathlib import Path

import pytest

def test_passes():
    pass

def test_lacks_something():
    pytest.skip("no such machine")

def test_fails():
    assert False

def test_hangs():
    Path(__file__).with_name("begun").touch()
    while True:
        time.sleep(0.01)
"""


@pytest.mark.slow
def test_a_layer_past_its_time_ends_names_its_test_and_stands_in_the_table(tmp_path):
    (tmp_path / "test_layer.py").write_text(HANGING)
    out = tmp_path / "gate"
    for seconds in ("3", "30", "100"):
        command = [sys.executable, "-m", "pytest", "-p", "tests.support.layers.layer_limit", "--layer-seconds", seconds]
        result = subprocess.run(
            [*command, "-n", "1", f"--junitxml={out / 'slow.xml'}", "-c", "/dev/null", "--rootdir", tmp_path, tmp_path],
            cwd=CHECKOUT,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=250,
        )
        if "test_layer.py::test_hangs - " in result.stdout:  # a busy machine needs more than three seconds to get there
            break
    assert result.returncode == 2
    assert f"the layer ran past its {seconds} s" in result.stderr
    assert f"test_layer.py::test_hangs - its layer ran past {seconds} s" in result.stdout
    assert "in test_hangs" in result.stderr, "the stack of the process that hangs"

    (out / "seconds.tsv").write_text("check\t12\t0\nslow\t4\t2\n")
    lines = summary(read_layers(out)).splitlines()
    assert lines[1].split() == ["check", "12", "0", "0", "0"]
    assert lines[2].split()[:5] == ["slow", "4", "1", "2", "1"]
    assert {"failed: test_layer::test_fails", "failed: test_layer::test_hangs"} < set(lines)
    assert "skipped 1 times: no such machine" in lines
    assert any(line.startswith("slow: ") for line in lines)
    assert lines[-1] == "1 passed, 2 failed, 1 skipped"


def test_a_layer_that_did_not_end_is_named(tmp_path):
    (tmp_path / "seconds.tsv").write_text("check\t12\t1\n")
    (tmp_path / "test.xml").write_text(
        '<testsuites><testsuite><testcase classname="a" name="b"/></testsuite></testsuites>'
    )
    table = summary(read_layers(tmp_path))
    assert "exit status 1" in table
    assert "not ended" in table
