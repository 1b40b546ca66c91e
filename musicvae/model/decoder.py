"""p(x | z): a conductor that gives one embedding per bar, and an LSTM that writes each bar from its embedding.

The LSTM is reset at every bar and sees, at every step, the bar's embedding and the token before (Roberts et al. 2018,
section 3.2). Under teacher forcing the bars are therefore independent given their embeddings and run as one batch. The
flat decoder is the same LSTM with a single segment, the whole window, whose embedding is z itself.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.model.token_features import TokenEmbedding, TokenScores

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

    def __init__(self, *, latent: int, hidden: int, layers: int, embedding: int, bars: int) -> None:
        super().__init__()
        self.bars = bars
        # The LSTM has nothing to read; one constant zero is the smallest input that it accepts.
        self.lstm = nn.LSTM(1, hidden, layers, batch_first=True)
        self.initial_state = InitialState(latent, self.lstm)
        self.embedding = nn.Linear(hidden, embedding)

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

    def __init__(
        self,
        num_drums: int,
        *,
        num_steps: int,
        condition: int,
        embedding: int,
        hidden: int,
        layers: int,
        bits: bool,
        pairs: bool = False,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.embed = TokenEmbedding(num_drums, embedding, bits=bits)
        self.start_token = self.embed.start_token
        self.lstm = nn.LSTM(condition + embedding, hidden, layers)
        self.initial_state = InitialState(condition, self.lstm)
        self.scores = TokenScores(num_drums, hidden, bits=bits, pairs=pairs)

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
        token = torch.full((batch,), self.start_token, device=condition.device)
        for segment in range(count):
            of_segment = condition[:, segment]
            state = self.initial_state(of_segment)
            for step in range(segment * length, (segment + 1) * length):
                inputs = torch.cat([of_segment, F.embedding(token, table)], dim=-1)
                outputs, state = self.lstm(inputs[None], state)
                token = next_token(step, F.linear(outputs[0], weight, bias))

    def shown_under_teacher_forcing(self, tokens: Int64[Tensor, "batch step"]) -> Int64[Tensor, "batch step"]:
        """The targets moved one step on, behind the start token."""
        return shown_under_teacher_forcing(tokens, self.start_token)


def shown_under_teacher_forcing(tokens: Int64[Tensor, "batch step"], start_token: int) -> Int64[Tensor, "batch step"]:
    """Targets moved one step on, behind a start token."""
    return torch.cat([torch.full_like(tokens[:, :1], start_token), tokens[:, :-1]], dim=1)
