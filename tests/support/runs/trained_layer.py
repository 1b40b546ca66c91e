"""The smallest thing that has weights and moments."""

import torch


def trained(seed: int) -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    """A layer that has taken one step, and its optimizer."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return layer, optimizer
