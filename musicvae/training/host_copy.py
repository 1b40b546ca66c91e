"""Tensors copied to the host without waiting for a device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class HostCopy:
    """A tree of tensors (in dictionaries and lists) as it was at one moment, on its way to the host.

    A device's later work is queued behind the copies, so the originals may change at once.
    """

    tree: Any
    copied: torch.cuda.Event | None

    @classmethod
    def of(cls, tree: Any) -> "HostCopy":
        """Begins to copy."""
        on_device = []

        def copy(tensor: Tensor) -> Tensor:
            if tensor.is_cuda:
                on_device.append(tensor.device)
            return tensor.detach().to("cpu", non_blocking=True, copy=True)

        copied_tree = _with_tensors(tree, copy)
        copied = None
        if on_device:
            copied = torch.cuda.Event()
            copied.record(torch.cuda.current_stream(on_device[0]))
        return cls(copied_tree, copied)

    def arrived(self) -> Any:
        """The tree, once everything in it has arrived."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.tree


def _with_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    match tree:
        case Tensor():
            return change(tree)
        case dict():
            return {key: _with_tensors(item, change) for key, item in tree.items()}
        case list():
            return [_with_tensors(item, change) for item in tree]
        case _:
            return tree
