"""A sweep as an array on a real SLURM of two virtual nodes: the trials and figures of one driver, without Ray."""

import json

import pytest

from jobs.sweeps.ledger import read_ledger
from tests.support.commands import ok, run_job
from tests.support.processes.process_tree import kill_tree
from tests.support.services.submitted import attempts, rows, run_in, submit, verdicts, wait_for
from tests.support.sweeps.tiny_sweep import check_once, results, sweep_file

pytestmark = pytest.mark.slow
ELEMENTS = 3


def test_an_array_of_which_one_is_killed_and_one_told_to_leave(slurm, small_shards, tmp_path):
    file, out = sweep_file(tmp_path / "tiny.yaml", budget={"trials": 9, "steps": 120}), tmp_path / "out"
    wish = ["sweep", "--on", "slurm", "--array", ELEMENTS, "--cpus-per-node", 1]
    submission = submit(tmp_path, *wish, "--", file, "--shards", small_shards, "--out", out, **slurm.environment)
    number = json.loads((submission / "receipts.jsonl").read_text().splitlines()[-1])["number"]

    def begun(element: int) -> bool:
        path = out / "elements" / str(element) / "ledger.jsonl"
        return path.exists() and '"kind": "start"' in path.read_text()

    wait_for(lambda: begun(0), submission)
    kill_tree(attempts(submission, "sweep", 0)[0]["pid"])
    wait_for(lambda: begun(1), submission)
    slurm.client("scancel", "--signal=USR2", "--batch", f"{number}_1")
    wait_for(lambda: verdicts(submission, "sweep", 1)[-1:] == ["done"], submission)
    wait_for(lambda: verdicts(submission, "sweep", 2)[-1:] == ["done"], submission)
    assert verdicts(submission, "sweep", 1)[0] in ("again", "done"), "it may have been at its very end"
    wait_for(lambda: not slurm.client("squeue", "--noheader", f"--jobs={number}"), submission)
    assert rows(tmp_path, **slurm.environment)["sweep"]["elements"] == {"done": 2, "failed": 1}
    assert (out / "report.html").exists(), "the others have done what it left"

    (retried,) = json.loads(
        ok(run_in(tmp_path, "retry", "--failed", "--json", **slurm.environment)).stdout.splitlines()[-1]
    )
    assert retried["elements"] == {"sweep": [0]}
    wait_for(lambda: verdicts(submission, "sweep", 0)[-1:] == ["done"], submission)
    ok(run_job("sweep", "run", file, "--shards", small_shards, "--out", tmp_path / "alone"))
    assert results(out) == results(tmp_path / "alone")
    check_once(read_ledger(out), out / "ledger.jsonl")
