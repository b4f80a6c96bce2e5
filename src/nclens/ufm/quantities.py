"""What the quantities of the unconstrained feature models are called, and the definition of each condition number."""

from typing import NamedTuple


class ConditionNumber(NamedTuple):
    """How a condition number is defined: `label` for figures and measures, `summary` for the report, then in full."""

    label: str
    summary: str
    definition: str


CONDITION_NUMBERS = {
    "kappa_ce": ConditionNumber(
        "cross entropy alone, W or H",
        "cross entropy alone; W with H fixed, or H with W fixed; non-zero eigenvalues",
        "Hessian of the cross-entropy part alone, in W with H fixed or in H with W fixed, largest over "
        "smallest non-zero eigenvalue; that the paper defines it so is an inference",
    ),
    "kappa_full": ConditionNumber(
        "whole objective, W",
        "whole objective; W with H fixed; all eigenvalues",
        "Hessian of the whole objective, ridge terms included, in W with H fixed, on the whole space",
    ),
    "kappa_full_features": ConditionNumber(
        "whole objective, H",
        "whole objective; H with W fixed; all eigenvalues",
        "Hessian of the whole objective in H with W fixed, on the whole space",
    ),
    "kappa_full_range": ConditionNumber(
        "whole objective, directions of cross entropy",
        "whole objective; W with H fixed, or H with W fixed; the directions of the first row",
        "Hessian of the whole objective in W with H fixed or in H with W fixed, on the directions of the cross-entropy "
        "part only",
    ),
    "kappa_joint": ConditionNumber(
        "whole objective, (W, H)",
        "whole objective; W and H together; all eigenvalues but the zeros",
        "Hessian of the whole objective in (W, H) together, all eigenvalues but the zeros along the orbit of "
        "minimisers",
    ),
    "kappa_joint_logits": ConditionNumber(
        "(W, H), directions that move the logits",
        "whole objective; W and H together; smallest among the directions that move the logits",
        "Hessian of the whole objective in (W, H) together, largest over smallest eigenvalue that moves the logits",
    ),
    "kappa_joint_scaled": ConditionNumber(
        "whole objective, scaled (W, H)",
        "as the joint one, in coordinates that give both penalties the curvature 1",
        "as for the whole objective in (W, H), in coordinates that give both ridge terms the curvature 1",
    ),
}
"""Condition numbers of `spectra.condition_numbers`, most likely the one of claim C6 first."""

CLAIMED = next(iter(CONDITION_NUMBERS))
"""The condition number that claim C6 is taken to mean."""

MINIMISER = {
    "logit_gap": "logit gap",
    "weight_norm": "norm of a class's weights",
    "feature_norm": "norm of a feature",
    "p_true": "probability of the true class",
    "p_other": "probability of each other class",
    "objective": "minimum of the objective",
    "nuclear_norm": "nuclear norm",
}
"""Quantity of `classification.UnconstrainedFeatureModel` -> what it is called."""

PREDICTED = {
    "logit_gap": "logit gap",
    "confidence": "confidence",
    "weight_norm": "classifier norm",
    "feature_norm": "feature norm",
}
"""What the model predicts of trained networks -> what it is called."""

REGRESSION = {
    "weight_norm_frobenius": "norm of the head",
    "feature_norm_rms": "root mean square norm of the features",
    "mse": "mean squared error",
    "objective": "minimum of the objective",
    "residual_variance": "mean variance of the residuals",
}
"""Quantity of `regression.UnconstrainedRegression` -> what it is called; an entry ij of W W' is ``gram_ij``."""
