"""The claims of "MaxSup: Overcoming Representation Collapse in Label Smoothing", arXiv 2502.15798, and two of our own.

MaxSup is compared with the label smoothing of the same strength and schedule, where there is one, and label smoothing
with its regularising part alone. The paper gives no test: how each claim is measured is our choice, stated in its
`rule`.
"""

import math
from dataclasses import replace

import pandas as pd

from nclens.claims import margins
from nclens.claims.effects import curves, final, paired_runs
from nclens.claims.verdict import Claim, Comparison, Measure, Side

PAPER = "MaxSup: Overcoming Representation Collapse in Label Smoothing (arXiv 2502.15798)"
OWN = "Our own, on MaxSup and neural collapse"

MAXSUP = ("maxsup", "maxsup_linear")
SMOOTHING = ("ls", "ls_linear")
REGULARISATION = ("ls_regularisation", "ls_regularisation_linear")

ERROR_MARGIN = margins.ERROR.size
"""A test error that is higher by less than this counts as no higher: M1 is on accuracy kept, not gained."""
COLLAPSE = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
PROBE = "probe_accuracy"
SEGMENTATION = "segmentation_miou"
ON_ERRORS = {
    "confidence_incorrect": "confidence on wrong predictions",
    "top_logit_gap_incorrect": "lead of the top logit on wrong predictions",
}
ON_ERRORS_MARGINS = {"confidence_incorrect": margins.CONFIDENCE, "top_logit_gap_incorrect": margins.LOGITS}
COLLAPSE_MARGINS = dict.fromkeys(COLLAPSE, margins.COLLAPSE)


def keeps_accuracy(comparison: Comparison) -> list[Measure]:
    """M1: difference of the test errors after the last epoch, against `ERROR_MARGIN`."""
    unit = "difference in error"
    return _noted(comparison, [final(comparison, "test", "error", scale="difference", unit=unit, null=ERROR_MARGIN)])


def spreads_within_classes(comparison: Comparison) -> list[Measure]:
    """M2: ratio of the spread of directions within classes after the last epoch, training and test set."""
    measures = [
        final(comparison, split, "d_within", scale="ratio", claimed="above", quantity=f"d_within_{split}")
        for split in ("train", "test")
    ]
    return _noted(comparison, measures)


def transfers_better(comparison: Comparison) -> list[Measure]:
    """M3: difference of the linear probes' test accuracies after the last epoch, one measure a probe."""
    return _noted(comparison, _by_probes(comparison, PROBE, "difference in accuracy", "linear probe"))


def segments_better(comparison: Comparison) -> list[Measure]:
    """M8: difference of the mIoU of segmentation after the last epoch, one measure a probe."""
    return _noted(comparison, _by_probes(comparison, SEGMENTATION, "difference in mIoU", "probe of segmentation"))


def is_overconfident_on_errors(comparison: Comparison) -> list[Measure]:
    """M4: how much higher confidence and top logit are on wrong test predictions, after the last epoch."""
    return _on_errors(comparison, "above")


def is_less_confident_on_errors(comparison: Comparison) -> list[Measure]:
    """M5: how much lower confidence and top logit are on wrong test predictions, after the last epoch."""
    return _noted(comparison, _on_errors(comparison, "below"))


def collapses_less(comparison: Comparison) -> list[Measure]:
    """M6: ratios of nc1, nc2 and nc3 after the last epoch, on the training set."""
    measures = [final(comparison, "train", metric, scale="ratio", claimed="above") for metric in COLLAPSE]
    return _noted(comparison, measures)


def collapses_more(comparison: Comparison) -> list[Measure]:
    """M7: ratios of nc1, nc2 and nc3 after the last epoch, on the training set."""
    return [final(comparison, "train", metric, scale="ratio", claimed="below") for metric in COLLAPSE]


def _noted(comparison: Comparison, measures: list[Measure]) -> list[Measure]:
    """Return the measures; the main one notes since when the losses have had the same gradient on the training set.

    On right predictions MaxSup is label smoothing: where both fit the training set, their networks differ only by what
    came before.
    """
    runs = paired_runs(comparison, curves(comparison, "train", "error"))
    since = [max(_fitted_from(curve) for curve in pair) for _, *pair in runs]
    if not since or math.isinf(max(since)):
        return measures
    note = f"from epoch {max(since):g} on every training prediction is right, where both losses have the same gradient"
    main, *others = measures
    return [replace(main, note="; ".join(filter(None, [main.note, note]))), *others]


def _fitted_from(error: pd.Series) -> float:
    """Return the first snapshot from which a training error stays 0; inf where it ends above."""
    wrong = error.index[error.ne(0)]
    right = error.index if len(wrong) == 0 else error.index[error.index > wrong[-1]]
    return float(right[0]) if len(right) else math.inf


def _by_probes(comparison: Comparison, metric: str, unit: str, what: str) -> list[Measure]:
    probes = comparison.metrics.probed(metric)
    measures = [
        final(comparison, "test", probe, scale="difference", claimed="above", unit=unit) for probe in probes or [metric]
    ]
    if probes:
        return measures
    return [replace(absent, note=f"the study has no {what} of these networks") for absent in measures]


def _on_errors(comparison: Comparison, claimed: Side) -> list[Measure]:
    confidence = final(
        comparison,
        "test",
        "confidence_incorrect",
        scale="difference",
        claimed=claimed,
        unit="difference in confidence",
    )
    return [confidence, final(comparison, "test", "top_logit_gap_incorrect", scale="ratio", claimed=claimed)]


CLAIMS = (
    Claim(
        "M1",
        PAPER,
        "MaxSup's accuracy is no lower than label smoothing's.",
        "Difference of the test errors after the last epoch. Up to one percentage point more counts as no lower, a "
        "margin of ours: the measure is supported when the whole interval lies below the margin, contradicted when it "
        "lies above.",
        keeps_accuracy,
        labels={"error": "error"},
        subject="MaxSup",
        holds="is as accurate as label smoothing",
        fails="is less accurate than label smoothing",
        below="as accurate",
        figures=("collapse_curves",),
        compared=MAXSUP,
        against=SMOOTHING,
    ),
    Claim(
        "M2",
        PAPER,
        "Under MaxSup the features of a class vary more than under label smoothing.",
        "Ratio of the spread of the features' directions within classes, after the last epoch: training set "
        "(the main measure) and test set.",
        spreads_within_classes,
        labels={
            "d_within_train": "spread within classes, training set",
            "d_within_test": "spread within classes, test set",
        },
        margins=dict.fromkeys(("d_within_train", "d_within_test"), margins.SPREAD),
        subject="MaxSup",
        holds="spreads the features of a class more than label smoothing",
        fails="spreads the features of a class less than label smoothing",
        below="more collapsed",
        figures=("class_spread",),
        compared=MAXSUP,
        against=SMOOTHING,
    ),
    Claim(
        "M3",
        PAPER,
        "Features trained with MaxSup transfer better than those trained with label smoothing.",
        "Difference of the accuracies of linear classifiers on the frozen features of another data set, its test "
        "split; the first probe is the main measure. Inconclusive where the study has no such probe.",
        transfers_better,
        labels={PROBE: "accuracy of the linear probe"},
        margins={PROBE: margins.TRANSFER},
        subject="MaxSup",
        holds="transfers better than label smoothing",
        fails="transfers worse than label smoothing",
        below="transfers worse",
        figures=("probe_accuracy",),
        compared=MAXSUP,
        against=SMOOTHING,
    ),
    Claim(
        "M4",
        PAPER,
        "Label smoothing makes wrong predictions overconfident: its error-amplifying part raises their top logit.",
        "Label smoothing against its regularising part alone, which is label smoothing without the error-amplifying "
        "part: difference of the mean confidence on wrong test predictions (the main measure), and ratio of "
        "the top logit's lead on them, that of the largest logit over the mean of all. Each network is measured on its "
        "own errors. That this comparison is what the paper means is an inference.",
        is_overconfident_on_errors,
        labels=ON_ERRORS,
        margins=ON_ERRORS_MARGINS,
        subject="label smoothing",
        holds="is more confident on wrong predictions than its regularising part alone",
        fails="is less confident on wrong predictions than its regularising part alone",
        below="less confident",
        figures=("smoothing_parts",),
        compared=SMOOTHING,
        against=REGULARISATION,
    ),
    Claim(
        "M5",
        PAPER,
        "MaxSup's wrong predictions are less confident than label smoothing's.",
        "MaxSup against label smoothing: difference of the mean confidence on wrong test predictions (the main "
        "measure), and ratio of the top logit's lead on them. Each network is measured on its own errors.",
        is_less_confident_on_errors,
        labels=ON_ERRORS,
        margins=ON_ERRORS_MARGINS,
        subject="MaxSup",
        holds="is less confident on wrong predictions than label smoothing",
        fails="is more confident on wrong predictions than label smoothing",
        below="less confident",
        figures=("smoothing_parts",),
        compared=MAXSUP,
        against=SMOOTHING,
    ),
    Claim(
        "M8",
        PAPER,
        "Features trained with MaxSup segment better than those trained with label smoothing.",
        "Difference of the mIoU of a small segmentation head on the feature map, trained and measured on another "
        "data set; the first probe is the main measure. The paper has UperNet on ADE20K. Inconclusive where the study "
        "has no such probe.",
        segments_better,
        labels={SEGMENTATION: "mIoU of segmentation"},
        margins={SEGMENTATION: margins.SEGMENTATION},
        subject="MaxSup",
        holds="segments better than label smoothing",
        fails="segments worse than label smoothing",
        below="segments worse",
        figures=("segmentation",),
        compared=MAXSUP,
        against=SMOOTHING,
    ),
    Claim(
        "M6",
        OWN,
        "A network trained with MaxSup collapses less than one trained with label smoothing.",
        "Ratios of NC1 (the main measure), NC2 and NC3 after the last epoch, training set. The losses have the same "
        "gradient on correct predictions, so that on a fitted training set they can differ only by earlier training.",
        collapses_less,
        labels=COLLAPSE,
        margins=COLLAPSE_MARGINS,
        subject="MaxSup",
        holds="collapses less than label smoothing",
        fails="collapses more than label smoothing",
        below="more collapsed",
        figures=("nc1_nc2", "collapse_curves"),
        compared=MAXSUP,
        against=SMOOTHING,
    ),
    Claim(
        "M7",
        OWN,
        "A network trained with MaxSup collapses more than one trained with cross entropy.",
        "Ratios of NC1 (the main measure), NC2 and NC3 after the last epoch, training set.",
        collapses_more,
        labels=COLLAPSE,
        margins=COLLAPSE_MARGINS,
        subject="MaxSup",
        holds="collapses more than cross entropy",
        fails="collapses less than cross entropy",
        below="more collapsed",
        figures=("nc1_nc2", "collapse_curves"),
        compared=MAXSUP,
        against=("ce",),
    ),
)
"""The paper's claims, then our own."""
