"""What a call allocates: the largest tensor that any operation of PyTorch returns, in bytes."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Largest(TorchDispatchMode):
    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returned = func(*args, **(kwargs or {}))
        for made in tree_leaves(returned):
            if isinstance(made, torch.Tensor):
                self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return returned


@contextmanager
def largest_tensor():
    """Within this, `bytes` of what it yields is the size of the largest storage that an operation returned."""
    with _Largest() as found:
        yield found
