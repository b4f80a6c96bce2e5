"""The claims of "Towards Understanding Why Label Smoothing Degrades Selective Classification", arXiv 2403.14715.

Label smoothing suppresses the top logit more where the prediction is likely right, so that confidence tells right from
wrong less well; logit normalisation repairs it. How each claim is measured is our choice, stated in its `rule`.

With few errors, or an error below the risk level, the scores say nothing: a comparison is judged where both losses have
enough of them, and is called not testable elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nclens.claims import margins
from nclens.claims.effects import curves_of, final
from nclens.claims.verdict import Claim, Comparison, Measure, Side, judge_pairs, not_testable

PAPER = "Towards Understanding Why Label Smoothing Degrades Selective Classification (arXiv 2403.14715)"

FEWEST_ERRORS = 50
"""Wrong predictions that every run must have among the samples that are measured."""
RISK = 0.05
"""The test error that every run must exceed: the risk of the metric `coverage_at_risk`."""
SCORES: dict[str, tuple[Side, str]] = {
    "aurc": ("above", "difference in AURC"),
    "e_aurc": ("above", "difference in E-AURC"),
    "coverage_at_risk": ("below", "difference in coverage"),
    "risk_at_coverage": ("above", "difference in risk"),
}
"""Metric -> the side on which selective classification is worse, and the unit of the difference."""
BETTER: dict[Side, Side] = {"above": "below", "below": "above"}
LABELS = {
    "aurc": "AURC",
    "e_aurc": "E-AURC",
    "coverage_at_risk": "coverage at 5% risk",
    "risk_at_coverage": "risk at 80% coverage",
}
MARGINS = {
    "aurc": margins.RISK,
    "e_aurc": margins.RISK,
    "coverage_at_risk": margins.COVERAGE,
    "risk_at_coverage": margins.ERROR,
}
TESTABLE = (
    f"It is judged where every run of both losses has a test error above {RISK:.0%} and at least {FEWEST_ERRORS} wrong "
    "predictions among the samples measured; elsewhere it is not testable, has no interval and is inconclusive."
)


def degrades(comparison: Comparison) -> list[Measure]:
    """S1: differences of AURC, E-AURC, coverage at 5% risk and risk at 80% coverage after the last epoch, test set."""
    measures = [
        final(comparison, "test", metric, scale="difference", claimed=worse, unit=unit)
        for metric, (worse, unit) in SCORES.items()
    ]
    return _where_testable(comparison, "errors", measures)


def is_repaired(comparison: Comparison) -> list[Measure]:
    """S2: the loss's scores with logit normalisation less those without, and its AURC less the baseline's without.

    On the test samples that the exponent was not chosen on: all of them where it was chosen on a validation split.
    """
    measures = [
        _difference(
            comparison,
            f"{metric}_repaired",
            _last(comparison, comparison.loss, f"{metric}_normalised"),
            _last(comparison, comparison.loss, f"{metric}_unnormalised"),
            BETTER[worse],
            unit,
        )
        for metric, (worse, unit) in SCORES.items()
    ]
    against = _difference(
        comparison,
        "aurc_against_baseline",
        _last(comparison, comparison.loss, "aurc_normalised"),
        _last(comparison, comparison.baseline, "aurc_unnormalised"),
        "below",
        SCORES["aurc"][1],
    )
    return _where_testable(comparison, "errors_rest", [*measures, against])


def _last(comparison: Comparison, loss: str, metric: str) -> dict[int, float]:
    """A metric of the test set after the last epoch, by seed."""
    return {seed: float(curve.iloc[-1]) for seed, curve in curves_of(comparison, loss, "test", metric).items()}


def _difference(
    comparison: Comparison,
    quantity: str,
    own: Mapping[int, float],
    other: Mapping[int, float],
    claimed: Side,
    unit: str,
) -> Measure:
    effects = {seed: own[seed] - other[seed] for seed in own if seed in other}
    return judge_pairs(quantity, effects, comparison.seeds, scale="difference", claimed=claimed, unit=unit)


def _where_testable(comparison: Comparison, counted: str, measures: Sequence[Measure]) -> list[Measure]:
    """Return the measures; where a run of either loss has too few errors, without intervals and inconclusive.

    Args:
        comparison: the two losses.
        counted: the metric that counts the wrong predictions among the samples measured.
        measures: as they are judged where the claim is testable.
    """
    losses = comparison.pair
    errors = [value for loss in losses for value in _last(comparison, loss, "error").values()]
    counts = [value for loss in losses for value in _last(comparison, loss, counted).values()]
    reasons = []
    if errors and not min(errors) > RISK:
        reasons.append(f"a run has a test error of {min(errors):.3g}, not above {RISK:g}")
    if counts and not min(counts) >= FEWEST_ERRORS:
        reasons.append(f"a run has {min(counts):g} wrong predictions, fewer than {FEWEST_ERRORS}")
    if not reasons:
        return list(measures)
    note = " and ".join(reasons)
    return [replace(not_testable(one), note="; ".join(filter(None, (note, one.note)))) for one in measures]


CLAIMS = (
    Claim(
        "S1",
        PAPER,
        "Label smoothing degrades selective classification.",
        "Differences, after the last epoch, of the area under the risk-coverage curve (AURC, the main measure), its "
        "excess over the perfect order (E-AURC), the coverage at 5% risk and the risk at 80% coverage, predictions "
        f"ranked by their softmax probability, whole test set. {TESTABLE}",
        degrades,
        labels=LABELS,
        margins=MARGINS,
        subject="label smoothing",
        holds="degrades selective classification",
        fails="improves selective classification",
        below={"coverage_at_risk": "smaller coverage", "": "better ranked predictions"},
        figures=("risk_coverage",),
    ),
    Claim(
        "S2",
        PAPER,
        "Logit normalisation repairs the selective classification of label smoothing.",
        "Differences, after the last epoch, of the same four scores of label smoothing with logit normalisation and "
        "without it (AURC is the main measure), and of its AURC with logit normalisation and the baseline's without, "
        f"on the test samples that the exponent was not chosen on. {TESTABLE}",
        is_repaired,
        labels={
            **{
                f"{metric}_repaired": f"{label}, with and without logit normalisation"
                for metric, label in LABELS.items()
            },
            "aurc_against_baseline": "AURC, with logit normalisation, against the baseline's without",
        },
        margins={
            **{f"{metric}_repaired": margin for metric, margin in MARGINS.items()},
            "aurc_against_baseline": margins.RISK,
        },
        subject="logit normalisation",
        holds="repairs the selective classification of label smoothing",
        fails="does not repair the selective classification of label smoothing",
        below={"coverage_at_risk": "smaller coverage", "": "better ranked predictions"},
        figures=("risk_coverage",),
    ),
)
"""The paper's claims."""
