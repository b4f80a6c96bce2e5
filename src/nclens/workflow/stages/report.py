"""Write the report of a study: one page with its verdicts, figures, tables and where they come from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nclens.claims import RULES
from nclens.figures import FIGURES
from nclens.report import (
    CLAIM_COLUMNS,
    DYNAMICS_COLUMNS,
    EFFECTIVE_COLUMNS,
    PREDICTION_COLUMNS,
    REGRESSION_COLUMNS,
    THEORY_COLUMNS,
    Drawn,
    png_size,
    report_page,
)
from nclens.report.summary import side_by_side
from nclens.workflow.files import FileError, damaged, read_json, write_text
from nclens.workflow.specs import Report, ReportExperiment

#: Columns of the tables that hold numbers; the others hold names, and a loss may well be named "null" or "nan".
NUMBERS = {
    *("effect", "low", "high", "null", "seeds", "smoothing", "classes", "per_class", "dim"),
    *("lambda_w", "lambda_h", "lambda_b", "lambda_h_mean", "closed_form", "numeric", "relative_error"),
    *("momentum", "fraction", "start", "tolerance", "value", "seed", "measured", "predicted", "held_out", "s"),
    *("rms_relative_residual", "ratio_rms_relative_residual", "log_s_standard_error", "points"),
}
#: Tables of the theory: the name of the file and of the page's argument, the rule that makes it, its columns.
THEORY = (
    ("ufm", "theory", "theory", THEORY_COLUMNS),
    ("dynamics", "dynamics", "theory", DYNAMICS_COLUMNS),
    ("predictions", "predictions", "predict", PREDICTION_COLUMNS),
    ("effective", "effective", "predict", EFFECTIVE_COLUMNS),
    ("regression", "regression", "theory", REGRESSION_COLUMNS),
)


def report(spec: Report, root: Path, output: Path) -> None:
    """Write R/report.html, and R/tables/losses.csv, from the study's verdicts, metrics, theory, figures and records.

    Claims and metrics must be there; of figures, theory, manifests and run records the page shows what there is, and
    names what is missing.

    Args:
        spec: the study and its experiments.
        root: folder of the study, R.
        output: the page.

    Raises:
        FileError: a file is damaged, claims or metrics are missing, or the page cannot be written.
    """
    metrics = _metrics(root / "metrics.parquet")
    experiments = [_facts(experiment) for experiment in spec.experiments]
    losses = side_by_side(experiments, metrics)
    write_text(root / "tables" / "losses.csv", losses.to_csv(index=False, lineterminator="\n"))
    page = report_page(
        {"name": spec.study, "title": spec.title, "command": spec.command, "experiments": experiments},
        _csv(root / "claims.csv", "judge", CLAIM_COLUMNS),
        metrics,
        losses=losses,
        **{
            argument: _csv(path, made_by, columns)
            for name, argument, made_by, columns in THEORY
            if (path := root / "theory" / f"{name}.csv").is_file()
        },
        figures=dict(_figures(spec, root / "figures")),
        datasets={
            dataset: read_json(path, "prepare")
            for dataset in dict.fromkeys(
                name for experiment in spec.experiments for name in (experiment.dataset, *experiment.transfer)
            )
            if (path := root / "data" / f"{dataset}.json").is_file()
        },
        runs=dict(_runs(spec, root)),
        rules=RULES,
    )
    write_text(output, page)


def _facts(experiment: ReportExperiment) -> dict[str, Any]:
    """Return what the page shows of an experiment, by the names that it uses."""
    looks = {loss: {"label": experiment.labels[loss], "colour": experiment.colours[loss]} for loss in experiment.losses}
    return {
        **vars(experiment),
        "name": experiment.experiment,
        "losses": looks,
        "teachers": experiment.labelled_teachers,
    }


def _csv(path: Path, made_by: str, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values={name: ["", "nan", "NaN"] for name in NUMBERS})
        return table[list(columns)]
    except FileNotFoundError:
        raise FileError(f"{path} is missing: the rule `{made_by}` makes it") from None
    except (ValueError, KeyError) as error:
        raise damaged(path, made_by, str(error)) from None


def _metrics(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileError(f"{path} is missing: the rule `collect` makes it")
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise damaged(path, "collect", str(error)) from None


def _figures(spec: Report, folder: Path) -> Iterator[tuple[tuple[str, str], Drawn]]:
    for experiment in spec.experiments:
        for stem in experiment.figures:
            path = folder / f"{experiment.experiment}_{stem}.png"
            if path.is_file():
                png, known = path.read_bytes(), FIGURES[stem]
                try:
                    png_size(png)
                except ValueError as error:
                    raise damaged(path, "draw", str(error)) from None
                yield (experiment.experiment, stem), Drawn(png, known.title, known.source, known.caption)


def _runs(spec: Report, root: Path) -> Iterator[tuple[tuple[str, str, str, int], dict[str, Any]]]:
    for experiment in spec.experiments:
        for loss in experiment.losses:
            for seed in experiment.seeds:
                path = root / experiment.dataset / experiment.model / loss / f"seed{seed}" / "run.json"
                if path.is_file():
                    yield (experiment.dataset, experiment.model, loss, seed), read_json(path, "train")
