"""torchvision, also where its compiled operators cannot load.

A torchvision wheel built for CUDA does not import beside a CPU-only PyTorch: its library of operators fails to load,
and the Python part then asks PyTorch for two operators that nobody declared. Their schemas are all it asks for:
declared first, everything that runs without them works, data sets, models and transforms. Where the real operators
load, nothing is declared.
"""

import importlib
import sys
from types import ModuleType

import torch

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A torch.library.Library takes its declarations with it when it is collected.
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
    # A failed import leaves submodules behind that a second one would find half made.
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    return importlib.import_module("torchvision")
