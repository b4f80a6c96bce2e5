"""How many seeds would decide the claims of a finished study: its table of claims read without effects and verdicts."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from nclens.claims import CLAIMS
from nclens.claims.power import COLUMNS, Needed, needed
from nclens.report.power import print_power
from nclens.workflow import specs, tables
from nclens.workflow.build.claims import build_claim
from nclens.workflow.files import FileError
from nclens.workflow.finished.opening import check_finished, opened


def show_power(given: Path, margins: Sequence[str] = (), as_csv: bool = False) -> None:
    """Print the seeds that each claim of a finished study needs.

    Args:
        given: the folder of the study's results, or its YAML file.
        margins: `MEASURE=SIZE`, in place of the claims' own.
        as_csv: print CSV, claims and measures, in place of the table.

    Raises:
        FileError: the study has not run to its end, its verdicts are older than its measurements, its table is damaged,
            or it has one seed.
        ValueError: a margin is of no measure, or has the wrong sign.
        ConfigError: the YAML file is not what the results were made from.
    """
    sizes = dict(map(_margin, margins))
    found = opened(given)
    study, folder = found.study, found.plan.folder
    check_finished(found, [folder.metrics, folder.claims, folder.report])
    known = {**CLAIMS, **{entry.id: build_claim(entry) for entry in specs.judge(study).claims}}
    rows = needed(tables.read(tables.CLAIMS, folder.claims, COLUMNS), known, sizes)
    if not rows:
        raise FileError(f"{folder.claims} has no claim that rests on seeds")
    if all(row.seeds <= 1 for row in rows):
        raise FileError(
            f"{folder.root} has one seed, which has no spread: two or more are needed to say how many decide a claim"
        )
    if as_csv:
        writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Needed)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "" if value != value else value for name, value in asdict(row).items()} for row in rows)
        return
    losses = {loss: study.label(loss) for entry in study.experiments.values() for loss in entry.losses}
    remarks = [
        f"The runs of {name} were imported: more of them are trained where these were."
        for name in study.experiments
        if study.is_imported(name)
    ]
    print_power(study.study, rows, known, losses, remarks)


def _margin(text: str) -> tuple[str, float]:
    """Return the measure and the size of an option `--margin`."""
    name, _, size = text.partition("=")
    try:
        return name, float(size)
    except ValueError:
        raise ValueError(f"--margin {text}: allowed: MEASURE=SIZE, such as ece=0.02") from None
