"""How many bytes a model's weights are, counted without drawing them: their memory is reserved, and not touched."""

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings


def weight_bytes(settings: ModelSettings, grid: GridSpec, num_drums: int) -> int:
    """The bytes of all weights of a model of these settings."""
    with Unfilled():
        model = MusicVAE(settings, grid, num_drums)
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


class Unfilled(TorchFunctionMode):
    """Leaves out `torch.nn.init` while it is entered.

    On the device `meta` nothing would be drawn either, but torch would load its compiler to find that out.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
