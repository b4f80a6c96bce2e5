"""Compare trained networks with what theory predicts: the unconstrained feature model, and the law of NC0."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nclens.data.tasks import sample_count
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.effective import EffectivePenalties, fit_effective_penalties
from nclens.ufm.nc0 import nc0_rounding
from nclens.ufm.regression_tables import predictions as regression_predictions
from nclens.ufm.regression_tables import problem_of
from nclens.workflow import tables
from nclens.workflow.build.descent import broken_premise, law_of
from nclens.workflow.files import read_json
from nclens.workflow.paths import StudyFolder, run_path
from nclens.workflow.specs import OfRuns, Penalties, Predict, PredictExperiment, PredictNC0, PredictRegression

#: Quantity -> the metric that measures it.
MEASURED = {
    "logit_gap": "logit_gap",
    "weight_norm": "classifier_norm",
    "feature_norm": "feature_norm",
    "confidence": "confidence",
}
#: Quantity -> the model's name for what predicts it, where that is another one.
PREDICTED = {"confidence": "p_true"}
FEWEST_SMOOTHINGS = 3
FEWEST_POINTS = 2

Table = dict[tuple[str, int], dict[str, float]]


def predict(
    spec: Predict,
    metrics: Path,
    root: Path,
    output: Path,
    effective_output: Path,
    nc0_output: Path | None = None,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Write the predictions for every run, and the effective penalties behind them; only headers where there are none.

    A run's numbers are those of its last snapshot on the training split. Where training had the model's penalties
    (``regularised``) they predict; where it had plain weight decay, penalties fitted to the same seed's runs at the
    experiment's other smoothings do, if it has three smoothings or more. Nothing is predicted for a feature dimension
    below classes - 1, for which no closed form is known.

    Args:
        spec: the penalties and experiments. Rows of regressions have penalties ``explicit``, no smoothing, and
            ``lambda_h_mean`` in place of the other penalties on features and bias.
        metrics: R/metrics.parquet.
        root: R, for the data sets' manifests and the feature dimension in each experiment's first run.json.
        output: R/theory/predictions.csv. ``relative_error`` is |measured - predicted| / |predicted|: 1, its limit, for
            an infinite prediction, and empty for a prediction of 0 or none. ``lambda_b`` is empty beside effective
            penalties, which it is no part of.
        effective_output: R/theory/effective.csv, one row a seed and held-out smoothing: the fit of
            ``nclens.ufm.effective``. Networks whose gap or norms are not positive and finite cannot be fitted to and
            are left out, so that ``points`` may be less than the number of other smoothings; under two there is no fit.
        nc0_output: R/theory/nc0.csv, one row a run and snapshot: NC0 of the classifier, measured and by its law
            (``nclens.ufm.nc0``) from the value at ``reference``, the first snapshot; ``rounding`` is how far rounding
            to float32 may take it from the law, ``premise`` what fails of the law's premise. Not of networks trained
            elsewhere, whose training is not known.
        sources: the folders of runs that other studies have made; see `nclens.workflow.paths.StudyFolder`.

    Raises:
        FileError: an input is missing or damaged, or an output cannot be written; names the file.
        ValueError: the metrics lack a number that is needed, or a model's `dim` is not that of its networks; names it.
    """
    predictions: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    folder = StudyFolder(root, sources or {})
    for experiment in (item for item in spec.experiments if item.losses):
        manifest = read_json(folder.manifest(experiment.dataset), "prepare")
        classes = len(manifest["classes"])
        dim = _dim(experiment, folder)
        unbalanced = len(set(manifest.get("train_counts", []))) > 1
        few = len(set(experiment.smoothings.values())) < FEWEST_SMOOTHINGS
        if unbalanced or dim < classes - 1 or (few and not experiment.regularised):
            continue
        measured = _measured(experiment, MEASURED, metrics)
        sizes = {"classes": classes, "per_class": sample_count(manifest) // classes, "dim": dim}
        if experiment.regularised:
            predictions += _explicit(experiment, sizes, spec.penalties, measured)
        else:
            found = _fits(experiment, classes, measured)
            fits += [_fit_row(experiment, *key, fit) for key, fit in found.items()]
            predictions += _effective(experiment, sizes["per_class"], found, measured)
    for regression in spec.regressions:
        manifest = read_json(folder.manifest(regression.dataset), "prepare")
        predictions += _regression(regression, manifest, _dim(regression, folder), metrics)
    for rows, table, path in ((predictions, tables.PREDICTIONS, output), (fits, tables.EFFECTIVE, effective_output)):
        tables.write(table, path, pd.DataFrame(rows, columns=list(table.columns)))
    if nc0_output is not None:
        laws = [row for item in spec.nc0 for row in _nc0(item, folder, metrics)]
        tables.write_rows(tables.NC0, nc0_output, laws)


def _dim(experiment: PredictExperiment | PredictRegression, folder: StudyFolder) -> int:
    """Return the feature dimension d of an experiment's networks; a `dim` in the study must be it."""
    loss = experiment.losses[0]
    place = run_path(experiment.dataset, experiment.model_of(loss), loss, experiment.seeds[0])
    found: int = read_json(folder.run(place).run, "train")["dim"]
    if experiment.dim not in (None, found):
        model = experiment.model_of(loss)
        raise ValueError(
            f"models.{model}.dim is {experiment.dim}, but the network's features have {found} dimensions; "
            f"write dim: {found}, or leave it out"
        )
    return found


def _nc0(item: PredictNC0, folder: StudyFolder, path: Path) -> Iterator[dict[str, Any]]:
    """Yield NC0 of every run of an experiment, snapshot by snapshot, measured and by its law."""
    manifest = read_json(folder.manifest(item.dataset), "prepare")
    classes = len(manifest["classes"])
    chosen = [("experiment", "==", item.experiment), ("split", "==", "train"), ("metric", "in", ["nc0", "nc0_share"])]
    columns = ["loss", "seed", "epoch", "metric", "value"]
    table = tables.read(tables.COLLECTED, path, columns, chosen).astype({"loss": str, "metric": str})
    wide = table.set_index(columns[:-1])["value"].unstack("metric").reindex(columns=["nc0", "nc0_share"]).reset_index()
    runs = dict(list(wide.sort_values("epoch").groupby(["loss", "seed"])))
    for loss in item.losses:
        descent = item.descents[loss]
        steps = manifest["train"] // descent.batch_size
        law, premise = law_of(descent, item.epochs, steps), broken_premise(descent, classes)
        for seed in item.seeds:
            if (loss, seed) not in runs:
                where = f"{item.experiment}, {loss}, seed {seed}"
                raise ValueError(f"{path}: nc0 of {where} on the training split must be there at one epoch or more")
            names = {"experiment": item.experiment, "dataset": item.dataset, "model": item.model_of(loss)}
            record = folder.run(run_path(item.dataset, item.model_of(loss), loss, seed)).run
            failing = premise or _of_classifier(record)
            for row in _by_law(runs[loss, seed], law, steps, classes):
                yield {**names, "loss": loss, "seed": seed, **row, "premise": failing}


def _of_classifier(record: Path) -> str:
    """Return what a run.json says of a classifier whose weight the steps do not move by its own gradient, or nothing.

    Runs of earlier versions do not say it.
    """
    said = read_json(record, "train").get("classifier", "") if record.is_file() else ""
    return f"the classifier is no ordinary linear layer: {said}" if said else ""


def _by_law(run: pd.DataFrame, law: np.ndarray, steps: int, classes: int) -> Iterator[dict[str, Any]]:
    """Yield NC0 of a run, of which there are epoch, nc0 and nc0_share, beside the law of so many steps an epoch."""
    first, squared_norm = int(run["epoch"].iloc[0]), 0.0
    start = run["nc0"].iloc[0]
    for epoch, nc0, share in run[["epoch", "nc0", "nc0_share"]].itertuples(index=False, name=None):
        # A share of 0 leaves the norm open; one of rows that sum to zero exactly needs no rounding.
        squared_norm = max(squared_norm, nc0 / share) if share > 0 else squared_norm
        with np.errstate(divide="ignore", invalid="ignore"):
            predicted = float(start * (law[epoch * steps] / law[first * steps]))
        rounding = nc0_rounding(predicted, squared_norm, (epoch - first) * steps, classes)
        yield {"epoch": epoch, "reference": first, "measured": nc0, "predicted": predicted, "rounding": rounding}


def _measured(experiment: OfRuns, quantities: Mapping[str, str], path: Path) -> Table:
    """Return (loss entry, seed) -> quantity -> value after the last epoch, on the training split."""
    keys = ["loss", "seed", "metric"]
    chosen = [
        *(("experiment", "==", experiment.experiment), ("split", "==", "train"), ("epoch", "==", experiment.epochs)),
        ("metric", "in", list(quantities.values())),
    ]
    table = tables.read(tables.COLLECTED, path, [*keys, "value"], chosen)
    values: dict[tuple[str, int, str], list[float]] = {}
    for loss, seed, metric, value in table.itertuples(index=False, name=None):
        values.setdefault((loss, seed, metric), []).append(float(value))
    found: Table = {}
    for loss in experiment.losses:
        for seed in experiment.seeds:
            for quantity, metric in quantities.items():
                if (count := len(values.get((loss, seed, metric), ()))) != 1:
                    raise ValueError(
                        f"{path}: {metric} of {experiment.experiment}, {loss}, seed {seed}, epoch {experiment.epochs} "
                        f"on the training split must be there once, not {count} times"
                    )
                found.setdefault((loss, seed), {})[quantity] = values[loss, seed, metric][0]
    return found


def _explicit(
    experiment: PredictExperiment, sizes: Mapping[str, Any], penalties: Penalties, measured: Table
) -> Iterator[dict[str, Any]]:
    for (loss, seed), values in measured.items():
        problem = UnconstrainedFeatureModel.from_total(
            **sizes, **vars(penalties), smoothing=experiment.smoothings[loss]
        )
        predicted = {quantity: getattr(problem, PREDICTED.get(quantity, quantity)) for quantity in MEASURED}
        lambdas = {"lambda_w": problem.lambda_w, "lambda_h": problem.lambda_h_sum, "lambda_b": problem.lambda_b}
        keys = {"loss": loss, "smoothing": problem.smoothing, "penalties": "explicit", **lambdas, "seed": seed}
        yield from _rows(experiment, keys, values, predicted)


def _regression(
    item: PredictRegression, manifest: Mapping[str, Any], dim: int, metrics: Path
) -> Iterator[dict[str, Any]]:
    penalties = {"lambda_w": item.lambda_w, "lambda_h_mean": item.lambda_h_mean}
    problem = problem_of(manifest["target_mean"], manifest["target_covariance"], dim, **penalties)
    predicted = regression_predictions(problem)
    for (loss, seed), values in _measured(item, {name: name for name in predicted}, metrics).items():
        keys = {"loss": loss, "smoothing": None, "penalties": "explicit", **penalties, "seed": seed}
        yield from _rows(item, keys, values, predicted)


def _effective(
    experiment: PredictExperiment,
    per_class: int,
    fits: Mapping[tuple[int, float], EffectivePenalties | None],
    measured: Table,
) -> Iterator[dict[str, Any]]:
    for (loss, seed), values in measured.items():
        smoothing = experiment.smoothings[loss]
        fit = fits[seed, smoothing]
        keys: dict[str, Any] = {"loss": loss, "smoothing": smoothing, "penalties": "effective", "seed": seed}
        predicted = dict.fromkeys(MEASURED, np.nan)
        if fit is not None:
            found = fit.predict(smoothing)
            predicted = {quantity: found[PREDICTED.get(quantity, quantity)] for quantity in MEASURED}
            keys |= {"lambda_w": fit.lambda_w, "lambda_h": fit.n_lambda_h / per_class}
        yield from _rows(experiment, keys, values, predicted)


def _fits(
    experiment: PredictExperiment, classes: int, measured: Table
) -> dict[tuple[int, float], EffectivePenalties | None]:
    """Return (seed, held-out smoothing) -> the fit to the seed's runs at all other smoothings; None without one."""
    found: dict[tuple[int, float], EffectivePenalties | None] = {}
    for seed in experiment.seeds:
        for held_out in dict.fromkeys(experiment.smoothings[loss] for loss in experiment.losses):
            others = {
                loss: experiment.smoothings[loss]
                for loss in experiment.losses
                if experiment.smoothings[loss] != held_out and _can_be_fitted(measured[loss, seed])
            }
            columns = (
                [measured[loss, seed][name] for loss in others] for name in ("logit_gap", "weight_norm", "feature_norm")
            )
            enough = len(set(others.values())) >= FEWEST_POINTS
            found[seed, held_out] = (
                fit_effective_penalties(classes, list(others.values()), *columns) if enough else None
            )
    return found


def _can_be_fitted(values: Mapping[str, float]) -> bool:
    return all(0 < values[name] < np.inf for name in ("logit_gap", "weight_norm", "feature_norm"))


def _rows(
    experiment: OfRuns, keys: Mapping[str, Any], values: Mapping[str, float], predicted: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    model = experiment.model_of(keys["loss"])
    names = {"experiment": experiment.experiment, "dataset": experiment.dataset, "model": model}
    for quantity, value in values.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            error = abs(np.float64(value) / predicted[quantity] - 1)
        yield {
            **names,
            **keys,
            "quantity": quantity,
            "measured": value,
            "predicted": predicted[quantity],
            "relative_error": error if np.isfinite(error) else np.nan,
        }


def _fit_row(
    experiment: PredictExperiment, seed: int, held_out: float, fit: EffectivePenalties | None
) -> dict[str, Any]:
    row = {"experiment": experiment.experiment, "seed": seed, "held_out": held_out, "points": 0}
    return row | {name: getattr(fit, name) for name in list(tables.EFFECTIVE.columns)[3:]} if fit else row
