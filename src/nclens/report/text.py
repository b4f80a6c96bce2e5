"""Numbers, lists and names as the report writes them."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd


def number(value: Any, digits: int = 3, *, trim: bool = False) -> str:
    """Return a number as it is written on the page, to so many significant digits; a dash where there is none.

    Trailing zeros show the precision of a measured number; `trim` drops them, for numbers that were chosen.

    >>> number(0.35), number(1234.56), number(-2.5e-7), number(float("nan"))
    ('0.350', '1235', '−2.50×10⁻⁷', '–')
    >>> number(1e-6, trim=True), number(400, trim=True)
    ('1×10⁻⁶', '400')
    """
    if value is None or pd.isna(value):
        return "–"
    value = float(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    mantissa = mantissa.rstrip("0").rstrip(".") if trim else mantissa
    if value == 0:
        text = "0"
    elif -4 < power < max(digits, 5):
        text = f"{value:.{max(0, digits - 1 - power)}f}"
        text = text.rstrip("0").rstrip(".") if trim and "." in text else text
    else:
        text = f"{mantissa}×10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Return a time span in the two largest units that it fills.

    >>> duration(48.2), duration(192), duration(3900)
    ('48 s', '3 min 12 s', '1 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def as_text(value: Any) -> str:
    """Return a cell as text, whole numbers without a decimal point (an empty cell makes a column of floats)."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def sentence(text: str) -> str:
    """Return a text opened by a capital, unless its first word is a key or a symbol.

    >>> sentence("the main measure"), sentence("nc1 in common"), sentence("")
    ('The main measure', 'nc1 in common', '')
    """
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def listed(names: Iterable[str]) -> str:
    """Return the names as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = list(names)
    return f"{', '.join(first)} and {last}" if first else last


def plural(amount: int, noun: str) -> str:
    """Return an amount with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{amount} {noun}" + ("" if amount == 1 else "s")


def _length(entry: Mapping[str, Any]) -> str:
    """Return how long an experiment's networks were trained, or which epochs were imported."""
    epochs = entry.get("imported", ())
    if not epochs:
        return plural(entry["epochs"], "epoch")
    measured = f"epoch {epochs[0]}" if len(epochs) == 1 else f"{len(epochs)} epochs from {epochs[0]} to {epochs[-1]}"
    alone = "; with one seed there are values without intervals and verdicts" if len(entry["seeds"]) == 1 else ""
    return f"trained elsewhere, measured at {measured}{alone}"


class Names:
    """Names of a study's experiments and losses.

    Args:
        study: with `experiments`, as `report_page` takes it.

    Raises:
        ValueError: a colour is not #rrggbb.
    """

    def __init__(self, study: Mapping[str, Any]) -> None:
        self.experiments = {entry["experiment"]: entry for entry in study["experiments"]}
        for entry in self.experiments.values():
            for loss, colour in entry["colours"].items():
                if not re.fullmatch(r"#[0-9A-Fa-f]{6}", colour):
                    raise ValueError(f"colour of loss {loss}: {colour!r}; allowed: #rrggbb")

    def task(self, experiment: str) -> str:
        """Return the task of an experiment, by default classification."""
        return self.experiments.get(experiment, {}).get("task", "classification")

    def of_task(self, task: str) -> dict[str, Any]:
        """Return the experiments of a task, by name."""
        return {name: entry for name, entry in self.experiments.items() if self.task(name) == task}

    def loss(self, experiment: str, entry: str) -> dict[str, str]:
        """Return label and colour of a loss; of one that is not in the study, its name and no colour."""
        looks = self.experiments.get(experiment, {"labels": {}, "colours": {}})
        return {"label": looks["labels"].get(entry, entry), "colour": looks["colours"].get(entry, "")}

    def losses(self, experiment: str) -> str:
        """Return the labels of an experiment's losses as a list in a sentence."""
        entry = self.experiments[experiment]
        return listed(entry["labels"][loss] for loss in entry["losses"])

    def where(self, experiment: str) -> str:
        """Return data set and model of an experiment, with its name where these are not unique."""
        entry = self.experiments[experiment]
        key = (entry["dataset"], entry["model"])
        alone = [(other["dataset"], other["model"]) for other in self.experiments.values()].count(key) == 1
        return ", ".join(key) if alone else f"{', '.join(key)} ({experiment})"

    def facts(self) -> list[str]:
        """Return one line an experiment: what was trained, how often, how long; or what was imported."""
        return [
            f"{self.where(name)}: {self.losses(name)}; {plural(len(entry['seeds']), 'seed')}, {_length(entry)}"
            for name, entry in self.experiments.items()
        ]

    def runs(self) -> Iterable[tuple[str, tuple[str, str, str, int]]]:
        """Each run of the study as (experiment, (dataset, model, loss, seed))."""
        for name, entry in self.experiments.items():
            for loss in entry["losses"]:
                for seed in entry["seeds"]:
                    yield name, (entry["dataset"], entry["model"], loss, seed)
