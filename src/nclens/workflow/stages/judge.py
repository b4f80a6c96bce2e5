"""Judge the papers' claims in every experiment: the metrics and the theory in, a table and a page of verdicts out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from nclens.claims import (
    CLAIMS,
    Claim,
    ClaimRow,
    Comparison,
    Measurements,
    claim_rows,
    claims_table,
    corrected,
    pairs,
    verdict,
)
from nclens.claims.specifications import specifications
from nclens.report.markdown import verdicts_page
from nclens.workflow import tables
from nclens.workflow.build.claims import build_claim
from nclens.workflow.files import write_json, write_text
from nclens.workflow.provenance import git_revision, versions
from nclens.workflow.specs import Judge, JudgeExperiment

#: The columns that the claims read, by table.
METRICS = ["experiment", *verdict.METRICS]
THEORY = ["experiment", *verdict.THEORY, *verdict.MODEL]
PREDICTIONS = ["experiment", *verdict.PREDICTIONS]
NC0 = ["experiment", *verdict.NC0]


def judge(
    spec: Judge,
    metrics: Path,
    theory: Path,
    claims_csv: Path,
    claims_md: Path,
    *,
    dynamics: Path | None = None,
    predictions: Path | None = None,
    nc0: Path | None = None,
    specifications_csv: Path | None = None,
    record: Path | None = None,
    code: str = "",
) -> None:
    """Write the verdicts as a table and as a page, and how far those of C1 to C4 depend on how they are measured.

    Args:
        spec: the experiments. Where a task has claims on two losses, an experiment without two losses to compare is
            named on the page; one without measurements is inconclusive.
        metrics: the study's table, R/metrics.parquet.
        theory: R/theory/ufm.csv.
        claims_csv: one row a claim, experiment and pair of losses (level `claim`), each followed by its measures (level
            `measure`). The comparisons of an experiment come first, then the claims on single losses, loss by loss;
            their `baseline` is empty.
        claims_md: the same in Markdown, losses and measures by their labels, with the rules.
        dynamics: R/theory/dynamics.csv; without it the speed of descents is not judged.
        predictions: R/theory/predictions.csv; without it, and where it has no rows, predictions are not judged.
        nc0: R/theory/nc0.csv; likewise for the law of NC0.
        specifications_csv: one row a specification of C1 to C4, see `nclens.claims.specifications`; by default none
            are written.
        record: R/judged.json, what judged: `version` of nclens, digest of its `code`, `git_revision`.
        code: the digest.

    Raises:
        FileError: an input is missing or damaged, or an output cannot be written; names the file.
        ValueError: an experiment does not fit the tables; says how.
    """
    metrics_table = tables.read(tables.COLLECTED, metrics, METRICS)
    theory_table = tables.read(tables.THEORY, theory, THEORY)
    dynamics_table = None if dynamics is None else tables.read(tables.DYNAMICS, dynamics, verdict.DYNAMICS)
    predictions_table = None if predictions is None else tables.read(tables.PREDICTIONS, predictions, PREDICTIONS)
    nc0_table = None if nc0 is None else tables.read(tables.NC0, nc0, NC0)
    own_metrics, own_theory = _by_experiment(metrics_table), _by_experiment(theory_table)
    own_predictions = None if predictions_table is None else _by_experiment(predictions_table)
    own_nc0 = None if nc0_table is None else _by_experiment(nc0_table)
    own = {entry.id: build_claim(entry) for entry in spec.claims}
    rows: list[ClaimRow] = []
    idle: list[str] = []
    for item in spec.experiments:
        name, claims = item.experiment, _claims_on(item)
        for claim, experiment, loss, against in spec.comparisons:
            if experiment == name:
                claims.setdefault((loss, against), []).append(own[claim])
        for loss in item.losses:
            claims[loss, ""] = [claim for claim in CLAIMS.values() if not claim.paired]
        compared = _leave_out(claims, item, spec.experiments)
        measurements = Measurements(own_metrics(name))
        for (loss, against), judged in claims.items():
            comparison = Comparison(
                experiment=name,
                dataset=item.dataset,
                model=item.model,
                baseline=against,
                loss=loss,
                seeds=item.seeds,
                epochs=item.epochs,
                metrics=measurements,
                theory=own_theory(name),
                dynamics=dynamics_table,
                predictions=None if own_predictions is None else own_predictions(name),
                nc0=None if own_nc0 is None else own_nc0(name),
                task=item.task,
                weight_decays=_of_one_model(item, loss),
                regularised=item.regularised,
                teachers={taught: vars(teaching) for taught, teaching in item.teachers.items()},
                labels=item.labels,
                models=item.models,
            )
            judged_rows = [row for claim in judged for row in claim_rows(claim, comparison)]
            compared |= bool(against and judged_rows)
            rows += judged_rows
        if not compared and any(claim.paired and claim.task == item.task for claim in CLAIMS.values()):
            idle.append(name)
    rows = corrected(rows)
    tables.write(tables.CLAIMS, claims_csv, claims_table(rows))
    if specifications_csv is not None:
        classifiers = [item for item in spec.experiments if item.task == "classification"]
        found = [specifications(own_metrics(item.experiment), **item.compared) for item in classifiers]
        made = (
            pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(tables.SPECIFICATIONS.columns))
        )
        tables.write(tables.SPECIFICATIONS, specifications_csv, made)
    labels = {item.experiment: item.labels for item in spec.experiments}
    write_text(claims_md, verdicts_page(rows, idle, labels, {**CLAIMS, **own}))
    if record is not None:
        write_json(record, {"version": versions().get("nclens", ""), "code": code, "git_revision": git_revision()})


def _claims_on(item: JudgeExperiment) -> dict[tuple[str, str], list[Claim]]:
    """Return the claims on each pair of an experiment's losses, (loss, baseline)."""
    claims: dict[tuple[str, str], list[Claim]] = {}
    for claim in CLAIMS.values():
        used = (item.losses, item.kinds, item.strengths, item.baseline, item.optimizers, item.peers, item.models)
        for pair in pairs(claim, *used):
            claims.setdefault(pair, []).append(claim)
    return claims


def _leave_out(
    claims: dict[tuple[str, str], list[Claim]], item: JudgeExperiment, experiments: Sequence[JudgeExperiment]
) -> bool:
    """Leave out the claims that another experiment judges on the same runs and more; return whether it left out any.

    Of experiments that share runs, the one with more seeds judges what they have in common, of equals the first.
    """
    left_out = False
    for other in experiments:
        if other is item or other.dataset != item.dataset or not set(other.seeds) >= set(item.seeds):
            continue
        if set(other.seeds) == set(item.seeds) and experiments.index(item) < experiments.index(other):
            continue
        shared = {one for one in {*item.losses} & {*other.losses} if other.model_of(one) == item.model_of(one)}
        judged = _claims_on(other) if shared else {}
        for (loss, against), own in claims.items():
            if own and {loss, against} - {""} <= shared:
                kept = [one for one in own if one.paired and one not in judged.get((loss, against), ())]
                left_out |= bool(against and len(kept) < len(own))
                claims[loss, against] = kept
    return left_out


def _of_one_model(item: JudgeExperiment, loss: str) -> dict[str, float]:
    """Return the weight decays of the losses that have a loss's model: of a grid nothing else differs."""
    own = item.model_of(loss)
    return {other: decay for other, decay in item.weight_decays.items() if item.model_of(other) == own}


def _by_experiment(table: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    """Return experiment -> its rows; searched for each again, a table takes the square of the number of experiments."""
    parts = dict(list(table.groupby("experiment", observed=True)))
    return lambda name: parts.get(name, table.iloc[:0])
