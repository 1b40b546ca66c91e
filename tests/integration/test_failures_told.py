"""Injected failures of real trainings and samplings: each is classed rightly, and its true cause is shown."""

import pytest

from musicvae.training.heartbeat import HEARTBEAT_SECONDS
from tests.support.commands import TINY, ok
from tests.support.harm.interposed import harm_at_step, interposed
from tests.support.requirements import only_in_a_soak
from tests.support.runs.run_folders import begun_run
from tests.support.services.submitted import rows, run_in

pytestmark = pytest.mark.slow
DATA = "from musicvae.errors import DataError; raise DataError('train-000001.tar is damaged')"
UNUSABLE = "from musicvae.errors import ConfigError; raise ConfigError('no such drum map')"
# Of a rank that is killed its last sign of life is all that is known: it is given the time for one from its training.
KILLED = f"time.sleep({2 * HEARTBEAT_SECONDS}); os.kill(os.getpid(), signal.SIGKILL)"
FULL = "from musicvae.errors import DiskFullError; raise DiskFullError('the run folder cannot take any more')"


@pytest.mark.parametrize(
    ("settings", "harm", "category", "cause"),
    [
        ([], UNUSABLE, "configuration", "no such drum map"),
        pytest.param([], "raise KeyError('no such drum')", "code", "KeyError: 'no such drum'", marks=only_in_a_soak),
        ([], "raise MemoryError('32 GB for a tensor')", "out of memory", "out of memory at step"),
        ([], DATA, "data", "train-000001.tar is damaged"),
        ([], FULL, "disk", "the run folder cannot take any more"),
        ([], KILLED, "node", "ended without a report"),
        pytest.param(
            *(["optimizer.learning_rate=1e30", "train.clip=1e30"], None, "diverged", "not finite"),
            marks=only_in_a_soak,
        ),
        pytest.param(
            *(["resources.hang_seconds=10"], "time.sleep(3600)", "hang", "no progress for"), marks=only_in_a_soak
        ),
    ],
    ids=["setting", "error", "memory", "data", "disk", "killed", "diverged", "stuck"],
)
def test_a_training(small_shards, tmp_path, settings, harm, category, cause):
    environment = interposed(tmp_path / "site", harm_at_step(harm, rank=1, step=3, attempts=99)) if harm else {}
    arguments = ["--shards", small_shards, "--run", "run", *TINY, "train.steps=2000", "resources.max_restarts=0"]
    wish = ["train", "--ranks-per-node", 2, "--retries", 0, "--", *arguments, *settings]
    failed = run_in(tmp_path, "submit", *wish, **environment)
    assert failed.returncode not in (0, 75)
    (failure,) = rows(tmp_path, "submissions")["train"]["failures"]
    assert failure["category"] == category
    assert cause in failure["cause"]
    if harm:
        assert failure["where"].startswith("rank 1 of 2 on ")
        assert "phase training" in failure["where"]
    shown = ok(run_in(tmp_path, "status", "submissions")).stdout
    assert f"failed: {category}: " in shown
    assert cause in shown
    assert "ChildFailedError" not in shown


def test_a_sampling_without_weights(tmp_path):
    begun_run(tmp_path / "untrained")
    failed = run_in(tmp_path, "submit", "sample", "--", "--run", "untrained", "--count", 5, "--out", "out")
    assert failed.returncode == 2
    (failure,) = rows(tmp_path, "submissions")["sample"]["failures"]
    assert failure["category"] == "configuration"
    assert "no trained weights in" in failure["cause"]
