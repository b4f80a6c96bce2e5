"""Every table of a study's results: columns, types, the rule that makes it; the one reader and the one writer."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nclens.training.history import STATISTICS
from nclens.workflow.files import atomic_write, damaged, missing

if TYPE_CHECKING:
    import pandas as pd

#: Types of columns. Only a number may be missing: a loss may well be named "null" or "nan".
NAME, WHOLE, NUMBER, TRUTH = str, int, float, bool
#: What a missing number is written as.
EMPTY = ("", "nan", "NaN")


@dataclass(frozen=True)
class Table:
    """A table: the rule that makes it, and its columns by type, in order.

    `float_format` is None for the shortest text that gives the same number again.
    """

    made_by: str
    columns: Mapping[str, type]
    float_format: str | None = None


OF_EXPERIMENT = {"experiment": NAME, "dataset": NAME, "model": NAME}
TIDY = {"epoch": WHOLE, "split": NAME, "metric": NAME, "value": NUMBER}
COMPARED = {"quantity": NAME, "closed_form": NUMBER, "numeric": NUMBER, "relative_error": NUMBER}
SIZES = {"classes": WHOLE, "per_class": WHOLE, "dim": WHOLE}
LAMBDAS = {"lambda_w": NUMBER, "lambda_h": NUMBER, "lambda_b": NUMBER}

#: RUN/metrics.csv and RUN/probes.csv.
METRICS = Table("measure", TIDY, float_format="%.17g")
PROBES = Table("probe", TIDY, float_format="%.17g")
#: Task -> RUN/history.csv.
HISTORY = {
    task: Table(
        "train",
        {"epoch": WHOLE, "split": NAME, **dict.fromkeys(("loss", *names, "learning_rate", "seconds"), NUMBER)},
    )
    for task, names in STATISTICS.items()
}
#: R/metrics.parquet; its names are categories.
COLLECTED = Table(
    "collect",
    OF_EXPERIMENT | {"loss": NAME, "seed": WHOLE, "split": NAME, "epoch": WHOLE, "metric": NAME, "value": NUMBER},
)
#: R/theory/ufm.csv, a row a loss and quantity.
THEORY = Table("theory", OF_EXPERIMENT | {"loss": NAME, "smoothing": NUMBER} | SIZES | LAMBDAS | COMPARED)
#: R/theory/dynamics.csv, a row a descent and quantity; `tolerance` and `value` may be missing.
DYNAMICS = Table(
    "theory",
    {
        **SIZES,
        **LAMBDAS,
        **{"smoothing": NUMBER, "momentum": NUMBER, "step_rule": NAME, "step": NUMBER, "fraction": NUMBER},
        **{"start": WHOLE, "distance": NAME, "quantity": NAME, "tolerance": NUMBER, "value": NUMBER},
    },
)
#: R/theory/regression.csv, a row a loss and quantity.
REGRESSION = Table("theory", OF_EXPERIMENT | {"loss": NAME, "lambda_w": NUMBER, "lambda_h_mean": NUMBER} | COMPARED)
#: R/theory/predictions.csv, a row a run and quantity.
PREDICTIONS = Table(
    "predict",
    {
        **OF_EXPERIMENT,
        **{"loss": NAME, "smoothing": NUMBER, "penalties": NAME, **LAMBDAS, "lambda_h_mean": NUMBER, "seed": WHOLE},
        **{"quantity": NAME, "measured": NUMBER, "predicted": NUMBER, "relative_error": NUMBER},
    },
)
#: R/theory/effective.csv, a row a seed and held-out smoothing.
EFFECTIVE = Table(
    "predict",
    {
        **{"experiment": NAME, "seed": WHOLE, "held_out": NUMBER, "s": NUMBER, "lambda_w_over_n_lambda_h": NUMBER},
        **{"rms_relative_residual": NUMBER, "ratio_rms_relative_residual": NUMBER, "log_s_standard_error": NUMBER},
        "points": WHOLE,
    },
)
#: R/theory/nc0.csv, a row a run and snapshot; `premise` is what fails of the law's premise, empty where it holds.
NC0 = Table(
    "predict",
    {
        **OF_EXPERIMENT,
        **{"loss": NAME, "seed": WHOLE, "epoch": WHOLE, "reference": WHOLE, "measured": NUMBER, "predicted": NUMBER},
        **{"rounding": NUMBER, "premise": NAME},
    },
)
#: R/claims.csv, a row a claim on a pair of losses, each followed by its measures; numbers may be missing.
CLAIMS = Table(
    "judge",
    {
        **{"claim": NAME, "paper": NAME, "statement": NAME, **OF_EXPERIMENT, "baseline": NAME, "loss": NAME},
        **{"level": NAME, "quantity": NAME, "effect": NUMBER, "low": NUMBER, "high": NUMBER, "unit": NAME},
        **{"null": NUMBER, "seeds": NUMBER, "verdict": NAME, "note": NAME},
        **{"scale": NAME, "reason": NAME, "margin": NUMBER, "smallest": NUMBER, "p": NUMBER, "p_holm": NUMBER},
    },
)
#: R/tables/losses.csv, a row a loss and quantity.
LOSSES = Table(
    "report",
    {
        **{"experiment": NAME, "loss": NAME, "quantity": NAME, "metric": NAME, "split": NAME, "better": NAME},
        **{"mean": NUMBER, "low": NUMBER, "high": NUMBER, "seeds": WHOLE, "best": TRUTH},
    },
)
#: The version of the layout of an atlas, in its column `layout`; another one for other columns.
ATLAS_LAYOUT = "1"
#: atlas.csv, a row a claim on a pair of losses in a study, with the numbers of its main measure; a study without
#: verdicts has one row, whose columns from `claim` on are empty. Numbers may be missing.
ATLAS = Table(
    "atlas",
    {
        **{"study": NAME, "title": NAME, "status": NAME, "lacks": NAME, "origin": NAME, "link": NAME},
        **{"version": NAME, "code": NAME, "commit": NAME, "layout": NAME},
        **{"claim": NAME, "paper": NAME, "statement": NAME, **OF_EXPERIMENT, "data": NAME, "source": NAME},
        **{"train": NUMBER, "test": NUMBER, "altered": NAME, "optimizer": NAME},
        **{"baseline": NAME, "baseline_label": NAME, "baseline_settings": NAME},
        **{"loss": NAME, "loss_label": NAME, "loss_settings": NAME, "quantity": NAME, "measure": NAME},
        **{key: kind for key, kind in CLAIMS.columns.items() if key in ("effect", "low", "high", "unit", "null")},
        **{"standard_error": NUMBER, "seeds": NUMBER, "verdict": NAME, "note": NAME},
        **{"scale": NAME, "reason": NAME, "margin": NUMBER, "smallest": NUMBER, "p": NUMBER, "p_holm": NUMBER},
    },
)


def read(
    table: Table,
    path: Path,
    columns: Iterable[str] | None = None,
    filters: Sequence[tuple[str, str, Any]] = (),
) -> "pd.DataFrame":
    """Return a table that lies in a file, or some columns of it; names as they were written, "nan" and "" too.

    Args:
        table: which one it is.
        path: its file, CSV or Parquet.
        columns: those to read; by default all.
        filters: of a Parquet file, the rows to read, as (column, comparison, value).

    Raises:
        FileError: the file is missing or damaged; names it and the rule that makes it.
    """
    import pandas as pd

    wanted = list(table.columns if columns is None else columns)
    if not path.is_file():
        raise missing(path, table.made_by)
    types = {name: table.columns[name] for name in wanted}
    empty = {name: list(EMPTY) for name, kind in types.items() if kind is NUMBER}
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path, columns=wanted, filters=list(filters) or None)
        found = pd.read_csv(path, usecols=wanted, dtype=types, keep_default_na=False, na_values=empty)
        return found[wanted]
    except (ValueError, KeyError, OSError) as error:
        raise damaged(path, table.made_by, str(error)) from error


def read_rows(table: Table, path: Path) -> list[dict[str, str]]:
    """Return a CSV table as text, column -> cell, row by row: at once, for pandas takes a second to load.

    Raises:
        FileError: the file is missing, or lacks columns, as one of an older version may; names it and the rule that
            makes it.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows, lacking = parsed(table, file)
    except FileNotFoundError:
        raise missing(path, table.made_by) from None
    except csv.Error as error:
        raise damaged(path, table.made_by, str(error)) from None
    if lacking:
        raise damaged(path, table.made_by, f"it lacks the columns {', '.join(lacking)}")
    return rows


def parsed(table: Table, lines: Iterable[str]) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of a CSV table as text, column -> cell, and the columns that it lacks, as an older one may.

    A cell that a row lacks at its end is empty.

    Raises:
        csv.Error: the lines are no CSV.
    """
    reader = csv.DictReader(lines, restval="")
    rows = list(reader)
    return rows, [name for name in table.columns if name not in (reader.fieldnames or ())]


def write(table: Table, path: Path, content: "pd.DataFrame") -> None:
    """Write a table, whole or not at all, its columns in their order."""
    found = content[list(table.columns)]
    with atomic_write(path) as temporary:
        if path.suffix == ".parquet":
            found.to_parquet(temporary, index=False)
        else:
            found.to_csv(temporary, index=False, lineterminator="\n", float_format=table.float_format)


def write_rows(table: Table, path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table of rows as CSV, whole or not at all; None and what a row lacks are empty.

    Numbers are written as they are or by the table's `float_format`, nan then empty: as `write` does, without pandas.
    """
    formatted = [name for name, kind in table.columns.items() if kind is NUMBER] if table.float_format else []

    def text(value: Any) -> str:
        return "" if value is None or math.isnan(value) else str(table.float_format) % value

    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table.columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **{name: text(row.get(name)) for name in formatted}} for row in rows)
