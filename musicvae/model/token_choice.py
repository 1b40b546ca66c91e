"""From logits to a token: temperature, nucleus and what is allowed, then one draw by the inverse CDF."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

CHUNK = 16
"""Tokens whose probabilities are added up before single ones are looked at."""
Temperature = float | tuple[float, ...] | None
"""Divides the logits; one for each of the equal parts (bars) of a window; None takes the likeliest token."""


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """How tokens are chosen.

    Attributes:
        temperature: below 1 likelier tokens, above 1 wilder ones; see `Temperature`.
        top_p: draws are among the likeliest tokens that together have this probability (Holtzman et al. 2020, arXiv
            1904.09751), after temperature and what is allowed; 1 is all of them.

    Raises:
        ValueError: a temperature that is not positive, or a top_p outside (0, 1].
    """

    temperature: Temperature = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for temperature in self.temperature if isinstance(self.temperature, tuple) else (self.temperature,):
            if temperature is not None and not 0 < temperature < float("inf"):
                raise ValueError(f"a temperature must be positive, found {temperature}")
        if self.temperature == ():
            raise ValueError("no temperature for any bar")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p lies above 0 and up to 1, found {self.top_p}")

    def token(
        self,
        logits: Float[Tensor, "batch vocab"],
        uniforms: Float[Tensor, " batch"],
        *,
        place: float,
        allowed: Bool[Tensor, "batch vocab"] | None = None,
    ) -> Int64[Tensor, " batch"]:
        """One token a row.

        Args:
            uniforms: in [0, 1), as of `sample_tokens`; unused where the likeliest token is taken.
            place: of the step in the window, in [0, 1).
            allowed: no other token is chosen.

        Raises:
            ValueError: a row that allows no token.
        """
        if allowed is not None:
            if not allowed.any(dim=-1).all():
                raise ValueError("the constraints leave no token to choose")
            logits = logits.masked_fill(~allowed, -torch.inf)
        temperature = self.temperature
        if isinstance(temperature, tuple):
            temperature = temperature[int(place * len(temperature))]
        if temperature is None:
            return logits.argmax(dim=-1)
        logits = logits if temperature == 1 else logits / temperature
        return sample_tokens(logits if self.top_p == 1 else nucleus(logits, self.top_p), uniforms)


def nucleus(logits: Float[Tensor, "batch vocab"], top_p: float) -> Float[Tensor, "batch vocab"]:
    """Logits of the fewest likeliest tokens that together have a probability of `top_p` or more; others are -inf."""
    likeliest, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = likeliest.softmax(dim=-1, dtype=torch.float64)
    before = probabilities.cumsum(dim=-1) - probabilities
    return torch.full_like(logits, -torch.inf).scatter(-1, order, likeliest.masked_fill(before >= top_p, -torch.inf))


def sample_tokens(logits: Float[Tensor, "batch vocab"], uniforms: Float[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    """One token a row by the inverse CDF: the first whose cumulative probability is above u.

    A uniform decides the token alone, so the choice does not depend on other rows or on a generator's state. A token of
    probability 0 (a logit of -inf) is never chosen. Probabilities are of the logits' precision, float32 at least, and
    added up first over chunks of `CHUNK` tokens, then within the chunk that u falls into.
    """
    full = torch.promote_types(logits.dtype, torch.float32)
    probabilities = logits.softmax(dim=-1, dtype=full)
    if spare := -logits.shape[-1] % CHUNK:
        probabilities = F.pad(probabilities, (0, spare))
    chunks = probabilities.unflatten(-1, (-1, CHUNK))
    cumulative = chunks.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    # Rounding may leave the last sum below 1; scaled by it, no u in [0, 1) falls off the end.
    threshold = uniforms.double()[:, None] * cumulative[:, -1:]
    chunk = _first_above(threshold, cumulative)
    before = F.pad(cumulative, (1, 0)).gather(-1, chunk)
    within = chunks.gather(1, chunk[..., None].expand(-1, -1, CHUNK))[:, 0].cumsum(dim=-1, dtype=torch.float64)
    return (chunk * CHUNK + _first_above(threshold - before, within))[:, 0]


def _first_above(
    threshold: Float64[Tensor, "batch 1"], cumulative: Float64[Tensor, "batch part"]
) -> Int64[Tensor, "batch 1"]:
    """Index of the first sum above a threshold; the last that adds anything, where rounding leaves none above."""
    below_last = torch.nextafter(cumulative[:, -1:], torch.zeros_like(threshold))
    return (cumulative <= torch.minimum(threshold, below_last)).sum(dim=-1, keepdim=True)
