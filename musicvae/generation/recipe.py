"""All that decides what item i is, besides the weights and i itself."""

from dataclasses import dataclass

from musicvae.generation.given_hits import GivenHits
from musicvae.generation.origins import Origin
from musicvae.generation.whole_groove import WholeGroove
from musicvae.model.precision import DecodingPrecision
from musicvae.model.token_choice import Temperature, TokenChoice


@dataclass(frozen=True, slots=True)
class Recipe:
    """How grooves are made.

    Attributes:
        origin: where codes come from.
        seed: key of all noise.
        temperature: divides the logits before a token is drawn, one for all or one for each bar; None takes the
            likeliest token at every step, so that a groove is a function of its code alone.
        top_p: see `TokenChoice`.
        given: hits and silences that are decided beforehand.
        whole: what each groove has to have as a whole.
        precision: of decoding.

    Raises:
        ValueError: a negative seed, a temperature that is not positive, or a top_p outside (0, 1].
    """

    origin: Origin
    seed: int
    temperature: Temperature = 1.0
    top_p: float = 1.0
    given: GivenHits | None = None
    whole: WholeGroove | None = None
    precision: DecodingPrecision = "float32"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"a seed cannot be negative, found {self.seed}")
        TokenChoice(self.temperature, self.top_p)

    @property
    def choice(self) -> TokenChoice:
        """How a token is chosen from its logits."""
        return TokenChoice(self.temperature, self.top_p)
