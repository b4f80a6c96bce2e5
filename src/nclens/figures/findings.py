"""What a figure shows, as a sentence with numbers of the figure's own table: for those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nclens.figures.inputs import FigureInputs, means_of
from nclens.metrics.catalogue import SPLITS, metric

MOST_NAMED = 3
"""More losses than these are described by the lowest and the highest value."""


def compared(inputs: FigureInputs, values: pd.Series) -> str:
    """Return values by loss from the lowest to the highest, such as "LS 0.037, CE 0.079"; empty without any.

    Args:
        inputs: has the labels.
        values: index: losses.
    """
    known = values.astype(float)
    known = known[np.isfinite(known)].sort_values(kind="stable")
    named = [f"{inputs.labels[str(loss)].replace('$', '')} {value:.3g}" for loss, value in known.items()]
    return ", ".join(named) if len(named) <= MOST_NAMED else f"from {named[0]} to {named[-1]}"


def last_values(inputs: FigureInputs, table: pd.DataFrame) -> str:
    """Return the last mean of every metric by loss.

    Args:
        inputs: has the labels.
        table: columns metric, split, loss, epoch, mean; rows of single seeds are passed over.
    """
    table = means_of(table)
    if table.empty or table["mean"].isna().all():
        return "No finite values."
    epoch = int(table["epoch"].max())
    # A loss that ends earlier, or whose last value cannot be drawn, is not compared with the others' last ones.
    last = table[table["epoch"] == epoch].drop_duplicates(["metric", "split", "loss"])
    phrases = [
        phrase(name_of(str(name), str(split)), compared(inputs, own.set_index("loss")["mean"]))
        for (name, split), own in last.groupby(["metric", "split"], sort=False)
    ]
    return joined([f"After epoch {epoch}", *phrases])


def name_of(name: str, split: str) -> str:
    """Return what a metric of a set is called."""
    known = metric(name)
    return f"{known.label if known else name.replace('_', ' ')} ({SPLITS.get(split, split)})"


def phrase(name: str, text: str) -> str:
    """Return a name with what is said of it; empty where nothing is."""
    return f"{name}: {text}" if text else ""


def joined(phrases: Iterable[str]) -> str:
    """Return one sentence of all phrases that are not empty."""
    said = [text for text in phrases if text]
    return "; ".join(said) + "." if said else ""
