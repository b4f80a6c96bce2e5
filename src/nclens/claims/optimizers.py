"""The claim of "Optimizer choice matters for the emergence of Neural Collapse", arXiv 2602.16642, on weight decay.

It compares entries that differ in the optimiser alone: an adaptive optimiser, or one whose decay is decoupled, with SGD
under the same loss. At equal weight decay wd, decoupled SGD decays 1 - m times as fast as SGD with momentum m, which
alone would keep NC0 high. So it is judged at equal effective decay: lr wd/(1 - m) of SGD, lr wd of decoupled decay.
"""

from nclens.claims.effects import final
from nclens.claims.margins import COLLAPSE
from nclens.claims.verdict import Claim, Comparison, Measure

PAPER = "Optimizer choice matters for the emergence of Neural Collapse (arXiv 2602.16642)"

TIMES = 2.0
"""NC0 is called high where it is more than so many times SGD's: at equal decay both fall by orders of magnitude."""


def keeps_nc0_high(comparison: Comparison) -> list[Measure]:
    """O1: ratios of nc0, nc2 and nc3 after the last epoch, training set; without nc0 where it is not measured."""
    measured = comparison.metrics.metrics_of(comparison.loss)
    nulls = {"nc0": TIMES, "nc2": None, "nc3": None}
    return [
        final(comparison, "train", metric, scale="ratio", claimed="above", null=null)
        for metric, null in nulls.items()
        if metric != "nc0" or metric in measured
    ]


CLAIMS = (
    Claim(
        "O1",
        PAPER,
        "Decoupled and adaptive weight decay leave NC0, and with it NC2 and NC3, high.",
        "Against SGD with the same loss and schedule: ratios of NC0 (the main measure; the squared norm of the sum of "
        "the classifier's rows over K), NC2 and NC3 after the last epoch, training set. NC0 counts as high above twice "
        "SGD's, a margin of ours. Where decay alone shrinks the weights at a known rate per step, lr wd/(1 - m) of SGD "
        "with momentum m and lr wd of decoupled decay, entries of the same rate are compared; an entry without such a "
        "rate is compared with SGD of the same weight decay or, where there is none, with all SGD.",
        keeps_nc0_high,
        labels={"nc0": "NC0", "nc2": "NC2", "nc3": "NC3"},
        margins={"nc2": COLLAPSE, "nc3": COLLAPSE},
        subject="{loss}",
        holds="leaves NC0, NC2 and NC3 high",
        fails="lets NC0, NC2 and NC3 fall as SGD does",
        below={"nc0": "less than twice SGD's", "nc": "more collapsed"},
        figures=("collapse_curves",),
        by_optimizer=True,
    ),
)
"""The claim on optimisers."""
