"""What starts fast: packages, settings, commands and launchers load neither torch nor Ray before they need it."""

import subprocess
import sys
from collections.abc import Iterable
from types import ModuleType

import pytest

from cluster.code import CODE_PACKAGES
from tests.support.commands import CHECKOUT

HEAVY = ("torch", "ray", "wandb", "optuna")
LIGHT = ("jobs.training.plan", "jobs.training.messages", "jobs.training.torchrun", "jobs.sweeps.pools")


def loaded_after(statement: str) -> set[str]:
    """Which of the heavy libraries are loaded once a fresh interpreter has run a statement."""
    code = f"import sys\n{statement}\nprint(*(set(sys.modules) & {set(HEAVY)!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("package", ["musicvae", "preprocess", "cluster"])
def test_importing_a_package_loads_nothing_heavy(package):
    assert loaded_after(f"import {package}") == set()


def test_a_sweep_is_read_without_loading_what_trains_it():
    assert loaded_after("import jobs.sweep, jobs.sweeps.status") == set()


def loading_torch(modules: Iterable[str]) -> set[str]:
    """Which modules load torch, each imported by a child of one interpreter that has loaded none of them."""
    code = """
import importlib, os, sys
for name in sys.argv[1:]:
    if not (child := os.fork()):
        importlib.import_module(name)
        if "torch" in sys.modules:
            os.write(1, name.encode() + b" ")
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        os.write(1, name.encode() + b"-failed ")
"""
    command = [sys.executable, "-c", code, *modules]
    return set(subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split())


def modules_named(pattern: str) -> list[str]:
    """The modules of all packages whose path matches."""
    paths = [path for package in CODE_PACKAGES for path in (CHECKOUT / package).rglob(pattern)]
    return [path.relative_to(CHECKOUT).with_suffix("").as_posix().replace("/", ".") for path in paths]


def test_settings_load_no_torch():
    assert loading_torch(modules_named("settings.py")) == set()


def test_plan_messages_stopping_launcher_and_pools_load_no_torch():
    assert loading_torch([*LIGHT, "musicvae.training.stopping"]) == set()


def test_the_help_of_every_command_loads_no_torch():
    """`--help` runs nothing but the imports at the top of a command."""
    commands = [path.stem for path in (CHECKOUT / "jobs").glob("[a-z]*.py")]
    assert len(commands) > 15
    assert loading_torch([f"jobs.{name}" for name in commands]) == set()


def test_public_names_load_on_first_use():
    assert "torch" in loaded_after("import musicvae; musicvae.MusicVAE")
    assert loaded_after("import musicvae; musicvae.GridSpec") == set()


def test_every_public_name_is_there():
    import musicvae

    for name in musicvae.__all__:
        for _ in range(2):  # a module of that name would take its place from the second access on
            assert not isinstance(getattr(musicvae, name), ModuleType)
    with pytest.raises(AttributeError, match="has no attribute 'MusicVEA'"):
        _ = musicvae.MusicVEA  # type: ignore[attr-defined]


def test_a_package_of_the_same_name_from_elsewhere_is_named(tmp_path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import jobs"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "package 'cluster' resolves to" in result.stderr
    assert str(tmp_path) in result.stderr
