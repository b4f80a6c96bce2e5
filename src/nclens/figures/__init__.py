"""What is drawn, one file a paper; `FIGURES` is the registry of all figures by file stem.

Each figure is a pure function of `FigureInputs` to a `Drawing`: a matplotlib figure and the table that it was drawn
from. `style.encode` makes the bytes of a PNG or PDF of it.
"""

from nclens.figures import (
    cross_entropy_vs_label_smoothing,
    maxsup,
    neural_regression_collapse,
    nrc_matrices,
    nrc_residuals,
    smoothing_sweep,
    theory_to_network,
    two_stage,
    ufm_dynamics,
    unconstrained_feature_model,
    when_does_it_help,
)
from nclens.figures.tables import Drawing, FigureInputs, FigureSpec

__all__ = ["FIGURES", "Drawing", "FigureInputs", "FigureSpec"]

FIGURES: dict[str, FigureSpec] = {
    **cross_entropy_vs_label_smoothing.FIGURES,
    **smoothing_sweep.FIGURES,
    **theory_to_network.FIGURES,
    **unconstrained_feature_model.FIGURES,
    **ufm_dynamics.FIGURES,
    **maxsup.FIGURES,
    **two_stage.FIGURES,
    **when_does_it_help.FIGURES,
    **neural_regression_collapse.FIGURES,
    **nrc_matrices.FIGURES,
    **nrc_residuals.FIGURES,
}
"""Every figure by file stem."""
