"""p(x | z) with all hits independent given z: the plainest decoder, and a strong one where z carries much.

A product of independent Bernoullis over drums is a softmax over tokens whose score is the sum of the logits of its
drums, so this decoder gives logits over tokens like all others.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.model.decoder import NextToken, shown_under_teacher_forcing
from musicvae.model.encoder import feed_forward
from musicvae.model.token_features import token_bits


class FeedForwardDecoder(nn.Module):
    """z -> logits of every step, whatever a step is shown."""

    bits: Tensor

    def __init__(self, num_drums: int, *, num_steps: int, latent: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.num_steps, self.start_token = num_steps, 1 << num_drums
        self.register_buffer("bits", token_bits(num_drums), persistent=False)
        self.body = feed_forward(latent, hidden, layers)
        self.drums = nn.Linear(hidden, num_steps * num_drums)

    def teacher_forced(
        self, condition: Float[Tensor, "batch latent"], shown: Int64[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step vocab"]:
        """Logits of every step from z itself; what is shown changes nothing."""
        drums = self.drums(self.body(condition)).to(self.bits.dtype).view(len(condition), self.num_steps, -1)
        with torch.autocast(condition.device.type, enabled=False):
            return drums @ self.bits.T

    @torch.no_grad()
    def stepwise(self, condition: Float[Tensor, "batch latent"], next_token: NextToken) -> None:
        """Asks `next_token` step by step, as other decoders do, though what it answers changes nothing."""
        shown = torch.full((len(condition), self.num_steps), self.start_token, device=condition.device)
        for step, logits in enumerate(self.teacher_forced(condition, shown).unbind(dim=1)):
            next_token(step, logits)

    def shown_under_teacher_forcing(self, tokens: Int64[Tensor, "batch step"]) -> Int64[Tensor, "batch step"]:
        """The targets moved one step on, behind the start token."""
        return shown_under_teacher_forcing(tokens, self.start_token)
