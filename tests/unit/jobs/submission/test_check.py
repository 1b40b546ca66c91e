"""What `jobs.submit` finds in the arguments of each kind of job before anything is submitted."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.job import Array, Resources
from jobs.submission.kinds import SubmitRequest, check_jobs, jobs_of
from jobs.submit import main as submit
from jobs.training.plan import TrainRequest, prepare
from musicvae.errors import ConfigError
from tests.support.commands import TINY
from tests.support.runs.run_folders import begun_run
from tests.support.sweeps.tiny_sweep import sweep_file

REQUEST = SubmitRequest(Resources(), None, None, 0, (), None, Path())


def found(kind: str, arguments: list[str], *, elsewhere: bool = False, request: SubmitRequest = REQUEST) -> list[str]:
    """The warnings."""
    warnings: list[str] = []
    check_jobs(jobs_of(kind, arguments, request), elsewhere=elsewhere, warn=warnings.append)
    return warnings


@pytest.fixture
def words(small_shards, tmp_path):
    """Puts the places of a test into arguments."""
    places = {"SHARDS": small_shards, "OUT": tmp_path / "out"}
    return lambda text: [str(places.get(word, word)) for word in text.split()]


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("train", "--preset smal --shards SHARDS --run OUT", "did you mean small?"),
        ("train", "--shards SHARDS --run OUT train.stepz=3", "did you mean train.steps?"),
        ("train", "--shards SHARDS --run OUT train.steps=-1", "train.steps = -1"),
        ("train", "--shards SHARDS --run OUT --preset demo --config x.yaml", "exclude each other"),
        ("train", "--shards SHARDS --run OUT train.global_batch=100000", "100000"),
        ("train", "--preset demo --run OUT", "--shards and --run are needed"),
        ("train", "--shards SHARDS --run OUT --init-from nowhere", "no run in nowhere"),
        ("train", "--shards nowhere --run OUT", "no shards in nowhere"),
        ("train", "--shards SHARDS --run SHARDS", "is not a run folder"),
        ("build_shards", "--source demo --out OUT windw.bars=3", "did you mean window?"),
        ("build_shards", "--source nowhere --out OUT", "nothing at that path"),
        ("evaluate", "--shards nowhere", "no shards in nowhere"),
        ("evaluate", "--shards SHARDS --preset paper", "there is no model 'paper'"),
        ("evaluate", "--shards SHARDS --no-models --no-baselines", "there is nothing to evaluate"),
        ("evaluate", "--shards SHARDS --split tset", "there is no split 'tset'"),
        ("sample", "--out OUT", "--count is missing"),
        ("sample", "--out OUT --count 3 --preset nobody", "there is no model 'nobody'"),
        ("sample", "--out OUT --count 3 --run nowhere", "no run in"),
        ("sample", "--out OUT --count 3 --tempo 90 --tempo-range 80:90", "no --tempo-range with it"),
        ("sample", "--out OUT --count 3 --chunk 0", "--chunk 0 cannot be used"),
        ("sample", "--out OUT --pick nowhere", "--pick nowhere cannot be used"),
        ("sample", "merge --out OUT --workers 0", "--workers 0 cannot be used"),
        ("sweep", "demmo --shards SHARDS --out OUT", "there is no sweep 'demmo'"),
        ("sweep", "demo --shards SHARDS --out SHARDS", "is not a sweep"),
        ("sweep", "demo --shards SHARDS --out OUT --retry all", "--retry all"),
        ("report", "nowhere", "no run in nowhere"),
        ("pipeline", "--source demo --out OUT --preset dema", "did you mean demo?"),
    ],
)
def test_a_mistake_is_named(words, kind, arguments, expected):
    with pytest.raises(ConfigError) as refused:
        found(kind, words(arguments))
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("train", "--shards SHARDS --run OUT --shardz x", "No such option: --shardz"),
        ("sample", "--out OUT --count three", "Invalid value for '--count'"),
        ("evaluate", "", "Missing option '--shards'"),
        ("sweep", "demo --shards SHARDS", "Missing option '--out'"),
        ("report", "", "Missing argument 'RUN'"),
    ],
)
def test_the_commands_own_parser_speaks(words, capsys, kind, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        found(kind, words(arguments))
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("train", "--shards SHARDS --run OUT"),
        ("build_shards", "--source demo --out OUT"),
        ("evaluate", "--shards SHARDS"),
        ("sample", "--out OUT --count 3"),
        ("sample", "merge --out OUT"),
        ("sweep", "demo --shards SHARDS --out OUT"),
        ("pipeline", "--source demo --out OUT"),
    ],
)
@pytest.mark.parametrize("on_ray", [False, True])
def test_what_can_be_run_is_neither_run_nor_warned_of(words, tmp_path, kind, arguments, on_ray):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert found(kind, words(arguments), request=replace(REQUEST, on_ray=on_ray)) == []
    assert not list(tmp_path.iterdir())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("train", "--shards nowhere --run OUT"),
        ("train", "--shards nowhere --run OUT --config nowhere.yaml"),
        ("build_shards", "--source nowhere --out OUT"),
        ("evaluate", "--shards SHARDS --run nowhere"),
        ("sample", "--out OUT --count 3 --shards nowhere"),
        ("sweep", "demo --shards nowhere --out OUT"),
        ("report", "nowhere"),
    ],
)
def test_what_may_exist_on_the_nodes_is_a_warning(words, kind, arguments):
    (warning,) = found(kind, words(arguments), elsewhere=True)
    assert f"a path of {kind}. The job fails if its nodes do not see it" in warning
    assert "nowhere" in warning


def test_both_mistakes_are_named_in_the_words_of_the_job():
    request = TrainRequest("nowhere", Path("run"), "smal", None, None, ("train.stepz=3",))
    with pytest.raises(ConfigError) as of_the_job:
        prepare(request)
    with pytest.raises(ConfigError) as refused:
        found("train", ["--preset", "smal", "--shards", "nowhere", "--run", "run", "train.stepz=3"], elsewhere=True)
    assert str(refused.value) == str(of_the_job.value)
    assert "did you mean small?" in str(refused.value)
    assert "did you mean train.steps?" in str(refused.value)


@pytest.mark.parametrize("on_ray", [False, True])
def test_a_run_folder_of_another_run(small_shards, tmp_path, on_ray):
    begun_run(tmp_path / "run", "model.latent=9")
    arguments = ["--shards", str(small_shards), "--run", str(tmp_path / "run"), "model.latent=8"]
    with pytest.raises(ConfigError, match=r"contains another run[\s\S]*model.latent was 9, is 8"):
        found("train", arguments, request=replace(REQUEST, on_ray=on_ray))


def test_more_ranks_than_lanes(small_shards):
    wide = replace(REQUEST, resources=Resources(nodes=3), ranks_per_node=4)
    with pytest.raises(ConfigError, match="12 ranks cannot share the data"):
        found("train", ["--shards", str(small_shards), "--run", "run", *TINY], request=wide)


def test_an_array_of_more_elements_than_trials_is_pointed_out(small_shards, capsys):
    arguments = ["demo", "--shards", str(small_shards), "--out", "sweep"]
    for elements, is_said in ((12, False), (13, True)):
        found("sweep", arguments, request=replace(REQUEST, array=Array(elements)))
        assert ("warning: 13 elements for 12 trials" in capsys.readouterr().err) == is_said


@pytest.mark.parametrize(
    ("options", "memory"),
    [({"cpus_per_node": 8}, "8G"), ({}, "4G"), ({"cpus_per_node": 8, "mem": "64G"}, "64G")],
    ids=["four trials", "one trial", "given"],
)
def test_slurm_is_asked_for_the_memory_of_the_trials_that_a_node_holds(small_shards, tmp_path, capsys, options, memory):
    file = sweep_file(tmp_path / "tiny.yaml", resources={"cpus": 2, "memory_gib": 1.5})
    arguments = ["--shards", str(small_shards), f"--out={tmp_path}/out", str(file)]
    submit("sweep", arguments, on="slurm", dry_run=True, submissions=tmp_path / "submissions", **options)
    assert f"#SBATCH --mem={memory}\n" in capsys.readouterr().out
