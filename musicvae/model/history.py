"""What a step is shown of the steps before it: their drums, and where it stands in bar and window.

What happened one and two bars ago is worth some thirty nats a window on the Groove MIDI Dataset. Shown outright it need
not be carried by a recurrent state, and the weights for "the same place a bar ago" are the same at every step.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.model.locked_dropout import LockedDropout
from musicvae.model.token_features import token_bits

INIT_STD = 0.1


class History(nn.Module):
    """Tokens before each step -> a vector for each step.

    A lag of n is the token n steps ago. Tokens before the window, and tokens that word dropout has blanked, are the
    start token, which has a feature of its own: "nothing known" is not silence.

    Args:
        lags: which tokens are shown, 1 among them; those a step and a bar ago also through embeddings of their own.
        dropout: share of the drums of lags that a training window is not shown.
    """

    features: Tensor

    def __init__(self, num_drums: int, size: int, *, lags: Sequence[int], grid: GridSpec, dropout: float) -> None:
        super().__init__()
        self.start_token = 1 << num_drums
        self.lags, self.reach, self.steps_per_bar = tuple(lags), max(*lags, grid.steps_per_bar), grid.steps_per_bar
        start = F.one_hot(torch.tensor([num_drums]), num_drums + 1).float()
        known = F.pad(token_bits(num_drums), (0, 1))
        self.register_buffer("features", torch.cat([known, start]), persistent=False)
        self.of_drums = nn.Linear(len(lags) * (num_drums + 1), size)
        self.of_last = nn.Embedding(self.start_token + 1, size)
        self.of_bar_ago = nn.Embedding(self.start_token + 1, size)
        self.of_position = nn.Parameter(torch.empty(grid.steps_per_bar, size))
        self.of_bar = nn.Parameter(torch.empty(grid.bars, size))
        for weight in (self.of_last.weight, self.of_bar_ago.weight, self.of_position, self.of_bar):
            nn.init.normal_(weight, std=INIT_STD)
        self.dropout = LockedDropout(dropout)

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
        own = self.of_last(last) + self.of_bar_ago(bar_ago)
        place = (self.of_bar[:, None] + self.of_position).flatten(0, 1)[steps]
        return F.gelu(self.of_drums(self.dropout(lagged)) + self.dropout(own) + place)


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
