"""E1, on the law of equi-separation: within a network, every layer separates the classes by the same factor."""

import math

from nclens.claims.effects import curves_of
from nclens.claims.verdict import Claim, Comparison, Measure, fisher_z, judge_pairs

PAPER = "He and Su, A Law of Data Separation in Deep Learning (arXiv 2210.17020)"
LEAST = -0.9
"""Correlation of log NC1 and depth below which E1 takes the decay as geometric, our margin."""


def separates_evenly(comparison: Comparison) -> list[Measure]:
    """E1: Pearson's r of log NC1 and depth after the last epoch, of each probe; none under six layers."""
    measures = []
    for metric in comparison.metrics.probed("layers_correlation"):
        found = curves_of(comparison, comparison.loss, "train", metric)
        effects = {seed: fisher_z(float(curve.iloc[-1])) for seed, curve in found.items() if seed in comparison.seeds}
        if not any(map(math.isfinite, effects.values())):
            continue
        quantity = metric.removeprefix("layers_")
        measures.append(
            judge_pairs(
                quantity,
                effects,
                comparison.seeds,
                scale="correlation",
                claimed="below",
                unit="correlation",
                null=LEAST,
            )
        )
    return measures


CLAIMS = (
    Claim(
        "E1",
        PAPER,
        "Each layer of a trained network separates the classes by the same factor: NC1 falls geometrically with depth.",
        "Pearson's r of log NC1 of the training set and the number of the layer after the last epoch, over six layers "
        f"or more; supported where its interval is below {LEAST:g}, a margin of ours: the law says that it is near -1. "
        "For balanced classes K NC1 is the paper's D. Mean and interval over seeds are taken of Fisher's z = artanh r "
        "and shown as r, so that they stay within -1 and 1.",
        separates_evenly,
        labels={"correlation": "correlation of log NC1 and depth"},
        subject="NC1 of the layers",
        holds="falls geometrically with depth",
        fails="does not fall geometrically with depth",
        figures=("layers",),
        paired=False,
    ),
)
"""The claim on the layers of a network."""
