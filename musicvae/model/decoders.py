"""p(x | z): the decoders of the paper, and two whose steps do not depend on each other; and what z tells each step.

Hierarchical and flat:
    A conductor gives one embedding for each bar, and an LSTM writes each bar from its embedding. The LSTM is reset at
    every bar and sees, at every step, the bar's embedding and the token before (Roberts et al. 2018, section 3.2).
    Under teacher forcing the bars are therefore independent given their embeddings and run as one batch. The flat
    decoder is the same LSTM with a single segment, the whole window, whose embedding is z itself.

Feed-forward:
    All hits are independent given z: the plainest decoder, and a strong one where z carries much. A product of
    independent Bernoullis over drums is a softmax over tokens whose score is the sum of the logits of its drums, so
    this decoder gives logits over tokens like all others.

Independent:
    All tokens are independent given z, and the drums of a step are decided together. z has to carry all that steps have
    to do with each other, and a step that was decoded wrong changes no other. Where z has a learnt prior it costs no
    more than in a decoder that is shown the steps before (Chen et al. 2017, arXiv 1611.02731).

`musicvae.model.history_decoder` has those that are shown more of the past than one token.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import feed_forward
from musicvae.model.layers import LSTM, KeyedDropout, TokenEmbedding, TokenScores, TransformerStack, token_bits
from musicvae.model.settings import ModelSettings

INIT_STD = 0.1
LSTMState = tuple[Tensor, Tensor]
NextToken = Callable[[int, Tensor], Tensor]
"""(step, logits (batch, vocab)) -> the token (batch,) that the next step is shown."""


class InitialState(nn.Module):
    """A vector -> the first state of an LSTM, through a linear layer and tanh."""

    def __init__(self, inputs: int, lstm: nn.LSTM) -> None:
        super().__init__()
        self.layers, self.hidden = lstm.num_layers, lstm.hidden_size
        self.linear = nn.Linear(inputs, 2 * self.layers * self.hidden)

    def forward(self, vector: Float[Tensor, "batch inputs"]) -> LSTMState:
        states = self.linear(vector).tanh().view(-1, 2, self.layers, self.hidden)
        hidden, cell = states.permute(1, 2, 0, 3).contiguous()
        return hidden, cell


class Conductor(nn.Module):
    """z -> one embedding per bar, by an LSTM that takes one step a bar and no input."""

    def __init__(self, settings: ModelSettings, grid: GridSpec) -> None:
        super().__init__()
        self.bars = grid.bars
        # The LSTM has nothing to read; one constant zero is the smallest input that it accepts.
        self.lstm = LSTM(1, settings.conductor_hidden, settings.conductor_layers, batch_first=True)
        self.initial_state = InitialState(settings.latent, self.lstm)
        self.embedding = nn.Linear(settings.conductor_hidden, settings.conductor_embedding)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch bar embedding"]:
        no_input = z.new_zeros(len(z), self.bars, 1)
        outputs, _ = self.lstm(no_input, self.initial_state(z))
        return self.embedding(outputs)


class WholeWindow(nn.Module):
    """The flat decoder's place holder for a conductor: one segment, whose embedding is z."""

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 1 latent"]:
        return z[:, None, :]


class SegmentDecoder(nn.Module):
    """Embeddings of equal segments -> logits of every step, the state reset at each segment's start."""

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.num_steps = grid.num_steps
        condition = settings.conductor_embedding if settings.decoder == "hierarchical" else settings.latent
        size, hidden = settings.decoder_embedding, settings.decoder_hidden
        self.embed = TokenEmbedding(num_drums, size, bits=settings.shares_bits)
        self.lstm = LSTM(condition + size, hidden, settings.decoder_layers)
        self.initial_state = InitialState(condition, self.lstm)
        self.scores = TokenScores(num_drums, hidden, bits=settings.shares_bits, pairs=settings.shares_pairs)

    def teacher_forced(
        self, condition: Float[Tensor, "batch segment size"], shown: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """Logits of every step; `shown[:, t]` is the token that step t is shown, the target of step t - 1."""
        batch, count, _ = condition.shape
        length = self.num_steps // count
        segments = condition.reshape(batch * count, -1)
        # Time first within a segment, which is the LSTM kernels' own order.
        embedded = self.embed(shown.reshape(batch * count, length).T)
        inputs = torch.cat([segments.expand(length, -1, -1), embedded], dim=-1)
        outputs, _ = self.lstm(inputs, self.initial_state(segments))
        return self.scores(outputs.transpose(0, 1)).reshape(batch, self.num_steps, -1)

    @torch.no_grad()
    def stepwise(self, condition: Float[Tensor, "batch segment size"], next_token: NextToken) -> None:
        """Goes through the steps, each of which is shown what `next_token` made of the logits before it."""
        batch, count, _ = condition.shape
        length = self.num_steps // count
        table, (weight, bias) = self.embed.table(), self.scores.weight_and_bias()
        token = torch.full((batch,), self.embed.start_token, device=condition.device)
        for segment in range(count):
            of_segment = condition[:, segment]
            state = self.initial_state(of_segment)
            for step in range(segment * length, (segment + 1) * length):
                inputs = torch.cat([of_segment, F.embedding(token, table)], dim=-1)
                outputs, state = self.lstm(inputs[None], state)
                token = next_token(step, F.linear(outputs[0], weight, bias))


class FeedForwardDecoder(nn.Module):
    """z -> logits of every step, whatever a step is shown."""

    bits: Tensor

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.num_steps = grid.num_steps
        self.register_buffer("bits", token_bits(num_drums), persistent=False)
        self.body = feed_forward(settings.latent, settings.decoder_hidden, settings.decoder_layers)
        self.drums = nn.Linear(settings.decoder_hidden, grid.num_steps * num_drums)

    def teacher_forced(
        self, condition: Float[Tensor, "batch latent"], shown: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """Logits of every step from z itself; what is shown changes nothing."""
        return self._logits(condition)

    @torch.no_grad()
    def stepwise(self, condition: Float[Tensor, "batch latent"], next_token: NextToken) -> None:
        """Asks `next_token` step by step, as other decoders do, though what it answers changes nothing."""
        for step, logits in enumerate(self._logits(condition).unbind(dim=1)):
            next_token(step, logits)

    def _logits(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step vocab"]:
        drums = self.drums(self.body(z)).to(self.bits.dtype).view(len(z), self.num_steps, -1)
        with torch.autocast(z.device.type, enabled=False):
            return drums @ self.bits.T


class IndependentDecoder(nn.Module):
    """Features of z for every step -> logits of every step, whatever a step is shown."""

    def __init__(self, settings: ModelSettings, num_drums: int) -> None:
        super().__init__()
        size = settings.step_features
        self.scores = TokenScores(num_drums, size, bits=settings.shares_bits, pairs=settings.shares_pairs)

    def teacher_forced(
        self, condition: Float[Tensor, "batch step feature"], shown: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """Logits of every step from what z tells it; what is shown changes nothing."""
        return self.scores(condition)

    @torch.no_grad()
    def stepwise(self, condition: Float[Tensor, "batch step feature"], next_token: NextToken) -> None:
        """Asks `next_token` step by step, as other decoders do, though what it answers changes nothing."""
        for step, logits in enumerate(self.scores(condition).unbind(dim=1)):
            next_token(step, logits)


class _SegmentWriter(nn.Module):
    """A vector for each of several equal segments of a window -> features of every step, by the same weights."""

    def __init__(self, settings: ModelSettings, grid: GridSpec, *, segments: int) -> None:
        super().__init__()
        self.num_steps, self.features = grid.num_steps, settings.step_features
        hidden = settings.step_features_hidden
        self.place = nn.Parameter(torch.randn(segments, hidden) * INIT_STD)
        self.steps = nn.Sequential(
            *feed_forward(hidden, hidden, 1),
            KeyedDropout(settings.decoder_dropout, segments, hidden),
            nn.Linear(hidden, self.num_steps // segments * self.features),
            nn.GELU(),
        )

    def forward(self, values: Float[Tensor, "batch segment hidden"]) -> Float[Tensor, "batch step feature"]:
        return self.steps(values + self.place).reshape(len(values), self.num_steps, self.features)


class WholeFeatures(nn.Module):
    """All of z decides about each bar."""

    def __init__(self, settings: ModelSettings, grid: GridSpec) -> None:
        super().__init__()
        self.bars, hidden = grid.bars, settings.step_features_hidden
        enter = feed_forward(settings.latent, hidden, 1)
        self.spread = nn.Sequential(*enter, nn.Linear(hidden, grid.bars * hidden), nn.GELU())
        self.write = _SegmentWriter(settings, grid, segments=grid.bars)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        return self.write(self.spread(z).view(len(z), self.bars, -1))


class SegmentFeatures(nn.Module):
    """Each part of z, with a summary of all of them, decides about the steps of its own segment."""

    def __init__(self, settings: ModelSettings, grid: GridSpec) -> None:
        super().__init__()
        self.segments, latent, features = settings.latent_segments, settings.latent, settings.step_features
        self.summary = nn.Linear(latent, features)
        self.join = feed_forward(latent // self.segments + features, settings.step_features_hidden, 1)
        self.write = _SegmentWriter(settings, grid, segments=self.segments)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        summary = self.summary(z)[:, None].expand(-1, self.segments, -1)
        parts = z.view(len(z), self.segments, -1).to(summary.dtype)
        return self.write(self.join(torch.cat([parts, summary], dim=-1)))


class AttendedFeatures(nn.Module):
    """Each part of z, behind causal attention over those before it, decides about the steps of its own segment."""

    def __init__(self, settings: ModelSettings, grid: GridSpec) -> None:
        super().__init__()
        self.segments, self.num_steps, self.features = settings.latent_segments, grid.num_steps, settings.step_features
        part, hidden = settings.latent // self.segments, settings.step_features_hidden
        self.enter = nn.Linear(part, hidden)
        self.attend = TransformerStack(
            hidden,
            settings.step_features_layers,
            heads=settings.step_features_heads,
            places=self.segments,
            dropout=settings.decoder_dropout,
            causal=True,
        )
        self.write = nn.Sequential(
            nn.Linear(hidden + part, 2 * hidden),
            nn.GELU(),
            nn.Linear(2 * hidden, self.num_steps // self.segments * self.features),
            nn.GELU(),
        )

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        parts = z.unflatten(1, (self.segments, -1)).to(self.enter.weight.dtype)
        values = self.attend(self.enter(parts))
        return self.write(torch.cat([values, parts.to(values.dtype)], dim=-1)).reshape(
            len(z), self.num_steps, self.features
        )


class NoFeatures(nn.Module):
    """For a model without a latent space: z, of no dimensions, tells nothing."""

    def __init__(self, grid: GridSpec) -> None:
        super().__init__()
        self.num_steps = grid.num_steps

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step latent"]:
        return z[:, None, :].expand(-1, self.num_steps, -1)
