"""From a metric or a probe of the user's own to numbers."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from nclens.workflow.build.functions import call, load_function
from nclens.workflow.specs import OwnMetric


def own_measured(entry: OwnMetric, given: Mapping[str, Any], table: str = "metrics") -> dict[str, float]:
    """Return what a metric of the user's own yields on one split, by its name in tables.

    Args:
        entry: the metric.
        given: the arguments by name; the function gets those that its signature names.
        table: the entry's table in the study, for messages.

    Raises:
        ValueError: the function fails, requires an argument that a run of its task does not have, or returns something
            else than a number or a dict of numbers; names it.
    """
    what = f"{table}.{entry.name}: {entry.function} ({entry.file})"
    parameters = inspect.signature(load_function(entry.file, entry.function)).parameters
    wanted = {name: given[name] for name in parameters if name in given} | entry.arguments
    # Its other parameters were checked with the study.
    if lacking := [
        name
        for name, one in parameters.items()
        if name not in wanted and one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]:
        raise ValueError(f"{what} needs {', '.join(lacking)}, which networks of this task do not have")
    found = call(entry.file, entry.function, **wanted)
    by_name = {f"{entry.name}_{key}": value for key, value in found.items()} if isinstance(found, dict) else {}
    try:
        values = {name: float(value) for name, value in (by_name or {entry.name: found}).items()}
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{what} must return a number or a dict of numbers, not {_described(found)}") from None
    if wrong := [name for name in values if not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"{what} returns the keys {', '.join(wrong)}; allowed: letters, digits and _")
    return values


def _described(found: Any) -> str:
    shape = getattr(found, "shape", None)
    return type(found).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
