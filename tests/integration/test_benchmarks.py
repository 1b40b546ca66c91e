"""The benchmark scripts run to their end and print what they promise; their figures are for quiet machines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from jobs.sampler.settings import PRECISIONS
from tests.benchmarks.train import PRECISIONS as MULTIPLIED
from tests.support.commands import CHECKOUT, TINY, ok, run_job
from tests.support.pages.gallery_browser import missing_browser
from tests.support.requirements import only_in_a_soak, skip_or_fail
from tests.support.runs.run_folders import run_with_weights
from tests.support.runs.topologies import PRESETS

pytestmark = pytest.mark.slow


def printed_by(name: str, *arguments: object, folder: str = "benchmarks") -> str:
    result = benchmark(name, *arguments, folder=folder)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def benchmark(name: str, *arguments: object, folder: str = "benchmarks") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"tests.{folder}.{name}", *map(str, arguments)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=900)


@only_in_a_soak
def test_training():
    text = printed_by("train", "--preset", "demo", "--quick")
    rows = [line.split() for line in text.splitlines() if line.startswith(("float32  ", "bfloat16  "))]
    assert [(row[0], row[1]) for row in rows] == [(precision, ranks) for precision in MULTIPLIED for ranks in "12"]
    assert ("bfloat16 is left out" in text) == ("bfloat16" not in MULTIPLIED)
    assert all(float(row[2]) > 0 for row in rows)
    assert "0.13 GFLOP per window" in text
    assert "times Magenta's float32" in text


@only_in_a_soak
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_every_preset_is_one_model_over_the_ranks_of_torchrun(precision):
    rows = printed_by("topology", "--precision", precision, folder="experiments").splitlines()
    assert {row.split()[0] for row in rows} >= set(PRESETS)


@only_in_a_soak
def test_everything_for_a_gpu_on_the_cpu():
    text = printed_by("gpu", "--device", "cpu", "--quick")
    rows = [line for line in text.splitlines() if line.startswith("| demo |")]
    assert [row.split(" | ")[3] for row in rows[:2]] == ["false", "reduce-overhead"]
    assert all(float(row.split(" | ")[4]) > 0 for row in rows[:2])
    assert float(rows[2].strip("| ").split(" | ")[2]) > 0
    assert "skipped" in text or "passed" in text


@only_in_a_soak
def test_ablation_is_run_once_and_goes_on_where_it_failed(small_shards, tmp_path):
    variants, out = tmp_path / "variants.yaml", tmp_path / "out"
    tiny = ", ".join(f"'{setting}'" for setting in TINY if not setting.startswith("model.latent"))
    fit, huge = f"[{tiny}]", "[train.global_batch=1000000]"
    variants.write_text(
        "preset: demo\nmetric: negative_elbo\n"
        f"variants:\n- {{name: tiny, settings: {fit}}}\n- {{name: huge, settings: {huge}}}\n"
    )
    arguments = [variants, "--shards", small_shards, "--out", out, "--seeds", "0,1", "--quick", "--at-once", "2"]
    first = benchmark("ablation", *arguments, folder="experiments")
    assert first.returncode == 1, "a failure is told, and the others are trained"
    assert "failed: huge" in first.stdout
    written = json.loads((out / "ablation.json").read_text())
    assert {(run["variant"], run["seed"]) for run in written["runs"]} == {
        *(("base", 0), ("base", 1), ("tiny", 0), ("tiny", 1))
    }
    assert all(run["steps"] >= run["best_step"] > 0 for run in written["runs"])
    less = written["variants"]["tiny"]["less_base"]["mean"]
    nats = {(run["variant"], run["seed"]): run["negative_elbo"] for run in written["runs"]}
    assert less == pytest.approx(sum(nats["tiny", seed] - nats["base", seed] for seed in (0, 1)) / 2)

    before = trained_files(out)
    variants.write_text(variants.read_text().replace(huge, "[objective.beta=0.5]"))
    again = benchmark("ablation", *arguments, "--only", "tiny", folder="experiments")
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "ablation.json").read_text())["runs"] == written["runs"]
    assert trained_files(out) == before, "what is finished is not trained again"

    variants.write_text(variants.read_text().replace("data.mix_drums=0.3", "data.mix_drums=0.2"))
    refused = benchmark("ablation", *arguments, folder="experiments")
    assert refused.returncode == 2
    assert "was trained with other settings than tiny has now" in refused.stderr


def trained_files(out: Path) -> dict[Path, int]:
    """When each checkpoint and log of training was written."""
    files = [*out.rglob("best.safetensors"), *out.rglob("metrics.jsonl"), *out.rglob("status.json")]
    return {path: path.stat().st_mtime_ns for path in files}


def test_pictures_sound_and_faults_of_a_model(small_shards, tmp_path):
    run = run_with_weights(tmp_path / "tiny").path
    pictures, sound = tmp_path / "pictures", tmp_path / "grooves.wav"
    text = printed_by("model_pictures", "--out", pictures, "--model", run, "--sound", sound, folder="experiments")
    assert f"{pictures}/grooves-tiny.png" in text
    assert sound.stat().st_size > 64 * 1e5
    text = printed_by("groove_faults", "--shards", small_shards, "--run", run, "--count", 20, folder="experiments")
    assert len([line for line in text.splitlines() if "bars" in line]) > 5


@only_in_a_soak
def test_sampling(sample_run, tmp_path):
    ok(run_job("export", sample_run, tmp_path / "tiny"))
    text = printed_by("sample", "--quick", "--model", tmp_path / "tiny")
    assert re.search(r"tiny: [\d,]+ weights, [\d.]+ MFLOP to decode a groove", text)
    rows = {line[:28].strip(): line[28:].split() for line in text.splitlines() if "/s" in line}
    decoded = [f"decoded, {precision}" for precision in PRECISIONS]
    for name in (*decoded, "files, 1 worker", "files, 2 workers", "packed in tars, 2 workers"):
        assert float(rows[name][0]) > 0, name
    assert "a million of them" in text


def test_other_libraries(tmp_path, monkeypatch):
    demo = ["--source", "demo", "--out", tmp_path / "shards", "--workers", 0, "demo.performances=30"]
    ok(run_job("build_shards", *demo))
    monkeypatch.setenv("GROOVE_DIR", str(tmp_path / "shards" / "midi"))
    rows = [line.strip("| ").split(" | ") for line in printed_by("compare", "--repeats", 1).splitlines()[3:]]
    assert [row[0] for row in rows] == [
        what for what in ("MIDI files read", "MIDI files to shards", "MIDI files written") for _ in range(2)
    ]
    assert all(float(row[1].replace(",", "")) > 0 and float(row[3].split()[0]) > 0 for row in rows)


def test_many_ranks():
    text = printed_by("many_ranks", "--ranks", 6, "--nodes", 3, "--turn", 0.01, "--turns", 20, "--repeats", 1)
    assert float(re.search(r"start-up, .* ([\d.]+) s", text)[1]) > 0
    turns = re.findall(r"a turn, .* ([\d.]+) ms, ", text)
    assert len(turns) == 3
    assert all(float(turn) >= 10 for turn in turns)
    assert float(re.search(r"each launcher +([\d.]+)", text)[1]) > 0


@only_in_a_soak
def test_overhead_of_a_sweep():
    text = printed_by("sweep_overhead", "--quick")
    assert float(re.search(r"20 trials: [\d.]+ s, ([\d.]+) s a trial", text)[1]) > 0
    assert re.search(r"ledger of 100 trials .* status in [\d.]+ s", text)
    assert re.search(r"100 trials in 8 ledgers .*first draw of TPE \d+ ms, a later one \d+ ms", text)


@only_in_a_soak
def test_gallery():
    if missing := missing_browser():
        skip_or_fail(f"there is no {missing}")
    text = printed_by("gallery", "--grooves", "20,300", "--runs", "1")
    rows = [line.strip("│ ").split(" │ ") for line in text.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["20", "300"]
    assert all(float(value) >= 0 for row in rows for value in row[1:])
    assert "goal: 5,000 grooves within 3 s" in text


@only_in_a_soak
def test_pictures_of_pages_are_the_same_each_time(tmp_path):
    if missing := missing_browser():
        skip_or_fail(f"there is no {missing}")
    names = ("grooves.png", "rate-distortion.png", "gallery.png")
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        text = printed_by("page_pictures", "--out", folder, *names, folder="experiments")
        assert "left out" not in text
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    with Image.open(folders[0] / "gallery.png") as picture:
        assert picture.size == (1280, 800)
        light, dark = picture.convert("L").getpixel((300, 75)), picture.convert("L").getpixel((1270, 75))
    assert light > 200 > 60 > dark
    assert (folders[0] / "gallery.png").stat().st_size < 300_000


def test_memory_of_a_build():
    text = printed_by("build_memory", "--files", "100", "300", "--where", "processes", "ray")
    peaks = re.findall(r"(\d+) files .*driver +([\d.]+) MiB", text)
    assert [size for size, _ in peaks] == ["100", "300"] * 2
    (head, stored) = re.findall(r" head +([\d.]+) MiB .* object store ([\d,]+) bytes", text)[-1]
    assert float(head) > 10
    assert stored == "0", "results of tasks are too small for the store"


def test_status_of_many_runs():
    text = printed_by("status", "--runs", "200", "--submissions", "5")
    assert re.match(r"200 runs, 4 of them torn; 5 submissions; [\d.]+ s of CPU to start", text)
    looks = re.findall(r"(.+): [\d.]+ s, [\d.]+ s of CPU$", text, re.MULTILINE)
    assert looks == [f"{what}, {look} look" for what in ("runs", "runs and submissions") for look in ("first", "later")]


def test_scale():
    text = printed_by("scale", "--quick")
    assert len(re.findall(r": slope -?[\d.]+", text)) == 7
    sizes = [line.split()[0] for line in text.splitlines() if "µs each" in line]
    assert sizes == [*["10", "100"] * 3, "100", "1,000", *["1", "10"] * 3]
    assert "10 files in a folder" in text
