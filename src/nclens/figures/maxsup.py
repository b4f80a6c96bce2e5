"""Figures on MaxSup (arXiv 2502.15798): effect of the smoothing penalty on logits and on the spread of the features.

The quantities are the paper's, the figures our own.
"""

from __future__ import annotations

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.figures.per_loss import DotPanel, Dots, draw_dots

PART_PANELS = (
    ("regularisation, correct\n(logits)", "ls_regularisation_correct"),
    ("regularisation, incorrect\n(logits)", "ls_regularisation_incorrect"),
    ("error amplification, incorrect\n(logits)", "ls_error_amplification_incorrect"),
    ("gradient on top logit, correct\n" r"mean $\partial L/\partial z_{top}$", "top_logit_gradient_correct"),
    ("gradient on top logit, incorrect\n" r"mean $\partial L/\partial z_{top}$", "top_logit_gradient_incorrect"),
    ("confidence, incorrect (%)", "confidence_incorrect"),
)


@style.look()
def smoothing_parts(inputs: FigureInputs) -> Drawing:
    """The parts of the smoothing penalty, the gradient with respect to the top logit, and confidence.

    On the test set, against epoch, as means over the samples that the network predicts correctly or incorrectly.
    """
    panels = [Panel(label, (Series(metric, "test", "test"),), percent="%" in label) for label, metric in PART_PANELS]
    remarks = [
        "Test set; correct and incorrect predictions of each network",
        "Regularisation: mean of (1/K) Σ (z_y − z_m) over the logits below the label's; error amplification: the same "
        "over those above it, none on correct predictions; both per unit of δ, for every training loss",
        "Gradient: of the training loss, with the smoothing of the epoch; where it is positive, training lowers the "
        "logit; not available for losses with a state and for user-defined losses",
    ]
    return draw_curves(inputs, panels, columns=3, legend={"test": "test set"}, height=4.3, remarks=remarks)


@style.look()
def class_spread(inputs: FigureInputs) -> Drawing:
    """d_within, d_total and R² of the features' directions at the last epoch, on the training and on the test set."""
    both = (("train", False), ("test", True))
    panels = [
        DotPanel(label, tuple(Dots(metric, split, hollow) for split, hollow in both))
        for metric, label in (
            ("d_within", "$d_{within}$\nspread within classes"),
            ("d_total", "$d_{total}$\nspread of all"),
            ("r2_angular", "$R^2 = 1 - d_{within}/d_{total}$"),
        )
    ]
    remarks = [
        f"Epoch {inputs.last_epoch}",
        "Spread of the directions u = h/|h|: mean squared distance from the class's mean direction, and from the mean "
        "of all classes",
    ]
    return draw_dots(inputs, panels, names={False: "training set", True: "test set"}, remarks=remarks)


@style.look()
def segmentation(inputs: FigureInputs) -> Drawing:
    """mIoU and pixel accuracy of segmentation on the feature map at the last epoch, and mIoU of floor and ceiling."""
    probes = inputs.probes_of("segmentation") or [{"suffix": "", "dataset": "another data set", "bounds": True}]
    panels, remarks = [], []
    for probe in probes:
        bounds = ("_floor", "", "_ceiling") if probe.get("bounds", True) else ("",)
        for score, label in (("miou", "mIoU (%)"), ("pixel_accuracy", "pixel accuracy (%)")):
            dots = [Dots(f"segmentation{of}_{score}{probe['suffix']}", "test", bool(of)) for of in bounds]
            panels.append(DotPanel(f"{probe['dataset']}\n{label}", tuple(dots), percent=True))
    both = any(probe.get("bounds", True) for probe in probes)
    if both:
        remarks = [
            "In each row from above: a random network under the same head, the trained network, and a random network "
            "that was trained with the head; the first and the last are the same for all losses"
        ]
    names = {False: "trained with the loss", True: "floor and ceiling"} if both else {}
    return draw_dots(inputs, panels, names=names, remarks=[f"Epoch {inputs.last_epoch}", *remarks])
