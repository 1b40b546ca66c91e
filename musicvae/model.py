"""The MusicVAE: encoder, latent space, decoder."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.grid import GridSpec
from musicvae.model_parts import new_decoder, new_encoder, new_prior
from musicvae.model_settings import ModelSettings
from musicvae.posterior import Posterior


class MusicVAE(nn.Module):
    """Roberts et al. 2018, arXiv 1803.05428: windows of tokens <-> points of a latent space with a prior."""

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.latent = settings.latent
        self.num_steps = grid.num_steps
        self.encoder = new_encoder(settings, grid, num_drums)
        self.prior = new_prior(settings)
        self.segments, self.decoder = new_decoder(settings, grid, num_drums)

    def encode(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        """q(z | x). For a single code take `mu`: it is the same at every call."""
        return self.encoder(tokens)

    def logits(
        self, z: Float[Tensor, "batch latent"], tokens: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """log p(x_t | x_<t, z) up to a constant, teacher-forced: step t is shown the targets before it."""
        return self.logits_when_shown(z, self.decoder.shown_under_teacher_forcing(tokens))

    def logits_when_shown(
        self, z: Float[Tensor, "batch latent"], shown: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """As `logits`, with the token that each step is shown given outright (word dropout changes some)."""
        return self.decoder.teacher_forced(self.segments(z), shown)

    def scheduled_logits(
        self,
        z: Float[Tensor, "batch latent"],
        tokens: Int64[Tensor, "batch step"],
        *,
        sampling_probability: float,
        coins: Float[Tensor, "batch step"],
        uniforms: Float[Tensor, "batch step"],
    ) -> Float[Tensor, "batch step vocab"]:
        """Scheduled sampling (Bengio et al. 2015): each step is shown the model's own sample with a probability.

        Args:
            coins: in [0, 1), decide between target and sample.
            uniforms: in [0, 1), choose the sample by the inverse CDF.
        """

        def next_token(step: int, step_logits: Tensor) -> Tensor:
            own = sample_tokens(step_logits.detach(), uniforms[:, step])
            return torch.where(coins[:, step] < sampling_probability, own, tokens[:, step])

        return self.decoder.stepwise(self.segments(z), next_token)

    @torch.no_grad()
    def shown_with_samples(
        self,
        z: Float[Tensor, "batch latent"],
        tokens: Int64[Tensor, "batch step"],
        *,
        sampling_probability: float,
        coins: Float[Tensor, "batch step"],
        uniforms: Float[Tensor, "batch step"],
    ) -> Int64[Tensor, "batch step"]:
        """What each step is shown where some targets are the model's samples, each drawn after the targets before it.

        One pass over all steps in place of `scheduled_logits`' one for each (Duckworth et al. 2019, arXiv 1906.04331);
        arguments as there.
        """
        own = sample_tokens(self.logits(z, tokens).flatten(0, 1), uniforms.flatten()).view_as(tokens)
        return self.decoder.shown_under_teacher_forcing(torch.where(coins < sampling_probability, own, tokens))

    @torch.no_grad()
    def generate(
        self,
        z: Float[Tensor, "batch latent"],
        uniforms: Float[Tensor, "batch step"] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Int64[Tensor, "batch step"]:
        """Decodes free-running: each step is shown what was chosen at the step before.

        Args:
            uniforms: in [0, 1), one a step, choose by the inverse CDF; None takes the likeliest token.
            temperature: divides the logits; below 1 makes likely tokens likelier.
        """
        chosen = []

        def next_token(step: int, step_logits: Tensor) -> Tensor:
            if uniforms is None:
                chosen.append(step_logits.argmax(dim=-1))
            else:
                chosen.append(sample_tokens(step_logits / temperature, uniforms[:, step]))
            return chosen[-1]

        self.decoder.stepwise(self.segments(z), next_token)
        return torch.stack(chosen, dim=1)


def sample_tokens(logits: Float[Tensor, "batch vocab"], uniforms: Float[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    """One token a row by the inverse CDF: the number of tokens whose cumulative probability is at most u.

    A uniform decides the token alone, so the choice does not depend on other rows or on a generator's state.
    """
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    # Rounding may leave the last sum below 1; scaled by it, no u in [0, 1) falls off the end.
    threshold = uniforms.double()[:, None] * cumulative[:, -1:]
    return (cumulative <= threshold).sum(dim=-1).clamp(max=logits.shape[-1] - 1)
