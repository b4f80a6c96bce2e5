"""What is claimed, and the verdicts on it: one file a paper or theory; `CLAIMS` is the registry of all claims.

Each claim is a pure function of tables: a `Comparison` of two losses (or one loss, where the claim is on a loss alone)
in, its measures out.
"""

from nclens.claims import (
    cross_entropy_vs_label_smoothing,
    maxsup,
    neural_regression_collapse,
    two_stage,
    unconstrained_feature_model,
    verdict,
    when_does_it_help,
)
from nclens.claims.measurements import Measurements
from nclens.claims.verdict import Claim, ClaimRow, Comparison, Measure, claim_rows, claims_table, pairs

__all__ = [
    "CLAIMS",
    "RULES",
    "Claim",
    "ClaimRow",
    "Comparison",
    "Measure",
    "Measurements",
    "claim_rows",
    "claims_table",
    "pairs",
]

CLAIMS: tuple[Claim, ...] = (
    *cross_entropy_vs_label_smoothing.CLAIMS,
    *unconstrained_feature_model.CLAIMS,
    *maxsup.CLAIMS,
    *two_stage.CLAIMS,
    *when_does_it_help.CLAIMS,
    *neural_regression_collapse.CLAIMS,
)
"""Every claim, in the order in which they are judged and shown."""

RULES: dict[str, str] = {**verdict.RULES, **{claim.id: claim.rule for claim in CLAIMS}}
"""How a verdict is reached, in words: the rule that all claims share, then what is measured for each."""
