"""Settings of the model: which network, how large, and its training objective."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from musicvae.settings import Probability, Settings

DecodingPrecision = Literal["float32", "bfloat16"]
"""How grooves are decoded. `float32`: by the weights as they are, whatever they are."""
DropoutShare = Annotated[float, Field(ge=0, lt=1)]


class ModelSettings(Settings):
    """Kind and sizes of the network; every length follows from the grid and every vocabulary from the drum map."""

    latent: NonNegativeInt = 256
    """Dimensions of z; 0 with `encoder: none` is a model without a latent space."""
    token_features: Literal["own", "bits", "pairs"] = "bits"
    """`own`: each token stands alone, as in the paper; `bits`: tokens share the parts of their drums; `pairs`: scores
    share those of their pairs of drums too."""
    encoder: Literal["lstm", "feed_forward", "transformer", "segments", "none"] = "lstm"
    """`lstm`: bidirectional, as in the paper; `feed_forward`: on all bits at once; `transformer`: over the steps;
    `segments`: a transformer over the window's segments, of which there are latent_segments."""
    encoder_embedding: PositiveInt = 128
    """Size of a token's embedding; `lstm` only."""
    encoder_hidden: PositiveInt = 256
    """Per direction of `lstm`."""
    encoder_layers: PositiveInt = 2
    encoder_heads: PositiveInt = 4
    """`transformer`, `segments`: heads of attention; they divide the hidden size."""
    encoder_dropout: DropoutShare = 0.0
    encoder_shares_bars: bool = False
    """`feed_forward`: the first layer reads each bar by the same weights."""
    latent_segments: PositiveInt = 1
    """`transformer`, `segments`: z is made of so many parts of equal size, each of its own stretch of the window."""
    prior: Literal["standard", "autoregressive"] = "standard"
    """Of z. `standard`: N(0, I), as in the paper; `autoregressive`: each segment follows those before it, learnt."""
    prior_hidden: PositiveInt = 96
    prior_layers: PositiveInt = 2
    prior_heads: PositiveInt = 4
    """Heads of attention; they divide the hidden size."""
    prior_dropout: DropoutShare = 0.0
    decoder: Literal["hierarchical", "flat", "feed_forward", "independent", "recurrent", "transformer"] = "hierarchical"
    """`hierarchical`: an LSTM started anew at each bar from a conductor's embedding, as in the paper; `flat`: from z;
    `feed_forward`: all hits at once and independent given z; `independent`: tokens independent given z; `recurrent`
    (LSTM) and `transformer`: over the whole window, shown chosen earlier steps beside the one before."""
    conductor_hidden: PositiveInt = 256
    conductor_layers: PositiveInt = 2
    conductor_embedding: PositiveInt = 256
    """Size of the embedding of a bar."""
    decoder_embedding: PositiveInt = 128
    """Size of a token's embedding, or of what `recurrent` and `transformer` make of the history."""
    decoder_hidden: PositiveInt = 256
    decoder_layers: PositiveInt = 2
    decoder_heads: PositiveInt = 4
    """`transformer`: heads of attention; they divide the hidden size."""
    decoder_dropout: DropoutShare = 0.0
    history_lags: tuple[PositiveInt, ...] = (1, 2, 3, 4, 8, 12, 14, 15, 16, 17, 18, 30, 31, 32, 33, 34, 47, 48, 49)
    """`recurrent`, `transformer`: how many steps ago the tokens were that a step is shown; 1 has to be among them."""
    history_dropout: DropoutShare = 0.0
    """Share of the history's drums that a training window is not shown, each the same at all of its steps."""
    step_features: PositiveInt = 64
    """`independent`, `recurrent`, `transformer`: size of what z tells each step."""
    step_features_hidden: PositiveInt = 192
    """Size of the layers that make it."""
    step_features_layers: NonNegativeInt = 0
    """With latent_segments: causal transformer blocks over the segments of z that make it, before its own layers."""
    step_features_heads: PositiveInt = 4
    """Heads of attention; they divide the hidden size."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "ModelSettings":
        if (self.latent == 0) != (self.encoder == "none"):
            raise ValueError(f"latent 0 and encoder none go together, found latent {self.latent}, {self.encoder}")
        attends = self.encoder in ("transformer", "segments")
        if self.encoder == "none" and self.decoder not in ("recurrent", "transformer"):
            raise ValueError(f"without an encoder there is no z for a {self.decoder} decoder to decode")
        if attends and self.encoder_hidden % self.encoder_heads:
            raise ValueError(f"{self.encoder_heads} encoder_heads do not divide encoder_hidden {self.encoder_hidden}")
        if attends and self.latent % self.latent_segments:
            raise ValueError(f"{self.latent_segments} latent_segments do not divide latent {self.latent}")
        if self.encoder_shares_bars and (self.encoder != "feed_forward" or self.encoder_layers < 2):
            raise ValueError("encoder_shares_bars is for a feed_forward encoder of 2 or more layers")
        if not attends and self.latent_segments != 1:
            raise ValueError(f"latent_segments are for the encoders transformer and segments, found {self.encoder}")
        if self.step_features_layers and self.latent_segments == 1:
            raise ValueError("step_features_layers need latent_segments to go through, found 1")
        if self.step_features_layers and self.step_features_hidden % self.step_features_heads:
            raise ValueError(
                f"{self.step_features_heads} step_features_heads do not divide {self.step_features_hidden}, their size"
            )
        if self.prior == "autoregressive" and self.latent_segments == 1:
            raise ValueError("an autoregressive prior needs latent_segments to go through, found 1")
        if self.prior == "autoregressive" and self.prior_hidden % self.prior_heads:
            raise ValueError(f"{self.prior_heads} prior_heads do not divide prior_hidden {self.prior_hidden}")
        if self.decoder == "transformer" and self.decoder_hidden % self.decoder_heads:
            raise ValueError(f"{self.decoder_heads} decoder_heads do not divide decoder_hidden {self.decoder_hidden}")
        if 1 not in self.history_lags or len(set(self.history_lags)) < len(self.history_lags):
            raise ValueError(f"history_lags are different numbers, 1 among them, found {self.history_lags}")
        return self

    @property
    def shares_bits(self) -> bool:
        return self.token_features != "own"

    @property
    def shares_pairs(self) -> bool:
        return self.token_features == "pairs"


class ObjectiveSettings(Settings):
    """loss = -log p(x | z) + beta * max(KL - free bits, 0), per window."""

    beta: NonNegativeFloat = 0.2
    """Weight of the KL once its schedule has ended; 1 makes the loss the -ELBO."""
    beta_schedule: Literal["constant", "linear", "exponential"] = "constant"
    """`linear`: from 0 over `beta_warmup_steps`; `exponential`: beta * (1 - beta_rate^step), as the paper."""
    beta_warmup_steps: NonNegativeInt = 1000
    beta_rate: Probability = 0.99999
    free_bits: NonNegativeFloat = 48
    """Bits of KL per window that cost nothing (Kingma et al. 2016), clamped per window, then averaged."""
    scheduled_sampling: Literal["none", "constant", "inverse_sigmoid"] = "none"
    """Whether training shows the decoder its own samples; `none` is teacher forcing."""
    sampling_rate: PositiveFloat = 2000
    """`inverse_sigmoid`: 1 - k / (k + exp(step / k)) with this k, as the paper; `constant`: the probability."""
    sampling_passes: Literal["stepwise", "parallel"] = "stepwise"
    """How those samples are made. `stepwise`: each after those before it, one call of the decoder a step; `parallel`:
    all after the targets, in one call (Duckworth et al. 2019, arXiv 1906.04331)."""
    word_dropout: Probability = 0.0
    """Share of the tokens shown to the decoder that are blanked, so that it leans on z (Bowman et al. 2016)."""
    window_dropout: Probability = 0.0
    """Share of the windows of which no token at all is shown, so that z alone can carry a groove."""

    @model_validator(mode="after")
    def _constant_rate_is_a_probability(self) -> "ObjectiveSettings":
        if self.scheduled_sampling == "constant" and self.sampling_rate > 1:
            raise ValueError(f"sampling_rate is the probability of constant sampling, found {self.sampling_rate:g}")
        return self
