"""Our own claim on collapse and out-of-distribution detection.

Over the layers of a network, more collapse goes with better detection (arXiv 2502.10691). The claim is on two losses:
the one that collapses further detects better.
"""

from collections.abc import Sequence

from nclens.claims.effects import curves_of, final
from nclens.claims.margins import AUROC
from nclens.claims.verdict import Claim, Comparison, Measure, judge_pairs, not_testable

PAPER = "Our own, on collapse and out-of-distribution detection (arXiv 2502.10691 on layers)"

SCORES = {"neco": "NECO", "msp": "MSP", "energy": "energy", "mahalanobis": "Mahalanobis", "nci": "NCI"}
"""The scores that are judged, the main one first, and their labels."""
MAIN = next(iter(SCORES))


def detects_better(comparison: Comparison) -> list[Measure]:
    """D1: AUROC of the loss that is more collapsed minus that of the other, after the last epoch.

    The mean over the data sets for each score, then the main score on each of them. NC1 of the training set says which
    loss is more collapsed; its interval has to exclude equality. None without a probe.
    """
    probed = {score: comparison.metrics.probed(f"ood_auroc_{score}") for score in SCORES}
    if not any(probed.values()):
        return []
    collapse = final(comparison, "train", "nc1", scale="ratio").verdict
    losses = comparison.pair
    more, less = losses[::-1] if collapse == "contradicted" else losses
    note = f"{comparison.label(more)} is more collapsed than {comparison.label(less)}"
    if collapse == "inconclusive":
        note = "neither loss is clearly more collapsed, by the interval of the ratio of NC1"
    quantities = {f"auroc_{score}_mean": metrics for score, metrics in probed.items()}
    quantities |= {metric.removeprefix("ood_"): [metric] for metric in probed[MAIN]}
    measures = []
    for quantity, metrics in quantities.items():
        own, other = (_mean(comparison, loss, metrics) for loss in (more, less))
        effects = {seed: own[seed] - other[seed] for seed in own if seed in other}
        measures.append(
            judge_pairs(
                quantity,
                effects,
                comparison.seeds,
                scale="difference",
                claimed="above",
                unit="difference in AUROC",
                notes=[note],
            )
        )
    if collapse == "inconclusive":
        return [not_testable(one) for one in measures]
    return measures


def _mean(comparison: Comparison, loss: str, metrics: Sequence[str]) -> dict[int, float]:
    """The mean of metrics of the test set after the last epoch, by seed; a seed that lacks one is left out."""
    found = [curves_of(comparison, loss, "test", metric) for metric in metrics]
    seeds = [seed for seed in comparison.seeds if found and all(seed in runs for runs in found)]
    return {seed: sum(float(runs[seed].iloc[-1]) for runs in found) / len(found) for seed in seeds}


CLAIMS = (
    Claim(
        "D1",
        PAPER,
        "Of two losses, the one that collapses further detects out-of-distribution samples better.",
        "AUROC of the loss with the lower NC1 on the training set minus that of the other, after the last epoch: the "
        "mean over the data sets of NECO (the main measure) and of four more scores, then of NECO on each data set. "
        "Where the interval of the ratio of NC1 does not exclude 1 the claim is not testable, has no interval and is "
        "inconclusive. Data sets that are a covariate shift are not judged.",
        detects_better,
        labels={
            **{f"auroc_{score}_mean": f"AUROC of {label}, mean over data sets" for score, label in SCORES.items()},
            f"auroc_{MAIN}": f"AUROC of {SCORES[MAIN]}",
        },
        margins=dict.fromkeys((*(f"auroc_{score}_mean" for score in SCORES), f"auroc_{MAIN}"), AUROC),
        subject="the loss that collapses further",
        holds="detects out-of-distribution samples better",
        fails="detects out-of-distribution samples worse",
        below="the more collapsed loss detects worse",
        figures=("out_of_distribution", "detection_against_collapse"),
        compared=(),
    ),
)
"""The claim, on every loss but students."""
