"""How exactly a model computes: products of float32, the order of sums, and decoding.

Grooves are decoded in the weights' own precision, or in bfloat16 on a CPU that multiplies it. Decoding in bfloat16
takes about six tenths of the time. About one step in a hundred then draws another token, so that a groove is as good as
the one that float32 gives, but often not the same: the precision is a part of what an item is. Other CPUs round sums
otherwise; float32 nearly always gives the same tokens all the same, bfloat16 mostly. A device that does not multiply
bfloat16 emulates it, much slower than float32.

`RowwiseLinear` is for what must not depend on how many rows are computed together.
"""

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import TypeVar

import torch
import torch.nn.functional as F
import torch.utils.deterministic
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from musicvae.model.settings import DecodingPrecision, MatmulPrecision

M = TypeVar("M", bound=nn.Module)
ROWS = 16
"""Rows are computed in multiples of it, so that whole vectors are."""
MOST_ROWS = 512
"""Rows of one product."""


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


class RowwiseLinear:
    """A linear layer on the CPU, each row of whose output has the same bits whatever other rows there are.

    Libraries choose the order of their sums by the shape. For most numbers of rows it is that of `ROWS` of them: for
    which ones is tried once for each shape, and other numbers are computed in parts. Where even `ROWS` are not summed
    alike, each row is summed by itself, which is several times slower.

    Args:
        kind: of the products.
    """

    def __init__(
        self,
        weight: Float[Tensor, "output input"],
        bias: Float[Tensor, " output"] | None = None,
        kind: torch.dtype = torch.float32,
    ) -> None:
        self._weight, self._bias = weight.to(kind).contiguous(), None if bias is None else bias.to(kind)
        self._parts: dict[int, list[int]] = {}

    def __call__(self, rows: Float[Tensor, "row input"]) -> Float[Tensor, "row output"]:
        """Outputs of any number of rows, on one thread."""
        count = rows.shape[0]
        if count % ROWS:
            return self(F.pad(rows, (0, 0, 0, -count % ROWS)))[:count]
        if count not in self._parts:
            self._parts[count] = self._alike(rows.dtype, count)
        match self._parts[count]:
            case []:
                return self._one_by_one(rows)
            case [_]:
                return F.linear(rows, self._weight, self._bias)
            case several:
                return torch.cat([F.linear(part, self._weight, self._bias) for part in rows.split(several)])

    def _alike(self, kind: torch.dtype, count: int) -> list[int]:
        """Numbers of rows that are summed alike and make up the count, the largest first; none where no number is."""
        shape, parts = self._weight.shape, []
        while count:
            sizes = range(min(count, MOST_ROWS), 0, -ROWS)
            alike = (size for size in sizes if products_are_rowwise(kind, size, *shape, biased=self._bias is not None))
            if not (part := next(alike, 0)):
                return []
            parts += [part] * (count // part)
            count %= part
        return parts

    def _one_by_one(self, rows: Float[Tensor, "row input"]) -> Float[Tensor, "row output"]:
        places = torch.arange(rows.shape[1], dtype=torch.int32).expand(len(rows), -1)
        table = self._weight.T.float().contiguous()
        sums = F.embedding_bag(places, table, mode="sum", per_sample_weights=rows.float())
        return (sums if self._bias is None else sums + self._bias).to(rows.dtype)


@cache
def products_are_rowwise(kind: torch.dtype, rows: int, outputs: int, inputs: int, *, biased: bool) -> bool:
    """Whether `F.linear` sums a row of so many alike wherever it is among them, and as one of `ROWS`.

    Summed exactly, all outputs would be 0 but for the bias. What is left of the rounding depends on the order of the
    sums, and is not rounded away in `kind` once more.
    """
    numbers = torch.Generator().manual_seed(0)
    values, weight = (torch.randn(count, inputs, generator=numbers).to(kind) for count in (rows, outputs))
    half = inputs // 2
    first, second, rest = torch.randperm(inputs, generator=numbers).split([half, half, inputs - 2 * half])
    values[:, second], weight[:, second], values[:, rest] = -values[:, first], weight[:, first], 0
    layer = partial(F.linear, weight=weight, bias=weight.new_zeros(outputs) if biased else None)
    once = layer(values)
    parts = torch.cat([layer(part) for part in values.split(ROWS)])
    return torch.equal(layer(values.roll(1, 0)), once.roll(1, 0)) and torch.equal(parts, once)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are the faster ones on a device.

    A torch that does not tell what its CPU can do counts as one whose CPU cannot.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


@contextmanager
def computing(device: torch.device, *, matmul: MatmulPrecision, deterministic: bool) -> Iterator[None]:
    """Sets for the whole process, in the block, how float32 is multiplied and whether sums have a fixed order.

    Args:
        matmul: as `torch.set_float32_matmul_precision`, also for LSTMs under cuDNN, which torch lets round to
            TensorFloat32 unless it is told not to.
        deterministic: a GPU gives the same bits every time, in the operations that a training uses. A CPU does anyway.
    """
    with ExitStack() as before:
        before.callback(_multiply_in, torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
        _multiply_in(matmul, matmul != "highest")
        if deterministic and device.type == "cuda":
            _keep_order(before)
        yield


def _multiply_in(matmul: str, tf32: bool) -> None:
    cudnn = torch.backends.cudnn
    with warnings.catch_warnings():
        # Older torch does not know the newer names, and torch's compiler asks by the older ones.
        warnings.filterwarnings("ignore", "Please use the new API", UserWarning)
        if torch.get_float32_matmul_precision() != matmul:
            torch.set_float32_matmul_precision(matmul)
        if cudnn.allow_tf32 != tf32:
            cudnn.allow_tf32 = tf32


def _keep_order(before: ExitStack) -> None:
    """Asks for operations whose sums have a fixed order, until `before` puts back what was there."""
    memory, filled = torch.utils.deterministic, "fill_uninitialized_memory"
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    before.callback(torch.use_deterministic_algorithms, was, warn_only=warned)
    before.callback(setattr, memory, filled, getattr(memory, filled))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first called
    # Strictly, torch would refuse `cumsum`, whose sums over a single row, which no training makes, have no fixed order.
    torch.use_deterministic_algorithms(True, warn_only=True)
    setattr(memory, filled, False)  # it costs time, and nothing here reads such memory
    before.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", "cumsum_cuda_kernel does not have a deterministic implementation", UserWarning)
    # As torch only warns, its fused attention would add gradients up in any order.
    before.enter_context(sdpa_kernel(SDPBackend.MATH))
