"""Claims on any loss of a classifier, the user's own among them, against the experiment's baseline.

G1 to G4 are measured as C1 to C4, which keep label smoothing with the paper's words: there they would be the same
numbers twice. G5 is on every loss. Students, which learn from another network, have claims that name them.

These claims alone, and those of the user's own, also compare networks of two models; those of papers are on a loss,
with everything else the same. There G1 to G4 are on label smoothing too.
"""

from dataclasses import replace

from nclens.claims.cross_entropy_vs_label_smoothing import CLAIMS as SMOOTHING
from nclens.claims.effects import final
from nclens.claims.margins import RELATIVE_MARGIN
from nclens.claims.verdict import Claim, Comparison, Measure

PAPER = "Our own, on any loss"

STATEMENTS = {
    "C1": "The loss reaches a level of neural collapse in fewer epochs than the baseline.",
    "C2": "Training with the loss ends at a stronger level of neural collapse than training with the baseline.",
    "C3": "At the same NC1, NC2 is lower under the loss than under the baseline.",
    "C4": "The loss is better calibrated than the baseline.",
}
"""Claim on label smoothing -> what it says of another loss."""


def has_larger_margins(comparison: Comparison) -> list[Measure]:
    """G5: difference of the relative margins after the last epoch, test and training set."""
    return [
        final(
            comparison,
            split,
            "margin",
            scale="difference",
            claimed="above",
            unit="difference in margin",
            quantity=f"margin_{split}",
        )
        for split in ("test", "train")
    ]


CLAIMS = (
    *(
        replace(
            claim,
            id=f"G{claim.id[1:]}",
            paper=PAPER,
            statement=STATEMENTS[claim.id],
            subject="{loss}",
            place="",
            compared=(),
            excluded=claim.compared,
            across_models=True,
        )
        for claim in SMOOTHING
    ),
    Claim(
        "G5",
        PAPER,
        "The loss separates the classes by larger margins than the baseline.",
        "Difference of the relative margin, the mean distance of the features to the nearest decision boundary of "
        "their class over their norm, after the last epoch: test set (the main measure) and training set.",
        has_larger_margins,
        labels={"margin_test": "relative margin, test set", "margin_train": "relative margin, training set"},
        margins=dict.fromkeys(("margin_test", "margin_train"), RELATIVE_MARGIN),
        subject="{loss}",
        holds="separates the classes by larger margins",
        fails="separates the classes by smaller margins",
        below="smaller margins",
        figures=("collapse_curves",),
        compared=(),
        across_models=True,
    ),
)
"""The claims on any loss."""
