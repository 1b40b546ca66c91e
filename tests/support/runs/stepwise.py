"""What a decoder thinks at each step while it is shown given tokens one by one."""

import torch

from musicvae.model.model import Decoder


def logits_shown_the_targets(decoder: Decoder, condition: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of shape (batch, step, vocab) from `stepwise`, each step shown the target of the step before."""
    logits = []

    def next_token(step: int, of_step: torch.Tensor) -> torch.Tensor:
        logits.append(of_step)
        return tokens[:, step]

    decoder.stepwise(condition, next_token)
    return torch.stack(logits, dim=1)
