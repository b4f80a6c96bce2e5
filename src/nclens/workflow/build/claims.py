"""From a claim that a study states to a claim that is judged."""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import pandas as pd

from nclens.claims import Claim, Comparison, Measure
from nclens.claims.effects import curves, final, paired_runs, time_to
from nclens.claims.verdict import Scale, Side, judge_pairs, log_ratio
from nclens.metrics.catalogue import SPLITS
from nclens.workflow.build.functions import call
from nclens.workflow.specs import StatedClaim

PAPER = "Stated by the study"
EFFECTS = {"difference": "Difference", "ratio": "Ratio"}


def build_claim(entry: StatedClaim) -> Claim:
    """Return the claim of an entry; the user's function is imported when it is judged.

    The function gets two tables, of the loss and of what it is compared with, with the columns seed, split, epoch,
    metric and value, and its parameters. It returns a dict or a Series, seed -> effect: a difference, or a ratio where
    `scale` is ratio.
    """
    quantity = entry.metric or entry.id
    what = _what(entry)
    side = f"{entry.direction} {entry.null:g}"
    return Claim(
        entry.id,
        PAPER,
        entry.statement or f"{what[0].upper()}{what[1:]} is {entry.direction} that of the baseline.",
        f"{EFFECTS[entry.scale]} of {what}. Supported when the whole interval lies {side}, contradicted when the whole "
        "interval does not.",
        partial(_stated if entry.function is None else _computed, entry),
        labels={quantity: what},
        subject="{loss}",
        holds=f"meets the claim “{entry.id}”",
        fails=f"does not meet the claim “{entry.id}”",
        below="sooner" if entry.at.startswith("time_to") else "",
    )


def _what(entry: StatedClaim) -> str:
    if entry.function is not None:
        return f"what {entry.function} returns"
    at = {"last": "after the last epoch", "best": "best over the snapshots"}.get(entry.at)
    if at is None:
        word, number = entry.at.split()
        if word == "time_to":
            return f"the epochs until {entry.label} reaches {number}, {SPLITS[entry.split]}"
        at = f"after epoch {number}"
    return f"{entry.label}, {SPLITS[entry.split]}, {at}"


def _stated(entry: StatedClaim, comparison: Comparison) -> list[Measure]:
    scale, claimed = cast("Scale", entry.scale), cast("Side", entry.direction)
    unit = entry.unit or entry.scale
    if entry.at == "last":
        return [final(comparison, entry.split, entry.metric, scale=scale, claimed=claimed, null=entry.null, unit=unit)]
    word, _, number = entry.at.partition(" ")
    if word == "time_to":
        return [
            time_to(
                comparison,
                entry.metric,
                entry.split,
                entry.metric,
                float(number),
                rising=entry.rising,
                claimed=claimed,
                null=entry.null,
            )
        ]
    effects = {}
    for seed, *pair in paired_runs(comparison, curves(comparison, entry.split, entry.metric)):
        if word == "best":
            values = [float(curve.max() if entry.rising else curve.min()) for curve in pair]
        else:
            values = [float(curve.get(int(number), float("nan"))) for curve in pair]
        effects[seed] = log_ratio(*values) if scale == "ratio" else values[0] - values[1]
    return [
        judge_pairs(entry.metric, effects, comparison.seeds, scale=scale, claimed=claimed, unit=unit, null=entry.null)
    ]


def _computed(entry: StatedClaim, comparison: Comparison) -> list[Measure]:
    scale, claimed = cast("Scale", entry.scale), cast("Side", entry.direction)
    table = comparison.metrics.table
    columns = ["seed", "split", "epoch", "metric", "value"]
    parts = [
        table.loc[table["loss"] == loss, columns].reset_index(drop=True)
        for loss in (comparison.loss, comparison.baseline)
    ]
    found = call(str(entry.file), str(entry.function), *parts, **entry.arguments)
    effects = _effects(found, entry, comparison)
    if scale == "ratio":
        effects = {seed: log_ratio(value, 1.0) for seed, value in effects.items()}
    unit = entry.unit or entry.scale
    return [judge_pairs(entry.id, effects, comparison.seeds, scale=scale, claimed=claimed, unit=unit, null=entry.null)]


def _effects(found: Any, entry: StatedClaim, comparison: Comparison) -> dict[int, float]:
    """Return what the user's function returned, seed -> effect.

    Raises:
        ValueError: it is something else; says what is allowed.
    """
    what = f"{entry.function} ({entry.file}) must return a dict or a Series, seed -> effect"
    if isinstance(found, pd.Series):
        found = found.to_dict()
    if not isinstance(found, Mapping):
        raise ValueError(f"{what}, not {type(found).__name__}")
    try:
        effects = {int(seed): float(value) for seed, value in found.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}, both numbers: {error}") from None
    if unknown := sorted(set(effects) - set(comparison.seeds)):
        raise ValueError(f"{what}; it has the seeds {unknown}, allowed: {list(comparison.seeds)}")
    return effects
