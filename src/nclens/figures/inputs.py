"""Inputs and outputs of figures, and their averages over seeds.

Each figure returns the table that it was drawn from. Each value that cannot
be drawn (missing, nan, inf, not positive on a log axis) is counted in that table and named on the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import is_color_like
from matplotlib.figure import Figure

from nclens.metrics.catalogue import metric
from nclens.metrics.intervals import half_width, t_interval

METRIC_COLUMNS = ("loss", "seed", "split", "epoch", "metric", "value")
THEORY_COLUMNS = ("loss", "quantity", "closed_form", "numeric")
DYNAMICS_COLUMNS = (
    "smoothing",
    "momentum",
    "step_rule",
    "fraction",
    "start",
    "distance",
    "quantity",
    "tolerance",
    "value",
)
PREDICTION_COLUMNS = ("loss", "penalties", "seed", "quantity", "measured", "predicted")
NC0_COLUMNS = ("loss", "seed", "epoch", "reference", "measured", "predicted", "rounding", "premise")
SPECIFICATION_COLUMNS = (
    *("claim", "loss", "baseline", "specification", "own", "measure", "matched", "split", "epoch", "level"),
    *("effect", "low", "high", "unit", "scale", "seeds", "verdict", "same_sign"),
)
REGRESSION_COLUMNS = ("loss", "lambda_w", "lambda_h_mean", "quantity", "closed_form", "numeric")


FEWEST_SEEDS = 4
"""The fewest seeds whose mean has an interval; of fewer, each is drawn: their t-interval can span the whole axis."""


def _empty(columns: Sequence[str]) -> Callable[[], pd.DataFrame]:
    return lambda: pd.DataFrame(columns=list(columns))


NO_SPECIFICATIONS = _empty(SPECIFICATION_COLUMNS)


def _not_kept(loss: str, seed: int) -> None:
    """The features of no run."""


class Drawing(NamedTuple):
    """A figure and the table that it was drawn from, one row per mark."""

    figure: Figure
    table: pd.DataFrame


@dataclass(frozen=True)
class FigureInputs:
    """All that the figures of one experiment are drawn from.

    Attributes:
        experiment: name of the experiment, written on each figure.
        metrics: the rows of this experiment, columns `METRIC_COLUMNS` (more are allowed).
        theory: the rows of this experiment, columns `THEORY_COLUMNS` (more are allowed); may be empty.
        losses: names of the loss entries in the order of drawing.
        labels: name of each loss on the figure.
        colours: a colour for each loss, such as "#0072B2"; the same on every figure.
        baseline: the loss that the others are compared with, one of `losses`; None where the experiment has none.
        last_features: (loss, seed) -> the arrays of the last epoch, keys as in the features file (`test.logits`
            (N, K), `test.targets` (N,), ...); called only by the figures that need them. Where the experiment keeps no
            features, `test.features` (P, d) are those of the samples `test.sampled` (P,), and `train.logits` is absent.
        dynamics: how fast the unconstrained feature model was reached, columns `DYNAMICS_COLUMNS` (more are allowed);
            of the study, not of the experiment; may be empty.
        predictions: what the unconstrained feature model predicts of each run, columns `PREDICTION_COLUMNS` (more are
            allowed); may be empty.
        smoothings: the smoothing δ in [0, 1) of each loss that has one.
        alphas: the strength α of each MaxSup loss that keeps it through training.
        drops: the epoch after which the strength of a loss is 0, for each loss that is dropped.
        teachers: of each distilled loss the `experiment`, `loss` and `label` of its teacher, the teacher's `smoothing`
            (None where it is neither cross entropy nor label smoothing), and `temperature` and `weight`.
        probes: the probes of the networks: `kind`, `suffix` (of the metrics' names) and the other settings of
            each (`dataset`, `smoothing`, `classes`, ...).
        projection_classes: the three classes that the projections show.
        class_names: of all classes, in the order of their numbers; without them classes are called by number.
        first_features: (loss, seed) -> the arrays of the first snapshot, as `last_features`; None where they were not
            kept.
        regression: the unconstrained feature model of regression, the rows of this experiment, columns
            `REGRESSION_COLUMNS` (more are allowed); may be empty.
        nc0: NC0 of each run and snapshot, measured and by its law, columns `NC0_COLUMNS` (more are allowed); may be
            empty.
        weight_decays: the weight decay that each loss was trained with.
        regularised: whether the penalties of the unconstrained feature model were trained with.
        target_names: what a regression predicts; without them targets are called by number.
        specifications: () -> the effects of C1 to C4 by each way to measure them, columns `SPECIFICATION_COLUMNS` (more
            are allowed); called only by the figure that shows them.
        held_out: the split that temperatures and the exponent of logit normalisation are fitted on: `val`, or `test`
            for a share of the test split.

    Raises:
        ValueError: a table lacks a column, a loss is named twice or lacks a label or a colour, the colour is none, the
            baseline is not among the losses, or a smoothing is outside [0, 1).
    """

    experiment: str
    metrics: pd.DataFrame
    theory: pd.DataFrame
    losses: Sequence[str]
    labels: Mapping[str, str]
    colours: Mapping[str, str]
    baseline: str | None
    last_features: Callable[[str, int], Mapping[str, np.ndarray]]
    dynamics: pd.DataFrame = field(default_factory=_empty(DYNAMICS_COLUMNS))
    predictions: pd.DataFrame = field(default_factory=_empty(PREDICTION_COLUMNS))
    smoothings: Mapping[str, float] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    teachers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    probes: Sequence[Mapping[str, Any]] = ()
    projection_classes: Sequence[int] = (0, 1, 2)
    class_names: Sequence[str] = ()
    first_features: Callable[[str, int], Mapping[str, np.ndarray] | None] = _not_kept
    regression: pd.DataFrame = field(default_factory=_empty(REGRESSION_COLUMNS))
    nc0: pd.DataFrame = field(default_factory=_empty(NC0_COLUMNS))
    weight_decays: Mapping[str, float] = field(default_factory=dict)
    regularised: bool = False
    target_names: Sequence[str] = ()
    held_out: str = "test"
    specifications: Callable[[], pd.DataFrame] = NO_SPECIFICATIONS

    def __post_init__(self) -> None:
        for name, table, columns in (
            ("metrics", self.metrics, METRIC_COLUMNS),
            ("theory", self.theory, THEORY_COLUMNS),
            ("dynamics", self.dynamics, DYNAMICS_COLUMNS),
            ("predictions", self.predictions, PREDICTION_COLUMNS),
            ("regression", self.regression, REGRESSION_COLUMNS),
            ("nc0", self.nc0, NC0_COLUMNS),
        ):
            if absent := [column for column in columns if column not in table.columns]:
                raise ValueError(f"the {name} table of {self.experiment} lacks the columns {', '.join(absent)}")
        if not self.losses or len(set(self.losses)) != len(self.losses):
            raise ValueError(f"losses of {self.experiment}: {list(self.losses)}; at least one, each once")
        for loss in self.losses:
            if loss not in self.labels:
                raise ValueError(f"loss {loss} of {self.experiment} has no label")
            if not is_color_like(self.colours.get(loss)):
                raise ValueError(f"colour of loss {loss}: {self.colours.get(loss)!r}; allowed: a colour like '#0072B2'")
        if self.baseline is not None and self.baseline not in self.losses:
            raise ValueError(f"baseline {self.baseline} of {self.experiment}; allowed: {', '.join(self.losses)}")
        for loss, smoothing in self.smoothings.items():
            if not 0 <= smoothing < 1:
                raise ValueError(f"smoothing of loss {loss} of {self.experiment}: {smoothing!r}; allowed: [0, 1)")

    @property
    def fitted_on(self) -> str:
        """The samples that temperatures and the exponent of logit normalisation are fitted on, in words."""
        return "the validation split" if self.held_out == "val" else "a held-out part of the test set"

    @property
    def scaled_part(self) -> str:
        """The test samples that scaled and unscaled scores are of, in words that follow `fitted_on`."""
        return "the whole test set" if self.held_out == "val" else "the rest"

    @property
    def last_epoch(self) -> int:
        """The last epoch in the metrics table (0 where it is empty)."""
        return int(self.metrics["epoch"].max()) if len(self.metrics) else 0

    def seeds(self, loss: str) -> list[int]:
        """The seeds of a loss, ascending."""
        return sorted(int(seed) for seed in self.metrics.loc[self.metrics["loss"] == loss, "seed"].unique())

    def class_name(self, label: int) -> str:
        """Name of a class."""
        return self.class_names[label] if label < len(self.class_names) else f"class {label}"

    def probes_of(self, kind: str) -> list[Mapping[str, Any]]:
        """The probes of a kind, in the study's order."""
        return [probe for probe in self.probes if probe["kind"] == kind]

    def select(self, metric: str, split: str, epoch: int | None = None) -> pd.DataFrame:
        """Rows of one metric on one split: loss, seed, epoch, value; in the order of the losses, epochs and seeds.

        Args:
            metric: a key of the metrics table.
            split: train or test.
            epoch: only this epoch; all of them by default.
        """
        table = self.metrics
        chosen = (table["metric"] == metric) & (table["split"] == split) & table["loss"].isin(list(self.losses))
        if epoch is not None:
            chosen &= table["epoch"] == epoch
        rows = table.loc[chosen, ["loss", "seed", "epoch", "value"]].astype({"loss": object, "value": float})
        rank = rows["loss"].map({loss: place for place, loss in enumerate(self.losses)})
        return rows.assign(rank=rank).sort_values(["rank", "epoch", "seed"]).drop(columns="rank").reset_index(drop=True)


def over_seeds(rows: pd.DataFrame, log: bool = False, fewest: int = FEWEST_SEEDS) -> pd.DataFrame:
    """Mean over seeds with its 95% t-interval, m ± t(0.975, n-1) s / √n, for each loss and epoch.

    Args:
        rows: columns loss, seed, epoch, value.
        log: average log(value) and go back, so that the mean is the geometric one and the interval lies where a log
            axis can show it; values that are not positive are then left out.
        fewest: the fewest values whose mean has an interval, at least 2.

    Returns:
        columns loss, epoch, mean, low, high, seeds, left_out, in the order of `rows`. `seeds` counts the values that
        were averaged, `left_out` those that could not be. `low` and `high` are nan under `fewest` of them, `mean` under
        one.
    """
    usable = can_be_drawn(rows["value"], log)
    values = rows["value"].where(usable)
    groups = (np.log(values) if log else values).groupby([rows["loss"], rows["epoch"]], sort=False)
    table = groups.agg(["mean", "std", "count"]).reset_index()
    count = table["count"].to_numpy()
    half = np.where(count >= fewest, half_width(table["std"], count), np.nan)
    back = np.exp if log else np.asarray
    mean = table["mean"].to_numpy()
    return pd.DataFrame(
        {
            "loss": table["loss"],
            "epoch": table["epoch"],
            "mean": back(mean),
            "low": back(mean - half),
            "high": back(mean + half),
            "seeds": count,
            "left_out": groups.size().to_numpy() - count,
        }
    )


def with_seeds(rows: pd.DataFrame, log: bool = False) -> pd.DataFrame:
    """Means over seeds, and the seeds of those losses that have too few of them for an interval: what is drawn.

    Args:
        rows: columns loss, seed, epoch, value.
        log: as `over_seeds` takes it.

    Returns:
        the columns of `over_seeds` and `seed`. It is empty in the row of a mean. In the row of a seed `mean` is its
        value, nan where that cannot be drawn.
    """
    means = over_seeds(rows, log)
    return joined_with(means, seed_values(rows, with_few_seeds(means), log))


def with_few_seeds(means: pd.DataFrame) -> list[str]:
    """The losses in `over_seeds` that have several seeds, and somewhere too few for an interval."""
    return list(means.loc[means["seeds"].between(2, FEWEST_SEEDS - 1), "loss"].unique())


def seed_values(rows: pd.DataFrame, losses: Sequence[str], log: bool = False) -> pd.DataFrame:
    """The values of some losses: columns loss, epoch, seed and mean, nan where a value cannot be drawn."""
    own = rows[rows["loss"].isin(losses)]
    return own[["loss", "epoch", "seed"]].assign(mean=own["value"].where(can_be_drawn(own["value"], log)))


def joined_with(means: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """One table of the means, whose `seed` is empty, and of the seeds."""
    counts = {name: "Int64" for name in means if str(name).endswith(("seeds", "left_out"))}
    table = means.assign(seed=pd.Series(pd.NA, index=means.index, dtype="Int64")).astype(counts)
    return pd.concat([table, seeds.astype({"seed": "Int64"})], ignore_index=True) if len(seeds) else table


def means_of(table: pd.DataFrame) -> pd.DataFrame:
    """The means of a table that may have rows of seeds too."""
    return table[table["seed"].isna()] if "seed" in table else table


def centre(values: pd.Series, log: bool = False) -> float:
    """The mean of one group of values as `over_seeds` has it, geometric where `log`: seaborn's `estimator`.

    >>> round(centre(pd.Series([1.0, 100.0]), log=True), 9)
    10.0
    """
    array = values.to_numpy(float)
    return float(np.exp(np.log(array).mean()) if log else array.mean())


def interval(
    values: pd.Series, log: bool = False, least: float = -np.inf, most: float = np.inf, fewest: int = FEWEST_SEEDS
) -> tuple[float, float]:
    """The interval of one group of values as `over_seeds` has it, within a range: seaborn's `errorbar`."""
    if len(values) < fewest:
        return np.nan, np.nan
    array = values.to_numpy(float)
    _, low, high = t_interval(np.log(array) if log else array)  # type: ignore[arg-type]
    low, high = (float(np.exp(low)), float(np.exp(high))) if log else (low, high)
    return max(low, least), min(high, most)


def range_of(name: str, percent: bool = False) -> tuple[float, float]:
    """The range that the definition of a metric allows; of one that is not in the catalogue, that of its axis.

    >>> range_of("error"), range_of("nc1"), range_of("speed"), range_of("epoch_error", percent=True)
    ((0.0, 1.0), (0.0, inf), (-inf, inf), (0.0, 1.0))
    """
    if (known := metric(name)) is not None:
        return known.least, known.most
    return (0.0, 1.0) if percent else (-np.inf, np.inf)


def can_be_drawn(values: pd.Series, log: bool = False) -> pd.Series:
    """True where a value is finite and, on a log axis, positive."""
    return pd.Series(np.isfinite(values) & ((values > 0) if log else True), index=values.index)


def omissions(inputs: FigureInputs, rows: pd.DataFrame, name: str, log: bool = False) -> list[str]:
    """What cannot be drawn of a metric, one phrase for each loss concerned.

    Counted are the values that are nan, infinite or (on a log axis) not positive, and the seeds that have no value at
    an epoch at which the loss's other seeds have one. Empty where all is drawn.

    Args:
        inputs: what the figure is drawn from.
        rows: columns loss, seed, epoch, value, as from `select`.
        name: of the metric, as shown.
        log: whether the axis is logarithmic.
    """
    if rows.empty:
        return [f"{name}: no values"]
    phrases = []
    for loss in inputs.losses:
        own = rows[rows["loss"] == loss]
        if own.empty:
            phrases.append(f"{name}, {inputs.labels[loss]}: no values")
            continue
        expected = own["epoch"].nunique() * max(len(inputs.seeds(loss)), own["seed"].nunique())
        value = own["value"]
        kinds = {
            "missing": expected - len(own),
            "nan": int(value.isna().sum()),
            "infinite": int(np.isinf(value).sum()),
            "not positive": int((np.isfinite(value) & (value <= 0)).sum()) if log else 0,
        }
        if any(kinds.values()):
            detail = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
            phrases.append(f"{name}, {inputs.labels[loss]}: {detail}, of {expected} values")
    return phrases


def seeds_note(inputs: FigureInputs) -> str:
    """The number of seeds, such as "n = 3 seeds" or "seeds: CE 3, LS 2"."""
    counts = {loss: len(inputs.seeds(loss)) for loss in inputs.losses}
    if len(set(counts.values())) == 1:
        count = counts[inputs.losses[0]]
        return f"n = {count} seed" + ("s" if count != 1 else "")
    return "seeds: " + ", ".join(f"{inputs.labels[loss]} {count}" for loss, count in counts.items())


def interval_note(
    inputs: FigureInputs, table: pd.DataFrame, mark: str, interval: str, seeds: str = "", geometric: str = ""
) -> str:
    """Meaning of the marks, such as "Line: mean over seeds, band: its 95% t-interval".

    Args:
        inputs: what the figure is drawn from.
        table: what is drawn, columns loss, seed, low, seeds.
        mark: what the mean is drawn as.
        interval: what the interval is drawn as.
        seeds: what seeds are drawn as, where they are too few for an interval; without it they are not explained.
        geometric: where the mean is the geometric one, if anywhere, such as "on log axes".
    """
    takes = f"an interval takes {FEWEST_SEEDS} seeds"
    counts = means_of(table).groupby("loss", sort=False)["seeds"].max()
    if len(counts) and counts.max() == 1:
        return f"{mark}: the single seed's values, no {interval} ({takes})"
    text = f"{mark}: mean over seeds" + (f" ({geometric} the geometric one)" if geometric else "")
    apart = bool(seeds) and bool(table["seed"].notna().any())
    if not table["low"].notna().any():
        return text + (f", {seeds}: each seed" if apart else "")
    text += f", {interval}: its 95% t-interval"
    single = [inputs.labels[loss] for loss in inputs.losses if counts.get(loss) == 1]
    text += f" (none for {', '.join(single)}: {takes})" if single else ""
    return text + (f", {seeds}: each seed, where they are fewer than {FEWEST_SEEDS}" if apart else "")
