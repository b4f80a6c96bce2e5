"""Out-of-memory errors are recognised, by the messages of PyTorch, NumPy and Python."""

import numpy as np
import pytest
import torch

from nclens.models.memory import is_out_of_memory


@pytest.mark.parametrize("allocate", [lambda: torch.empty(10**15), lambda: np.empty(10**15), lambda: bytearray(10**15)])
def test_real_allocations_that_fail(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x4 and 7x3)"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts(error, lack):
    assert is_out_of_memory(error) == lack
