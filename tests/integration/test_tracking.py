"""W&B as users meet it: whatever becomes of it, training is the same; and offline files hold everything."""

import http.server
import json
import os
import signal
import subprocess
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musicvae.durable import read_lines
from musicvae.training.examples import Examples, example_files
from musicvae.training.progress import SPEED_FIGURES
from musicvae.training.run_folder import RunFolder
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command, ok, run_job
from tests.support.processes.running_job import wait_for
from tests.support.runs.tiny_run import assert_same_state
from tests.support.runs.wandb_files import history, of_kind, offline_folders

NO_HOST = "http://127.0.0.1:9"
STEPS = 12
SETTINGS = [*TINY, f"train.steps={STEPS}", "train.evaluate_every=5", "tracking.media_minutes=0"]


def training(shards: Path, run: Path, *settings: object) -> list[object]:
    return ["--shards", shards, "--run", run, *SETTINGS, *settings]


@pytest.fixture(scope="module")
def plain(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without any tracking."""
    run = tmp_path_factory.mktemp("runs") / "plain"
    ok(run_job("train", *training(small_shards, run)))
    return run


def assert_same_training(expected: Path, found: Path) -> None:
    """Figures, weights, moments and examples, to the last bit."""
    figures = [
        [
            {name: value for name, value in line.items() if name not in SPEED_FIGURES}
            for line in read_lines(run / "metrics.jsonl")
        ]
        for run in (expected, found)
    ]
    assert figures[0] == figures[1]
    assert_same_state(expected, found, STEPS)
    for before, after in zip(
        example_files(expected / "examples").values(), example_files(found / "examples").values(), strict=True
    ):
        assert before.read_bytes() == after.read_bytes()
    assert json.loads((found / "status.json").read_text())["state"] == "finished"


def test_examples_are_made_at_every_evaluation(plain):
    files = example_files(RunFolder(plain).examples)
    assert list(files) == [5, 10, STEPS]
    first, last = Examples.load(files[5]), Examples.load(files[STEPS])
    np.testing.assert_array_equal(first.windows, last.windows)
    assert not np.array_equal(first.samples, last.samples)
    line = next(line for line in read_lines(plain / "metrics.jsonl") if line["step"] == 5)
    assert first.kl.sum() == pytest.approx(line["validation.kl_nats"], rel=1e-5)
    assert (first.mu_variance > 0.01).sum() == line["validation.active_units"]
    assert {name for name in SPEED_FIGURES if name in line} == set(SPEED_FIGURES) - {"mfu"}, "a CPU has no known peak"
    assert line["tokens_per_second"] == pytest.approx(64 * line["windows_per_second"])
    assert line["step_seconds"] > 0
    assert 0.1 < line["peak_memory_gib"] < 24


@pytest.mark.slow
def test_offline_files_hold_curves_pictures_and_sounds(small_shards, plain, tmp_path):
    run = tmp_path / "run"
    ok(run_job("train", *training(small_shards, run, "tracking.wandb=offline")))
    assert_same_training(plain, run)
    (folder,) = offline_folders(run)
    curves = history(folder)
    for line in read_lines(run / "metrics.jsonl"):
        logged = curves[line["step"]]
        for name, value in line.items():
            assert logged[name.replace(".", "/")] == pytest.approx(value), (line["step"], name)

    for step in (5, 10, STEPS):
        for name in ("reconstructions", "samples"):
            with Image.open(folder / "files" / curves[step][f"examples/{name}/path"]) as picture:
                assert picture.format == "PNG"
                assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
        with wave.open(str(folder / "files" / curves[step]["examples/sound_0/path"])) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        assert np.abs(samples).max() > 3000

    (started,) = of_kind(folder, "run")
    config = RunFolder(run).read_config()
    settings = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert started.run_id == config["provenance"]["tracking_id"]
    assert settings["run_id"] == config["run_id"]
    assert settings["settings"]["train"]["steps"] == STEPS
    artifacts = {artifact.name: artifact for artifact in of_kind(folder, "artifact")}
    assert set(artifacts) == {f"shards-{config['shards']['fingerprint']}", f"model-{started.run_id}"}
    for artifact in artifacts.values():
        (entry,) = artifact.manifest.contents
        assert run in Path(entry.local_path).parents, "a run folder can be copied with all that is still to be sent"
        assert Path(entry.local_path).read_bytes() == (run / entry.path).read_bytes()
    assert [end.exit_code for end in of_kind(folder, "exit")] == [0]
    assert of_kind(folder, "preempting") == []


@pytest.mark.slow
def test_a_preempted_run_goes_on_under_its_id(small_shards, tmp_path):
    run = tmp_path / "run"
    arguments = [*training(small_shards, run, "tracking.wandb=offline"), "train.steps=100000"]
    process = subprocess.Popen(
        job_command("train", *arguments), cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 20, process, "steps")
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=180)
    assert process.returncode == 75
    stopped_at = json.loads((run / "status.json").read_text())["step"]
    ok(run_job("train", *training(small_shards, run, "tracking.wandb=offline"), f"train.steps={stopped_at + 3}"))

    first, second = offline_folders(run)
    assert len({started.run_id for folder in (first, second) for started in of_kind(folder, "run")}) == 1
    assert len(of_kind(first, "preempting")) == 1
    assert [end.exit_code for folder in (first, second) for end in of_kind(folder, "exit")] == [75, 0]
    assert [step for folder in (first, second) for step in history(folder)] == list(range(1, stopped_at + 4))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "online"])
def test_without_a_key_or_a_network_the_run_is_recorded_offline(small_shards, plain, tmp_path, mode):
    run = tmp_path / "run"
    result = ok(
        run_job(
            "train",
            *training(small_shards, run, f"tracking.wandb={mode}", "tracking.init_timeout=2"),
            WANDB_BASE_URL=NO_HOST,
            WANDB_API_KEY="",
            NETRC=str(tmp_path / "none"),
        )
    )
    assert_same_training(plain, run)
    assert ("W&B cannot be reached" in result.stdout) == (mode == "online")
    (folder,) = offline_folders(run)
    assert set(history(folder)) == set(range(1, STEPS + 1))


@pytest.mark.slow
def test_with_a_key_and_no_network_training_does_not_wait(small_shards, plain, tmp_path):
    run = tmp_path / "run"
    result = ok(
        run_job(
            "train",
            *training(small_shards, run, "tracking.wandb=online", "tracking.init_timeout=3"),
            WANDB_BASE_URL=NO_HOST,
            WANDB_API_KEY="0" * 40,
        )
    )
    assert_same_training(plain, run)
    assert "W&B cannot be reached" in result.stdout
    assert "wandb sync" in result.stdout
    (folder,) = offline_folders(run)
    assert set(history(folder)) == set(range(1, STEPS + 1))


class _Refusing(http.server.BaseHTTPRequestHandler):
    """A W&B server that does not know the key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        body = b'{"errors":[{"message":"user is not logged in"}]}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def refusing_server() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    server.requests = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_a_wrong_key_is_told_and_the_run_is_recorded_offline(small_shards, plain, tmp_path, refusing_server):
    run = tmp_path / "run"
    result = ok(
        run_job(
            "train",
            *training(small_shards, run, "tracking.wandb=online", "tracking.init_timeout=10"),
            WANDB_BASE_URL=f"http://127.0.0.1:{refusing_server.server_port}",
            WANDB_API_KEY="0" * 40,
        )
    )
    assert refusing_server.requests, "the key was tried"
    assert_same_training(plain, run)
    assert "W&B cannot be reached" in result.stdout
    (folder,) = offline_folders(run)
    assert set(history(folder)) == set(range(1, STEPS + 1))


@pytest.mark.slow
def test_without_wandb_installed_training_is_the_same(small_shards, plain, tmp_path):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "wandb.py").write_text("raise ModuleNotFoundError(\"No module named 'wandb'\", name='wandb')\n")
    run = tmp_path / "run"
    path = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = ok(run_job("train", *training(small_shards, run, "tracking.wandb=online"), PYTHONPATH=path))
    assert_same_training(plain, run)
    assert "W&B is not used: ModuleNotFoundError: No module named 'wandb'" in result.stdout
    assert offline_folders(run) == []


@pytest.mark.slow
def test_a_wandb_that_hangs_is_left_behind_in_bounded_time(small_shards, plain, tmp_path):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "wandb.py").write_text("import time\ntime.sleep(10000)\n")
    run = tmp_path / "run"
    path = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = training(small_shards, run, "tracking.wandb=online", "tracking.finish_timeout=2")
    result = ok(run_job("train", *settings, PYTHONPATH=path, timeout=120))
    assert_same_training(plain, run)
    assert "W&B did not receive everything within 2 s" in result.stdout
    assert sessions_of(run) == []


@pytest.mark.slow
def test_nothing_outlives_a_run_that_was_killed(small_shards, tmp_path):
    run = tmp_path / "run"
    arguments = training(small_shards, run, "tracking.wandb=offline", "tracking.finish_timeout=5")
    process = subprocess.Popen(
        job_command("train", *arguments, "train.steps=100000"),
        cwd=CHECKOUT,
        env={**os.environ, **QUIET},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for(lambda: bool(offline_folders(run)) and len(read_lines(run / "metrics.jsonl")) >= 20, process, "steps")
    sessions = sessions_of(run)
    assert sessions
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 120
    while left := sessions_of(run):
        assert time.monotonic() < deadline, f"{left} of {sessions} live on"
        time.sleep(0.1)
    (folder,) = offline_folders(run)
    assert [end.exit_code for end in of_kind(folder, "exit")] == [1]


def sessions_of(run: Path) -> list[int]:
    """Ids of the processes that hold a run's log of W&B open: its session, and the service that this one starts."""
    log, found = run / "wandb" / "session.log", []
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):  # it may end while it is looked at
            if any(descriptor.readlink() == log for descriptor in descriptors.iterdir()):
                found.append(int(descriptors.parent.name))
    return found


def test_wandb_off_can_be_typed():
    assert "wandb: 'off'" in ok(run_job("train", "--print-config", "tracking.wandb=off")).stdout
