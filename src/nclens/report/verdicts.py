"""The verdicts on the claims: the table, the measures behind each, and their numbers as sentences."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from nclens.claims import CLAIMS
from nclens.report.effects import NOT_MEASURED, VERDICTS, Effect, pair
from nclens.report.page import Section
from nclens.report.text import Names, as_text, listed, plural, sentence

MOST_NAMED = 2
"""Verdicts of a kind on a claim that the summary names one by one."""


def judged_claims(claims: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    """The claims in their order, each with its verdicts, each of these with its measures."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    verdict_rows: dict[tuple[str, ...], dict[str, Any]] = {}
    records = claims.to_dict("records")
    for record in records:
        if record["claim"] not in CLAIMS:
            raise ValueError(f"claims: claim {record['claim']!r}; allowed: {', '.join(CLAIMS)}")
        if record["level"] not in ("claim", "measure"):
            raise ValueError(f"claims: level {record['level']!r} of {record['claim']}; allowed: claim, measure")
        if record["verdict"] not in VERDICTS:
            raise ValueError(
                f"claims: verdict {record['verdict']!r} of {record['claim']}; allowed: {', '.join(VERDICTS)}"
            )
        if record["level"] == "claim":
            head = (as_text(record["paper"]), as_text(record["claim"]))
            claim = found.setdefault(
                head, {"id": head[1], "paper": head[0], "statement": as_text(record["statement"]), "rows": []}
            )
            row = _verdict_row(record, names)
            claim["rows"].append(row)
            verdict_rows[(*head, row["experiment"], *_pair(record))] = row
    for record in records:
        if record["level"] == "measure":
            key = (*(as_text(record[column]) for column in ("paper", "claim", "experiment")), *_pair(record))
            if key not in verdict_rows:
                raise ValueError(f"claims: the measure {record['quantity']!r} belongs to no verdict ({', '.join(key)})")
            verdict_rows[key]["measures"].append(_verdict_row(record, names))
    for row in verdict_rows.values():
        # The claim's own row names no quantity: it repeats the numbers of its main measure.
        same = [measure for measure in row["measures"] if measure["effect"] == row["effect"]]
        row["quantity"] = same[0]["quantity"] if same and row["effect"].value else row["quantity"]
        row["note"] = _with_labels(row["note"], row["measures"])
        _place_intervals(row["measures"])
    return list(found.values())


def _pair(record: Mapping[Any, Any]) -> tuple[str, str]:
    return as_text(record["loss"]), as_text(record["baseline"])


def _verdict_row(record: Mapping[Any, Any], names: Names) -> dict[str, Any]:
    experiment = as_text(record["experiment"])
    baseline, key = as_text(record["baseline"]), as_text(record["quantity"])
    return {
        "experiment": experiment,
        "where": names.where(experiment)
        if experiment in names.experiments
        else ", ".join(filter(None, (as_text(record["dataset"]), as_text(record["model"])))),
        "entry": as_text(record["loss"]),
        "loss": names.loss(experiment, as_text(record["loss"])),
        "baseline": names.loss(experiment, baseline) if baseline and baseline != as_text(record["loss"]) else None,
        "quantity": CLAIMS[record["claim"]].label(key) if key else "",
        "key": key,
        "effect": Effect.of(record),
        "verdict": record["verdict"],
        "note": sentence(as_text(record["note"])),
        "ends": tuple(float(record[name]) for name in ("low", "effect", "high", "null")),
        "measures": [],
        "plot": None,
    }


def _with_labels(note: str, measures: Sequence[Mapping[str, Any]]) -> str:
    """Return a note with the keys of its measures replaced by their labels."""
    labels = {measure["key"]: measure["quantity"] for measure in measures if measure["key"]}
    if not labels:
        return note
    keys = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    return re.sub(rf"(?<![\w/])({keys})(?![\w/])", lambda found: labels[found[0]], note)


def _place_intervals(measures: Sequence[dict[str, Any]]) -> None:
    """Place each interval on a scale that it shares with all of the same unit and null; ratios on a log scale."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in measures:
        if all(math.isfinite(end) for end in row["ends"]):
            groups.setdefault((row["effect"].unit, row["effect"].null), []).append(row)
    for (unit, _), rows in groups.items():
        ends = [end for row in rows for end in row["ends"]]
        logarithmic = unit.startswith("ratio") and min(ends) > 0
        scaled = [math.log(end) for end in ends] if logarithmic else ends
        least, span = min(scaled), (max(scaled) - min(scaled)) or 1.0
        places = [f"{6 + 108 * (end - least) / span:.1f}" for end in scaled]
        for place, row in enumerate(rows):
            row["plot"] = dict(zip(("low", "effect", "high", "null"), places[4 * place : 4 * place + 4], strict=True))


def verdicts(judged: Sequence[Mapping[str, Any]], rules: Mapping[str, str]) -> Section:
    """Return the table of verdicts, the measures behind each folded below it."""
    rows = [(claim, row) for claim in judged for row in claim["rows"]]
    tally = [(verdict, sum(row["verdict"] == verdict for _, row in rows)) for verdict in VERDICTS]
    parts = [f"{plural(len(rows), 'verdict')} on {plural(len(judged), 'claim')}." if rows else "No claim was judged."]
    for verdict, count in tally[1:]:
        if count:
            which = listed(place for claim in judged for place in _places(claim, verdict))
            parts.append(f"{verdict.capitalize()}: {which}.")
    content = {"claims": judged, "tally": tally, "summary": " ".join(parts), "rules": list(rules.items())}
    return Section("verdicts", "Verdicts", "verdicts.html.j2", content)


def _places(claim: Mapping[str, Any], verdict: str) -> list[str]:
    """Return where a claim has a verdict: each place, or how many there are where they would fill the page."""
    rows = [row for row in claim["rows"] if row["verdict"] == verdict]
    if len(rows) > MOST_NAMED:
        return [f"{claim['id']} ({len(rows)} of {len(claim['rows'])})"]
    return [f"{claim['id']} ({row['where']}, {row['loss']['label']})" for row in rows]


def findings(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the verdicts on a claim as sentences, with the numbers of the verdict table."""
    sentences = []
    for row in rows:
        effect = row["effect"]
        losses = pair(row["loss"]["label"], row["baseline"]["label"] if row["baseline"] else "")
        seeds = f" over {plural(int(effect.seeds), 'seed')}" if effect.seeds.isdigit() else ""
        numbers = [NOT_MEASURED]
        if effect.value:
            value = " ".join(filter(None, (row["quantity"], effect.value, effect.unit and f"({effect.unit})")))
            interval = f"95% interval {effect.interval}" if effect.interval else ""
            numbers = [value, interval, f"null value {effect.null}" if effect.null else ""]
        sentences.append(f"{losses}{seeds}: {', '.join(filter(None, numbers))}: {row['verdict']}.")
    return " ".join(sentences)
