"""A finished study with verdicts of given effects over seeds, made in milliseconds."""

import os
from dataclasses import replace

from nclens.claims import CLAIMS, claims_table
from nclens.claims.rows import ClaimRow
from nclens.claims.verdict import judge_pairs
from nclens.workflow import tables
from nclens.workflow.files import write_json
from tests.finished import DATA, finish

JUDGED = {"version": "0.1.0", "code": "ab12", "git_revision": "f" * 40}


def verdict(claim, effects, *, quantity="nc1", scale="ratio", **changes):
    """The rows of a claim with one measure, by its effects over seeds on the scale on which they are averaged."""
    known = CLAIMS.get(claim)
    judged = judge_pairs(quantity, effects, sorted(effects), scale=scale, claimed="below", unit=scale)
    judged = replace(judged, **{key: changes.pop(key) for key in list(changes) if hasattr(judged, key)})
    numbers = {key: number for key, number in vars(judged).items() if key != "narrow"}
    names = {"experiment": "smoke", "dataset": "mnist5k", "model": "resnet8", "baseline": "ce", "loss": "ls"}
    names |= {"paper": known.paper if known else "Stated by the study", "statement": known.statement if known else ""}
    names |= {"claim": claim} | changes
    return [
        ClaimRow(**names, level="claim", **numbers | {"quantity": ""}),
        ClaimRow(**names, level="measure", **numbers | {"note": ""}),
    ]


def judge(raw, rows, folder=None, data=DATA, judged=JUDGED):
    """Write the results of a study with these verdicts; return their folder."""
    of = finish(raw, folder or f"results/{raw['study']}", data)
    tables.write(tables.CLAIMS, of.claims, claims_table(rows))
    of.metrics.touch()
    os.utime(of.metrics, (1, 1))
    if judged:
        write_json(of.judged, judged)
    return of
