"""What a call allocates: the largest tensor that any operation of PyTorch makes, in bytes."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Largest(TorchDispatchMode):
    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        known = {given.untyped_storage().data_ptr() for given in _tensors((args, kwargs))}
        returned = func(*args, **kwargs)
        for made in map(torch.Tensor.untyped_storage, _tensors(returned)):
            if made.data_ptr() not in known:  # no view of an argument, nor the argument itself
                self.bytes = max(self.bytes, made.nbytes())
        return returned


def _tensors(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


@contextmanager
def largest_tensor():
    """Within this, `bytes` of what it yields is the size of the largest storage that an operation made."""
    with _Largest() as found:
        yield found
