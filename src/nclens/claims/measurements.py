"""The measurements of an experiment's networks, as the claims look them up."""

from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd

KEYS = ["loss", "split", "metric"]


class Measurements:
    """The measurements of one experiment, indexed once.

    All comparisons of the experiment's losses share this object: searching the whole table for each of them would take
    time quadratic in the number of losses.

    Attributes:
        table: rows with the columns loss, seed, split, epoch, metric, value (more are allowed).
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    @cached_property
    def _places(self) -> dict[tuple[str, str, str], np.ndarray]:
        return cast("dict[tuple[str, str, str], np.ndarray]", self.table.groupby(KEYS, observed=True).indices)

    @cached_property
    def _of_losses(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for loss, _, metric in self._places:
            found.setdefault(loss, set()).add(metric)
        return found

    @cached_property
    def last_epoch(self) -> float:
        """The latest epoch of any row; nan where there is none."""
        return float(self.table["epoch"].max())

    @cached_property
    def _metrics(self) -> list[str]:
        return sorted(set().union(*self._of_losses.values()))

    def probed(self, metric: str) -> list[str]:
        """Return the metrics of a kind of probe: of that name, or of that name with the probe's after a slash."""
        return [name for name in self._metrics if name == metric or name.startswith(f"{metric}/")]

    def metrics_of(self, loss: str) -> set[str]:
        """Return the names of the metrics that a loss has in any split."""
        return self._of_losses.get(loss, set())

    def of(self, loss: str, split: str, metric: str) -> pd.DataFrame:
        """Return the rows of a loss, split and metric, in the table's order; none where there is none."""
        return self.table.iloc[self._places.get((loss, split, metric), np.array([], dtype=int))]
