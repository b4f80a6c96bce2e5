"""Functions by name: the library's, and the user's own in a file beside the configuration."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def library_function(function: str) -> Callable[..., Any]:
    """Return the function that a catalogue names as `module:function`.

    >>> library_function("nclens.metrics.calibration:brier_score").__name__
    'brier_score'
    """
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def load_function(file: str | Path, function: str) -> Callable[..., Any]:
    """Import `module:function` from the module's file and return the function.

    Raises:
        ValueError: the module cannot be imported or has no such function.
    """
    path, name = Path(file), function.split(":")[1]
    # The file's folder comes first, so that the module can import its neighbours.
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(f"nclens_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look their module up by its name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, name, None)):
        raise ValueError(f"{path} has no function {name}")
    return getattr(module, name)


def call(file: str | Path, function: str, *arguments: Any, **parameters: Any) -> Any:
    """Call the user's function; an error inside it names the function.

    Raises:
        ValueError: whatever went wrong inside, with the function's name and file in front.
    """
    target = load_function(file, function)
    try:
        return target(*arguments, **parameters)
    except Exception as error:
        raise ValueError(f"{function} ({file}) failed: {type(error).__name__}: {error}") from error
