"""What SLURM refuses is shown with what helps."""

from pathlib import PurePath

import pytest

from cluster import slurm
from cluster.errors import TargetError


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        ("Batch job submission failed: Invalid account or account/partition combination specified", "--account"),
        ("invalid partition specified: cpus", "--partition"),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", "jobs.doctor"),
    ],
)
def test_a_refusal_names_its_cure(tmp_path, monkeypatch, message, cure):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\necho 'sbatch: error: {message}' >&2\nexit 1\n")
    sbatch.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError) as refused:
        slurm.submit(slurm.Call(PurePath("job.sbatch"), (0,), 0, ()))
    assert message in refused.value.problem
    assert cure in refused.value.details["do"]
