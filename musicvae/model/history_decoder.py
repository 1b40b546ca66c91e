"""p(x | z) by a network over the whole window that is shown, at each step, what z tells it and chosen earlier steps.

What happened one and two bars ago is worth some thirty nats a window on the Groove MIDI Dataset. Shown outright it need
not be carried by a recurrent state, and the weights for "the same place a bar ago" are the same at every step.

Unlike the paper's decoder, its state is kept over bar lines. The same weights run under teacher forcing, which computes
all steps at once, and step by step.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.model.decoders import NextToken
from musicvae.model.layers import LSTM, AttentionCache, KeyedDropout, TokenScores, TransformerBlock, token_bits
from musicvae.model.settings import ModelSettings

INIT_STD = 0.1
LSTMStates = list[tuple[Tensor, Tensor] | None]


class History(nn.Module):
    """Tokens before each step -> a vector for each step.

    A lag of n is the token n steps ago. Tokens before the window, and tokens that word dropout has blanked, are the
    start token, which has a feature of its own: "nothing known" is not silence. The tokens a step and a bar ago are
    also shown through embeddings of their own.
    """

    features: Tensor

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.start_token, size = 1 << num_drums, settings.decoder_embedding
        self.lags, self.steps_per_bar = settings.history_lags, grid.steps_per_bar
        self.reach = max(*self.lags, self.steps_per_bar)
        start = F.one_hot(torch.tensor([num_drums]), num_drums + 1).float()
        known = F.pad(token_bits(num_drums), (0, 1))
        self.register_buffer("features", torch.cat([known, start]), persistent=False)
        self.of_drums = nn.Linear(len(self.lags) * (num_drums + 1), size)
        self.of_last = nn.Embedding(self.start_token + 1, size)
        self.of_bar_ago = nn.Embedding(self.start_token + 1, size)
        self.of_position = nn.Parameter(torch.empty(grid.steps_per_bar, size))
        self.of_bar = nn.Parameter(torch.empty(grid.bars, size))
        for weight in (self.of_last.weight, self.of_bar_ago.weight, self.of_position, self.of_bar):
            nn.init.normal_(weight, std=INIT_STD)
        self.lagged_dropout = KeyedDropout(settings.history_dropout, 1, self.of_drums.in_features)
        self.own_dropout = KeyedDropout(settings.history_dropout, 1, size)

    def before_window(self, batch: int) -> Int64[Tensor, "batch before"]:
        """The tokens that stand before the first step's: none is known."""
        return torch.full((batch, self.reach - 1), self.start_token, device=self.features.device)

    def forward(self, shown: Int64[Tensor, "batch shown"]) -> Float[Tensor, "batch step size"]:
        """Vectors of all steps.

        Args:
            shown: the tokens before each step, behind the `reach` - 1 tokens before the first of them.
        """
        steps = shown.shape[1] - self.reach + 1

        def ago(values: Tensor, lag: int) -> Tensor:
            return values[:, self.reach - lag : self.reach - lag + steps]

        drums = self.features[shown]
        lagged = torch.cat([ago(drums, lag) for lag in self.lags], dim=-1)
        return self._vectors(lagged, ago(shown, 1), ago(shown, self.steps_per_bar), slice(steps))

    def of_next_step(self, past: "Past") -> Float[Tensor, "batch 1 size"]:
        """The vectors of the step that follows what is known so far."""
        lagged = past.drums.index_select(1, past.places_of(self.lags)).flatten(1)[:, None]
        last, bar_ago = past.tokens_ago(1), past.tokens_ago(self.steps_per_bar)
        return self._vectors(lagged, last, bar_ago, slice(past.steps, past.steps + 1))

    def _vectors(self, lagged: Tensor, last: Tensor, bar_ago: Tensor, steps: slice) -> Tensor:
        from_tokens = self.of_last(last) + self.of_bar_ago(bar_ago)
        place = (self.of_bar[:, None] + self.of_position).flatten(0, 1)[steps]
        return F.gelu(self.of_drums(self.lagged_dropout(lagged)) + self.own_dropout(from_tokens) + place)


class Past:
    """What is known while a window is made step by step: its tokens so far, and the drums that each hits.

    Attributes:
        steps: of the window that are known.
    """

    def __init__(self, history: History, batch: int, num_steps: int) -> None:
        self.history, self.before, self.steps = history, history.reach, 0
        self.tokens = torch.full((batch, self.before + num_steps), history.start_token, device=history.features.device)
        self.drums = history.features[self.tokens]

    def add(self, token: Int64[Tensor, " batch"]) -> None:
        """What the next step became."""
        self.tokens[:, self.before + self.steps] = token
        self.drums[:, self.before + self.steps] = self.history.features[token]
        self.steps += 1

    def tokens_ago(self, lag: int) -> Int64[Tensor, "batch 1"]:
        """The token so many steps before the next step."""
        place = self.before + self.steps - lag
        return self.tokens[:, place : place + 1]

    def places_of(self, lags: Sequence[int]) -> Int64[Tensor, " lag"]:
        """Where in `drums` the tokens so many steps before the next one are."""
        return self.before + self.steps - torch.tensor(lags, device=self.drums.device)


class RecurrentBody(nn.Module):
    """LSTM layers; the inputs are joined to their outputs."""

    def __init__(self, settings: ModelSettings, inputs: int) -> None:
        super().__init__()
        hidden = settings.decoder_hidden
        self.outputs = hidden + inputs
        self.layers = nn.ModuleList(
            LSTM(inputs if layer == 0 else hidden, hidden, batch_first=True) for layer in range(settings.decoder_layers)
        )
        self.dropouts = nn.ModuleList(KeyedDropout(settings.decoder_dropout, 1, hidden) for _ in self.layers)

    def first_state(self) -> LSTMStates:
        return [None] * len(self.layers)

    def forward(
        self, inputs: Float[Tensor, "batch step feature"], state: LSTMStates | None = None
    ) -> Float[Tensor, "batch step hidden"]:
        """All steps; with a state, the one that follows, which moves the state on."""
        state = self.first_state() if state is None else state
        values = inputs
        for number, (layer, dropout) in enumerate(zip(self.layers, self.dropouts, strict=True)):
            values, state[number] = layer(values, state[number])
            values = dropout(values)
        return torch.cat([values, inputs], dim=-1)


class TransformerBody(nn.Module):
    """Causal transformer blocks."""

    def __init__(self, settings: ModelSettings, grid: GridSpec, inputs: int) -> None:
        super().__init__()
        self.outputs = hidden = settings.decoder_hidden
        self.enter = nn.Linear(inputs, hidden)
        heads, dropout = settings.decoder_heads, settings.decoder_dropout
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden, heads=heads, num_steps=grid.num_steps, dropout=dropout, causal=True)
            for _ in range(settings.decoder_layers)
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
    """Features of z for every step -> logits of every step, by a body over the history and these features."""

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.num_steps = grid.num_steps
        features = settings.step_features if settings.latent else 0
        inputs = settings.decoder_embedding + features
        self.history = History(settings, grid, num_drums)
        self.dropout = KeyedDropout(settings.decoder_dropout, 1, settings.decoder_embedding)
        if settings.decoder == "transformer":
            self.body = TransformerBody(settings, grid, inputs)
        else:
            self.body = RecurrentBody(settings, inputs)
        outputs = self.body.outputs + features
        self.scores = TokenScores(num_drums, outputs, bits=settings.shares_bits, pairs=settings.shares_pairs)

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

    def _outputs(
        self, history: Tensor, features: Tensor, state: LSTMStates | list[AttentionCache] | None
    ) -> Float[Tensor, "batch step output"]:
        inputs = torch.cat([self.dropout(history), features.to(history.dtype)], dim=-1)
        outputs = self.body(inputs, state)
        return torch.cat([outputs, features.to(outputs.dtype)], dim=-1)
