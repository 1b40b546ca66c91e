"""The profile of a few steps: which ones, what is in it, and that training does not notice."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.profiler import record_function

from musicvae.data.loader import Batch
from musicvae.training.profiling import COUNT, FIRST, WAITING_FOR_DATA, ProfiledWork, profiled, vendor_peak

SIDE, WAIT = 200, 0.002
WORK = ProfiledWork("four words of description", flops=2 * SIDE**3, peak=1e9)


def batches(count: int) -> Iterator[Batch]:
    for number in range(count):
        with record_function(WAITING_FOR_DATA):
            time.sleep(WAIT)
        tokens = torch.zeros(1, 4, dtype=torch.int64)
        yield Batch(number, 0, np.arange(1), tokens, torch.zeros(1, 2))


def train(count: int, folder: Path) -> list[int]:
    seen = []
    matrix = torch.randn(SIDE, SIDE)
    for batch in profiled(batches(count), folder, WORK):
        torch.mm(matrix, matrix)
        with record_function(f"step {batch.number}"):
            seen.append(batch.number)
    return seen


def test_only_the_steps_after_the_first_are_profiled(tmp_path: Path) -> None:
    assert train(FIRST + COUNT + 3, tmp_path) == list(range(FIRST + COUNT + 3))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = [event.get("name", "") for event in events]
    assert {name for name in names if name.startswith("step ")} == {f"step {FIRST + i}" for i in range(COUNT)}
    assert names.count("aten::mm") == COUNT


def test_the_table_tells_where_a_step_goes(tmp_path: Path) -> None:
    train(FIRST + COUNT + 3, tmp_path)
    text = (tmp_path / "table.txt").read_text()
    assert text.startswith(f"four words of description; {COUNT} steps\n")
    rows = text.split("\n\n")[0].splitlines()[1:-2]
    milliseconds = [float(row.split(" ms")[0].split()[-1]) for row in rows]
    step, parts = milliseconds[0], milliseconds[1:]
    assert abs(step - sum(parts)) < 0.1 * len(parts)
    waiting = next(row for row in rows if row.startswith(WAITING_FOR_DATA))
    assert float(waiting.split(" ms")[0].split()[-1]) >= 1e3 * WAIT
    assert "aten::mm" in text


def test_a_run_that_ends_early_leaves_what_there_is(tmp_path: Path) -> None:
    train(FIRST + 2, tmp_path / "short")
    assert (tmp_path / "short" / "table.txt").read_text().splitlines()[0].endswith("; 2 steps")
    train(FIRST, tmp_path / "shorter")
    assert not (tmp_path / "shorter").exists()


@pytest.mark.parametrize(
    ("name", "precision", "matmul", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", "highest", 312),
        ("NVIDIA H100 80GB HBM3", "float32", "high", 494),
        ("NVIDIA H100 PCIe", "bfloat16", "highest", 756),
        ("NVIDIA H100 NVL", "float32", "high", 417),
        ("NVIDIA H200", "float32", "highest", 67),
        ("Some Other GPU", "bfloat16", "highest", None),
    ],
)
def test_the_peak_is_that_of_the_data_sheet_for_the_way_of_multiplying(monkeypatch, name, precision, matmul, teraflops):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak = vendor_peak(torch.device("cuda", 0), precision, matmul)
    assert peak == (teraflops and teraflops * 1e12)
    assert vendor_peak(torch.device("cpu"), precision, matmul) is None
