"""The parameters of a user's function, read from its source: a mistake is found without running a line of it."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

_NO_DEFAULT = Parameter.empty


def signature_of(tree: ast.Module, name: str) -> Signature | None:
    """Return the signature of a module's function, or of a class's `__init__` without `self`.

    None where the source does not tell: a decorator, or a class without `__init__`. Defaults are given as None. Of two
    definitions of the name the last counts, as in Python.
    """
    node = _last(tree.body, name)
    if isinstance(node, ast.ClassDef):
        if node.decorator_list or node.keywords:
            return None
        node, skipped = _last(node.body, "__init__"), 1
    else:
        skipped = 0
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return None
    return Signature(list(_parameters(node.args))[skipped:])


def _last(body: Sequence[ast.stmt], name: str) -> ast.stmt | None:
    found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name]
    return found[-1] if found else None


def _parameters(arguments: ast.arguments) -> list[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    found = []
    for number, argument in enumerate(positional):
        kind = Parameter.POSITIONAL_ONLY if number < len(arguments.posonlyargs) else Parameter.POSITIONAL_OR_KEYWORD
        found.append(Parameter(argument.arg, kind, default=_NO_DEFAULT if number < required else None))
    if arguments.vararg:
        found.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(Parameter(argument.arg, Parameter.KEYWORD_ONLY, default=_NO_DEFAULT if default is None else None))
    if arguments.kwarg:
        found.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return found


def fault_of(
    signature: Signature, given: Sequence[str], parameters: Mapping[str, Any], offered: Sequence[str] = ()
) -> str | None:
    """Say why a function cannot be called with positional arguments of these names and these keyword arguments.

    Args:
        signature: the function's.
        given: what the positional arguments are, for the message.
        parameters: the keyword arguments.
        offered: further keyword arguments, of which the function gets those that it names.

    Returns:
        What is wrong and what is allowed, or None.
    """
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    named = {name: value for name, value in signature.parameters.items() if value.kind not in _VARIABLE}
    places = [name for name, value in named.items() if value.kind is not Parameter.KEYWORD_ONLY]
    if len(places) < len(given) and Parameter.VAR_POSITIONAL not in kinds:
        return f"is called with {len(given)} positional arguments ({', '.join(given)}), but takes {len(places)}"
    taken = places[: len(given)]
    keywords = [
        name for name, value in named.items() if name not in taken and value.kind is not Parameter.POSITIONAL_ONLY
    ]
    allowed = f"allowed: {', '.join(name for name in keywords if name not in offered) or 'none'}"
    for name in parameters:
        if name in taken or name in offered:
            return f"gets `{name}` from us ({', '.join((*given, *offered))}); as a parameter {allowed}"
        if name not in keywords and Parameter.VAR_KEYWORD not in kinds:
            near = difflib.get_close_matches(name, keywords, n=1)
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            return f"has no parameter `{name}`{hint}; {allowed}"
    lacking = [
        name
        for name, value in named.items()
        if name not in taken and name not in parameters and name not in offered and value.default is _NO_DEFAULT
    ]
    needs = f"needs the parameters {', '.join(f'`{name}`' for name in lacking)}; {allowed}"
    if offered:
        needs += f"; it gets by name {', '.join(offered)}"
    return needs if lacking else None


_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
