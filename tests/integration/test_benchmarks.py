"""The benchmark scripts run to their end and print what they promise; their figures are for quiet machines."""

import subprocess
import sys

import pytest

from tests.commands import CHECKOUT

pytestmark = pytest.mark.slow


def printed_by(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_training():
    text = printed_by("train", "--preset", "demo", "--quick")
    rows = [line.split() for line in text.splitlines() if line.startswith(("float32  ", "bfloat16  "))]
    assert [(row[0], row[1]) for row in rows] == [
        ("float32", "1"),
        ("float32", "2"),
        ("bfloat16", "1"),
        ("bfloat16", "2"),
    ]
    assert all(float(row[2]) > 0 for row in rows)
    assert "0.13 GFLOP per window" in text
    assert "times Magenta's float32" in text


def test_everything_for_a_gpu_on_the_cpu():
    text = printed_by("gpu", "--device", "cpu", "--quick")
    rows = [line for line in text.splitlines() if line.startswith("| demo |")]
    assert [row.split(" | ")[2] for row in rows[:2]] == ["no", "yes"]
    assert all(float(row.split(" | ")[3]) > 0 for row in rows[:2])
    assert float(rows[2].strip("| ").split(" | ")[2]) > 0
    assert "skipped" in text or "passed" in text
