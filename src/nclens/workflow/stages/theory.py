"""Evaluate the unconstrained feature model: closed forms beside their numeric values, and how fast it is reached."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nclens.data.tasks import sample_count
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.classification_tables import PENALTIES, dynamics_rows, lambdas, theory_rows
from nclens.ufm.regression_tables import problem_of
from nclens.ufm.regression_tables import theory_rows as regression_rows
from nclens.workflow import tables
from nclens.workflow.files import read_json
from nclens.workflow.paths import StudyFolder
from nclens.workflow.specs import Theory, TheoryRegression

KEYS = ("experiment", "dataset", "model", "loss", "smoothing", *tables.SIZES)
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
        sizes = {"classes": classes, "per_class": sample_count(manifest) // classes, "dim": item.dim or classes}
        for loss in item.losses:
            model = item.models.get(loss, item.model)
            keys = {"experiment": item.experiment, "dataset": item.dataset, "model": model, "loss": loss}
            losses.append(keys | {"smoothing": item.smoothings[loss]} | sizes | vars(spec.penalties))
    write_tables(losses, output, dynamics_output)
    if regression_output is not None:
        write_regressions(spec.regressions, root, regression_output)


def write_regressions(experiments: Iterable[TheoryRegression], root: Path, output: Path) -> None:
    """Write the table of the regressions that are trained with the model's penalties, one block an experiment and loss.

    Mean and covariance of the targets come from the data sets' manifests.
    """

    @cache
    def solved(dataset: str, dim: int | None, lambda_w: float, lambda_h_mean: float) -> list[dict[str, Any]]:
        manifest = read_json(StudyFolder(root).manifest(dataset), "prepare")
        targets = manifest["target_mean"], manifest["target_covariance"]
        return regression_rows(problem_of(*targets, dim, lambda_w, lambda_h_mean))

    rows = []
    for item in experiments:
        found = solved(item.dataset, item.dim, item.lambda_w, item.lambda_h_mean)
        for loss in item.losses:
            own = {"model": item.models.get(loss, item.model), "loss": loss}
            keys = {key: {**vars(item), **own}[key] for key in REGRESSION_KEYS}
            rows += [keys | row for row in found]
    tables.write_rows(tables.REGRESSION, output, rows)


def write_tables(losses: Sequence[Mapping[str, Any]], output: Path, dynamics_output: Path | None = None) -> None:
    """Write the theory table and, with `dynamics_output`, the table of the dynamics, as CSV.

    Each item of ``losses`` has the keys experiment, dataset, model, loss, smoothing, classes, per_class, dim, lambda_w,
    lambda_h_total (N lambda_H), lambda_b; the tables' ``lambda_h`` is lambda_H of the model's own N samples. Numbers
    that are not defined stay empty: the closed form where dim < classes - 1, kappa_ce where W = H = 0, the relative
    error of a quantity whose closed form is 0, iterations to what was not reached. Raises ValueError for values outside
    their range.
    """
    solved = cache(theory_rows)  # experiments often share their problems, which take seconds each
    rows = []
    for item in losses:
        given = {name: item[name] for name in (*tables.SIZES, *PENALTIES, "smoothing")}
        problem = UnconstrainedFeatureModel.from_total(**given)
        keys = {key: item[key] for key in KEYS} | lambdas(problem)
        rows += [keys | row for row in solved(problem)]
    tables.write_rows(tables.THEORY, output, rows)
    if dynamics_output is not None:
        tables.write_rows(tables.DYNAMICS, dynamics_output, dynamics_rows(losses))
