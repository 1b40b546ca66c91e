"""p(x | z) with all tokens independent given z: what one step is decoded to changes no other.

All that steps have to do with each other z has to carry, and nothing decoded wrong leads to more that is wrong. Where z
has a learnt prior it costs no more than in a decoder that is shown the steps before (Chen et al. 2017, arXiv
1611.02731). Unlike in `FeedForwardDecoder` the drums of a step are decided together.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.model.decoder import NextToken, shown_under_teacher_forcing
from musicvae.model.token_features import TokenScores


class IndependentDecoder(nn.Module):
    """Features of z for every step -> logits of every step, whatever a step is shown."""

    def __init__(self, num_drums: int, *, num_steps: int, features: int, bits: bool, pairs: bool) -> None:
        super().__init__()
        self.num_steps, self.start_token = num_steps, 1 << num_drums
        self.scores = TokenScores(num_drums, features, bits=bits, pairs=pairs)

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

    def shown_under_teacher_forcing(self, tokens: Int64[Tensor, "batch step"]) -> Int64[Tensor, "batch step"]:
        """The targets moved one step on, behind the start token."""
        return shown_under_teacher_forcing(tokens, self.start_token)
