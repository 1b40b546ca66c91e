"""A SLURM controller for the tests that submit to one."""

from collections.abc import Iterator

import pytest

from tests.cluster.slurm_cluster import SlurmCluster, missing_programs, slurm_cluster
from tests.support.requirements import skip_or_fail


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """Two nodes."""
    if missing := missing_programs():
        skip_or_fail(f"SLURM is not installed: no {', '.join(missing)}")
    with slurm_cluster() as cluster:
        yield cluster
