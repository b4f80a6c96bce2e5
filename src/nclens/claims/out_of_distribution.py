"""Our own claim on collapse and out-of-distribution detection.

Over the layers of a network, more collapse goes with better detection (arXiv 2502.10691). Here it is a question on losses:
of two, does the one that collapses further detect better?
"""

import math
from dataclasses import replace

from nclens.claims.effects import curves_of, final
from nclens.claims.verdict import Claim, Comparison, Measure, judge_pairs

PAPER = "Our own, on collapse and out-of-distribution detection (arXiv 2502.10691 on layers)"

SCORES = {"neco": "NECO", "msp": "MSP", "energy": "energy", "mahalanobis": "Mahalanobis", "nci": "NCI"}
"""The scores that are judged, the main one first, and their labels."""


def detects_better(comparison: Comparison) -> list[Measure]:
    """O1: AUROC of the loss that is more collapsed minus that of the other, after the last epoch, a measure a data set.

    Which one is more collapsed is said by NC1 of the training set, whose interval has to exclude equality. None without
    a probe.
    """
    probed = {score: comparison.metrics.probed(f"ood_auroc_{score}") for score in SCORES}
    if not any(probed.values()):
        return []
    collapse = final(comparison, "train", "nc1", scale="ratio")
    more = {"supported": comparison.loss, "contradicted": comparison.baseline}.get(collapse.verdict)
    less = comparison.baseline if more == comparison.loss else comparison.loss
    if more is None:
        note = "not testable: neither loss is clearly more collapsed, by the interval of the ratio of NC1"
    else:
        note = f"{comparison.label(more)} is more collapsed than {comparison.label(less)}"
    measures = []
    for score, metrics in probed.items():
        for metric in metrics:
            own, other = (
                {seed: float(curve.iloc[-1]) for seed, curve in curves_of(comparison, loss, "test", metric).items()}
                for loss in (more or comparison.loss, less if more else comparison.baseline)
            )
            measures.append(
                judge_pairs(
                    metric.removeprefix("ood_"),
                    {seed: own[seed] - other[seed] for seed in own if seed in other},
                    comparison.seeds,
                    scale="difference",
                    claimed="above",
                    unit="difference in AUROC",
                    notes=[note],
                )
            )
    if more is None:
        return [replace(one, low=math.nan, high=math.nan, verdict="inconclusive") for one in measures]
    return measures


CLAIMS = (
    Claim(
        "O1",
        PAPER,
        "Of two losses, the one that collapses further detects out-of-distribution samples better.",
        "AUROC of the loss with the lower NC1 on the training set minus that of the other, after the last epoch: of "
        "NECO on the first data set (the main measure), then of NECO on the others and of four more scores. Where the "
        "interval of the ratio of NC1 does not exclude 1 the claim is not testable, has no interval and is "
        "inconclusive. Data sets that are a covariate shift are not judged.",
        detects_better,
        labels={f"auroc_{score}": f"AUROC of {label}" for score, label in SCORES.items()},
        subject="the loss that collapses further",
        holds="detects out-of-distribution samples better",
        fails="detects out-of-distribution samples worse",
        below="the more collapsed loss detects worse",
        figures=("out_of_distribution", "detection_against_collapse"),
        compared=(),
    ),
)
"""The claim, on every loss but students."""
