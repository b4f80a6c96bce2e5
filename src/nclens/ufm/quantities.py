"""What the quantities of the unconstrained feature models are called, and the definition of each condition number."""

CONDITION_NUMBERS = {
    "kappa_ce": "cross entropy alone; W with H fixed, or H with W fixed; non-zero eigenvalues",
    "kappa_full": "whole objective; W with H fixed; all eigenvalues",
    "kappa_full_features": "whole objective; H with W fixed; all eigenvalues",
    "kappa_full_range": "whole objective; W with H fixed, or H with W fixed; the directions of the first row",
    "kappa_joint": "whole objective; W and H together; all eigenvalues but the zeros",
    "kappa_joint_logits": "whole objective; W and H together; smallest among the directions that move the logits",
    "kappa_joint_scaled": "as the joint one, in coordinates that give both penalties the curvature 1",
}
"""Condition number of `spectra.condition_numbers`, most likely the one of claim C6 first -> which function, in which
variables, on which directions."""

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

REGRESSION = {
    "weight_norm_frobenius": "norm of the head",
    "feature_norm_rms": "root mean square norm of the features",
    "mse": "mean squared error",
    "objective": "minimum of the objective",
    "residual_variance": "mean variance of the residuals",
}
"""Quantity of `regression.UnconstrainedRegression` -> what it is called; an entry ij of W W' is ``gram_ij``."""
