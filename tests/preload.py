"""What the server of tests/process.py has imported: packages that take seconds, and nothing of nclens."""

import gc
import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would start a thread

import matplotlib.pyplot  # noqa: F401
import mlflow  # noqa: F401
import pandas  # noqa: F401
import pydantic  # noqa: F401
import scipy.stats  # noqa: F401
import seaborn  # noqa: F401
import snakemake.cli  # noqa: F401
import torch._dynamo  # noqa: F401 - with the first optimizer
import typer  # noqa: F401
import yaml  # noqa: F401

gc.freeze()
