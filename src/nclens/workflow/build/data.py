"""From a data entry of the configuration to a data set."""

import importlib
import inspect
from pathlib import Path
from typing import Any

from nclens.data.dataset import Splits
from nclens.data.raw import RawData
from nclens.workflow.build.own_data import own_data


def load_dataset(entry: dict[str, Any], raw: RawData | None = None) -> Splits:
    """Return the data set of an entry: `{source: <module of nclens.data>, ...}` or `{function: module:name, ...}`.

    A source that reads files takes the folder of raw data, by default `data`, as its argument `raw`.

    Functions of the user's own are called by `nclens.workflow.build.own_data`.

    Raises:
        ValueError: the data do not fit; says what is allowed.
    """
    if "function" in entry:
        return own_data(entry)
    entry = dict(entry)
    # One small module a source, found by name: a new source changes the code of no other.
    module = importlib.import_module(f"nclens.data.{entry.pop('source')}")
    if "raw" in inspect.signature(module.load).parameters:
        entry["raw"] = raw or RawData(Path("data"))
    return module.load(**entry)
