"""Import torchvision even if its compiled operators cannot be loaded.

A torchvision wheel built for CUDA cannot be imported with a CPU-only PyTorch: its library of operators fails to load,
and its Python code then refers to two operators that PyTorch does not know. It only needs their schemas. Once these are
declared, data sets, models and transforms work. If the real operators load, nothing is declared.

`python -m nclens._torchvision` says whether other packages can import torchvision in this environment.
"""

import importlib
import importlib.abc
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A torch.library.Library drops its declarations when it is garbage-collected.
_declared: list[Any] = []


def import_torchvision() -> ModuleType:
    """Return torchvision, with datasets, models and transforms.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    repair_on_import()
    return importlib.import_module("torchvision")


def repair_on_import() -> None:
    """Let every later `import torchvision` of this process succeed, whoever imports it; import nothing now."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds torchvision as the other finders do, and has its import repaired."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            # On the instance: it stays the loader that it is for whoever asks for sources and resources.
            spec.loader.exec_module = lambda module: _execute(execute, module)  # type: ignore[method-assign]
        return spec


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run torchvision's code; if its operators are missing, declare them and run it again."""
    try:
        return execute(module)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS.values():
        library.define(schema)
    _declared.append(library)
    # The failed import leaves half-initialised submodules behind.
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]
    execute(module)


def complaint() -> str | None:
    """Return in one line why packages that do not repair it, such as timm, cannot import torchvision; None if they can.

    Only in a process where nothing has repaired it yet.
    """
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        versions = {name: _version(name) for name in ("torch", "torchvision")}
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        build = versions["torch"].partition("+")[2]
        index = f", here https://download.pytorch.org/whl/{build}" if build else ""
        return (
            f"torchvision {versions['torchvision']} cannot be imported with torch {versions['torch']} ({reason}). "
            "nclens repairs this for itself and for your functions; timm, Lightning and other programs fail. Install "
            f"both from the same index{index}"
        )
    return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    line = complaint()
    if line is not None:
        print(f"nclens: {line}")
