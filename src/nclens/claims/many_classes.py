"""Claims of our own on networks with more classes than a simplex has room for, K > d + 1.

There neither class means nor classifier can be a simplex. Generalised neural collapse (arXiv 2310.05351) says that they
spread evenly over the sphere instead, with the largest possible one-vs-rest distance. Each claim is on a single loss,
judged by how much of a measure's distance from its optimum is left: its distance after the last epoch over the largest
at any snapshot.
"""

import math

import pandas as pd

from nclens.claims.effects import curves_of
from nclens.claims.verdict import Claim, Comparison, Measure, Side, judge_shares

PAPER = "Our own, on generalised neural collapse (arXiv 2310.05351, 2303.06484)"

REACHED = 0.1
"""A measure goes to its optimum when at most this share of its largest distance from it is left, a margin of ours."""
OPTIMUM = "one_vs_rest_optimum"
GENERALISED = {
    "one_vs_rest_classifier": "one-vs-rest distance of the classifier",
    "one_vs_rest_means": "one-vs-rest distance of the class means",
}
SIMPLEX = {
    "nc2": "NC2",
    "nc2_means": "NC2 of the class means",
    "nc2_classifier": "NC2 of the classifier",
    "equiangular_means": "deviation of the class means' angles",
    "equiangular_classifier": "deviation of the classifier's angles",
}
SELF_DUALITY = {"nc3": "NC3"}


def goes_to_generalised_optimum(comparison: Comparison) -> list[Measure]:
    """K1: share left of the one-vs-rest distances from their known optimum, training set."""
    return [_left(comparison, metric, OPTIMUM) for metric in GENERALISED] if _has_many_classes(comparison) else []


def goes_to_simplex(comparison: Comparison) -> list[Measure]:
    """K2: share left of the simplex measures' distance from 0, training set."""
    return [_left(comparison, metric, claimed="above") for metric in SIMPLEX] if _has_many_classes(comparison) else []


def goes_to_self_duality(comparison: Comparison) -> list[Measure]:
    """K3: share left of nc3, which can be 0 for any K and d, training set."""
    return [_left(comparison, metric) for metric in SELF_DUALITY] if _has_many_classes(comparison) else []


def _has_many_classes(comparison: Comparison) -> bool:
    """Whether K > d + 1: the optimum is 1 or less there, or not known."""
    values = comparison.metrics.of(comparison.loss, "train", OPTIMUM)["value"]
    return len(values) > 0 and not bool((values > 1).any())


def _left(comparison: Comparison, metric: str, optimum: str = "", claimed: Side = "below") -> Measure:
    """Judge a metric's distance from its optimum, by default 0, after the last epoch over the largest at a snapshot."""
    shares, ends = {}, []
    optima = curves_of(comparison, comparison.loss, "train", optimum) if optimum else {}
    for seed, curve in curves_of(comparison, comparison.loss, "train", metric).items():
        aim = optima[seed] if seed in optima else pd.Series(0.0 if not optimum else math.nan, index=curve.index)
        distance = (aim - curve).abs()
        largest = float(distance.max(skipna=False))
        shares[seed] = float(distance.iloc[-1]) / largest if 0 < largest < math.inf else math.nan
        ends.append((float(curve.iloc[-1]), float(aim.iloc[-1])))
    notes = []
    if ends:
        value, aim = (sum(column) / len(ends) for column in zip(*ends, strict=True))
        notes.append(f"mean {value:.3g} at the end, optimum " + ("not known" if math.isnan(aim) else f"{aim:.3g}"))
    return judge_shares(metric, shares, comparison.seeds, REACHED, claimed=claimed, unit="share left", notes=notes)


_LEFT = (
    "distance from {} after the last epoch over its largest at any snapshot, training set, geometric mean over seeds: "
    f"at the optimum when the whole interval lies below {REACHED:g}, not there when it lies above. Judged where "
    "K > d + 1."
)

CLAIMS = (
    Claim(
        "K1",
        PAPER,
        "With more classes than d + 1, classifier and class means go to the largest possible one-vs-rest distance.",
        "One-vs-rest distance of the classifier (the main measure) and of the class means: "
        + _LEFT.format("the optimum, which is known for d = 2 and for K up to 2d,"),
        goes_to_generalised_optimum,
        labels=GENERALISED,
        subject="training with more classes than d + 1",
        holds="takes the one-vs-rest distance to its optimum",
        fails="does not take the one-vs-rest distance to its optimum",
        below="nearer to the optimum",
        figures=("many_classes",),
        paired=False,
    ),
    Claim(
        "K2",
        PAPER,
        "With more classes than d + 1, the measures that compare with a simplex do not fall to 0.",
        "NC2 (the main measure), NC2 of class means and of classifier, and the deviations of both from a simplex's "
        "angles: " + _LEFT.format("0"),
        goes_to_simplex,
        labels=SIMPLEX,
        subject="training with more classes than d + 1",
        holds="leaves the simplex measures away from 0",
        fails="takes the simplex measures to 0",
        below="nearer to 0",
        figures=("many_classes",),
        paired=False,
    ),
    Claim(
        "K3",
        PAPER,
        "With more classes than d + 1, the classifier still aligns with the class means: NC3 falls to 0.",
        "NC3: " + _LEFT.format("0"),
        goes_to_self_duality,
        labels=SELF_DUALITY,
        subject="training with more classes than d + 1",
        holds="takes NC3 to 0",
        fails="does not take NC3 to 0",
        below="nearer to 0",
        figures=("many_classes",),
        paired=False,
    ),
)
"""The claims on many classes."""
