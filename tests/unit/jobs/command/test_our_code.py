"""What travels to a Ray cluster: all our packages, whole, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

from cluster.submission import CODE_PACKAGES
from jobs.training import same_everywhere
from tests.support.commands import CHECKOUT

PACK = """
import sys
from pathlib import Path
from ray._private.runtime_env.packaging import create_package
from jobs.command.provenance import OUR_CODE
create_package(OUR_CODE["working_dir"], Path(sys.argv[1]), include_gitignore=True, excludes=OUR_CODE["excludes"])
"""
"""What Ray does with a `working_dir` before it uploads it."""


def test_the_package_that_ray_uploads_holds_our_packages_whole(tmp_path):
    package = tmp_path / "package.zip"
    # In a process of its own, as Ray sets variables when it is imported.
    subprocess.run([sys.executable, "-c", PACK, package], cwd=CHECKOUT, check=True)
    with zipfile.ZipFile(package) as content:
        packed = {name for name in content.namelist() if not name.endswith("/")}
    ours = {
        path.relative_to(CHECKOUT).as_posix()
        for name in CODE_PACKAGES
        for path in (CHECKOUT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == ours
    assert {name.split("/")[0] for name in packed} == {"jobs", "musicvae", "preprocess", "cluster"}
    assert any(name.startswith("musicvae/weights/") and name.endswith(".safetensors") for name in packed)


def test_an_edit_of_any_package_is_another_code(tmp_path, monkeypatch):
    monkeypatch.setattr(same_everywhere, "CHECKOUT", tmp_path)
    hashes = {_code_hash()}
    for name in CODE_PACKAGES:
        (tmp_path / name).mkdir()
        Path(tmp_path / name / "module.py").write_text("")
        hashes.add(_code_hash())
    assert len(hashes) == 1 + len(CODE_PACKAGES)


def _code_hash() -> str:
    return same_everywhere.code_hash.__wrapped__()
