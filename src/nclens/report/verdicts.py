"""The verdicts on the claims: the table, the measures behind each, and their numbers as sentences."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from nclens.claims import Claim, rules_of
from nclens.claims.verdict import AGAINST, EQUIVALENT, NOT_MEASURED, TWO_MODELS
from nclens.report.effects import VERDICTS, Effect, meaning, pair
from nclens.report.links import Link, Links, code_of, paper, papers
from nclens.report.page import Section
from nclens.report.text import NO_CLAIM, Names, as_text, capital, folded, listed, plainly, plural, sentence

LONGEST_NOTE = 90
"""Characters of a reason that are shown, two lines on a phone; the rest is folded."""


def judged_claims(claims: pd.DataFrame, names: Names) -> list[dict[str, Any]]:
    """The claims in their order, each with its verdicts, each of these with its measures."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    verdict_rows: dict[tuple[str, ...], dict[str, Any]] = {}
    records = claims.to_dict("records")
    for record in records:
        if record["claim"] not in names.claims:
            raise ValueError(f"claims: claim {record['claim']!r}; allowed: {', '.join(names.claims)}")
        if record["level"] not in ("claim", "measure"):
            raise ValueError(f"claims: level {record['level']!r} of {record['claim']}; allowed: claim, measure")
        if record["verdict"] not in VERDICTS:
            raise ValueError(
                f"claims: verdict {record['verdict']!r} of {record['claim']}; allowed: {', '.join(VERDICTS)}"
            )
        if record["level"] == "claim":
            head = (as_text(record["paper"]), as_text(record["claim"]))
            claim = found.setdefault(
                head,
                {
                    "id": head[1],
                    "paper": papers(head[0]),
                    "claim": names.claims[head[1]],
                    "place": names.claims[head[1]].place,
                    "statement": as_text(record["statement"]),
                    "rows": [],
                },
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
        if same and row["effect"].value:
            row |= {key: same[0][key] for key in ("quantity", "meaning")}
        row["count"] = _counted(row["measures"])
        _place_intervals(row["measures"])
    _place_intervals(verdict_rows.values())
    return list(found.values())


def _counted(measures: Sequence[Mapping[str, Any]]) -> str:
    """Say how many measures a verdict has, and of each verdict how many where they differ."""
    counts = Counter(measure["verdict"] for measure in measures)
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]]
    return plural(len(measures), "measure") + (f": {', '.join(parts)}" if len(parts) > 1 else "")


def _pair(record: Mapping[Any, Any]) -> tuple[str, str]:
    return as_text(record["loss"]), as_text(record["baseline"])


def _verdict_row(record: Mapping[Any, Any], names: Names) -> dict[str, Any]:
    experiment = as_text(record["experiment"])
    baseline, key = as_text(record["baseline"]), as_text(record["quantity"])
    effect = Effect.of(record)
    shown, rest = folded(plainly(as_text(record["note"])), LONGEST_NOTE)
    return {
        "experiment": experiment,
        "where": names.where(experiment)
        if experiment in names.experiments
        else ", ".join(filter(None, (as_text(record["dataset"]), as_text(record["model"])))),
        "apart": names.apart(experiment),
        "entry": as_text(record["loss"]),
        "loss": names.loss(experiment, as_text(record["loss"])),
        "baseline": names.loss(experiment, baseline) if baseline and baseline != as_text(record["loss"]) else None,
        "quantity": names.claims[record["claim"]].label(key) if key else "",
        "key": key,
        "effect": effect,
        "meaning": meaning(names.claims[record["claim"]], key, effect.null) if effect.value else "",
        "verdict": record["verdict"],
        "reason": as_text(record["reason"]),
        "note": sentence(shown),
        "rest": sentence(rest),
        "ends": tuple(float(record[name]) for name in ("low", "effect", "high", "null")),
        "measures": [],
        "plot": None,
        "two_models": AGAINST in as_text(record["model"]),
    }


def _place_intervals(rows: Iterable[dict[str, Any]]) -> None:
    """Place each interval on a scale that it shares with all of the same unit and null; ratios on a log scale."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if math.isfinite(row["ends"][1]) and math.isfinite(row["ends"][3]):
            kind = "ratio" if row["effect"].unit.startswith("ratio") else row["effect"].unit
            groups.setdefault((kind, row["effect"].null), []).append(row)
    for (unit, _), members in groups.items():
        finite = [end for row in members for end in row["ends"] if math.isfinite(end)]
        if unit == "ratio":  # an interval that is open below ends at 0
            finite = [end for end in finite if end != 0]
        logarithmic = unit == "ratio" and min(finite) > 0
        scale = math.log if logarithmic else float
        least, most = scale(min(finite)), scale(max(finite))
        for row in members:
            row["plot"] = dict(
                zip(("low", "effect", "high", "null"), _places(row["ends"], scale, least, most), strict=True)
            )


def _places(ends: Sequence[float], scale: Callable[[float], float], least: float, most: float) -> Iterator[str]:
    """Yield where low, effect, high and null lie between 6 and 114; an open end at the edge, empty without one."""
    for end in ends:
        if math.isnan(end):
            yield ""
        else:
            place = (
                1.0
                if end == math.inf
                else 0.0
                if end == -math.inf or (end == 0 and scale is not float)
                else (scale(end) - least) / ((most - least) or 1.0)
            )
            yield f"{6 + 108 * place:.1f}"


def verdicts(judged: Sequence[Mapping[str, Any]], links: Links) -> Section:
    """Return the table of verdicts, the measures behind each folded below it, and the rules of these claims.

    Args:
        judged: the claims, as `judged_claims` returns them.
        links: where the page can lead.
    """
    rows = [row for claim in judged for row in claim["rows"]]
    own = {claim["id"]: claim["claim"] for claim in judged}
    content = {
        "claims": judged,
        "apart": any(row["apart"] for row in rows),
        "tally": [(verdict, sum(row["verdict"] == verdict for row in rows)) for verdict in VERDICTS],
        "summary": _summary(rows, len(judged)) if rows else NO_CLAIM,
        "rules": [
            {"name": name, "rule": plainly(rule), "links": _rule_links(own[name], links) if name in own else []}
            for name, rule in rules_of(own, own).items()
        ],
    }
    sources = [
        *links.file("claims"),
        *links.file("claims_page"),
        links.rule("judge"),
        links.source("src/nclens/claims", "nclens.claims"),
        *links.log("judge"),
    ]
    return Section("verdicts", "Verdicts", "verdicts.html.j2", content, sources)


def _summary(rows: Sequence[Mapping[str, Any]], claims: int) -> str:
    """Say how many comparisons the verdicts rest on."""
    compared = plural(sum(len(row["measures"]) for row in rows), "measure")
    text = (
        f"{plural(len(rows), 'verdict')} on {plural(claims, 'claim')}, by {compared}. Intervals are of 95% each, not "
        "corrected for their number; p values are also shown by Holm's method over all verdicts."
    )
    if any(row["reason"] == EQUIVALENT for row in rows):
        text += " “No effect beyond” a margin is by two one-sided tests, on the interval of 90%."
    two = sum(row["two_models"] for row in rows)
    if not two:
        return text
    compare = "verdict compares" if two == 1 else "verdicts compare"
    return f"{text} {two} {compare} {TWO_MODELS}."


def _rule_links(claim: Claim, links: Links) -> list[Link]:
    """Return the paper of a claim and the function that measures it."""
    return [*filter(None, [paper(claim)]), links.code(code_of(claim))]


def lead(judged: Sequence[Mapping[str, Any]], names: Names) -> list[list[dict[str, Any]]]:
    """Return what was found as sentences, the page's first, by paragraph: each a start and the claims that it names.

    A sentence a subject has what is supported and what is contradicted. The last two, a paragraph of their own, have
    the claims whose verdicts differ between comparisons, with how many support them, and those that are inconclusive.

    Returns:
        one dict a sentence: `start`, its first words, and `claims`, each with id, verdict, text and mark.
    """
    decided: dict[str, list[dict[str, str]]] = {}
    mixed, open_claims = [], []
    for entry in judged:
        claim, subject = entry["claim"], _subject(entry)
        counts = Counter(row["verdict"] for row in entry["rows"])
        (most, amount), total = counts.most_common(1)[0], counts.total()
        found = {"id": claim.id, "verdict": most if amount == total else "mixed", "mark": most}
        if most == "inconclusive" and amount == total:
            open_claims.append(found | {"text": f"whether {subject} {claim.holds}"})
        elif amount == total:
            text = claim.holds if most == "supported" else claim.fails
            decided.setdefault(subject, []).append(found | {"text": text})
        else:
            parts = [f"{verdict} in {counts[verdict]}" for verdict in VERDICTS if counts[verdict]]
            found["mark"] = f"{', '.join(parts)} of {plural(total, 'comparison')}"
            any_loss = claim.subject.replace("{loss}", "the loss")
            mixed.append(found | {"text": f"whether {any_loss} {claim.holds}"})
    first: list[dict[str, Any]] = [
        {"start": f"{capital(subject)} ", "claims": claims} for subject, claims in decided.items()
    ]
    rest: list[dict[str, Any]] = [
        {"start": start, "claims": claims}
        for start, claims in (("Comparisons differ on ", mixed), ("It is inconclusive ", open_claims))
        if claims
    ]
    paragraphs = [sentences for sentences in (first, rest) if sentences]
    if paragraphs and (where := names.common()):
        # A label keeps its capitals.
        opening, text = paragraphs[0][0], paragraphs[0][0]["start"]
        opening["start"] = f"On {where}, " + (f"{next(iter(decided))} " if decided else text[0].lower() + text[1:])
    return paragraphs


def _subject(entry: Mapping[str, Any]) -> str:
    """Return the subject of the sentence on a claim, of one on any loss the losses that it compares."""
    labels = list(dict.fromkeys(row["loss"]["label"] for row in entry["rows"]))
    losses = f"each of {listed(labels)}" if len(labels) > 1 else listed(labels)
    return entry["claim"].subject.replace("{loss}", losses)


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
        reason = f" ({effect.reason})" if effect.reason else ""
        sentences.append(f"{losses}{seeds}: {', '.join(filter(None, numbers))}: {row['verdict']}{reason}.")
    return " ".join(sentences)
