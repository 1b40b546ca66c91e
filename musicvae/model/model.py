"""The MusicVAE: encoder, latent space, decoder; and the `match` that builds each part from the settings."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.model.decoders import (
    AttendedFeatures,
    Conductor,
    FeedForwardDecoder,
    IndependentDecoder,
    NextToken,
    NoFeatures,
    SegmentDecoder,
    SegmentFeatures,
    WholeFeatures,
    WholeWindow,
)
from musicvae.model.encoders import (
    FeedForwardEncoder,
    LSTMEncoder,
    NoEncoder,
    Posterior,
    SegmentEncoder,
    TransformerEncoder,
)
from musicvae.model.history_decoder import HistoryDecoder
from musicvae.model.layers import KeyedDropout, draw_masks
from musicvae.model.precision import rounded
from musicvae.model.prior import AutoregressivePrior, FlowPrior, Prior, StandardPrior
from musicvae.model.settings import DecodingPrecision, ModelSettings
from musicvae.model.token_choice import sample_tokens

Encoder = LSTMEncoder | FeedForwardEncoder | TransformerEncoder | SegmentEncoder | NoEncoder
Decoder = SegmentDecoder | FeedForwardDecoder | IndependentDecoder | HistoryDecoder


class MusicVAE(nn.Module):
    """Roberts et al. 2018, arXiv 1803.05428: windows of tokens <-> points of a latent space with a prior."""

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.latent = settings.latent
        self.num_steps, self.num_drums, self.start_token = grid.num_steps, num_drums, 1 << num_drums
        self.encoder = new_encoder(settings, grid, num_drums)
        self.prior = new_prior(settings)
        self.segments, self.decoder = new_decoder(settings, grid, num_drums)
        # Their order, that of their making, says which of a key's random numbers are whose.
        self.dropouts = [module for module in self.modules() if isinstance(module, KeyedDropout) and module.dropped]

    def draw_masks(self, keys: Int64[Tensor, " batch"]) -> None:
        """Draws the dropout masks of the next forward pass in training mode; those of a window follow from its key."""
        if self.dropouts:
            draw_masks(self.dropouts, keys)

    def encode(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        """q(z | x). For a single code take `mu`: it is the same at every call."""
        return self.encoder(tokens)

    def logits(
        self, z: Float[Tensor, "batch latent"], tokens: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """log p(x_t | x_<t, z) up to a constant, teacher-forced: step t is shown the targets before it."""
        return self.logits_when_shown(z, self.shown_under_teacher_forcing(tokens))

    def shown_under_teacher_forcing(self, tokens: Int64[Tensor, "batch step"]) -> Int64[Tensor, "batch step"]:
        """The targets moved one step on, behind the start token, which stands for "nothing known"."""
        return torch.cat([torch.full_like(tokens[:, :1], self.start_token), tokens[:, :-1]], dim=1)

    def logits_when_shown(
        self, z: Float[Tensor, "batch latent"], shown: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """As `logits`, with the token that each step is shown given outright (word dropout changes some)."""
        return self.decoder.teacher_forced(self.segments(z), shown)

    @torch.no_grad()
    def shown_step_by_step(
        self,
        z: Float[Tensor, "batch latent"],
        tokens: Int64[Tensor, "batch step"],
        *,
        sampling_probability: float,
        coins: Float[Tensor, "batch step"],
        uniforms: Float[Tensor, "batch step"],
        blanked: Bool[Tensor, "batch step"] | None = None,
    ) -> Int64[Tensor, "batch step"]:
        """What scheduled sampling (Bengio et al. 2015) shows each step: with a probability the model's own sample.

        Gradients do not go through the choice of tokens: once these are known, all steps are one pass.

        Args:
            coins: in [0, 1), decide between target and sample.
            uniforms: in [0, 1), choose the sample by the inverse CDF.
            blanked: steps that are shown nothing; what follows is sampled by a decoder that was not shown it either.
        """
        shown = [self.shown_under_teacher_forcing(tokens)[:, 0]]

        def next_token(step: int, step_logits: Tensor) -> Tensor:
            sampled = sample_tokens(step_logits, uniforms[:, step])
            token = torch.where(coins[:, step] < sampling_probability, sampled, tokens[:, step])
            if blanked is not None and step + 1 < self.num_steps:
                token = torch.where(blanked[:, step + 1], self.start_token, token)
            shown.append(token)
            return token

        self.decoder.stepwise(self.segments(z), next_token)
        return torch.stack(shown[:-1], dim=1)

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

        One pass over all steps (Duckworth et al. 2019, arXiv 1906.04331); `shown_step_by_step` makes one for each.
        Arguments as there.
        """
        sampled = sample_tokens(self.logits(z, tokens).flatten(0, 1), uniforms.flatten()).view_as(tokens)
        return self.shown_under_teacher_forcing(torch.where(coins < sampling_probability, sampled, tokens))

    @torch.no_grad()
    def generate(
        self,
        z: Float[Tensor, "batch latent"],
        uniforms: Float[Tensor, "batch step"] | None = None,
        *,
        temperature: float = 1.0,
        precision: DecodingPrecision = "float32",
    ) -> Int64[Tensor, "batch step"]:
        """Decodes free-running: each step is shown what was chosen at the step before.

        Args:
            uniforms: in [0, 1), one a step, choose by the inverse CDF; None takes the likeliest token.
            temperature: divides the logits; below 1 makes likely tokens likelier.
        """

        def next_token(step: int, step_logits: Tensor) -> Tensor:
            if uniforms is None:
                return step_logits.argmax(dim=-1)
            return sample_tokens(step_logits / temperature, uniforms[:, step])

        return self.decode(z, next_token, precision=precision)

    @torch.no_grad()
    def decode(
        self, z: Float[Tensor, "batch latent"], next_token: NextToken, *, precision: DecodingPrecision = "float32"
    ) -> Int64[Tensor, "batch step"]:
        """Decodes free-running with tokens that `next_token` chooses; see `NextToken`."""
        chosen = []

        def choose(step: int, step_logits: Tensor) -> Tensor:
            chosen.append(next_token(step, step_logits))
            return chosen[-1]

        condition = self.segments(z)
        if precision == "float32":
            self.decoder.stepwise(condition, choose)
        else:
            rounded(self.decoder).stepwise(condition.bfloat16(), choose)
        return torch.stack(chosen, dim=1)


def new_encoder(settings: ModelSettings, grid: GridSpec, num_drums: int) -> Encoder:
    """Tokens -> `Posterior`."""
    match settings.encoder:
        case "lstm":
            return LSTMEncoder(settings, num_drums)
        case "feed_forward":
            return FeedForwardEncoder(settings, grid, num_drums)
        case "transformer":
            return TransformerEncoder(settings, grid, num_drums)
        case "segments":
            return SegmentEncoder(settings, grid, num_drums)
        case "none":
            return NoEncoder()


def new_prior(settings: ModelSettings) -> Prior:
    """p(z)."""
    match settings.prior:
        case "standard":
            return StandardPrior()
        case "autoregressive":
            return AutoregressivePrior(settings)
        case "flow":
            return FlowPrior(settings)


def new_decoder(settings: ModelSettings, grid: GridSpec, num_drums: int) -> tuple[nn.Module, Decoder]:
    """What makes the decoder's conditions from z, and the decoder."""
    match settings.decoder:
        case "hierarchical":
            return Conductor(settings, grid), SegmentDecoder(settings, grid, num_drums)
        case "flat":
            return WholeWindow(), SegmentDecoder(settings, grid, num_drums)
        case "feed_forward":
            return nn.Identity(), FeedForwardDecoder(settings, grid, num_drums)
        case "independent":
            return _step_features(settings, grid), IndependentDecoder(settings, num_drums)
        case "recurrent" | "transformer":
            return _step_features(settings, grid), HistoryDecoder(settings, grid, num_drums)


def _step_features(settings: ModelSettings, grid: GridSpec) -> nn.Module:
    if settings.latent == 0:
        return NoFeatures(grid)
    if settings.latent_segments == 1:
        return WholeFeatures(settings, grid)
    if settings.step_features_layers:
        return AttendedFeatures(settings, grid)
    return SegmentFeatures(settings, grid)
