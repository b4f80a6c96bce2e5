"""What is claimed, and the verdicts on it: one file a paper or theory; `CLAIMS` is the registry of all claims.

Each claim is a pure function of tables: a `Comparison` of two losses (or of one, where the claim is on a single loss)
in, its measures out. A claim's file holds all that is specific to it: statement, rule, measures, labels, figures.
"""

from collections.abc import Collection, Mapping, Sequence

from nclens.claims import (
    any_loss,
    cross_entropy_vs_label_smoothing,
    layers,
    long_tail,
    many_classes,
    maxsup,
    nc0,
    neural_regression_collapse,
    optimizers,
    out_of_distribution,
    schedules,
    selective,
    two_stage,
    unconstrained_feature_model,
    verdict,
    when_does_it_help,
)
from nclens.claims.measurements import Measurements
from nclens.claims.rows import ClaimRow, claim_rows, claims_table, corrected, pairs
from nclens.claims.verdict import Claim, Comparison, Measure

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
    "corrected",
    "pairs",
    "rules_of",
]

PAPERS = (
    cross_entropy_vs_label_smoothing,
    unconstrained_feature_model,
    maxsup,
    two_stage,
    when_does_it_help,
    selective,
    out_of_distribution,
    neural_regression_collapse,
    optimizers,
    nc0,
    any_loss,
    many_classes,
    long_tail,
    layers,
    schedules,
)


def _in_order(claims: Sequence[Claim]) -> dict[str, Claim]:
    """Return the claims by id, the letters in the order of the papers, each by number."""
    letters = list(dict.fromkeys(claim.id[0] for claim in claims))
    ordered = sorted(claims, key=lambda claim: (letters.index(claim.id[0]), int(claim.id[1:])))
    return {claim.id: claim for claim in ordered}


CLAIMS: dict[str, Claim] = _in_order([claim for paper in PAPERS for claim in paper.CLAIMS])
"""Id -> claim, in the order in which they are judged and shown."""

RULES: dict[str, str] = {**verdict.RULES, **{claim.id: claim.rule for claim in CLAIMS.values()}}
"""How a verdict is reached: the rule that all claims share, then what is measured for each."""


def rules_of(claims: Collection[str], known: Mapping[str, Claim] = CLAIMS) -> dict[str, str]:
    """Return how a verdict is reached: the rule that all claims share, and what is measured for each of these.

    Args:
        claims: ids.
        known: every claim by its id, those that a study states among them.
    """
    return {**verdict.RULES, **{name: claim.rule for name, claim in known.items() if name in claims}}
