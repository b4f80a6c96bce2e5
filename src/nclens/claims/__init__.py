"""What each paper claims, and the verdicts on it: one file a paper; `CLAIMS` is the registry of all claims.

Each claim is a pure function of tables: a `Comparison` of two losses in, its measures out.
"""

from nclens.claims import cross_entropy_vs_label_smoothing, verdict
from nclens.claims.verdict import Claim, ClaimRow, Comparison, Measure, claim_rows, claims_table

__all__ = ["CLAIMS", "RULES", "Claim", "ClaimRow", "Comparison", "Measure", "claim_rows", "claims_table"]

CLAIMS: tuple[Claim, ...] = (*cross_entropy_vs_label_smoothing.CLAIMS,)
"""Every claim, in the order in which they are judged and shown."""

RULES: dict[str, str] = {**verdict.RULES, **{claim.id: claim.rule for claim in CLAIMS}}
"""How a verdict is reached, in words: the rule that all claims share, then what is measured for each."""
