"""Directions of the latent space along which one attribute of a groove grows, measured on training windows.

Roberts et al. 2018 (section 5.5) take the difference between the mean codes of windows with and without an attribute.
Ours are the same for attributes that are numbers: the direction is the covariance of code and attribute, which points
from the mean code of all windows to that of those with more of it, and so stays where windows are. Its length is such
that one unit of it raises a ridge regression of the attribute on the code by one standard deviation of the attribute.
A decoder that plays the likeliest tokens may follow by less: `musicvae.pretrained.latent_space` measures by how much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float32, Float64

from musicvae.errors import ConfigError, UserError

RIDGE = 0.05
"""Penalty of the regression as a share of the mean variance of a code's dimensions: dimensions that hardly vary cannot
carry an attribute, and without it would seem to."""


@dataclass(frozen=True, slots=True, eq=False)
class AttributeVectors:
    """A direction for each attribute.

    Attributes:
        names: of the attributes.
        directions: what to add to a code for one standard deviation more of the attribute.
        mean, deviation: of each attribute over the training windows, in its own unit.
        explained: share of the attribute's variance over the training windows that the regression explains, 0..1.

    Raises:
        ValueError: shapes that do not fit together.
    """

    names: tuple[str, ...]
    directions: Float32[np.ndarray, "attribute latent"]
    mean: Float64[np.ndarray, " attribute"]
    deviation: Float64[np.ndarray, " attribute"]
    explained: Float64[np.ndarray, " attribute"]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.directions) == len(self.mean) == len(self.deviation) == len(self.explained):
            raise ValueError(f"{len(self.names)} names for {len(self.directions)} directions")

    def shift(self, amounts: Mapping[str, float]) -> Float32[np.ndarray, " latent"]:
        """What to add to a code, for amounts of attributes in standard deviations over the training windows.

        Raises:
            ConfigError: no such attribute, or an amount that is not finite.
        """
        for name, amount in amounts.items():
            if name not in self.names:
                raise ConfigError(
                    f"there is no attribute {name!r}",
                    expected=", ".join(self.names),
                    found=repr(name),
                    do="choose one of them",
                )
            if not np.isfinite(amount):
                raise ConfigError(f"{name} cannot be moved by {amount}", expected="a finite number", found=str(amount))
        weights = np.array([amounts.get(name, 0.0) for name in self.names])
        return (weights @ self.directions.astype(np.float64)).astype(np.float32)

    def to_bytes(self) -> bytes:
        """A safetensors file; the names are kept elsewhere, as metadata would be written in no fixed order."""
        return safetensors.numpy.save(
            {
                "directions": np.ascontiguousarray(self.directions),
                "mean": self.mean,
                "deviation": self.deviation,
                "explained": self.explained,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, names: Sequence[str], latent: int) -> "AttributeVectors":
        """What `to_bytes` wrote.

        Raises:
            ValueError: something else, or directions of another latent space.
        """
        try:
            tensors = safetensors.numpy.load(data)
            vectors = cls(tuple(names), *(tensors[name] for name in ("directions", "mean", "deviation", "explained")))
        except (safetensors.SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if vectors.directions.shape[1] != latent:
            raise ValueError(f"directions in {vectors.directions.shape[1]} dimensions, the model has {latent}")
        return vectors


def fit_attribute_vectors(
    codes: Float32[np.ndarray, "window latent"],
    values: Float64[np.ndarray, "window attribute"],
    names: Sequence[str],
) -> AttributeVectors:
    """The directions of attributes from the codes (mu) of windows and the attributes' values there.

    An attribute that is the same in all windows, or that codes do not vary with, gets a direction of zeros.

    Raises:
        UserError: fewer than two windows, or codes without dimensions.
    """
    if len(codes) < 2 or not codes.shape[1]:
        raise UserError("attribute vectors need windows and a latent space", found=f"codes of shape {codes.shape}")
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    standard = (values - mean) / np.where(deviation > 0, deviation, 1)
    centred = codes.astype(np.float64) - codes.mean(axis=0, dtype=np.float64)
    covariance = centred.T @ standard / len(codes)
    code_covariance = centred.T @ centred / len(codes)
    penalty = RIDGE * np.trace(code_covariance) / len(code_covariance)
    # Codes that never vary have no inverse; their covariance with anything is zero, and so is their direction.
    slopes = np.linalg.solve(code_covariance + np.eye(len(code_covariance)) * (penalty or 1), covariance)
    rise = (slopes * covariance).sum(axis=0)
    directions = np.divide(covariance, rise, out=np.zeros_like(covariance), where=rise > np.finfo(np.float32).eps)
    left = ((standard - centred @ slopes) ** 2).mean(axis=0)
    return AttributeVectors(
        names=tuple(names),
        directions=directions.T.astype(np.float32),
        mean=mean,
        deviation=deviation,
        explained=np.where(deviation > 0, 1 - left, 0.0),
    )
