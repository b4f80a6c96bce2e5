"""Recognise out-of-memory errors."""

#: Substrings in the messages of PyTorch's allocators, which raise a plain RuntimeError on the CPU.
SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc", "_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on the GPU or on the CPU.

    True for `torch.OutOfMemoryError` (GPU), `MemoryError` (Python, NumPy), and a RuntimeError with one of `SIGNS`.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
