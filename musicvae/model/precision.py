"""How exactly grooves are decoded: in the weights' own precision, or in bfloat16 on a CPU that multiplies it.

Decoding in bfloat16 takes about six tenths of the time. About one step in a hundred then draws another token, so that a
groove is as good as the one that float32 gives, but often not the same: the precision is a part of what an item is.
Other CPUs round sums otherwise; float32 nearly always gives the same tokens all the same, bfloat16 mostly. A device
that does not multiply bfloat16 emulates it, much slower than float32.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from musicvae.model.settings import DecodingPrecision

M = TypeVar("M", bound=nn.Module)


def fastest_precision() -> DecodingPrecision:
    """bfloat16 on a CPU that multiplies it; elsewhere it would be the slower one."""
    return "bfloat16" if multiplies_bfloat16(torch.device("cpu")) else "float32"


def rounded(module: M) -> M:
    """A copy with weights of bfloat16; weights are rounded ahead, so that none is copied in full first."""
    tensors = {id(tensor): _rounded(tensor) for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, tensors)


def _rounded(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    values = tensor.detach().bfloat16()
    return nn.Parameter(values, requires_grad=False) if isinstance(tensor, nn.Parameter) else values


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are the faster ones on a device.

    A torch that does not tell what its CPU can do counts as one whose CPU cannot.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
