"""Memory that ran out: how that is recognised, and how what can be freed is freed."""

import gc

import torch

_SIGNS = (
    "out of memory",  # CUDA, ROCm, XPU and MPS; also the "CUDA error: out of memory" of a kernel
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",  # what cuDNN says of a work space that it does not get
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "bad_alloc",
    "RESOURCE_EXHAUSTED",  # XLA
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of a device, or of the machine, did not suffice.

    Known are torch's and Python's own exceptions for it, and the messages of the allocators of CUDA, cuDNN, cuBLAS, ROCm, MPS, XLA and
    the CPU in a `RuntimeError`. Where one exception was raised from another, as by a compiler, either may say so.

    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory.")), is_out_of_memory(MemoryError())
    (True, True)
    >>> is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: ..."))
    True
    >>> is_out_of_memory(RuntimeError("shapes cannot be multiplied")), is_out_of_memory(ValueError("out of memory"))
    (False, False)
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(seen, RuntimeError) and any(sign in str(seen) for sign in _SIGNS):
            return True
        seen = seen.__cause__
    return False


def free_memory() -> None:
    """Collects garbage, and gives what the allocator of an accelerator keeps for later back to the device; slow, for between runs.

    Call it outside of the `except` block of a failure, whose traceback keeps the tensors of its frames.

    >>> free_memory()
    """
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
