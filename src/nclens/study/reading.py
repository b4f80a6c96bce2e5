"""From a study's YAML file to plain data: text, numbers, true and false, null, lists and tables.

YAML has more: dates, bytes, sets, references within themselves, aliases that grow without end. None of it belongs in a
study, so it is refused with the line that it is on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

#: The largest file, in bytes, and what it may hold: values, every alias counted as what it repeats, and levels.
MOST_BYTES, MOST_VALUES, MOST_LEVELS = 250_000, 12_000, 40
#: Whole numbers lie below this.
MOST_INTEGER = 2**63

_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    yaml.ScalarNode: {_TAG + name for name in ("str", "int", "float", "bool", "null", "merge")},
    yaml.SequenceNode: {_TAG + "seq"},
    yaml.MappingNode: {_TAG + "map"},
}
_NOT = {_TAG + "int": "no whole number", _TAG + "float": "no number", _TAG + "bool": "neither true nor false"}
#: Keys of an experiment below which tables have seeds, which are whole numbers, as keys.
SEEDED = (("runs",), ("expected_error",))
ALLOWED = "text, numbers, true and false, null, lists and tables"


class ConfigError(ValueError):
    """A mistake in a study's configuration, reported in one message without a traceback."""


class _Fault(yaml.MarkedYAMLError):
    """What YAML allows and a study does not."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """YAML's loader of plain data; each fault has a line, and keys that are there twice are one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[str] = []
        self._values = self._levels = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node as YAML does, with limits."""
        event, before = self.peek_event(), self._values
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                raise _Fault(f"the alias `*{event.anchor}` is within what it repeats", event.start_mark)
            node = super().compose_node(parent, index)
            self._values += self._sizes[id(node)]
        else:
            anchor = [event.anchor] if event.anchor else []
            self._open += anchor
            self._levels += 1
            if self._levels > MOST_LEVELS:
                raise _Fault(f"a value is nested deeper than {MOST_LEVELS} levels", event.start_mark)
            node = super().compose_node(parent, index)
            self._levels -= 1
            del self._open[len(self._open) - len(anchor) :]
            self._values += 1
            self._sizes[id(node)] = self._values - before
            _check_node(node)
        if self._values > MOST_VALUES:
            raise _Fault(
                f"the file holds more than {MOST_VALUES:,} values, aliases counted as what they repeat",
                event.start_mark,
            )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value as YAML does; whatever fails names the value and its tag."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError):
            raise _Fault(f"`{_short(node.value)}` is {_NOT.get(node.tag, 'no value')}", node.start_mark) from None
        if isinstance(value, int) and abs(value) >= MOST_INTEGER:
            raise _Fault(f"`{_short(node.value)}` is too large: whole numbers lie below 2^63", node.start_mark)
        return value


def _check_node(node: Any) -> None:
    """Refuse a node that is no plain value, and a table with a key that is no text or is there twice."""
    if node.tag == _TAG + "timestamp" and isinstance(node, yaml.ScalarNode):
        raise _Fault(f"`{_short(node.value)}` is a date in YAML; text is put between quotes", node.start_mark)
    if node.tag == _TAG + "value":
        raise _Fault(f"`{_short(node.value)}` is no value in a study; text is put between quotes", node.start_mark)
    if node.tag not in _PLAIN[type(node)]:
        tag = node.tag.replace(_TAG, "!!")
        raise _Fault(f"the tag `{_short(tag)}` is not allowed here; allowed values: {ALLOWED}", node.start_mark)
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            continue
        # The seeds of networks trained elsewhere, whose values are files or errors; `check_plain` knows where they are.
        is_seed = key.tag == _TAG + "int" and not (isinstance(value, yaml.ScalarNode) and value.tag == _TAG + "int")
        if key.tag != _TAG + "str" and not is_seed:
            what = f"`{_short(key.value)}`" if isinstance(key, yaml.ScalarNode) else "of a table"
            raise _Fault(f"the key {what} is no text; text is put between quotes", key.start_mark)
        if key.value in seen:
            raise _Fault(f"the key `{_short(key.value)}` is there twice", key.start_mark)
        seen.add(key.value)


def read_study(path: Path) -> Any:
    """Read a study's YAML file and return its content, plain data that is not checked any further.

    Raises:
        ConfigError: the file is no YAML, or holds what no study does; with the file and the line.
        OSError: it is not there.
    """
    with path.open("rb") as file:
        return parse_study(file.read(MOST_BYTES + 1), path)


def parse_study(content: bytes, path: Path) -> Any:
    """Return what a study's YAML file holds, plain data that is not checked any further.

    Args:
        content: of the file.
        path: what messages call it.

    Raises:
        ConfigError: as of `read_study`.
    """
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path} has more than {MOST_BYTES:,} bytes, the most for a study")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise ConfigError(f"{path}, line {line}: byte {byte:#04x} is no UTF-8; save the file as UTF-8") from None
    try:
        return yaml.load(text, _Loader)
    except _Fault as fault:
        raise ConfigError(f"{path}, line {_line(fault)}: {fault.problem}") from None
    except yaml.MarkedYAMLError as error:
        said = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{path}, line {_line(error)}: is no YAML as a study needs it: {said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}, line {line}: the character {error.character:#x} is not allowed in YAML") from None


def check_plain(raw: Any) -> None:
    """Refuse what is no plain data, such as bytes, dates and tables within themselves, wherever it was read.

    Raises:
        ConfigError: with the keys that lead to it.
    """
    left = [MOST_VALUES]

    def visit(value: Any, keys: tuple[str, ...]) -> None:
        where = ".".join(keys) or "The configuration"
        left[0] -= 1
        if left[0] < 0:
            raise ConfigError(f"The configuration holds more than {MOST_VALUES:,} values.")
        if len(keys) > MOST_LEVELS:
            raise ConfigError(f"{'.'.join(keys[:3])}: is nested deeper than {MOST_LEVELS} levels")
        if isinstance(value, Mapping):
            for key, member in value.items():
                is_seed = type(key) is int and keys[:1] == ("experiments",) and keys[2:3] in SEEDED and len(keys) == 4
                if not isinstance(key, str) and not is_seed:
                    raise ConfigError(f"{where}: the key `{_short(key)}` is no text; text is put between quotes")
                visit(member, (*keys, _short(key)))
        elif isinstance(value, list | tuple):
            for place, member in enumerate(value):
                visit(member, (*keys, str(place)))
        elif isinstance(value, int) and abs(value) >= MOST_INTEGER:
            raise ConfigError(f"{where}: is too large: whole numbers lie below 2^63")
        elif not isinstance(value, str | int | float | None):
            name = type(value).__name__
            raise ConfigError(f"{where}: is {name}; text is put between quotes; allowed values: {ALLOWED}")

    visit(raw, ())


def _line(error: yaml.MarkedYAMLError) -> int:
    mark: Any = error.problem_mark or error.context_mark
    return int(mark.line) + 1


def _short(value: Any) -> str:
    """Return a value for a message."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:30]}...{text[-10:]}"
