"""Whether a device multiplies bfloat16 by itself: where it does not, torch emulates it, much slower than float32."""

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are the faster ones on a device.

    A torch that does not tell what its CPU can do counts as one whose CPU cannot.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
