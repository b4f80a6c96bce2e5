"""Functions by name: the library's, and the user's own in a file beside the configuration."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
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
    path = Path(file)
    try:
        found = path.stat()
    except OSError as error:
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    # A metric is called at each snapshot: its module is run once, unless it is edited.
    return _loaded(path, function.split(":")[1], (found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=64)
def _loaded(path: Path, name: str, state: tuple[int, int]) -> Callable[..., Any]:
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
        raise failure(function, file, error) from error


def failure(function: str, file: str | Path, error: Exception) -> ValueError:
    """Return the error that names the user's function, its line that failed, and what went wrong."""
    own = Path(file).resolve()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == own]
    line = f", line {frames[-1].lineno}: `{frames[-1].line}`" if frames else ""
    return ValueError(f"{function} ({file}{line}) failed: {type(error).__name__}: {error}")
