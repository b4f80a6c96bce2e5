"""The table of one network's or one file's metrics: as text, JSON, CSV or HTML."""

import csv
import html
import io
import json
import math
from collections.abc import Callable, Mapping

from nclens.metrics.catalogue import metric as known

#: Metric -> column, a split or `value` -> value.
Values = Mapping[str, Mapping[str, float]]
#: The column of a table that has one.
ALONE = "value"


def values_table(values: Values, form: str = "text") -> str:
    """Return a table of metrics, a row each, without a line break at its end.

    Args:
        values: in the order of the rows; a metric may lack a column.
        form: `text`; `json`, by column where there are several, and null for what is not finite; `csv`; or `html`, one
            table with the metrics' labels.

    Raises:
        ValueError: an unknown form.

    >>> print(values_table({"nc1": {"train": 0.25, "test": 0.5}, "ece": {"test": 0.1}}))
    metric                          train         test
    nc1                              0.25          0.5
    ece                                            0.1
    """
    if form not in FORMS:
        raise ValueError(f"form = {form}; allowed: {', '.join(FORMS)}")
    columns = list(dict.fromkeys(column for row in values.values() for column in row))
    return FORMS[form](values, columns)


def _text(values: Values, columns: list[str]) -> str:
    if columns == [ALONE]:
        return "\n".join(f"{metric:24} {row[ALONE]:.6g}" for metric, row in values.items())
    width = max(24, *(len(metric) + 1 for metric in values))
    lines = ["metric".ljust(width) + "".join(f"{column:>13}" for column in columns)]
    for metric, row in values.items():
        cells = (f"{row[column]:.6g}" if column in row else "" for column in columns)
        lines.append((metric.ljust(width) + "".join(f"{cell:>13}" for cell in cells)).rstrip())
    return "\n".join(lines)


def _json(values: Values, columns: list[str]) -> str:
    finite = {
        metric: {key: v if math.isfinite(v) else None for key, v in row.items()} for metric, row in values.items()
    }
    by_column = {column: {metric: row[column] for metric, row in finite.items() if column in row} for column in columns}
    return json.dumps(by_column[ALONE] if columns == [ALONE] else by_column, indent=2)


def _csv(values: Values, columns: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", *columns])
    writer.writerows(
        [metric, *(repr(row[column]) if column in row else "" for column in columns)] for metric, row in values.items()
    )
    return text.getvalue().rstrip("\n")


def _html(values: Values, columns: list[str]) -> str:
    def row(cells: list[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    lines = ["<table>", row(["metric", "", *columns], "th")]
    for metric, own in values.items():
        lines.append(
            row(
                [metric, getattr(known(metric), "label", ""), *(f"{own[c]:.6g}" if c in own else "" for c in columns)],
                "td",
            )
        )
    return "\n".join([*lines, "</table>"])


FORMS: dict[str, Callable[[Values, list[str]], str]] = {"text": _text, "json": _json, "csv": _csv, "html": _html}
