"""Specifications as plain data and as text, there and back."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from nclens.workflow.specs.steps import LEFT_OUT, Entry

T = TypeVar("T")


def flat(entry: Entry) -> dict[str, Any]:
    """Return an entry of a model as `nclens.workflow.build.models` takes it: its arguments beside its name."""
    if entry.function is not None:
        return {"function": entry.function, "file": entry.file, "parameters": entry.arguments}
    return {"name": entry.name, **entry.arguments}


def encode(spec: Any) -> str:
    """Return a specification as the JSON text that a rule passes; the order of a mapping's keys does not count."""
    return json.dumps(plain(spec), sort_keys=True)


def plain(spec: Any) -> dict[str, Any]:
    """Return a specification as plain data: mappings, lists, texts and numbers."""
    return json.loads(json.dumps(dataclasses.asdict(spec, dict_factory=_fields)))


def _fields(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if not (name in LEFT_OUT and value is None)}


def decode(kind: type[T], text: str) -> T:
    """Return the specification that a JSON text holds.

    Raises:
        ValueError: the text is no JSON, or no specification of that kind; names the key.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from None
    return decoded(kind, content)


def decoded(kind: Any, value: Any, where: str = "") -> Any:
    """Return plain data as what a type hint says: a dataclass, a tuple, a mapping or a simple value."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (chosen,) = (member for member in arguments if member is not types.NoneType)
        return None if value is None else decoded(chosen, value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(decoded(arguments[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: decoded(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind is not Any and type(value) is not kind:
        wanted = getattr(origin or kind, "__name__", kind)
        raise ValueError(f"{where.lstrip('.') or 'the specification'} = {value!r}: must be of type {wanted}")
    return value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    hints = hints_of(kind)
    if not isinstance(value, Mapping):
        raise ValueError(f"{where.lstrip('.') or 'the specification'} = {value!r}: must hold {', '.join(hints)}")
    needed = {item.name for item in dataclasses.fields(kind) if _is_needed(item)}
    for key in sorted({*value, *needed}):
        if key not in value or key not in hints:
            wrong = "is missing" if key in hints else "is no key"
            raise ValueError(f"{f'{where}.{key}'.lstrip('.')} {wrong}; allowed: {', '.join(hints)}")
    return kind(**{key: decoded(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def _is_needed(item: "dataclasses.Field[Any]") -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    """Return the fields of a specification with their types."""
    return typing.get_type_hints(kind)
