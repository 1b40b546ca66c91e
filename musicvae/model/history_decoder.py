"""p(x | z) by a network over the whole window that is shown, at each step, what z tells it and chosen earlier steps.

Unlike the paper's decoder its state goes on over bar lines. The same weights run under teacher forcing, which takes all
steps at once, and step by step.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.model.attention_cache import AttentionCache
from musicvae.model.decoder import NextToken, shown_under_teacher_forcing
from musicvae.model.history import History, Past
from musicvae.model.locked_dropout import LockedDropout
from musicvae.model.token_features import TokenScores
from musicvae.model.transformer import TransformerBlock

LSTMStates = list[tuple[Tensor, Tensor] | None]


class RecurrentBody(nn.Module):
    """LSTM layers; the inputs are joined to their outputs."""

    def __init__(self, inputs: int, hidden: int, layers: int, *, dropout: float) -> None:
        super().__init__()
        self.outputs = hidden + inputs
        self.layers = nn.ModuleList(
            nn.LSTM(inputs if layer == 0 else hidden, hidden, batch_first=True) for layer in range(layers)
        )
        self.dropout = LockedDropout(dropout)

    def first_state(self) -> LSTMStates:
        return [None] * len(self.layers)

    def forward(
        self, inputs: Float[Tensor, "batch step feature"], state: LSTMStates | None = None
    ) -> Float[Tensor, "batch step hidden"]:
        """All steps; with a state, the one that follows, which moves the state on."""
        state = self.first_state() if state is None else state
        values = inputs
        for number, layer in enumerate(self.layers):
            values, state[number] = layer(values, state[number])
            values = self.dropout(values)
        return torch.cat([values, inputs], dim=-1)


class TransformerBody(nn.Module):
    """Causal transformer blocks."""

    def __init__(self, inputs: int, hidden: int, layers: int, *, heads: int, num_steps: int, dropout: float) -> None:
        super().__init__()
        self.outputs = hidden
        self.enter = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden, heads=heads, num_steps=num_steps, dropout=dropout, causal=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)

    def first_state(self) -> list[AttentionCache]:
        return [AttentionCache() for _ in self.blocks]

    def forward(
        self, inputs: Float[Tensor, "batch step feature"], state: list[AttentionCache] | None = None
    ) -> Float[Tensor, "batch step hidden"]:
        """All steps; with a state, the one that follows, which moves the state on."""
        values = self.enter(inputs)
        for number, block in enumerate(self.blocks):
            values = block(values, None if state is None else state[number])
        return self.norm(values)


class HistoryDecoder(nn.Module):
    """Features of z for every step -> logits of every step.

    Args:
        body: over (history, features of z).
        features: of z, per step.
    """

    def __init__(
        self,
        num_drums: int,
        *,
        num_steps: int,
        features: int,
        history: History,
        body: RecurrentBody | TransformerBody,
        bits: bool,
        pairs: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.history = history
        self.start_token = history.start_token
        self.dropout = LockedDropout(dropout)
        self.body = body
        self.scores = TokenScores(num_drums, body.outputs + features, bits=bits, pairs=pairs)

    def teacher_forced(
        self, condition: Float[Tensor, "batch step feature"], shown: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """Logits of every step; `shown[:, t]` is the token that step t is shown, the target of step t - 1."""
        before = self.history.before_window(len(shown))
        return self.scores(self._outputs(self.history(torch.cat([before, shown], dim=1)), condition, None))

    @torch.no_grad()
    def stepwise(self, condition: Float[Tensor, "batch step feature"], next_token: NextToken) -> None:
        """Goes through the steps, each of which is shown what `next_token` made of the logits before it."""
        past, state = Past(self.history, len(condition), self.num_steps), self.body.first_state()
        weight, bias = self.scores.weight_and_bias()
        for step in range(self.num_steps):
            outputs = self._outputs(self.history.of_next_step(past), condition[:, step : step + 1], state)
            past.add(next_token(step, F.linear(outputs[:, 0], weight, bias)))

    def shown_under_teacher_forcing(self, tokens: Int64[Tensor, "batch step"]) -> Int64[Tensor, "batch step"]:
        """The targets moved one step on, behind the start token."""
        return shown_under_teacher_forcing(tokens, self.start_token)

    def _outputs(
        self, history: Tensor, features: Tensor, state: LSTMStates | list[AttentionCache] | None
    ) -> Float[Tensor, "batch step output"]:
        inputs = torch.cat([self.dropout(history), features.to(history.dtype)], dim=-1)
        outputs = self.body(inputs, state)
        return torch.cat([outputs, features.to(outputs.dtype)], dim=-1)
