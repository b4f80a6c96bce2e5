"""The mean over the seeds of a loss with its interval, epoch by epoch, as MLflow shows it beside the runs."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nclens.metrics.intervals import means

#: The least number of seeds that have an interval.
LEAST = 2
#: Metrics whose intervals are curves too. Those of all metrics would triple the charts and columns of the experiment.
WITH_ENDS = ("nc1", "nc2", "nc3", "nrc1", "nrc2", "nrc3", "error", "mse", "ece", "epoch_loss")


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean and 95% t interval over seeds of every metric at every epoch, as `nclens.metrics.intervals` has them.

    Args:
        rows: of one loss of an experiment: columns seed, split, epoch, metric, value; at least two seeds.

    Returns:
        columns split, metric, epoch, mean, low, high. A point is left out where the value of a seed is missing or not
        finite: the mean of the others is another quantity.
    """
    finite = rows[np.isfinite(rows["value"])].astype({"split": str, "metric": str})
    seeds = sorted(rows["seed"].unique())
    table = finite.pivot(index=["split", "metric", "epoch"], columns="seed", values="value")
    table = table.reindex(columns=seeds).dropna()
    mean, half = means(table.to_numpy())
    return table.index.to_frame(index=False).assign(mean=mean, low=mean - half, high=mean + half)


def curves(table: pd.DataFrame) -> Iterator[tuple[str, int, float]]:
    """Yield (key, epoch, value) of the curves of a table from `over_seeds`.

    `split/metric` is the mean. `split_low/metric` and `split_high/metric` are the ends of the interval, of the metrics
    `WITH_ENDS`.
    """
    ends = table[table["metric"].isin(WITH_ENDS)]
    for name, addition, part in (("mean", "", table), ("low", "_low", ends), ("high", "_high", ends)):
        columns = (part[key] for key in ("split", "metric", "epoch", name))
        for split, metric, epoch, value in zip(*columns, strict=True):
            yield f"{split}{addition}/{metric}", int(epoch), float(value)
