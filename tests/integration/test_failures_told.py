"""Injected failures of real trainings and samplings: each is classed rightly, and its true cause is shown."""

import pytest

from musicvae.training.heartbeat import PULSE_SECONDS
from tests.support.commands import ok
from tests.support.interposed import harm_at_step, interposed
from tests.support.requirements import only_in_a_soak
from tests.support.submitted import rows, run_in
from tests.support.tiny_run import TINY

pytestmark = pytest.mark.slow
DATA = "from musicvae.errors import DataError; raise DataError('train-000001.tar is damaged')"
# Of a rank that is killed its last sign of life is all that is known: it is given the time for one from its training.
KILLED = f"time.sleep({2 * PULSE_SECONDS}); os.kill(os.getpid(), signal.SIGKILL)"
FULL = "from musicvae.errors import DiskFullError; raise DiskFullError('the run folder cannot take any more')"


@pytest.mark.parametrize(
    ("settings", "harm", "category", "cause"),
    [
        (["train.step=3"], None, "configuration", "unknown setting train.step (did you mean train.steps?)"),
        (["data.lanes=4096"], None, "configuration", "data.lanes"),
        pytest.param([], "raise KeyError('no such drum')", "code", "KeyError: 'no such drum'", marks=only_in_a_soak),
        ([], "raise MemoryError('32 GB for a tensor')", "out of memory", "memory is exhausted at step"),
        ([], DATA, "data", "train-000001.tar is damaged"),
        ([], FULL, "disk", "the run folder cannot take any more"),
        ([], KILLED, "node", "vanished without a word"),
        pytest.param(
            *(["optimizer.learning_rate=1e30", "train.clip=1e30"], None, "diverged", "not finite"),
            marks=only_in_a_soak,
        ),
        pytest.param(
            *(["resources.hang_seconds=10"], "time.sleep(3600)", "hang", "no progress for"), marks=only_in_a_soak
        ),
    ],
    ids=["setting", "lanes", "error", "memory", "data", "disk", "killed", "diverged", "stuck"],
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


def test_a_sampling_without_a_model(tmp_path):
    failed = run_in(tmp_path, "submit", "sample", "--", "--run", "nowhere", "--count", 5, "--out", "out")
    assert failed.returncode == 2
    (failure,) = rows(tmp_path, "submissions")["sample"]["failures"]
    assert failure["category"] == "configuration"
    assert "nowhere" in failure["cause"]
