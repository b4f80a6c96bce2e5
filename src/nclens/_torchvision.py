"""Import torchvision even if its compiled operators cannot be loaded.

A torchvision wheel built for CUDA cannot be imported with a CPU-only PyTorch: its library of operators fails to load,
and its Python code then refers to two operators that PyTorch does not know. It only needs their schemas. Once these are
declared, data sets, models and transforms work. If the real operators load, nothing is declared.
"""

import importlib
import sys
from types import ModuleType

import torch

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A torch.library.Library drops its declarations when it is garbage-collected.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Return torchvision, with datasets, models and transforms.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS.values():
        library.define(schema)
    _declared.append(library)
    # The failed import leaves half-initialised submodules behind.
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    return importlib.import_module("torchvision")
