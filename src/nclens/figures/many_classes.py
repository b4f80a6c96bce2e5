"""A figure on networks with more classes than d + 1: simplex measures and generalised ones, our own."""

from __future__ import annotations

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.inputs import Drawing, FigureInputs


@style.look()
def many_classes(inputs: FigureInputs) -> Drawing:
    """One-vs-rest distance with its optimum, hyperspherical energy, NC2, angles and NC3 of the training set."""
    optima = inputs.select("one_vs_rest_optimum", "train")["value"].dropna()
    optimum = float(optima.iloc[-1]) if len(optima) else None
    panels = [
        Panel("one-vs-rest distance", _both("one_vs_rest"), reference=optimum),
        Panel("hyperspherical energy\n" r"mean $\log 1/|u_k - u_l|$", _both("gnc2_log")),
        Panel("variance of the distances\n" r"$|u_k - u_l|$", _both("gnc2_distance_variance")),
        Panel("NC2", _both("nc2")),
        Panel("deviation from\nthe simplex's angles", _both("equiangular")),
        Panel("NC3", (Series("nc3", "train", "means"),), reference=0.0),
    ]
    known = f"Horizontal line: largest possible one-vs-rest distance, {optimum:.3g}" if optimum is not None else ""
    remarks = [
        "Training set; u: class means minus their mean, and rows of W, over their norms",
        known or "The largest possible one-vs-rest distance is not known for these K and d",
        "NC3 compares both, and has one line a loss",
    ]
    legend = {"means": "class means", "classifier": "classifier"}
    return draw_curves(inputs, panels, columns=3, legend=legend, height=4.3, remarks=remarks)


def _both(metric: str) -> tuple[Series, ...]:
    return tuple(Series(f"{metric}_{matrix}", "train", matrix) for matrix in ("means", "classifier"))
