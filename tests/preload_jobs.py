"""What the server of a workflow's quick jobs has imported besides: what training, probes and records import late."""

import gc
import importlib.util
from pathlib import Path

# A torchvision that does not fit PyTorch is repaired as nclens does it, by its module under another name.
spec = importlib.util.spec_from_file_location(
    "repair", Path(__file__).parents[1] / "src" / "nclens" / "_torchvision.py"
)
assert spec is not None
assert spec.loader is not None
repair = importlib.util.module_from_spec(spec)
spec.loader.exec_module(repair)
repair.repair_on_import()

import mlflow.pytorch  # noqa: E402
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402, F401
import torch._dynamo  # noqa: E402
import torch.export  # noqa: E402, F401

gc.freeze()
