"""How far trained networks are from the unconstrained feature model's minimiser, against epoch.

After figure 10 of arXiv 2402.03979, in our numbering, which has the two norms; the logit gap is our addition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from nclens.figures import style
from nclens.figures.cross_entropy_vs_label_smoothing import NC1, NC2, NC3
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.inputs import Drawing, FigureInputs

PREDICTED = {
    "classifier_norm": (
        "weight_norm",
        "error of classifier norm\n" r"$|\,$mean$_k\Vert w_k\Vert\,/\,\Vert w^{*}\Vert - 1\,|$",
    ),
    "feature_norm": (
        "feature_norm",
        "error of feature norm\n" r"$|\,$mean$_k\Vert \bar h_k - h_G\Vert\,/\,\Vert h^{*}\Vert - 1\,|$",
    ),
    "logit_gap": ("logit_gap", "error of logit gap\n" r"$|\,$logit gap$\,/\,a^{*} - 1\,|$"),
}
"""Metric -> the theory's quantity that it is compared with, and the label of its relative error."""

PENALTIES = {"lambda_w": "classifier", "lambda_h": "features", "lambda_b": "bias"}
"""Column of the theory table -> what it penalises."""


@style.look()
def theory_error(inputs: FigureInputs) -> Drawing:
    """Relative error of the norms and the logit gap with respect to the UFM's closed form, and NC1-NC3, on log axes.

    |measured / closed form - 1| on the training set for each run, then the geometric mean over seeds. The closed form
    is the theory table's, at the study's penalties. The predicted NC1, NC2 and NC3 are 0, so that a relative error is
    not defined: their own values are shown.
    """
    panels = [
        Panel(
            label,
            (Series(metric, "train", "train"),),
            log=True,
            transform=relative_error(closed_forms(inputs, quantity)),
            name=f"{metric}_relative_error",
        )
        for metric, (quantity, label) in PREDICTED.items()
    ]
    panels += [
        Panel(label, (Series(metric, "train", "train"),), log=True)
        for metric, label in (("nc1", NC1), ("nc2", NC2), ("nc3", NC3))
    ]
    return draw_curves(
        inputs, panels, columns=3, legend={"train": "training set"}, height=4.2, remarks=_remarks(inputs)
    )


def closed_forms(inputs: FigureInputs, quantity: str) -> dict[str, float]:
    """The closed form of a quantity for each loss that has a finite one other than 0."""
    rows = inputs.theory[inputs.theory["quantity"] == quantity]
    values = rows.set_index("loss")["closed_form"].astype(float)
    return {str(loss): value for loss, value in values.items() if np.isfinite(value) and value != 0}


def relative_error(predicted: Mapping[str, float]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Rows (loss, seed, epoch, value) -> those of losses with a prediction, with |value / predicted - 1|."""

    def transform(rows: pd.DataFrame) -> pd.DataFrame:
        closed = rows["loss"].map(dict(predicted)).astype(float)
        return rows.assign(value=(rows["value"] / closed - 1).abs())[closed.notna()]

    return transform


def _remarks(inputs: FigureInputs) -> list[str]:
    """What the errors are relative to, for which losses there is none, and whether the training had its penalties."""
    theory = inputs.theory
    given = [(name, theory[column].dropna().unique()) for column, name in PENALTIES.items() if column in theory]
    listed = ", ".join(f"{values[0]:.3g} ({name})" for name, values in given if len(values) == 1)
    remarks = [
        "Top: relative to the closed form of the unconstrained feature model (marked *)"
        + (f" at the penalties {listed}" if listed else ""),
        "Bottom: the predicted value is 0, so the metrics themselves",
    ]
    known = {loss for quantity, _ in PREDICTED.values() for loss in closed_forms(inputs, quantity)}
    if absent := [inputs.labels[loss] for loss in inputs.losses if loss not in known]:
        remarks.append("No closed form, or 0, for " + ", ".join(absent))
    penalties = set(inputs.predictions["penalties"])
    if not penalties:
        remarks.append("Whether these networks were trained with the closed form's penalties is not in the tables")
    elif "explicit" not in penalties:
        remarks.append("These networks were not trained with the closed form's penalties")
    return remarks
