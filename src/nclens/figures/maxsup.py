"""Figures on MaxSup (arXiv 2502.15798): what smoothing's penalty does to logits and to the spread of the features.

The quantities are the paper's, the figures our own.
"""

from __future__ import annotations

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.per_loss import DotPanel, Dots, draw_dots
from nclens.figures.tables import Drawing, FigureInputs

PART_PANELS = (
    ("regularisation, correct\n(logits)", "ls_regularisation_correct"),
    ("regularisation, wrong\n(logits)", "ls_regularisation_incorrect"),
    ("error amplification, wrong\n(logits)", "ls_error_amplification_incorrect"),
    ("gradient on top logit, correct\n" r"mean $\partial L/\partial z_{top}$", "top_logit_gradient_correct"),
    ("gradient on top logit, wrong\n" r"mean $\partial L/\partial z_{top}$", "top_logit_gradient_incorrect"),
    ("confidence, wrong (%)", "confidence_incorrect"),
)


@style.look()
def smoothing_parts(inputs: FigureInputs) -> Drawing:
    """The parts of smoothing's penalty, the loss's gradient on the top logit, and confidence, by right and wrong.

    All on the test set, against epoch, as means over the samples that the network itself predicts correctly or wrongly.
    """
    panels = [Panel(label, (Series(metric, "test", "test"),), percent="%" in label) for label, metric in PART_PANELS]
    remarks = [
        "Test set; each network's own correct and wrong predictions",
        "Regularisation: mean of (1/K) Σ (z_y − z_m) over the logits below the label's, error amplification: the same "
        "over those above it, none on correct predictions; both per unit of α, whatever the loss trained with",
        "Gradient: of the loss trained with, at the epoch's strength; where it is positive, training lowers the logit; "
        "not known for losses with a memory and for the user's own",
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
