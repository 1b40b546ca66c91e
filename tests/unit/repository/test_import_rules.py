"""The layers: jobs -> preprocess, cluster, musicvae; preprocess -> cluster.tasks, musicvae; the other two -> nothing.

Inside a package the subpackages are layers too: `SUBPACKAGES`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.commands import CHECKOUT

PACKAGES = ("jobs", "preprocess", "cluster", "musicvae")
MAY_IMPORT = {
    "jobs": {"preprocess", "cluster", "musicvae"},
    "preprocess": {"cluster.tasks", "musicvae"},
    "cluster": set(),
    "musicvae": set(),
}
SUBPACKAGES = {
    "musicvae": set(),
    "musicvae.groove": {"musicvae"},
    "musicvae.data": {"musicvae", "musicvae.groove"},
    "musicvae.midi": {"musicvae", "musicvae.groove", "musicvae.data"},
    "musicvae.model": {"musicvae", "musicvae.groove"},
    "musicvae.generation": {"musicvae", "musicvae.groove", "musicvae.model"},
    "musicvae.performance": {"musicvae", "musicvae.groove", "musicvae.model", "musicvae.generation"},
    "musicvae.evaluation": {
        *("musicvae", "musicvae.groove", "musicvae.data", "musicvae.midi", "musicvae.model"),
        "musicvae.performance",
    },
    "musicvae.training": {
        *("musicvae", "musicvae.groove", "musicvae.data", "musicvae.midi", "musicvae.model"),
        *("musicvae.generation", "musicvae.performance", "musicvae.evaluation"),
    },
    "musicvae.pretrained": {
        *("musicvae", "musicvae.groove", "musicvae.data", "musicvae.midi", "musicvae.model"),
        *("musicvae.generation", "musicvae.performance", "musicvae.evaluation", "musicvae.training"),
    },
    "musicvae.command_line": {
        *("musicvae", "musicvae.groove", "musicvae.data", "musicvae.midi"),
        *("musicvae.generation", "musicvae.pretrained"),
    },
    "preprocess.settings": set(),
    "preprocess.rejection": set(),
    "preprocess.sources": {"preprocess.settings", "preprocess.rejection"},
    "preprocess.pages": set(),
    "preprocess": {"preprocess.settings", "preprocess.rejection", "preprocess.sources", "preprocess.pages"},
    "jobs.command": set(),
    "jobs.training": {"jobs.command"},
    "jobs.run_report": {"jobs.command", "jobs.training"},
    "jobs.submission": {"jobs.command", "jobs.training"},
    "jobs.sweeps": {"jobs.command", "jobs.training", "jobs.run_report", "jobs.submission"},
    "jobs.sampler": {"jobs.command"},
    "jobs.evaluation": {"jobs.command"},
    "jobs.inspection": {"jobs.command"},
    "jobs": {
        *("jobs.command", "jobs.training", "jobs.run_report", "jobs.submission", "jobs.sweeps"),
        *("jobs.sampler", "jobs.evaluation", "jobs.inspection"),
    },
}
"""Which subpackages of its own package a subpackage may import. "musicvae" stands for the modules of its top folder,
"jobs" for the commands."""
EXCEPTIONS = {
    # The public methods DrumGroove.from_midi and to_midi import the readers and writers of MIDI when they are called.
    ("musicvae/groove/groove.py", "musicvae.midi"),
    ("musicvae/__main__.py", "musicvae.command_line"),
}
"""(file, subpackage that it imports all the same)."""
FOR_ALL = {"jobs.CHECKOUT"}
"""What a package's own `__init__.py` gives to all its modules."""
ONE_FILE_KNOWS = {
    "torch.distributed": {"musicvae/training/world.py", "jobs/training/torchrun_agent.py"},
    "torch.nn.parallel": {"musicvae/training/world.py"},
    "wandb": {"jobs/training/wandb_session.py"},
    "ray": {
        *("cluster/tasks.py", "cluster/ray_session.py", "cluster/ray_node.py"),
        *("jobs/training/ray_train.py", "jobs/sweeps/ray_pool.py"),
    },
    "optuna": {"jobs/sweeps/search.py", "jobs/sweeps/study.py"},
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def subpackage(module: str) -> str | None:
    """The line of `SUBPACKAGES` that holds for a module."""
    while module and module not in SUBPACKAGES:
        module = module.rpartition(".")[0]
    return module or None


def points_up(name: str, module: str) -> str | None:
    """The subpackage that a file imports though `SUBPACKAGES` forbids it."""
    own = subpackage(name.removesuffix(".py").replace("/", "."))
    other = subpackage(module)
    if module in FOR_ALL or own is None or other is None or own.partition(".")[0] != other.partition(".")[0]:
        return None
    if own == other:
        return "another command" if own == "jobs" else None
    # A package's own `__init__.py` knows where each public name is.
    if name == "musicvae/__init__.py" or other in SUBPACKAGES[own] or (name, other) in EXCEPTIONS:
        return None
    return other


def allowed(package: str, module: str) -> bool:
    """Whether `MAY_IMPORT` lets a package import a module of another."""
    return any((module + ".").startswith(other + ".") for other in MAY_IMPORT[package])


def violations(root: Path) -> list[str]:
    """Every import under a checkout that breaks a rule, as `file:line: rule`."""
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            for line, module in imports(path):
                top = module.split(".")[0]
                if top in PACKAGES and top != package and not allowed(package, module):
                    found.append(f"{name}:{line}: {package} may not import {top}")
                if other := points_up(name, module):
                    found.append(f"{name}:{line}: may not import {other}")
                for library, knowing in ONE_FILE_KNOWS.items():
                    if (module + ".").startswith(library + ".") and name not in knowing:
                        found.append(f"{name}:{line}: only {', '.join(sorted(knowing))} may import {library}")
    return found


def test_imports_point_down_and_one_file_knows_each_library():
    assert violations(CHECKOUT) == []


def test_a_violation_is_seen_with_file_line_and_rule(tmp_path):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "musicvae" / "a.py").write_text("import os\n\ndef f():\n    from jobs.train import main\n")
    (tmp_path / "preprocess" / "b.py").write_text("import torch.distributed as dist\n")
    (tmp_path / "musicvae" / "model").mkdir()
    (tmp_path / "musicvae" / "model" / "c.py").write_text("from musicvae.data import order\n")
    (tmp_path / "jobs" / "d.py").write_text("from jobs.train import main\n")
    assert violations(tmp_path) == [
        "jobs/d.py:1: may not import another command",
        "preprocess/b.py:1: only jobs/training/torchrun_agent.py, "
        "musicvae/training/world.py may import torch.distributed",
        "musicvae/a.py:4: musicvae may not import jobs",
        "musicvae/model/c.py:1: may not import musicvae.data",
    ]


def test_no_module_of_jobs_hides_a_package_or_a_library():
    names = {path.stem for path in (CHECKOUT / "jobs").glob("*.py")} - {"__init__", "__main__"}
    assert not names & ({*PACKAGES, "torch", "ray", "wandb", "webdataset", "numpy"} | sys.stdlib_module_names)
