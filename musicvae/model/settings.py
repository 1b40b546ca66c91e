"""Settings of the models: which network, how large, and how it is trained: MusicVAE, and the performance model."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from musicvae.groove.grid import GridSpec
from musicvae.settings import Probability, Settings

DecodingPrecision = Literal["float32", "bfloat16"]
"""How grooves are decoded. `float32`: by the weights as they are, whatever they are."""
MatmulPrecision = Literal["highest", "high", "medium"]
"""How exactly float32 is multiplied, as `torch.set_float32_matmul_precision`."""
MOST_SIZE, MOST_LAYERS = 65_536, 1000
"""Above, no machine has the memory for the weights."""
BYTES_OF_LAYER, OTHER_LAYERS = 64, 8
"""Of float32: a layer has up to sixteen matrices; embeddings, scores and tables count as layers."""
Size = Annotated[int, Field(ge=1, le=MOST_SIZE)]
Layers = Annotated[int, Field(ge=1, le=MOST_LAYERS)]
DropoutShare = Annotated[float, Field(ge=0, lt=1)]


class ModelSettings(Settings):
    """Kind and sizes of the network; every length follows from the grid and every vocabulary from the drum map."""

    latent: Annotated[int, Field(ge=0, le=MOST_SIZE)] = 256
    """Dimensions of z; 0 with `encoder: none` is a model without a latent space."""
    token_features: Literal["own", "bits", "pairs"] = "bits"
    """`own`: each token has weights of its own, as in the paper; `bits`: tokens share the weights of their drums;
    `pairs`: scores share the weights of pairs of drums too."""
    encoder: Literal["lstm", "feed_forward", "transformer", "segments", "none"] = "lstm"
    """`lstm`: bidirectional, as in the paper; `feed_forward`: on all bits at once; `transformer`: over the steps;
    `segments`: a transformer over the latent_segments segments of the window."""
    encoder_embedding: Size = 128
    """Size of a token's embedding; `lstm` only."""
    encoder_hidden: Size = 256
    """Hidden size; of `lstm`, in each direction."""
    encoder_layers: Layers = 2
    encoder_heads: Size = 4
    """`transformer`, `segments`: heads of attention; they divide the hidden size."""
    encoder_dropout: DropoutShare = 0.0
    encoder_shares_bars: bool = False
    """`feed_forward`: the first layer reads each bar by the same weights."""
    latent_segments: Size = 1
    """`transformer`, `segments`: number of equal parts of z, each for one segment of the window."""
    prior: Literal["standard", "autoregressive", "flow"] = "standard"
    """Prior of z. `standard`: N(0, I), as in the paper; `autoregressive`: learnt, each segment given earlier ones;
    `flow`: learnt, by layers that each move half of z given the other half."""
    prior_hidden: Size = 96
    prior_layers: Layers = 2
    prior_heads: Size = 4
    """`autoregressive`: heads of attention; they divide the hidden size."""
    prior_dropout: DropoutShare = 0.0
    decoder: Literal["hierarchical", "flat", "feed_forward", "independent", "recurrent", "transformer"] = "hierarchical"
    """`hierarchical`: an LSTM that restarts at each bar from the embedding of a conductor, as in the paper; `flat`: an
    LSTM from z; `feed_forward`: all hits at once, independent given z; `independent`: tokens independent given z;
    `recurrent` (LSTM) and `transformer`: over the whole window, with the earlier tokens of history_lags as input."""
    conductor_hidden: Size = 256
    conductor_layers: Layers = 2
    conductor_embedding: Size = 256
    """Size of the embedding of a bar."""
    decoder_embedding: Size = 128
    """Size of a token's embedding; of `recurrent` and `transformer`, of the embedding of the history."""
    decoder_hidden: Size = 256
    decoder_layers: Layers = 2
    decoder_heads: Size = 4
    """`transformer`: heads of attention; they divide the hidden size."""
    decoder_dropout: DropoutShare = 0.0
    history_lags: tuple[PositiveInt, ...] = (1, 2, 3, 4, 8, 12, 14, 15, 16, 17, 18, 30, 31, 32, 33, 34, 47, 48, 49)
    """`recurrent`, `transformer`: distances in steps to the earlier tokens that a step has as input; 1 is required."""
    history_dropout: DropoutShare = 0.0
    """Share of drums that are hidden from the history of a training window, at all of its steps."""
    step_features: Size = 64
    """`independent`, `recurrent`, `transformer`: size of the features that each step gets from z."""
    step_features_hidden: Size = 192
    """Hidden size of the layers that compute these features."""
    step_features_layers: Annotated[int, Field(ge=0, le=MOST_LAYERS)] = 0
    """With latent_segments: causal transformer blocks over the segments of z, before these layers."""
    step_features_heads: Size = 4
    """Heads of attention; they divide the hidden size."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "ModelSettings":
        if (self.latent == 0) != (self.encoder == "none"):
            raise ValueError(f"latent 0 and encoder none need each other, found {self.latent} and {self.encoder}")
        attends = self.encoder in ("transformer", "segments")
        if self.encoder == "none" and self.decoder not in ("recurrent", "transformer"):
            raise ValueError(f"a {self.decoder} decoder needs an encoder, found none")
        if attends and self.encoder_hidden % self.encoder_heads:
            raise ValueError(f"{self.encoder_heads} encoder_heads do not divide encoder_hidden {self.encoder_hidden}")
        if attends and self.latent % self.latent_segments:
            raise ValueError(f"{self.latent_segments} latent_segments do not divide latent {self.latent}")
        if self.encoder_shares_bars and (self.encoder != "feed_forward" or self.encoder_layers < 2):
            raise ValueError("encoder_shares_bars needs a feed_forward encoder with 2 or more layers")
        if not attends and self.latent_segments != 1:
            raise ValueError(f"latent_segments above 1 needs the encoder transformer or segments, found {self.encoder}")
        if self.step_features_layers and self.latent_segments == 1:
            raise ValueError("step_features_layers above 0 needs latent_segments above 1")
        if self.step_features_layers and self.step_features_hidden % self.step_features_heads:
            raise ValueError(
                f"{self.step_features_heads} step_features_heads do not divide {self.step_features_hidden}, their size"
            )
        if self.prior == "autoregressive" and self.latent_segments == 1:
            raise ValueError("an autoregressive prior needs latent_segments above 1")
        if self.prior == "autoregressive" and self.prior_hidden % self.prior_heads:
            raise ValueError(f"{self.prior_heads} prior_heads do not divide prior_hidden {self.prior_hidden}")
        if self.prior == "flow" and (self.latent < 2 or self.latent_segments > 1):
            raise ValueError(
                f"a flow prior needs latent above 1 and latent_segments 1, found {self.latent}, {self.latent_segments}"
            )
        if self.decoder == "transformer" and self.decoder_hidden % self.decoder_heads:
            raise ValueError(f"{self.decoder_heads} decoder_heads do not divide decoder_hidden {self.decoder_hidden}")
        if 1 not in self.history_lags or len(set(self.history_lags)) < len(self.history_lags):
            raise ValueError(f"history_lags must be different numbers that include 1, found {self.history_lags}")
        return self

    @property
    def shares_bits(self) -> bool:
        return self.token_features != "own"

    @property
    def shares_pairs(self) -> bool:
        return self.token_features == "pairs"


def most_bytes(settings: Settings, grid: GridSpec, num_drums: int) -> int:
    """How much memory the weights and tables of a model need at most, roughly, in bytes; it is not made for that.

    Every matrix of a layer has two of the sizes as its sides, or the numbers of tokens or cells of a window.
    """
    sizes = {name: value for name, value in settings.model_dump().items() if isinstance(value, int)}
    largest = max(*sizes.values(), 1 << num_drums, grid.num_steps * num_drums)
    layers = sum(value for name, value in sizes.items() if name.endswith("layers"))
    return BYTES_OF_LAYER * largest**2 * (layers + OTHER_LAYERS)


class ObjectiveSettings(Settings):
    """loss = -log p(x | z) + beta * max(KL - free bits, 0), per window."""

    trains: Literal["all", "prior"] = "all"
    """`prior`: encoder and decoder stay as --init-from gives them, and the loss is the KL alone."""
    beta: NonNegativeFloat = 0.2
    """Weight of the KL once its schedule has ended; 1 makes the loss the -ELBO."""
    beta_schedule: Literal["constant", "linear", "exponential"] = "constant"
    """`linear`: from 0 over `beta_warmup_steps`; `exponential`: beta * (1 - beta_rate^step), as the paper."""
    beta_warmup_steps: NonNegativeInt = 1000
    beta_rate: Probability = 0.99999
    free_bits: NonNegativeFloat = 48
    """Bits of KL per window without a penalty (Kingma et al. 2016), clamped per window, then averaged."""
    scheduled_sampling: Literal["none", "constant", "inverse_sigmoid"] = "none"
    """Whether the decoder gets its own samples as input during training; `none` is teacher forcing."""
    sampling_rate: PositiveFloat = 2000
    """`inverse_sigmoid`: 1 - k / (k + exp(step / k)) with this k, as the paper; `constant`: the probability."""
    sampling_passes: Literal["stepwise", "parallel"] = "stepwise"
    """How these samples are drawn. `stepwise`: one call of the decoder for each step; `parallel`: all steps in one
    call, after the targets (Duckworth et al. 2019, arXiv 1906.04331)."""
    word_dropout: Probability = 0.0
    """Share of the decoder's input tokens that are blanked, so that it uses z (Bowman et al. 2016)."""
    window_dropout: Probability = 0.0
    """Share of the windows whose input tokens are all blanked, so that z describes the whole groove."""

    @model_validator(mode="after")
    def _constant_rate_is_a_probability(self) -> "ObjectiveSettings":
        if self.scheduled_sampling == "constant" and self.sampling_rate > 1:
            raise ValueError(
                f"constant scheduled_sampling needs a probability as sampling_rate, found {self.sampling_rate:g}"
            )
        return self


class PerformanceSettings(Settings):
    """p(velocity and timing of every hit | the hits, the tempo, what was played before)."""

    hidden: Size = 128
    layers: Layers = 3
    heads: Size = 4
    """Heads of attention; they divide the hidden size."""
    dropout: DropoutShare = 0.15
    manner_dropout: Probability = 0.6
    """Share of training windows whose level, spread, lean, looseness and swing the model is not shown; of the other
    windows each of these figures is hidden half as often."""
    varied: Probability = 0.7
    """Share of training windows that are varied as follows."""
    vary_scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Most that the velocities of a window are multiplied by above 1, or below."""
    vary_shift: NonNegativeFloat = 8
    """Most that they are raised or lowered by, of 127."""
    vary_ticks: Annotated[int, Field(ge=0, le=60)] = 6
    """Most that the hits of a window are moved by, all alike, in 1/120 of a step."""

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> "PerformanceSettings":
        if self.hidden % self.heads:
            raise ValueError(f"{self.heads} heads do not divide hidden {self.hidden}")
        return self
