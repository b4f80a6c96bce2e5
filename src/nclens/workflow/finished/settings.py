"""The settings of a study's experiments as a table of texts, from its resolved configuration and its data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nclens.report.text import as_text, capital, number

if TYPE_CHECKING:
    from nclens.study import Study

#: Settings of a machine or of a record, which change no result that a paper tells.
OF_MACHINE = {"device", "compile", "cuda_graph", "deterministic", "record_every"}
#: Keys of an entry that say what it is called.
NAMES = {"label", "colour", "name", "kind", "function", "model", "source"}
#: A switch that is on.
ON = "yes"
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
            yield capital(said), _text(manifest[key])
    for key in ("classes", "targets"):
        if found := manifest.get(key):
            yield capital(key), str(len(found) if isinstance(found, Sequence) else found)
    for key in ("imbalance", "label_noise"):
        if chosen := manifest.get(key):
            yield capital(_said(key)), entry_text(chosen)
    for model in dict.fromkeys(entry.network_of(loss) for loss in entry.losses):
        yield f"Network {model}", entry_text(resolved["models"].get(model, {"name": model}))
    for loss in entry.losses:
        yield f"Loss {study.label(loss)}", entry_text(resolved["losses"].get(loss, {"name": "of another study"}))
    yield "Seeds", ", ".join(map(str, entry.seeds))
    for key, value in (written.get("training") or {}).items():
        if key not in OF_MACHINE and (text := _text(value)):
            yield capital(_said(key)), text
    epochs = list(entry.snapshot_epochs)
    yield "Snapshots", str(len(epochs)) + (f", from epoch {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else "")


def entry_text(entry: Mapping[str, Any]) -> str:
    """Return what an entry is: its name, kind or function, and its arguments."""
    what = next((as_text(entry[key]) for key in ("name", "kind", "function") if entry.get(key)), "")
    more = _arguments({key: value for key, value in entry.items() if key not in NAMES})
    return f"{what} ({more})" if what and more else what or more


def _arguments(table: Mapping[str, Any]) -> str:
    """Return arguments in one line; those without a value, and switches that are off, left out."""
    parts = ((key, _text(value)) for key, value in table.items())
    return ", ".join(_said(key) if text == ON else f"{_said(key)} {text}" for key, text in parts if text)


def _text(value: Any) -> str:
    """Return a value as text, empty for none and for a switch that is off."""
    if isinstance(value, bool):
        return ON if value else ""
    if isinstance(value, Mapping):
        return entry_text(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, int):
        return f"{value:,}"
    return number(value, 6, trim=True) if isinstance(value, float) else as_text(value)


def _said(key: str) -> str:
    """Return a key of the configuration as words.

    >>> _said("lr_schedule"), _said("weight_decay"), _said("ufm_regularised")
    ('learning rate schedule', 'weight decay', 'UFM regularised')
    """
    words = {"lr": "learning rate", "ufm": "UFM"}
    return " ".join(words.get(word, word) for word in key.split("_"))
