"""What all layers share: the Groove MIDI Dataset where it is at hand, and what a skip means."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

from tests.support.requirements import skip_or_fail

pytest_plugins = [
    "tests.support.layers.layer_limit",
    "tests.support.shards.shard_fixtures",
    "tests.support.shards.build_fixtures",
    "tests.support.services.https_server",
    "tests.support.runs.sample_fixtures",
    "tests.support.pages.gallery_fixtures",
    "tests.support.sweeps.tiny_sweep",
    "tests.support.services.slurm_fixtures",
    "tests.support.layers.traces",
    "tests.support.layers.shuffled",
]

# Test machines are small and busy: threads that spin for a core they do not get cost far more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A shell's background job ignores Ctrl-C, and so would every command started from here.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says how busy the machine is.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


LONGEST = (
    *("test_newcomer", "test_docs_clusters", "test_sweep_kills", "test_train_kills", "test_train_on_ray"),
    *("test_submit_to_slurm", "test_faults", "test_shipped", "test_signals", "test_docs", "test_docs_sampling"),
    *("test_ray_in_slurm", "test_benchmarks", "test_evaluate", "test_sample_job", "test_failures_told", "test_train"),
    *("test_sweep_array", "test_build_kills", "test_train_faults", "test_same_bytes", "test_sweep_elements"),
    *("test_sample", "test_sweep", "test_tracking", "test_elastic", "test_sweep_everywhere", "test_build_interrupted"),
    "test_strange_nodes",
)
"""Files that take minutes. They come first: one that begins last keeps the other processes waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def groove_dir() -> Path:
    """The Groove MIDI Dataset's folder, named by GROOVE_DIR."""
    folder = Path(os.environ.get("GROOVE_DIR", ""))
    if not (folder / "info.csv").is_file():
        skip_or_fail("GROOVE_DIR names no folder with GMD's info.csv")
    return folder.resolve()


@pytest.fixture(scope="module")
def without_shape_checks() -> Iterator[None]:
    """For whole commands and long decodings: the checks take half of their time, and a user's commands have none."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
