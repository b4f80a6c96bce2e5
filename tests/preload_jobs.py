"""What the server of a workflow's quick jobs has imported besides: what training, probes and records import late."""

import gc
import importlib.util
import tempfile
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
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402
import numpy as np  # noqa: E402
import torch.export  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import Schema, TensorSpec  # noqa: E402
from sqlalchemy.orm import configure_mappers  # noqa: E402

# What `nclens.workflow.stages.track.warm_up` does in the workflow's own server, which saves a second a record.
configure_mappers()
rows = Schema([TensorSpec(np.dtype(np.float32), (-1, 1))])
with tempfile.TemporaryDirectory() as folder:
    mlflow.pytorch.save_model(
        torch.nn.Linear(1, 1),
        Path(folder, "network"),
        input_example=np.zeros((2, 1), np.float32),
        signature=ModelSignature(rows, rows),
        pip_requirements=["torch"],
        serialization_format="pt2",
    )

gc.freeze()
