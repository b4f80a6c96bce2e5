"""The report of a study: one self-contained HTML page, made from tables, images and plain dicts.

The page is a list of sections; a new one is a function that returns a `Section`, and a template in
`nclens/report/templates`. Nothing here reads a file, a clock or a network: the same inputs give the same bytes. The
templates escape all text.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import pandas as pd

from nclens.claims import ClaimRow
from nclens.figures.film_inputs import Film
from nclens.report.drawing import picture
from nclens.report.figures import Drawn, Figures, claim_figures, other_figures
from nclens.report.film import film_section
from nclens.report.links import Links
from nclens.report.losses import losses_side_by_side
from nclens.report.page import Section, render
from nclens.report.provenance import provenance, reproduce
from nclens.report.regression import regression as regression_section
from nclens.report.tables import run_table
from nclens.report.text import Names
from nclens.report.theory import GIVEN, ufm_theory
from nclens.report.verdicts import judged_claims, lead, verdicts

__all__ = [
    "CLAIM_COLUMNS",
    "DYNAMICS_COLUMNS",
    "EFFECTIVE_COLUMNS",
    "METRIC_COLUMNS",
    "PREDICTION_COLUMNS",
    "REGRESSION_COLUMNS",
    "THEORY_COLUMNS",
    "Drawn",
    "Section",
    "picture",
    "render",
    "report_page",
]

CLAIM_COLUMNS = tuple(field.name for field in fields(ClaimRow))
METRIC_COLUMNS = ("experiment", "dataset", "model", "loss", "seed", "split", "epoch", "metric", "value")
THEORY_COLUMNS = (
    *("experiment", "dataset", "model", "loss", "smoothing", *GIVEN),
    *("quantity", "closed_form", "numeric", "relative_error"),
)
DYNAMICS_COLUMNS = (
    *(*GIVEN, "smoothing", "momentum", "step_rule", "fraction", "start", "distance", "quantity", "tolerance", "value"),
)
PREDICTION_COLUMNS = ("experiment", "loss", "smoothing", "penalties", "seed", "quantity", "measured", "predicted")
EFFECTIVE_COLUMNS = (
    *("experiment", "seed", "held_out", "s", "rms_relative_residual", "ratio_rms_relative_residual"),
    *("log_s_standard_error", "points"),
)
REGRESSION_COLUMNS = (
    *("experiment", "dataset", "model", "loss", "lambda_w", "lambda_h_mean"),
    *("quantity", "closed_form", "numeric", "relative_error"),
)


def report_page(
    study: Mapping[str, Any],
    claims: pd.DataFrame,
    metrics: pd.DataFrame,
    *,
    losses: pd.DataFrame | None = None,
    theory: pd.DataFrame | None = None,
    dynamics: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
    effective: pd.DataFrame | None = None,
    regression: pd.DataFrame | None = None,
    figures: Mapping[tuple[str, str], Drawn] | None = None,
    datasets: Mapping[str, Mapping[str, Any]] | None = None,
    runs: Mapping[tuple[str, str, str, int], Mapping[str, Any]] | None = None,
    folder: Any = None,
    has: Callable[[str], bool] | None = None,
    repository: str | None = None,
    tracking: Mapping[str, str] | None = None,
    films: Mapping[str, Film] | None = None,
    reused: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return the report as one HTML page, which loads nothing and needs no script.

    Args:
        study: study (its name), title, command (that reproduces it), and experiments, each with experiment (its name),
            dataset, model, losses, labels and colours (loss -> label, #rrggbb), baseline, seeds, epochs and figures
            (stems). Optional for an experiment: task (default classification), transfer (further data sets) and, for
            regression, weight_decays (loss -> weight decay) and regularised; origins, loss -> the study, experiment and
            loss that its runs are of, the command that makes them and what was trained otherwise. Optional: stated,
            id -> the claims that the study states beside the built-in ones.
        claims: verdicts and their measures, columns `CLAIM_COLUMNS`; the order of rows is kept.
        metrics: every metric of every run, columns `METRIC_COLUMNS`.
        losses: means of every loss, columns of `nclens.report.summary.COLUMNS` and experiment; None for no section.
        theory: closed forms and numeric values, columns `THEORY_COLUMNS`; None for no section.
        dynamics: descents on the unconstrained feature model, columns `DYNAMICS_COLUMNS`.
        predictions: the model's predictions for each run, columns `PREDICTION_COLUMNS`.
        effective: the fits behind the predictions by effective penalties, columns `EFFECTIVE_COLUMNS`.
        regression: the model of regression, closed forms and numeric values, columns `REGRESSION_COLUMNS`.
        figures: (experiment, stem) -> what was drawn.
        datasets: data set -> its manifest: source, licence, citation, sha256, classes, shape, train, test.
        runs: (dataset, model, loss, seed) -> its record: versions, git_revision, device, threads, wall_time (s), ...
        folder: the study's files by their paths below its folder, where the page will lie: a
            `nclens.workflow.paths.StudyFolder` of the root "."; None for no links to files.
        has: path below the study's folder -> whether the file is there: only such files are linked.
        repository: address of the repository's page, for links to the code at the commit of the runs.
        tracking: `uri` of the tracking server and `experiment_id` of the study, for links to recorded runs.
        films: experiment -> its film.
        reused: DATASET/MODEL/LOSS of runs that another study has made -> `root`, that study's folder below this one's,
            `path` of the runs below it, `sha256` of their files, and `tracking` as above.

    Figures, manifests and records that are missing are named on the page.

    Raises:
        ValueError: a table lacks a column; a claim, measure, verdict or level of the claims, or a quantity of the
            theory, is unknown; a measure belongs to no verdict; a colour is not #rrggbb; or an image is not a whole
            SVG of a figure.
    """
    for name, table, columns in (
        ("claims", claims, CLAIM_COLUMNS),
        ("metrics", metrics, METRIC_COLUMNS),
        ("theory", theory, THEORY_COLUMNS),
        ("dynamics", dynamics, DYNAMICS_COLUMNS),
        ("predictions", predictions, PREDICTION_COLUMNS),
        ("effective", effective, EFFECTIVE_COLUMNS),
        ("regression", regression, REGRESSION_COLUMNS),
    ):
        if table is not None and (absent := [column for column in columns if column not in table.columns]):
            raise ValueError(f"the {name} table lacks the columns {', '.join(absent)}")
    names = Names(study)
    judged = judged_claims(claims, names)
    links = Links.of((runs or {}).values(), folder, has, repository, tracking, reused)
    shown = Figures(names, figures or {}, links)
    sections = [
        verdicts(judged, links),
        film_section(names, films or {}),
        regression_section(names, judged, metrics, regression, predictions, links),
        claim_figures(judged, shown),
        other_figures(shown),
        losses_side_by_side(names, losses, links) if losses is not None else None,
        run_table(names, metrics, runs or {}, links),
        ufm_theory(names, judged, theory, dynamics, _classified(names, predictions), effective, shown.shown, links)
        if theory is not None and len(theory)
        else None,
        provenance(names, datasets or {}, runs or {}, links),
        reproduce(study, theory is not None, links),
    ]
    found = [section for section in sections if section is not None]
    first = lead(judged, names)
    return render(study, names.facts(where=not first), found, first)


def _classified(names: Names, predictions: pd.DataFrame | None) -> pd.DataFrame | None:
    """The predictions for classification; those for regression are another model's."""
    if predictions is None:
        return None
    return predictions[~predictions["experiment"].isin(list(names.of_task("regression")))]
