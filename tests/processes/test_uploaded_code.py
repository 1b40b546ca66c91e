"""What is uploaded to a Ray cluster: all our packages, of the shipped models only what a job uses, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

from cluster.code import BASELINES, CODE_PACKAGES, SHIPPED_MODELS
from cluster.site import Site
from cluster.submission import Submission, keep_snapshot
from tests.support.commands import CHECKOUT

PACK = """
import sys
from pathlib import Path
from ray._private.runtime_env.packaging import create_package
from cluster.code import sent_to_ray
checkout, package, *models = sys.argv[1:]
code = sent_to_ray(Path(checkout), models=models)
create_package(code["working_dir"], Path(package), include_gitignore=True, excludes=code["excludes"])
"""
"""What Ray does with a `working_dir` before it uploads it."""


def packed(checkout: Path, package: Path, *models: str) -> set[str]:
    """The files of a package; made in a process of its own, as Ray sets variables when it is imported."""
    subprocess.run([sys.executable, "-c", PACK, checkout, package, *models], cwd=CHECKOUT, check=True)
    with zipfile.ZipFile(package) as content:
        return {name for name in content.namelist() if not name.endswith("/")}


def test_the_package_that_ray_uploads_holds_our_packages_and_one_model(tmp_path):
    ours = {
        path.relative_to(CHECKOUT).as_posix()
        for name in CODE_PACKAGES
        for path in (CHECKOUT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    weights = {name for name in ours if name.startswith((f"{SHIPPED_MODELS}/", f"{BASELINES}/"))}
    model = {name for name in weights if name.startswith(f"{SHIPPED_MODELS}/generation/")}
    assert f"{SHIPPED_MODELS}/generation/model.safetensors" in model
    assert packed(CHECKOUT, tmp_path / "with.zip", "generation") == ours - weights | model
    of_model = sum((CHECKOUT / name).stat().st_size for name in model)
    assert (tmp_path / "with.zip").stat().st_size < of_model + 2_600_000


def test_of_a_snapshot_whose_models_lie_in_the_store_the_same_is_sent(tmp_path):
    submission = Submission(tmp_path / "submissions" / "s", "ray", tmp_path, Site(), ())
    submission.write_plan()
    keep_snapshot(CHECKOUT, CODE_PACKAGES, submission)
    code = submission.code.resolve()
    assert (code / SHIPPED_MODELS).is_symlink()
    assert packed(code, tmp_path / "one.zip", "generation") == packed(CHECKOUT, tmp_path / "other.zip", "generation")


def test_what_looks_like_a_secret_is_not_uploaded_nor_is_a_model_that_no_node_needs(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / SHIPPED_MODELS / "generation").mkdir(parents=True)
    (tmp_path / SHIPPED_MODELS / "generation" / "model.safetensors").touch()
    for name in ("module.py", ".env", "key.pem"):
        (tmp_path / "jobs" / name).touch()
    assert packed(tmp_path, tmp_path / "package.zip") == {"jobs/module.py"}


def test_links_are_not_uploaded(tmp_path):
    outside, code = tmp_path / "outside", tmp_path / "code"
    for folder in (outside, code / "jobs" / "presets"):
        folder.mkdir(parents=True)
    (code / "jobs" / "module.py").touch()
    (outside / "shadow").write_text("theirs")
    (code / "jobs" / "module.txt").symlink_to(outside / "shadow")
    (code / "jobs" / "presets" / "a [b] #1").symlink_to(outside)
    sent = packed(code, tmp_path / "package.zip")
    assert [name for name in sent if name.endswith(("py", "txt", "shadow"))] == ["jobs/module.py"]
