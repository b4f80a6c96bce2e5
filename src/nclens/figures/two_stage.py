"""Figures on two-stage smoothing (TSLA, arXiv 2006.11653): before and after the loss is dropped. All our own."""

from __future__ import annotations

from nclens.figures import style
from nclens.figures.cross_entropy_vs_label_smoothing import NC1, NC2, NC3
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.figures.per_loss import DotPanel, Dots, draw_dots

PANELS = (
    Panel("test error (%)", (Series("epoch_error", "test", "all"),), log=True, percent=True),
    Panel(NC1, (Series("nc1", "train", "all"),), log=True),
    Panel(NC2, (Series("nc2", "train", "all"),)),
    Panel(NC3, (Series("nc3", "train", "all"),)),
)


@style.look()
def two_stage(inputs: FigureInputs) -> Drawing:
    """Test error of every epoch, NC1 (both log), NC2 and NC3 of the training set; marks where a loss is dropped."""
    remarks = [
        "Test error of every epoch; NC1, NC2 and NC3 of the training set at the snapshots",
        "Dotted vertical line: from this epoch on the loss of that colour is cross entropy" if inputs.drops else "",
    ]
    legend = {"all": "every loss"}
    return draw_curves(inputs, PANELS, columns=2, legend=legend, height=4.5, marks=inputs.drops, remarks=remarks)


@style.look()
def drop_epoch(inputs: FigureInputs) -> Drawing:
    """Test error, and NC1, NC2 and NC3 of the training set, at the last epoch, one row per loss."""
    panels = (
        DotPanel("test error (%)", (Dots("error", "test"),), percent=True),
        DotPanel("NC1", (Dots("nc1", "train"),)),
        DotPanel("NC2", (Dots("nc2", "train"),)),
        DotPanel("NC3", (Dots("nc3", "train"),)),
    )
    remarks = [f"Epoch {inputs.last_epoch}; NC1, NC2 and NC3 of the training set"]
    return draw_dots(inputs, panels, names={}, remarks=remarks)
