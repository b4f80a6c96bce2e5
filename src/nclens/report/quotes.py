r"""Every number of a study by its path, which a paper quotes by `\nclens{ls/train/nc1/last}`.

A path begins with the experiment. The document may leave it out where the study has one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nclens.metrics.intervals import means
from nclens.report.effects import Effect
from nclens.report.text import as_text, number, uncertain

LAST = "last"
"""In a path, the last epoch."""


class Quote(NamedTuple):
    """A number: its path, its value, and its text as the page writes it.

    The value of a mean with its interval is the mean; a verdict, a unit and an interval have None.
    """

    path: str
    value: float | None
    text: str


def measured(experiment: Mapping[str, Any], loss: str, metrics: pd.DataFrame, digits: int = 3) -> Iterator[Quote]:
    """Yield the numbers of a loss: at each snapshot the mean over seeds with half its 95% interval, and each seed's.

    Paths are EXPERIMENT/LOSS/SPLIT/METRIC/EPOCH and the same with /seedN. The last epoch is called `last` too, and has
    /mean, /half and /interval besides.

    Args:
        experiment: `experiment` (its name) and `epochs`, the last one.
        loss: the entry.
        metrics: rows of the experiment and loss, columns split, metric, epoch, seed, value.
        digits: significant digits of a number without an interval.
    """
    keys = ["split", "metric", "epoch"]
    names = metrics.astype({"split": object, "metric": object, "value": float})
    # A run without a value has no cell, which is not the same as a value that is not defined.
    values = names.set_index([*keys, "seed"])["value"]
    wide = values.unstack("seed").sort_index()
    there = pd.Series(1.0, index=values.index).unstack("seed").reindex_like(wide).notna().to_numpy()
    array = wide.to_numpy()
    mean, half = means(array, there)
    seeds = [int(seed) for seed in wide.columns]
    for place, (split, metric, epoch) in enumerate(wide.index):
        path = f"{experiment['experiment']}/{loss}/{split}/{metric}"
        own = [(seed, float(array[place, at])) for at, seed in enumerate(seeds) if there[place, at]]
        ends = [str(epoch), *([LAST] if epoch == experiment["epochs"] else [])]
        for end in ends:
            yield Quote(f"{path}/{end}", float(mean[place]), uncertain(float(mean[place]), float(half[place])))
            for seed, value in own:
                yield Quote(f"{path}/{end}/seed{seed}", value, number(value, digits))
        if LAST in ends:
            yield from averaged(f"{path}/{LAST}", float(mean[place]), float(half[place]), digits)


def averaged(path: str, mean: float, half: float, digits: int = 3) -> Iterator[Quote]:
    """Yield a mean and, where it has one, half its interval and its ends; equal values have none."""
    yield Quote(f"{path}/mean", mean, number(mean, digits))
    if np.isfinite(half) and half > 0:
        yield Quote(f"{path}/half", half, number(half, 2))
        ends = f"[{number(mean - half, digits)}, {number(mean + half, digits)}]"
        yield Quote(f"{path}/interval", None, ends)


def derived(losses: pd.DataFrame, known: set[str], digits: int = 3) -> Iterator[Quote]:
    """Yield the numbers of the table of losses that are no metrics, such as the epochs to collapse.

    Args:
        losses: columns of `nclens.report.summary.COLUMNS` and experiment.
        known: paths that have a number.
    """
    for row in losses.to_dict("records"):
        path = "/".join([*(str(row[name]) for name in ("experiment", "loss", "split", "metric")), LAST])
        if path not in known:
            mean, half = float(row["mean"]), float(row["high"] - row["low"]) / 2
            yield Quote(path, mean, "never" if np.isinf(mean) else uncertain(mean, half))
            yield from averaged(path, mean, half, digits)


def judged(claims: pd.DataFrame) -> Iterator[Quote]:
    """Yield the numbers of verdicts and measures, columns as in claims.csv.

    Paths are EXPERIMENT/CLAIM/..., of a measure EXPERIMENT/CLAIM/MEASURE/..., with effect, interval, low, high, unit,
    null, seeds, verdict, reason, smallest, p and p_holm. Where a claim is on several losses of an experiment, its name
    is followed by the loss, and where a loss is compared with several others, by the baseline too.
    """
    heads = claims[claims["level"] == "claim"]
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in heads.to_dict("records"):
        pairs.setdefault((row["experiment"], row["claim"]), []).append(_pair(row))
    for row in claims.to_dict("records"):
        own = pairs[row["experiment"], row["claim"]]
        loss, baseline = _pair(row)
        parts = [row["experiment"], row["claim"]]
        if len(own) > 1:
            parts.append(loss)
        if sum(other == loss for other, _ in own) > 1:
            parts.append(baseline)
        if row["level"] == "measure":
            parts.append(as_text(row["quantity"]))
        yield from _of_effect("/".join(parts), row)


def _pair(row: Mapping[Any, Any]) -> tuple[str, str]:
    return as_text(row["loss"]), as_text(row["baseline"])


def _of_effect(path: str, row: Mapping[Any, Any]) -> Iterator[Quote]:
    effect = Effect.of(row)
    yield Quote(f"{path}/verdict", None, str(row["verdict"]))
    if effect.reason:
        yield Quote(f"{path}/reason", None, effect.reason)
    if not effect.value:
        return
    yield Quote(f"{path}/effect", float(row["effect"]), effect.value)
    texts = {"interval": effect.interval, "unit": effect.unit}
    yield from (Quote(f"{path}/{name}", None, text) for name, text in texts.items() if text)
    if effect.interval:
        for name, text in zip(("low", "high"), effect.interval[1:-1].split(", "), strict=True):
            yield Quote(f"{path}/{name}", float(row[name]), text)
    for name in ("smallest", "p", "p_holm"):
        if text := getattr(effect, name):
            yield Quote(f"{path}/{name}", float(row[name]), text)
    if effect.null:
        yield Quote(f"{path}/null", float(row["null"]), effect.null)
    if effect.seeds.isdigit():
        yield Quote(f"{path}/seeds", float(effect.seeds), effect.seeds)


def repeated(quotes: Sequence[Quote]) -> list[str]:
    """Return the paths that two numbers have."""
    seen: set[str] = set()
    return [quote.path for quote in quotes if quote.path in seen or seen.add(quote.path)]  # type: ignore[func-returns-value]
