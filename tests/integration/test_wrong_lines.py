"""Command lines that cannot be used: refused before any work, with a code of the table, in words; nothing is left.

A seed decides which lines are made. It is printed, and LINES_SEED=N runs the slow test with another one, LINES_COUNT=N
with so many; a soak (SOAK=1) tries everything that can be wrong with each option of each command.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.errors import ExitCode
from preprocess.sources.demo import write_demo_corpus
from tests.support.commands import CHECKOUT, QUIET, SOAK, ok, run_job
from tests.support.harm.small_disk import small_disk
from tests.support.harm.wrong_lines import BASES, BRACKETS, TRAINING, commands, wrong_lines
from tests.support.midi.midi_bytes import hit, midi_file
from tests.support.processes.warm_python import run_module

pytestmark = pytest.mark.slow

REFUSED = {ExitCode.USAGE, ExitCode.DATA}
SECONDS = 60
"""A line that takes longer hangs."""
COUNT = int(os.environ.get("LINES_COUNT", "0")) or (None if SOAK else 40)
PARTS = 8
LEAST_IN_A_SOAK = 500
DRY = ("train", "--on", "slurm", "--dry-run")
TRAIN = ("--", *TRAINING)
SAMPLE = ("sample", "--run", "{run}", "--count", "2", "--out", "{root}/new")
SWEEP = ("sweep", "run", "demo", "--shards", "{shards}", "--out", "{root}/new")
LONG = "{root}/" + "x" * 300
EXAMPLES: Mapping[str, tuple[Sequence[str], str]] = {
    "submit without arguments": (("submit",), "KIND"),
    **{
        f"submit {kind} without arguments": (("submit", kind), word)
        for kind, word in {
            "pipeline": "--source",
            "train": "--run",
            "sample": "--out",
            "sweep": "FILE.yaml",
            "build_shards": "--source",
            "evaluate": "--shards",
            "report": "RUN",
        }.items()
    },
    "memory with a line break": (("submit", *DRY, "--mem", "4G\nx", *TRAIN), "--mem"),
    "submissions with a line break": (("submit", *DRY, "--submissions", "{root}/a\nb", *TRAIN), "control character"),
    "site that is no YAML": (("submit", *DRY, "--site", "{root}/brackets.yaml", *TRAIN), "brackets.yaml"),
    "site that is a list": (("submit", *DRY, "--site", "{root}/list.yaml", *TRAIN), "list.yaml"),
    "site of bytes": (("submit", *DRY, "--site", "{root}/bytes.yaml", *TRAIN), "bytes.yaml"),
    "a time limit below nothing": (("submit", *DRY, "--time=-1", *TRAIN), "--time -1 is not a time limit"),
    "a sweep inside a file": ((*SWEEP[:-1], "{root}/file/x", "--dry-run"), "is a file"),
    "no CPUs": (("submit", *DRY, "--cpus-per-node", "0", *TRAIN), "--cpus-per-node"),
    "endless array": (
        ("submit", "sample", "--on", "slurm", "--array", "99999999999", "--dry-run", "--", *SAMPLE[1:]),
        "--array",
    ),
    "endless shares": ((*SAMPLE, "--shard", "0/99999999999"), "--shard"),
    "endless shares of a sweep": ((*SWEEP, "--share", "0/99999999999"), "--share"),
    "figures on a read-only disk": (("evaluate", "--shards", "{shards}", "--json", "/sys/x.json"), "/sys/x.json"),
    "map on a read-only disk": (("map", "--shards", "{shards}", "--out", "/sys/x.png"), "/sys/x.png"),
    "latent figures on a read-only disk": (("latent", "--shards", "{shards}", "--json", "/sys/x.json"), "/sys/x.json"),
    "page on a read-only disk": (("report", "{run}", "--out", "/sys/x.html"), "/sys/x.html"),
    "figures below a file": (("evaluate", "--shards", "{shards}", "--json", "{root}/file/x"), "file/x"),
    "figures of a name too long": (("latent", "--shards", "{shards}", "--json", LONG), "too long"),
    "export over the current folder": (("export", "{run}", ".", "--overwrite"), "jobs.export did not write"),
    "shared file": (("doctor", "--shared", "{root}/file"), "Not a directory"),
    "brackets for a setting": (("train", *TRAINING, f"train.steps={BRACKETS}"), "nested too deeply"),
    "brackets for a reading": ((*SAMPLE, "--reading", f"channels={BRACKETS}"), "nested too deeply"),
    "brackets in a file": (("train", *TRAINING[:4], "--config", "{root}/brackets.yaml"), "nested too deeply"),
    "brackets in figures": (("export", "{run}", "{root}/new", "--figures", "{root}/brackets.yaml"), "brackets.yaml"),
    "endless latent space": (("train", *TRAINING, "model.latent=99999999999"), "model.latent"),
    "settings that are not finite": (("train", *TRAINING, "objective.beta=.inf"), "objective.beta"),
    **{
        f"{command} on a path too long": ((command, *words, LONG), "too long")
        for command, words in {
            "train": ("--shards", "{shards}", "--preset", "demo", "--run"),
            "build_shards": ("--source", "demo", "--workers", "0", "--out"),
            "sample": ("--run", "{run}", "--count", "2", "--out"),
            "export": ("{run}",),
            "show": (),
            "status": (),
            "demo": ("--out",),
        }.items()
    },
    **{
        f"{command} to an object store": ((command, *words, url), f"{url} is a URL")
        for command, words, url in (
            ("train", ("--shards", "{shards}", "--preset", "demo", "--run"), "s3://bucket/run"),
            ("build_shards", ("--source", "demo", "--workers", "0", "--out"), "gs://bucket/shards"),
            ("sample", ("--run", "{run}", "--count", "2", "--out"), "gs://bucket/grooves"),
            ("sweep", ("run", "demo", "--shards", "{shards}", "--out"), "s3://bucket/sweep"),
            ("export", ("{run}",), "simplecache::s3://bucket/export"),
            ("evaluate", ("--shards", "{shards}", "--json"), "s3://bucket/figures.json"),
            ("submit", ("train", "--", "--shards", "{shards}", "--preset", "demo", "--run"), "s3://bucket/run"),
        )
    },
    "stop at no number": (("train", *TRAINING, "--stop-before", "nan"), "--stop-before nan"),
    "stop beyond time": (("train", *TRAINING, "--stop-before", "1e999"), "--stop-before 1e999"),
    "stop before time": (("train", *TRAINING, "--stop-before", "-1e300"), "--stop-before -1e300"),
    "empty preset": (("train", *TRAINING[:4], "--preset", ""), "--preset is empty"),
    "empty preset behind an equals sign": (("train", *TRAINING[:4], "--preset="), "--preset is empty"),
    "empty preset of a submission": (("submit", "train", "--", *TRAINING[:4], "--preset", ""), "empty"),
    "empty run": (("train", "--shards", "{shards}", "--preset", "demo", "--run", ""), "--run is empty"),
    "empty folder": (("status", ""), "empty"),
    "watch that is no number": (("status", "--watch", "nan"), "--watch"),
    **{
        f"{line[0]} on a dead cluster": ((*line, "--ray-address", "127.0.0.1:1"), "no Ray cluster answers")
        for line in (
            SAMPLE,
            SWEEP,
            ("build_shards", "--source", "demo", "--out", "{root}/new"),
            ("train_on_ray", *TRAINING),
        )
    },
}
"""Of issue 25: what was typed, and what the message has to name."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in which every command line of a test runs, and those that the lines name."""

    folders: Mapping[str, object]

    @property
    def root(self) -> Path:
        return Path(str(self.folders["root"]))

    def refusal(self, module: str, arguments: Sequence[str]) -> str:
        """What a command says that must end with a code of the table, without a traceback, and leave nothing."""
        before = everything_under(self.root)
        variables = {**os.environ, **QUIET, "TMPDIR": str(self.root / "tmp"), "HOME": str(self.root)}
        variables["PYTHONPATH"] = str(CHECKOUT)
        result = run_module(module, arguments, folder=self.root, environment=variables, timeout=SECONDS)
        words = f"{result.stdout}{result.stderr}"
        assert result.returncode in REFUSED, f"{module} {arguments}: exit {result.returncode}\n{words[-3000:]}"
        assert "Traceback" not in words, f"{module} {arguments}\n{words[-3000:]}"
        assert everything_under(self.root) == before, f"{module} {arguments}\n{words[-3000:]}"
        return words

    def of(self, words: Sequence[str]) -> list[str]:
        """Words with folders put in."""
        filled = [*words]
        for name, folder in self.folders.items():
            filled = [word.replace(f"{{{name}}}", str(folder)) for word in filled]
        return filled


@pytest.fixture(scope="module")
def place(tmp_path_factory, small_shards, sample_run) -> Place:
    root = tmp_path_factory.mktemp("lines")
    for name in ("empty", "tmp"):
        (root / name).mkdir()
    (root / "file").write_text("no MIDI, no YAML, no folder: [\n")
    (root / "brackets.yaml").write_text(BRACKETS)
    (root / "list.yaml").write_text("- 1\n")
    for name in ("bytes", "bytes.yaml"):
        (root / name).write_bytes(bytes(range(256)))
    os.mkfifo(root / "pipe")
    (root / "loop.mid").write_bytes(midi_file([event for beat in range(16) for event in hit(480 * beat, 36)]))
    return Place({"root": root, "shards": small_shards, "run": sample_run})


def everything_under(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file; of a folder only that it is there."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[path] = (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_wrong_line_is_refused_in_words_and_leaves_nothing(place, name):
    (command, *words), said = EXAMPLES[name]
    assert said in place.refusal(f"jobs.{command}", place.of(words))


def test_lines_of_every_command_are_made():
    assert {*BASES} == commands()


def test_a_path_too_long_in_a_list_costs_that_file_alone(place, tmp_path):
    write_demo_corpus(tmp_path / "midi", performances=20, seed=0)
    paths = [f"midi/{path.name}" for path in (tmp_path / "midi").glob("*.mid")]
    (tmp_path / "list.csv").write_text("\n".join(["path", "x" * 300 + ".mid", *paths, "x/" * 3000 + "y.mid"]) + "\n")
    out = tmp_path / "shards"
    ok(run_job("build_shards", "--source", tmp_path / "list.csv", "--out", out, "--workers", 0))
    assert json.loads((out / "report.json").read_text())["rejected"]["unreadable"] == 2


@pytest.mark.parametrize(
    ("command", "option"), [("evaluate", "--json"), ("latent", "--json"), ("map", "--out"), ("report", "--out")]
)
def test_a_full_disk_is_noticed_before_the_work(place, tmp_path, command, option):
    with small_disk(tmp_path / "full", "64k") as disk:
        while shutil.disk_usage(disk).free:
            with (disk / "filled").open("ab") as file:
                file.write(bytes(min(4096, shutil.disk_usage(disk).free)))
        words = ["{run}"] if command == "report" else ["--shards", "{shards}"]
        variables = {**os.environ, **QUIET}
        arguments = [*place.of(words), option, str(disk / "x")]
        result = run_module(f"jobs.{command}", arguments, folder=place.root, environment=variables, timeout=SECONDS)
        assert (result.returncode, "the disk is full" in result.stderr) == (ExitCode.UNEXPECTED, True), result.stderr
        assert "Traceback" not in result.stderr
        assert sorted(path.name for path in disk.iterdir()) == ["filled"]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_any_wrong_line(place, part):
    seed = int(os.environ.get("LINES_SEED", "0"))
    print(f"LINES_SEED={seed}")
    lines = wrong_lines(COUNT, seed)
    assert COUNT or len(lines) >= LEAST_IN_A_SOAK
    failures = []
    for line in lines[part::PARTS]:
        module, *words = line.argv()
        try:
            place.refusal(module, place.of(words))
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failures.append(str(error))
    assert not failures, "\n\n".join(failures)
