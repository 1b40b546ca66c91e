"""A build that is stopped, disturbed or out of room: nothing is lost, and the same command goes on."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.commands import CHECKOUT, job_command, ok, run_job
from tests.support.harm.interposed import SLOW_READER, interposed
from tests.support.processes.running_build import finished_parts, wait_for_parts
from tests.support.processes.running_job import running_job, wait_for
from tests.support.shards.build_fixtures import contents, write_mixed_folder


def arguments(source: Path, out: Path, workers: int = 0) -> list[object]:
    return ["--source", source, "--out", out, "--workers", workers]


def work(out: Path) -> Path:
    return out.with_name(out.name + ".building")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_keeps_what_was_done_and_the_same_command_goes_on(mixed_folder, undisturbed, tmp_path, workers):
    out = tmp_path / "out"
    with running_job("build_shards", *arguments(mixed_folder, out, workers)) as build:
        wait_for_parts(out, build, 3)
        os.killpg(build.pid, signal.SIGINT)  # as a terminal does it: every process of the group gets it
        _, stderr = build.communicate(timeout=180)
    assert build.returncode == 130, stderr
    assert f"the finished part is kept in {work(out)}" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    made = {part: part.stat().st_mtime_ns for part in finished_parts(out)}
    assert len(made) >= 3

    again: dict[Path, int] = {}
    with running_job("build_shards", *arguments(mixed_folder, out, workers)) as build:
        while build.poll() is None:
            for part in made:
                with suppress(FileNotFoundError):  # parts go when the shards are whole
                    again[part] = part.stat().st_mtime_ns
            time.sleep(0.02)
    assert build.returncode == 0
    assert again
    assert again.items() <= made.items(), "a part that was whole was made again"
    assert contents(out) == undisturbed
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_sigterm_asks_to_run_the_same_command_again(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    with running_job("build_shards", *arguments(mixed_folder, out)) as build:
        wait_for_parts(out, build)
        build.terminate()
        _, stderr = build.communicate(timeout=180)
    assert build.returncode == 75, stderr
    assert "run the same command again" in stderr
    ok(run_job("build_shards", *arguments(mixed_folder, out)))
    assert contents(out) == undisturbed


@pytest.mark.slow
def test_a_second_build_of_the_same_output_is_refused_while_the_first_lives(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    with running_job("build_shards", *arguments(mixed_folder, out)) as build:
        wait_for_parts(out, build)
        build.send_signal(signal.SIGSTOP)
        second = run_job("build_shards", *arguments(mixed_folder, out))
        build.send_signal(signal.SIGCONT)
        build.communicate(timeout=120)
    assert second.returncode == 2
    assert f"is in use by process {build.pid} on " in second.stderr
    assert build.returncode == 0
    assert contents(out) == undisturbed


@pytest.mark.slow
def test_other_settings_after_an_interruption_use_nothing_of_it(mixed_folder, tmp_path):
    out = tmp_path / "out"
    with running_job("build_shards", *arguments(mixed_folder, out)) as build:
        wait_for_parts(out, build, 3)
        build.kill()
    ok(run_job("build_shards", *arguments(mixed_folder, out), "window.hop_bars=2", "shard.windows=500"))
    fresh = tmp_path / "fresh"
    ok(run_job("build_shards", *arguments(mixed_folder, fresh), "window.hop_bars=2", "shard.windows=500"))
    assert contents(out) == contents(fresh)


@pytest.mark.slow
def test_a_source_that_changed_after_an_interruption_is_read_anew(tmp_path):
    source, out = tmp_path / "midi", tmp_path / "out"
    write_mixed_folder(source, 300)
    with running_job("build_shards", *arguments(source, out)) as build:
        wait_for_parts(out, build)
        build.kill()
    changed = sorted(source.rglob("*.mid"))[10]
    changed.write_bytes(sorted(source.rglob("*.mid"))[-1].read_bytes()[:-1])
    (source / "part0" / "00-new.mid").write_bytes(b"MThd")
    ok(run_job("build_shards", *arguments(source, out)))
    ok(run_job("build_shards", *arguments(source, tmp_path / "fresh")))
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.slow
def test_no_room_is_said_and_what_was_done_is_used(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    command = job_command("build_shards", *arguments(mixed_folder, out))
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 3000; exec "$0" "$@"', *command], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert limited.returncode == 1, limited.stderr
    assert "File too large" in limited.stderr
    assert "run the same command again; it resumes from" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert not out.exists()
    assert finished_parts(out)
    ok(run_job("build_shards", *arguments(mixed_folder, out)))
    assert contents(out) == undisturbed


@pytest.mark.slow
def test_a_source_that_goes_away_is_not_a_folder_of_unreadable_files(mixed_folder, undisturbed, tmp_path):
    source, hidden, out = tmp_path / "midi", tmp_path / "hidden", tmp_path / "out"
    shutil.copytree(mixed_folder, source, symlinks=True)
    with running_job("build_shards", *arguments(source, out)) as build:
        wait_for_parts(out, build)
        source.rename(hidden)
        _, stderr = build.communicate(timeout=120)
    assert build.returncode == 1, stderr
    assert "the source was removed" in stderr
    hidden.rename(source)
    ok(run_job("build_shards", *arguments(source, out)))
    assert contents(out) == undisturbed


@pytest.mark.slow
def test_too_many_rejections_end_with_a_report_and_a_higher_share_goes_on(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    strict = run_job("build_shards", *arguments(mixed_folder, out), "max_rejected_share=0.001")
    assert strict.returncode == 3
    assert "too many files are rejected" in strict.stderr
    report = json.loads((work(out) / "report.json").read_text())
    assert report["seen"] == report["accepted"] + sum(report["rejected"].values()) == len(report["outcomes"])
    assert not out.exists()
    ok(run_job("build_shards", *arguments(mixed_folder, out), "max_rejected_share=0.5"))
    tars = {name: data for name, data in undisturbed.items() if name.endswith((".tar", "manifest.json"))}
    assert {name: data for name, data in contents(out).items() if name in tars} == tars


@pytest.mark.slow
def test_a_file_that_timed_out_is_tried_again_and_a_build_with_one_is_known_again(tmp_path):
    source, out = tmp_path / "midi", tmp_path / "out"
    write_mixed_folder(source, 12)
    command = [*arguments(source, out), "limits.wall_seconds=1"]
    slow = interposed(tmp_path / "site", SLOW_READER)
    assert "timeout" in run_job("build_shards", *command, "max_rejected_share=0", **slow).stderr
    ok(run_job("build_shards", *command))
    assert "timeout" not in json.loads((out / "report.json").read_text())["rejected"]

    command = [*arguments(source, tmp_path / "other"), "limits.wall_seconds=1"]
    assert "timeout" in ok(run_job("build_shards", *command, **slow)).stdout
    assert "Nothing is left to do" in ok(run_job("build_shards", *command, **slow)).stdout


@pytest.mark.slow
def test_what_a_kill_tore_is_not_published(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    with running_job("build_shards", *arguments(mixed_folder, out)) as build:
        wait_for_parts(out, build)
        build.kill()
    (work(out) / "shards" / ".train-000000.tar.0123456789ab.tmp").write_bytes(b"torn")
    (work(out) / "shards" / "train-000099.tar").write_bytes(b"of other settings")
    ok(run_job("build_shards", *arguments(mixed_folder, out)))
    assert contents(out) == undisturbed


@pytest.mark.slow
def test_a_share_that_a_finished_build_does_not_meet_is_said(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    ok(run_job("build_shards", *arguments(mixed_folder, out)))
    strict = run_job("build_shards", *arguments(mixed_folder, out), "max_rejected_share=0.001")
    assert strict.returncode == 3
    assert "too many files are rejected" in strict.stderr
    assert contents(out) == undisturbed


def test_a_link_as_output_is_followed(tmp_path):
    source = tmp_path / "midi"
    write_mixed_folder(source, 30)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    ok(run_job("build_shards", *arguments(source, tmp_path / "link")))
    assert (tmp_path / "disk" / "manifest.json").exists()
    assert (tmp_path / "link").is_symlink()


def test_a_mount_point_as_output_is_refused_before_the_work(mixed_folder):
    result = run_job("build_shards", *arguments(mixed_folder, Path("/proc")))
    assert result.returncode == 2
    assert "/proc is a mount point" in result.stderr
    assert "/proc/shards" in result.stderr


@pytest.mark.slow
def test_the_output_may_lie_inside_the_source(tmp_path):
    source = tmp_path / "midi"
    write_mixed_folder(source, 60)
    ok(run_job("build_shards", *arguments(source, tmp_path / "out")))
    for _ in range(2):
        ok(run_job("build_shards", *arguments(source, source / "shards")))
    assert (source / "shards" / "manifest.json").read_bytes() == (tmp_path / "out" / "manifest.json").read_bytes()


@pytest.mark.slow
def test_a_finished_build_leaves_the_work_of_a_living_one_alone(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    ok(run_job("build_shards", *arguments(mixed_folder, out)))
    with running_job("build_shards", *arguments(mixed_folder, out), "window.hop_bars=2", "--overwrite") as build:
        wait_for_parts(out, build)
        build.send_signal(signal.SIGSTOP)
        assert "Nothing is left to do" in ok(run_job("build_shards", *arguments(mixed_folder, out))).stdout
        assert finished_parts(out)
        build.send_signal(signal.SIGCONT)
        build.communicate(timeout=120)
    assert build.returncode == 0
    assert contents(out) != undisturbed


@pytest.mark.slow
def test_leftovers_of_a_build_killed_after_its_end_are_removed(mixed_folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    with running_job("build_shards", *arguments(mixed_folder, out)) as build:
        wait_for(out.exists, build, "an output")
        build.kill()
    ok(run_job("build_shards", *arguments(mixed_folder, out)))
    assert contents(out) == undisturbed
    assert list(tmp_path.iterdir()) == [out]
