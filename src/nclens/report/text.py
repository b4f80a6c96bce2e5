"""Numbers, lists and names as the report writes them."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nclens.claims import CLAIMS, Claim

NO_CLAIM = "No claim was judged."


def number(value: Any, digits: int = 3, *, trim: bool = False, signed: bool = False) -> str:
    """Return a number as it is written on the page, to so many significant digits; a dash where there is none.

    Trailing zeros show the precision of a measured number; `trim` drops them, for numbers that were chosen. `signed`
    writes the sign of a positive number too.

    >>> number(0.35), number(1234.56), number(-2.5e-7), number(float("nan"))
    ('0.350', '1235', '−2.50×10⁻⁷', '–')
    >>> number(1e-6, trim=True), number(400, trim=True), number(0.0634, signed=True)
    ('1×10⁻⁶', '400', '+0.0634')
    """
    if value is None or pd.isna(value):
        return "–"
    value = float(value)
    if signed and value > 0:
        return "+" + number(value, digits, trim=trim)
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
        text = f"{mantissa}×{_power(power)}"
    return text.replace("-", "−")


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def uncertain(mean: float, half: float) -> str:
    """Return a mean and half its interval, half to two digits and both to the same decimal place.

    A power of ten that is not written out is common to both. Without an interval, or where it is a point, the mean
    stands alone.

    >>> uncertain(0.0144, 6.8e-4), uncertain(0.0126, 0.0072), uncertain(1.44e-5, 6.8e-7), uncertain(0.5, math.nan)
    ('0.01440 ± 0.00068', '0.0126 ± 0.0072', '(1.440 ± 0.068)×10⁻⁵', '0.500')
    >>> uncertain(0.05, 0.0)
    '0.0500'
    """
    if not (math.isfinite(mean) and half > 0 and math.isfinite(half)):
        return number(mean)
    # As rounded to two digits: 0.0996 is 0.10.
    place = int(f"{half:.1e}".split("e")[1]) - 1
    size = int(f"{max(abs(mean), half):.1e}".split("e")[1])
    if size - place > MOST_DIGITS:
        return f"{number(mean)} ± {number(half, 2)}"
    shift = 0 if -4 < size < 5 else size
    decimals = max(0, shift - place)
    text = " ± ".join(f"{value / 10.0**shift:.{decimals}f}" for value in (mean, half)).replace("-", "−")
    return f"({text})×{_power(shift)}" if shift else text


def plainly(text: str) -> str:
    """Return a text with its numbers in the page's notation: 1e-06 becomes 10⁻⁶.

    >>> plainly("up to 1e-06; -2.5e-07 found")
    'up to 10⁻⁶; −2.5×10⁻⁷ found'
    """

    def written(found: re.Match[str]) -> str:
        power = _power(int(found[3]))
        return ("−" if found[1] else "") + (power if found[2] == "1" else f"{found[2]}×{power}")

    return re.sub(r"(?<![\w.])(-?)(\d(?:\.\d+)?)e([+-]?\d+)\b", written, text)


def folded(text: str, most: int) -> tuple[str, str]:
    """Return a text of remarks, "; " between them, as what is shown and the rest, which is shown on demand.

    The first remark is always shown; one that is longer than `most` characters folds at a comma or a bracket.

    >>> folded("one remark; another; a third", 20), folded("a long remark, with details", 15), folded("", 9)
    (('one remark; another', 'a third'), ('a long remark', 'with details'), ('', ''))
    """
    remarks = text.split("; ")
    shown = 1
    while shown < len(remarks) and len("; ".join(remarks[: shown + 1])) <= most:
        shown += 1
    first, rest = "; ".join(remarks[:shown]), "; ".join(remarks[shown:])
    if len(first) > most and (cut := max(first.rfind(", ", 0, most), first.rfind(": ", 0, most))) > 0:
        first, rest = first[:cut], "; ".join(filter(None, [first[cut + 2 :], rest]))
    return first, rest


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
    return capital(text) if text.split(" ", 1)[0].isalpha() else text


def capital(text: str) -> str:
    """Return a text opened by a capital.

    >>> capital("label smoothing"), capital("")
    ('Label smoothing', '')
    """
    return text[:1].upper() + text[1:]


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


MOST_DIGITS = 7
"""Significant digits of a mean beyond which its interval is written by itself."""


def _length(entry: Mapping[str, Any]) -> str:
    """Return how long an experiment's networks were trained, or which epochs were imported."""
    epochs = entry.get("imported", ())
    if not epochs:
        return plural(entry["epochs"], "epoch")
    measured = f"epoch {epochs[0]}" if len(epochs) == 1 else f"{len(epochs)} epochs from {epochs[0]} to {epochs[-1]}"
    alone = "; with one seed there are values without intervals and verdicts" if len(entry["seeds"]) == 1 else ""
    return f"trained elsewhere, measured at {measured}{alone}"


def _origin(source: Any) -> str:
    """Return which study's runs a reused loss has, and what was trained otherwise there."""
    line = f"runs of the study {source.study}, used as they are"
    other = [f"{key} is {there} there and {here} here" for key, there, here in source.differences]
    if any(key.startswith("model") for key, *_ in source.differences):
        other.append("with two models seeds are paired by their number, and the initialisations differ")
    return "; ".join([line, *other])


class Names:
    """Names of a study's experiments and losses.

    Args:
        study: with `experiments` and `stated`, as `report_page` takes it.

    Raises:
        ValueError: a colour is not #rrggbb.
    """

    def __init__(self, study: Mapping[str, Any]) -> None:
        self.experiments = {entry["experiment"]: entry for entry in study["experiments"]}
        self.claims: Mapping[str, Claim] = {**CLAIMS, **study.get("stated", {})}
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

    def reused(self, experiment: str) -> dict[str, Any]:
        """Return the losses of an experiment whose runs other studies have made, in its order, with whose they are."""
        entry = self.experiments[experiment]
        found = entry.get("origins", {})
        return {loss: found[loss] for loss in entry["losses"] if loss in found}

    def losses(self, experiment: str) -> str:
        """Return the labels of an experiment's losses as a list in a sentence, with their models where these differ."""
        entry = self.experiments[experiment]
        models = {loss: f" ({model})" for loss, model in entry.get("models", {}).items()}
        return listed(entry["labels"][loss] + models.get(loss, "") for loss in entry["losses"])

    def where(self, experiment: str) -> str:
        """Return data set and model of an experiment, with its name where these are not unique."""
        entry = self.experiments[experiment]
        key = (entry["dataset"], entry["model"])
        alone = [(other["dataset"], other["model"]) for other in self.experiments.values()].count(key) == 1
        return ", ".join(key) if alone else f"{', '.join(key)} ({experiment})"

    def apart(self, experiment: str) -> str:
        """Return what tells an experiment from the study's others: nothing where it is the only one.

        Of data set and model only what differs, with the experiment's name where that is not enough.
        """
        others = list(self.experiments.values())
        if experiment not in self.experiments or len(others) < 2:
            return ""
        keys = [key for key in ("dataset", "model") if len({entry[key] for entry in others}) > 1]
        places = [tuple(entry[key] for key in keys) for entry in others]
        own = tuple(self.experiments[experiment][key] for key in keys)
        if places.count(own) == 1:
            return ", ".join(own)
        return f"{', '.join(own)} ({experiment})" if own else experiment

    def common(self) -> str:
        """Return data set and model as a part of a sentence, where all experiments share them; else nothing."""
        places = {(entry["dataset"], entry["model"]): entry for entry in self.experiments.values()}
        if len(places) != 1:
            return ""
        ((dataset, model), entry) = places.popitem()
        models = entry.get("models", {})
        return f"{dataset} with {listed(dict.fromkeys(models.get(loss, model) for loss in entry['losses']))}"

    def facts(self, where: bool) -> list[str]:
        """Return one line an experiment: what was trained, how often, how long.

        `where` says that data set and model are written also where all experiments share them.
        """
        place = self.where if where or not self.common() else self.apart
        return [
            line
            for name, entry in self.experiments.items()
            for line in (
                f"{': '.join(filter(None, (place(name), self.losses(name))))}; "
                f"{plural(len(entry['seeds']), 'seed')}, {_length(entry)}",
                *(f"{entry['labels'][loss]}: {_origin(source)}" for loss, source in self.reused(name).items()),
            )
        ]

    def runs(self) -> Iterable[tuple[str, tuple[str, str, str, int]]]:
        """Each run of the study as (experiment, (dataset, model, loss, seed))."""
        for name, entry in self.experiments.items():
            for loss in entry["losses"]:
                for seed in entry["seeds"]:
                    yield name, (entry["dataset"], entry.get("models", {}).get(loss, entry["model"]), loss, seed)
