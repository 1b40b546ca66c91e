"""AdamW for processes that do not compile: torch's own, without loading torch's compiler.

torch marks methods of its optimizers as not to be compiled, and the mark loads `torch._dynamo` when they are first
called: 800 modules, which take more than half as long as torch itself. A sweep or a test suite starts hundreds of
processes.
"""

from inspect import unwrap

import torch


class EagerAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, to the bit, its methods as they are behind torch's marks."""

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
