"""From the parsed content of a YAML file to a study, or to one readable message."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nclens.study.reading import ConfigError, check_plain
from nclens.study.study import Study

#: Mistakes that one message names.
MOST_MISTAKES = 20


def load_study(
    raw: Any, folders: list[str | Path] | None = None, epochs: Mapping[str, list[int]] | None = None
) -> Study:
    """Check a parsed configuration and return the study.

    Args:
        raw: the content of the YAML file.
        folders: where the modules of the user's own functions are looked for, in order; by default the current folder.
        epochs: of networks trained elsewhere, by the paths in `runs`: of those in it the files need not be there.

    Raises:
        ConfigError: with one line per mistake: key, value, and what is allowed.
    """
    check_plain(raw)
    try:
        # What an experiment or a claim may name; each table is checked by itself.
        written = {key: raw.get(key) for key in ("metrics", "probes", "figures")} if isinstance(raw, Mapping) else {}
        context = {"folders": [str(f) for f in folders or ["."]], "epochs": epochs or {}, **written}
        return Study.model_validate(raw, context=context)
    except ValidationError as error:
        lines = _lines(error.errors(include_url=False), raw)
        count = "one mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        if len(lines) > MOST_MISTAKES:
            lines[MOST_MISTAKES:] = [f"and {len(lines) - MOST_MISTAKES} more"]
        raise ConfigError(f"The configuration has {count}:\n" + "\n".join(f"  {line}" for line in lines)) from None


_PLAIN_MESSAGES = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text (put it between quotes)",
    "tuple_type": "must be a list",
    "dict_type": "must be a table of keys",
    "too_short": "must not be empty",
    "finite_number": "must be finite",
}


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def _lines(errors: list[Any], raw: Any) -> list[str]:
    """Turn pydantic's errors into a line for each wrong value."""
    # A list whose members were refused is empty to pydantic, which is no mistake besides.
    within = {item["loc"][:end] for item in errors for end in range(len(item["loc"]))}
    found: dict[str, list[str]] = {}
    for item in errors:
        if item["type"] != "too_short" or item["loc"] not in within:
            where, text = _explain(item, raw)
            found.setdefault(where, []).append(text)
    return [where + ", or ".join(texts) for where, texts in found.items()]


def _explain(item: Any, raw: Any) -> tuple[str, str]:
    """Turn one pydantic error into `key = value: ` and what is allowed."""
    keys: list[str] = []
    value: Any = raw
    for position, part in enumerate(item["loc"]):
        # Union members appear in a location by their tag, which is no key of the file.
        if (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        ):
            keys.append(str(part))
            value = value[part]
        elif position == len(item["loc"]) - 1 and item["type"] == "missing":
            keys.append(str(part))
    kind, message = item["type"], item["msg"]
    text = _PLAIN_MESSAGES.get(kind, message).replace("Input should be", "must be")
    if kind == "too_long":
        text = f"must have at most {item['ctx']['max_length']:,} entries"
    if not keys:
        return "", text
    if kind in ("missing", "unknown_key", "too_short", "too_long") or isinstance(value, Mapping | list | tuple):
        return f"{'.'.join(keys)}: ", text
    return f"{'.'.join(keys)} = {_SHORT.repr(value)}: ", text


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study's YAML file, for editors."""
    schema = Study.model_json_schema()
    # `file` is found, not written: it has no place in what editors offer.
    for definition in schema["$defs"].values():
        if "function" in definition.get("properties", {}):
            definition["properties"].pop("file", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
