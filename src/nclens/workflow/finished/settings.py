"""The settings of a study's experiments as a table of texts, from its resolved configuration and its data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nclens.report.text import as_text, number

if TYPE_CHECKING:
    from nclens.study import Study

#: Settings of a machine or of a record, which change no result that a paper tells.
OF_MACHINE = {"device", "compile", "cuda_graph", "deterministic", "record_every"}
#: Keys of an entry that say what it is called.
NAMES = {"label", "colour", "name", "model", "source"}
#: Key of a data set's manifest -> what it is called.
DATA = {"train": "training samples", "val": "validation samples", "test": "test samples"}


def settings_rows(study: "Study", manifests: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return rows of a setting and its value in each experiment, empty where an experiment has none.

    Args:
        study: the study.
        manifests: of its data sets, by name.
    """
    resolved = study.resolved()
    columns = [dict(_settings(study, resolved, name, manifests)) for name in study.experiments]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    return [[key, *(column.get(key, "") for column in columns)] for key in keys]


def _settings(
    study: "Study", resolved: Mapping[str, Any], name: str, manifests: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    entry, written = study.experiments[name], resolved["experiments"][name]
    manifest = manifests.get(entry.dataset, {})
    yield "Data set", entry.dataset
    for key, said in DATA.items():
        if manifest.get(key):
            yield _capital(said), _value(manifest[key])
    for key in ("classes", "targets"):
        if found := manifest.get(key):
            yield _capital(key), str(len(found) if isinstance(found, Sequence) else found)
    for key in ("imbalance", "label_noise"):
        if chosen := manifest.get(key):
            yield _capital(key.replace("_", " ")), _arguments(chosen)
    for model in dict.fromkeys(entry.network_of(loss) for loss in entry.losses):
        yield f"Network {model}", _entry(resolved["models"].get(model, {"name": model}))
    for loss in entry.losses:
        yield f"Loss {study.label(loss)}", _entry(resolved["losses"].get(loss, {"name": "of another study"}))
    yield "Seeds", ", ".join(map(str, entry.seeds))
    for key, value in _flat(written.get("training") or {}):
        yield key, value
    epochs = list(entry.snapshot_epochs)
    yield "Snapshots", str(len(epochs)) + (f", from epoch {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else "")


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings of a table and the tables in it; those of a machine, and those without a value, left out."""
    for key, value in table.items():
        said = _capital(" ".join(filter(None, (before, key.replace("_", " ")))))
        if key in OF_MACHINE or value is None or value == []:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, key.replace("_", " "))
        else:
            yield said, _value(value)


def _entry(entry: Mapping[str, Any]) -> str:
    """Return what an entry is: its name or function, and its arguments."""
    what = as_text(entry.get("name") or entry.get("function") or "")
    arguments = {key: value for key, value in entry.items() if key not in NAMES | {"function"}}
    more = _arguments(arguments)
    return f"{what} ({more})" if what and more else what or more


def _arguments(table: Mapping[str, Any]) -> str:
    parts = []
    for key, value in table.items():
        if value is None or value in ([], {}, ""):
            continue
        said = _arguments(value) if isinstance(value, Mapping) else _value(value)
        parts.append(f"{key.replace('_', ' ')} {said}")
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value, 6, trim=True)
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
