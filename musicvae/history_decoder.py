"""p(x | z) by a network over the whole window that is shown, at each step, what z tells it and chosen earlier steps.

Unlike the paper's decoder its state goes on over bar lines. The same weights run under teacher forcing, which takes all
steps at once, and step by step.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.decoder import NextToken, shown_under_teacher_forcing
from musicvae.history import History
from musicvae.locked_dropout import LockedDropout
from musicvae.token_features import TokenScores
from musicvae.transformer import AttentionCache, TransformerBlock


class RecurrentBody(nn.Module):
    """LSTM layers; the inputs are joined to their outputs."""

    def __init__(self, inputs: int, hidden: int, layers: int, *, dropout: float) -> None:
        super().__init__()
        self.outputs = hidden + inputs
        self.layers = nn.ModuleList(
            nn.LSTM(inputs if layer == 0 else hidden, hidden, batch_first=True) for layer in range(layers)
        )
        self.dropout = LockedDropout(dropout)

    def first_state(self) -> list[tuple[Tensor, Tensor] | None]:
        return [None] * len(self.layers)

    def forward(
        self, inputs: Float[Tensor, "batch step feature"], state: list[tuple[Tensor, Tensor] | None]
    ) -> Float[Tensor, "batch step hidden"]:
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
        self, inputs: Float[Tensor, "batch step feature"], state: list[AttentionCache]
    ) -> Float[Tensor, "batch step hidden"]:
        values = self.enter(inputs)
        for block, cache in zip(self.blocks, state, strict=True):
            values = block(values, cache)
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
        outputs = self._outputs(torch.cat([before, shown], dim=1), 0, condition, self.body.first_state())
        return self.scores(outputs)

    def stepwise(
        self, condition: Float[Tensor, "batch step feature"], next_token: NextToken
    ) -> Float[Tensor, "batch step vocab"]:
        """Logits of every step, where each step is shown what `next_token` made of the logits before it."""
        batch, reach = len(condition), self.history.reach
        weight, bias = self.scores.weight_and_bias()
        shown = torch.full((batch, reach - 1 + self.num_steps), self.start_token, device=condition.device)
        state = self.body.first_state()
        logits = []
        for step in range(self.num_steps):
            outputs = self._outputs(shown[:, step : step + reach], step, condition[:, step : step + 1], state)
            logits.append(F.linear(outputs[:, 0], weight, bias))
            token = next_token(step, logits[-1])
            if step + 1 < self.num_steps:
                shown[:, reach + step] = token
        return torch.stack(logits, dim=1)

    def shown_under_teacher_forcing(self, tokens: Int64[Tensor, "batch step"]) -> Int64[Tensor, "batch step"]:
        """The targets moved one step on, behind the start token."""
        return shown_under_teacher_forcing(tokens, self.start_token)

    def _outputs(self, shown: Tensor, first_step: int, features: Tensor, state: list) -> Tensor:
        history = self.dropout(self.history(shown, first_step))
        outputs = self.body(torch.cat([history, features.to(history.dtype)], dim=-1), state)
        return torch.cat([outputs, features.to(outputs.dtype)], dim=-1)
