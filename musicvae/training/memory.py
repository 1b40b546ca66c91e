"""When a step does not fit into memory: what would."""

import traceback
from collections.abc import Callable

import torch

from musicvae.errors import MemoryExhaustedError
from musicvae.kept_memory import give_back_freed_memory


def is_exhausted_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on a device or on the host."""
    # On the CPU these are plain RuntimeErrors, which only their sentences tell from others: that of torch's allocator,
    # and that of oneDNN where it gets no memory for the code of a primitive that it has already chosen.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and ("DefaultCPUAllocator" in str(error) or str(error) == "could not create a primitive")
    )


def largest_that_fits(attempt: Callable[[int], None], size: int, device: torch.device) -> int | None:
    """The first of size / 2, size / 4, ... with which an attempt does not run out of memory; None if none does."""
    while size > 1:
        size //= 2
        _forget_failed_backward(device)
        give_back_freed_memory()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            attempt(size)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors that did not fit
        else:
            return size
    return None


def _forget_failed_backward(device: torch.device) -> None:
    # A backward that raised leaves its waiting tasks, and with them all that its graph saved, in the engine's queue;
    # the next backward, however small, clears it.
    torch.zeros((), device=device, requires_grad=True).mul(1).backward()


def memory_exhausted(
    *, step: int, share: int, accumulation: int, fitting: int | None, device: torch.device
) -> MemoryExhaustedError:
    """What to tell of it.

    Args:
        share: windows of this rank in a global batch.
        accumulation: pieces that it was cut into.
        fitting: windows at once that were found to fit.
    """
    tried = -(-share // accumulation)
    where = f"{device}" if device.type != "cuda" else f"{device} ({torch.cuda.get_device_name(device)})"
    if fitting is None:
        cure = "a smaller model, or more memory: not even one window at a time fits"
    else:
        pieces = -(-share // fitting)
        cure = (
            f"run the same command with train.accumulation={pieces}: {fitting} windows at a time fit (tried just now), "
            "and the result is that of the same global batch"
        )
    return MemoryExhaustedError(
        f"memory is exhausted at step {step}",
        expected=f"{tried} windows at a time (this rank's {share} of train.global_batch in {accumulation} piece(s)) "
        "to fit",
        found=f"they do not fit into the memory of {where}",
        likely="a model or batch that is large for this device, or another process on it",
        do=cure,
    )
