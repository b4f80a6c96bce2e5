"""Telling a lack of memory from other errors."""

#: How PyTorch's allocators, which raise a plain RuntimeError on the CPU, say that there is no memory.
SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc", "_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that there was too little memory, on the GPU or on the CPU.

    `torch.OutOfMemoryError` (GPU), `MemoryError` (Python, NumPy), and any RuntimeError of PyTorch that says so.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
