"""Claims on imbalanced classes and on noisy labels: of MaxSup's table of a long tail, and our own.

They apply where the largest training class is at least twice the smallest, or, on label noise, where clean labels are
kept beside the noisy ones.
"""

from nclens.claims import margins
from nclens.claims.effects import final
from nclens.claims.maxsup import ERROR_MARGIN, PAPER
from nclens.claims.verdict import Claim, Comparison, Measure

OWN = "Our own, on imbalanced classes and noisy labels"
MINORITY = "minority_collapse"
LEAST_RATIO = 2.0
"""Of the largest over the smallest training class; below it, as by label noise, classes do not count as imbalanced."""
ERRORS = {"error": "test error", "error_balanced": "test error, classes weighing alike"}


def errs_less(comparison: Comparison) -> list[Measure]:
    """L1: difference of the test errors after the last epoch, on a long tail."""
    if not _is_imbalanced(comparison):
        return []
    return [final(comparison, "test", metric, scale="difference", unit="difference in error") for metric in ERRORS]


def keeps_accuracy(comparison: Comparison) -> list[Measure]:
    """L2: difference of the test errors after the last epoch against a margin, on a long tail."""
    if not _is_imbalanced(comparison):
        return []
    unit = "difference in error"
    return [final(comparison, "test", "error", scale="difference", unit=unit, null=ERROR_MARGIN)]


def parts_the_minority(comparison: Comparison) -> list[Measure]:
    """L3, L4: differences of the minority's mean cosine and of the balanced test error after the last epoch."""
    if not _is_imbalanced(comparison):
        return []
    return [
        final(comparison, "train", MINORITY, scale="difference", unit="difference in cosine"),
        final(comparison, "test", "error_balanced", scale="difference", unit="difference in error"),
    ]


def keeps_clean_classes(comparison: Comparison) -> list[Measure]:
    """L5: ratio of NC1 by the clean labels and difference of the errors on them after the last epoch, training set."""
    losses = comparison.pair
    if not all("nc1_clean" in comparison.metrics.metrics_of(loss) for loss in losses):
        return []
    return [
        final(comparison, "train", "nc1_clean", scale="ratio"),
        final(comparison, "train", "error_clean", scale="difference", unit="difference in error"),
    ]


def _is_imbalanced(comparison: Comparison) -> bool:
    """Whether the largest training class has at least `LEAST_RATIO` times the samples of the smallest."""
    names = (name for name in comparison.metrics.metrics_of(comparison.loss) if name.startswith("train_count_class_"))
    sizes = [float(comparison.metrics.of(comparison.loss, "train", name)["value"].iloc[-1]) for name in names]
    return bool(sizes) and max(sizes) >= LEAST_RATIO * min(sizes)


PARTS = {MINORITY: "mean cosine of the minority's classifiers", "error_balanced": ERRORS["error_balanced"]}

CLAIMS = (
    Claim(
        "L1",
        PAPER,
        "On a long tail, label smoothing errs less than focal loss.",
        "Difference of the test errors after the last epoch (the main measure), and of the errors with classes "
        "weighing alike. The paper's table is of CIFAR-10 with ratios 50 and 100.",
        errs_less,
        labels=ERRORS,
        margins=dict.fromkeys(ERRORS, margins.ERROR),
        subject="label smoothing",
        holds="errs less than focal loss on a long tail",
        fails="errs more than focal loss on a long tail",
        below="lower error",
        figures=("class_size",),
        compared=("ls", "ls_linear"),
        against=("focal",),
    ),
    Claim(
        "L2",
        PAPER,
        "On a long tail, MaxSup's accuracy is no lower than label smoothing's.",
        "Difference of the test errors after the last epoch. Up to one percentage point more counts as no lower, a "
        "margin of ours: the measure is supported when the whole interval lies below the margin, contradicted when it "
        "lies above.",
        keeps_accuracy,
        labels={"error": ERRORS["error"]},
        subject="MaxSup",
        holds="is as accurate as label smoothing on a long tail",
        fails="is less accurate than label smoothing on a long tail",
        below="as accurate",
        figures=("class_size",),
        compared=("maxsup", "maxsup_linear"),
        against=("ls", "ls_linear"),
    ),
    Claim(
        "L3",
        OWN,
        "Class weights counter minority collapse: the minority's classifiers are less alike than without.",
        "Differences after the last epoch of the mean cosine among the classifiers of the minority classes, those with "
        "fewer training samples than the mean class (the main measure), and of the test error with classes weighing "
        "alike.",
        parts_the_minority,
        labels=PARTS,
        margins={MINORITY: margins.COSINE, "error_balanced": margins.ERROR},
        subject="weighted cross entropy",
        holds="counters minority collapse",
        fails="adds to minority collapse",
        below={MINORITY: "less alike", "error_balanced": "lower error"},
        figures=("class_size",),
        compared=("ce_weighted",),
        against=("ce",),
    ),
    Claim(
        "L4",
        OWN,
        "Label smoothing counters minority collapse: the minority's classifiers are less alike than under cross "
        "entropy.",
        "As L3, label smoothing against cross entropy.",
        parts_the_minority,
        labels=PARTS,
        margins={MINORITY: margins.COSINE, "error_balanced": margins.ERROR},
        subject="label smoothing",
        holds="counters minority collapse",
        fails="adds to minority collapse",
        below={MINORITY: "less alike", "error_balanced": "lower error"},
        figures=("class_size",),
        compared=("ls", "ls_linear"),
        against=("ce",),
    ),
    Claim(
        "L5",
        OWN,
        "Under label noise, label smoothing collapses more by the clean labels than cross entropy.",
        "After the last epoch, training set: ratio of NC1 by the clean labels (the main measure), and difference of "
        "the errors on them.",
        keeps_clean_classes,
        labels={"nc1_clean": "NC1 by the clean labels", "error_clean": "training error by the clean labels"},
        margins={"nc1_clean": margins.COLLAPSE, "error_clean": margins.ERROR},
        subject="label smoothing",
        holds="collapses more by the clean labels",
        fails="collapses less by the clean labels",
        below={"nc1_clean": "more collapsed", "error_clean": "lower error"},
        figures=("collapse_curves",),
        compared=("ls", "ls_linear"),
        against=("ce",),
    ),
)
"""The paper's claims, then our own."""
