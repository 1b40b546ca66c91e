"""The weights with the lowest validation -ELBO, in one file that carries its own figures."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from musicvae.durable import write_whole
from musicvae.errors import ConfigError, DataError


def save_best(path: Path, weights: Mapping[str, Tensor], step: int, figures: Mapping[str, float]) -> None:
    """Writes weights with their step and figures as safetensors."""
    # One key: safetensors writes several in no fixed order, and equal weights shall give equal bytes.
    metadata = {"best": json.dumps({"step": step, "figures": dict(figures)}, sort_keys=True)}
    write_whole(path, safetensors.torch.save({n: tensor.contiguous() for n, tensor in weights.items()}, metadata))


def load_best(path: Path, model: nn.Module) -> tuple[int, str]:
    """Fills a model and gives the step that the weights are from, and a short sha256 of the very bytes that were read.

    Raises:
        ConfigError: there are no best weights yet.
        DataError: the file is damaged, or its weights are for another model.
    """
    if not path.exists():
        raise ConfigError(
            f"no trained weights in {path.parent}",
            expected=path.name,
            likely="the run has not reached its first evaluation yet",
            do="train on with the same command: python -m jobs.train ...",
        )
    try:
        data = path.read_bytes()  # once: a run that still trains may replace the file at any moment
        model.load_state_dict(safetensors.torch.load(data))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        step = json.loads(header["__metadata__"]["best"])["step"]
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DataError(
            f"{path} cannot be used",
            expected="weights of the model that config.yaml describes",
            found=str(error).splitlines()[0],
            likely="a copy that broke off, or a config.yaml that was edited",
            do="copy the run again, or train on with the same command",
        ) from None
    return step, hashlib.sha256(data).hexdigest()[:12]
