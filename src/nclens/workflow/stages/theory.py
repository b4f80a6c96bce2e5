"""Evaluate the unconstrained feature model: closed forms beside their numeric values, and how fast it is reached."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.hessian import numeric_condition_numbers
from nclens.ufm.numeric import minimise
from nclens.ufm.regression_tables import problem_of
from nclens.ufm.regression_tables import theory_rows as regression_rows
from nclens.ufm.spectra import condition_numbers
from nclens.workflow import tables
from nclens.workflow.files import read_json
from nclens.workflow.paths import StudyFolder
from nclens.workflow.specs import Theory, TheoryRegression

SIZES = tuple(tables.SIZES)
KEYS = ("experiment", "dataset", "model", "loss", "smoothing", *SIZES)
LAMBDAS = tuple(tables.LAMBDAS)
PENALTIES = ("lambda_w", "lambda_h_total", "lambda_b")
QUANTITIES = ("logit_gap", "weight_norm", "feature_norm", "p_true", "p_other", "objective")

#: The dynamics run on a small model of their own, so that their cost does not grow with the data set.
LARGEST_CLASSES, PER_CLASS, SPARE_DIMS = 10, 10, 7
SMOOTHINGS = (0.0, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9)
FRACTION = 0.25

REGRESSION_KEYS = ("experiment", "dataset", "model", "loss", "lambda_w", "lambda_h_mean")


def theory(
    spec: Theory,
    root: Path,
    output: Path,
    dynamics_output: Path | None = None,
    regression_output: Path | None = None,
) -> None:
    """Write the theory tables of a study; classes and sample counts come from the data sets' manifests."""
    losses = []
    for item in spec.experiments:
        manifest = read_json(StudyFolder(root).manifest(item.dataset), "prepare")
        if len(set(manifest.get("train_counts", []))) > 1:
            names = ", ".join(item.losses)
            print(f"{item.dataset} is not balanced, which the closed forms presume: no theory for {names}")
            continue
        classes = len(manifest["classes"])
        sizes = {"classes": classes, "per_class": manifest["train"] // classes, "dim": item.dim or classes}
        for loss in item.losses:
            keys = {"experiment": item.experiment, "dataset": item.dataset, "model": item.model, "loss": loss}
            losses.append(keys | {"smoothing": item.smoothings[loss]} | sizes | vars(spec.penalties))
    write_tables(losses, output, dynamics_output)
    if regression_output is not None:
        write_regressions(spec.regressions, root, regression_output)


def write_regressions(experiments: Iterable[TheoryRegression], root: Path, output: Path) -> None:
    """Write the table of the regressions that are trained with the model's penalties, one block an experiment and loss.

    Mean and covariance of the targets come from the data sets' manifests.
    """
    rows = []
    for item in experiments:
        manifest = read_json(StudyFolder(root).manifest(item.dataset), "prepare")
        penalties = item.lambda_w, item.lambda_h_mean
        problem = problem_of(manifest["target_mean"], manifest["target_covariance"], item.dim, *penalties)
        found = regression_rows(problem)
        for loss in item.losses:
            keys = {key: {**vars(item), "loss": loss}[key] for key in REGRESSION_KEYS}
            rows += [keys | row for row in found]
    tables.write_rows(tables.REGRESSION, output, rows)


def write_tables(losses: Sequence[Mapping[str, Any]], output: Path, dynamics_output: Path | None = None) -> None:
    """Write the theory table and, where asked, the table of the dynamics, as CSV.

    Each item of ``losses`` has the keys experiment, dataset, model, loss, smoothing, classes, per_class, dim, lambda_w,
    lambda_h_total (N lambda_H), lambda_b; the tables' ``lambda_h`` is lambda_H of the model's own N samples. Numbers
    that are not defined stay empty: the closed form where dim < classes - 1, kappa_ce where W = H = 0, the relative
    error of a quantity whose closed form is 0, iterations to what was not reached. Raises ValueError for values outside
    their range.
    """
    rows = []
    for item in losses:
        given = {name: item[name] for name in (*SIZES, *PENALTIES, "smoothing")}
        problem = UnconstrainedFeatureModel.from_total(**given)
        keys = {key: item[key] for key in KEYS} | _lambdas(problem)
        rows += [keys | row for row in theory_rows(problem)]
    tables.write_rows(tables.THEORY, output, rows)
    if dynamics_output is not None:
        tables.write_rows(tables.DYNAMICS, dynamics_output, dynamics_rows(losses))


def theory_rows(problem: UnconstrainedFeatureModel) -> list[dict[str, Any]]:
    """Rows quantity, closed_form, numeric, relative_error = |numeric - closed_form| / |closed_form| of one problem.

    The numeric values come from the numeric minimiser and from eigenvalues of the Hessians at the point that it found.
    """
    found = minimise(problem)
    numeric: dict[str, float | None] = {name: getattr(found, name) for name in QUANTITIES}
    known = problem.dim >= problem.classes - 1 or problem.regime == "zero"
    closed: dict[str, float | None] = dict.fromkeys(QUANTITIES)
    if known:
        closed = {name: getattr(problem, name) for name in QUANTITIES} | condition_numbers(problem)
        numeric |= numeric_condition_numbers(problem, found.weight, found.class_features, found.bias)
    return [
        {
            "quantity": name,
            "closed_form": closed[name],
            "numeric": numeric[name],
            "relative_error": _relative_error(closed[name], numeric[name]),
        }
        for name in closed
    ]


def dynamics_rows(losses: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``nclens.ufm.dynamics.records`` for every distinct (classes, lambdas) among the losses.

    K is at most 10, n and d are small, N lambda_H is that of the loss; smoothings are a fixed grid and the losses' own.
    """
    # Imported here: torch takes seconds to load, and the theory table does without.
    from nclens.ufm.dynamics import descend, records

    settings: dict[tuple[Any, ...], set[float]] = {}
    for item in losses:
        key = (min(item["classes"], LARGEST_CLASSES), item["lambda_w"], item["lambda_h_total"], item["lambda_b"])
        settings.setdefault(key, set(SMOOTHINGS)).add(item["smoothing"])
    rows = []
    for (classes, *penalties), smoothings in settings.items():
        sizes = {"classes": classes, "per_class": PER_CLASS, "dim": classes - 1 + SPARE_DIMS}
        given = sizes | dict(zip(PENALTIES, penalties, strict=True))
        problems = [UnconstrainedFeatureModel.from_total(**given, smoothing=delta) for delta in sorted(smoothings)]
        keys = sizes | _lambdas(problems[0])
        # Where W = H = 0 is the minimiser there is no relative distance to it.
        problems = [problem for problem in problems if problem.regime == "simplex"]
        rows += [keys | record for record in records(descend(problems, fraction=FRACTION) if problems else [])]
    return rows


def _lambdas(problem: UnconstrainedFeatureModel) -> dict[str, float]:
    return dict(zip(LAMBDAS, (problem.lambda_w, problem.lambda_h_sum, problem.lambda_b), strict=True))


def _relative_error(closed: float | None, numeric: float | None) -> float | None:
    if closed is None or numeric is None or closed == 0:
        return None
    return abs(numeric - closed) / abs(closed)
