"""The weights with the lowest validation -ELBO, in one file that carries its own figures."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from musicvae.durable import write_whole
from musicvae.errors import ConfigError, DataError

MOST_GROWTH, SPARE_BYTES = 4, 2**30
"""How large a model may be, by the bytes of its file. Weights may be rounded there, and tables are computed."""
M = TypeVar("M", bound=nn.Module)
OWN_HEADER, LOADERS_HEADER = b'{"__metadata__":{"best":', b'{"__metadata__":{"format":"pt","best":'
"""How the header of a run's file begins, and that of an export, whose `format` common loaders ask for."""


def save_best(path: Path, weights: Mapping[str, Tensor], step: int, figures: Mapping[str, float]) -> None:
    """Writes weights with their step and figures as safetensors."""
    write_whole(path, _file(weights, step, figures))


@dataclass(frozen=True, slots=True)
class BestWeights:
    """A file of weights as it was read, at once: a run that still trains may replace it at any moment.

    Attributes:
        data: the bytes of the file, of an export without its `format`: a run and its export are the same weights.
        step: the step that they are from.
        figures: of the evaluation that found them the best.
    """

    data: bytes
    step: int
    figures: Mapping[str, float]

    @property
    def weights_hash(self) -> str:
        """A short sha256 of `data`."""
        return hashlib.sha256(self.data).hexdigest()[:12]

    def exported(self) -> bytes:
        """The file of an export: `data` with the metadata `format: pt`."""
        return _with_header(self.data, OWN_HEADER, LOADERS_HEADER)


def read_best(path: Path) -> BestWeights:
    """Reads what `save_best` wrote, or the file of an export.

    Raises:
        ConfigError: there are no best weights yet.
        DataError: the file is damaged.
    """
    if not path.exists():
        raise ConfigError(
            f"no trained weights in {path.parent}",
            expected=path.name,
            likely="the run has not reached its first evaluation yet",
            do="run the same jobs.train command again to resume",
        )
    try:
        data = _with_header(path.read_bytes(), LOADERS_HEADER, OWN_HEADER)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        best = json.loads(header["__metadata__"]["best"])
        return BestWeights(data, best["step"], best["figures"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from None


def in_bfloat16(best: BestWeights) -> BestWeights:
    """The same weights rounded to bfloat16, in half the bytes; a model that is filled with them computes in float32."""
    rounded = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in safetensors.torch.load(best.data).items()
    }
    return BestWeights(_file(rounded, best.step, best.figures), best.step, best.figures)


def load_best(path: Path, make: Callable[[], M], most_bytes: int) -> tuple[M, BestWeights]:
    """A model with the weights of a file.

    Args:
        make: the model, with any weights; it is not made if it needs far more memory than its file has bytes.
        most_bytes: that it may need, as `musicvae.model.settings.most_bytes` estimates it.

    Raises:
        ConfigError: there are no best weights yet.
        DataError: the file is damaged, or its weights are for another model.
    """
    best = read_best(path)
    if most_bytes > SPARE_BYTES:
        with torch.device("meta"):  # where tensors have shapes and take no memory, but torch loads its compiler
            shapes = make()
        needed = sum(tensor.nbytes for tensor in (*shapes.parameters(), *shapes.buffers()))
        if needed > MOST_GROWTH * len(best.data) + SPARE_BYTES:
            raise _damaged(path, ValueError(f"{len(best.data):,} bytes for a model of {needed:,}"))
    model = make()
    try:
        model.load_state_dict(safetensors.torch.load(best.data))
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise _damaged(path, error) from None
    return model, best


def _file(weights: Mapping[str, Tensor], step: int, figures: Mapping[str, float]) -> bytes:
    # One key: safetensors writes several in no fixed order, and equal weights shall give equal bytes.
    metadata = {"best": json.dumps({"step": step, "figures": dict(figures)}, sort_keys=True)}
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in weights.items()}, metadata)


def _with_header(data: bytes, before: bytes, after: bytes) -> bytes:
    """A file with another beginning of its header, if it has that one; spaces fill a header up to eight bytes."""
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size]
    if not header.startswith(before):
        return data
    header = after + header.removeprefix(before).rstrip(b" ")
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be used",
        expected="weights of the model that config.yaml of the same folder describes",
        found=f"{type(error).__name__}: {error}".splitlines()[0],
        likely="an incomplete copy, or an edited configuration",
        do="copy the folder again",
    )
