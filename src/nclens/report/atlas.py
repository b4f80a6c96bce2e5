"""The page of the atlas: every claim against every data set, model and loss that was run."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nclens.claims import CLAIMS
from nclens.claims.across_studies import FEWEST_DATA_SETS, METHOD, OUTCOMES, Row, Summary, outcome, value
from nclens.claims.verdict import AGAINST
from nclens.report.effects import Effect, pair
from nclens.report.links import papers
from nclens.report.page import environment
from nclens.report.text import number, plural, sentence

REPORT = "report.html"
"""The page of a study, which has an anchor for each claim."""


def atlas_page(rows: Sequence[Row], summaries: Sequence[Summary], now: tuple[str, str]) -> str:
    """Return the page of an atlas.

    Args:
        rows: of atlas.csv, text by column; one without a claim is of a study without verdicts.
        summaries: of the comparisons that were run on several data sets.
        now: version of nclens and digest of the code by which it judges claims now.
    """
    judged = [row for row in rows if row["claim"]]
    studies = _studies(rows, now)
    marked = {study["name"] for study in studies if study["mark"]}
    claims = _claims(judged)
    anchors = {key: f"c{place}" for place, key in enumerate(claims)}
    names: dict[str, list[str]] = {
        "papers": list(dict.fromkeys(paper for paper, _, _ in claims)),
        "data": sorted({_data(row) for row in judged}, key=str.casefold),
        "outcomes": list(OUTCOMES),
        "reasons": sorted({row["reason"] for row in judged if row["reason"]}),
    }
    cells = [_cell(row, names) | {"marked": row["study"] in marked, "anchor": anchors[_claim(row)]} for row in judged]
    counts = Counter(cell["outcome"] for cell in cells)
    page = environment().get_template("atlas/page.html.j2")
    return (
        page.render(
            facts=_facts(judged, studies),
            tally=[(name, counts[name], what) for name, what in OUTCOMES.items()],
            names=names,
            claims=_by_paper(anchors, cells, names["data"]),
            cells=cells,
            summaries=[_summary(one) for one in summaries],
            fewest=FEWEST_DATA_SETS,
            method=METHOD,
            studies=studies,
            marked=bool(marked),
            version=now[0],
        )
        + "\n"
    )


def _facts(judged: Sequence[Row], studies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the page has, in lines."""
    data = {row["data"] for row in judged}
    claims = set(map(_claim, judged))
    lines = [
        f"{plural(len(studies), 'study').replace('studys', 'studies')} on {plural(len(data), 'data set')}: "
        f"{plural(len(judged), 'verdict')} on {plural(len(claims), 'claim')}"
    ]
    lines += [f"{study['name']} is {study['status']}: {study['lacks']}" for study in studies if study["lacks"]]
    return lines


def _data(row: Row) -> str:
    """Return what a data set is called across studies, with what was done to its labels and classes."""
    return f"{row['data']}, {row['altered']}" if row["altered"] else row["data"]


def _claim(row: Row) -> tuple[str, str, str]:
    return row["paper"], row["claim"], row["statement"]


def _claims(judged: Iterable[Row]) -> list[tuple[str, str, str]]:
    """Return (paper, claim, statement) of every claim: those of the papers and ours in their order, then others."""
    known = [(claim.paper, claim.id, claim.statement) for claim in CLAIMS.values()]
    found = set(map(_claim, judged))
    order = {key[:2]: place for place, key in enumerate(known)}
    others = sorted(found - set(known), key=lambda key: (order.get(key[:2], len(known)), key))
    return sorted([*known, *others], key=lambda key: order.get(key[:2], len(known)))


def _cell(row: Row, names: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return a row of the table of cells, with the places of its filters."""
    effect, found = Effect.of(row), outcome(row)
    losses = pair(row["loss_label"], row["baseline_label"])
    settings = pair(row["loss_settings"], row["baseline_settings"])
    where = f"{row['dataset']}, {row['model']}"
    verdict = f"{found}: {effect.reason}" if effect.reason else found
    # A page of a study has an anchor for each claim.
    anchor = f"#claim-{quote(row['claim'])}" if row["link"].rsplit("/", 1)[-1] == REPORT else ""
    return {
        "row": row,
        "effect": effect,
        "number": _plain(value(row, "effect")),
        "seeds": _plain(value(row, "seeds")),
        "outcome": found,
        "losses": losses,
        "settings": f"{settings}; {row['optimizer']}" if settings else "",
        "data": _data(row),
        "size": _size(row),
        "link": row["link"] + anchor,
        "title": f"{row['claim']}, {row['study']}: {losses} on {where}: {effect.numbers}; {verdict}",
        "places": (
            names["papers"].index(row["paper"]),
            names["data"].index(_data(row)),
            names["outcomes"].index(found),
            names["reasons"].index(row["reason"]) if row["reason"] else -1,
        ),
    }


def _plain(number: float) -> str:
    """Return a number as a key to sort by; empty where there is none."""
    return "" if math.isnan(number) else repr(number)


def _size(row: Row) -> str:
    """Return the size of a data set."""
    train, test = (value(row, split) for split in ("train", "test"))
    return "" if math.isnan(train) or math.isnan(test) else f"{train:,.0f} training and {test:,.0f} test samples"


def _by_paper(
    anchors: Mapping[tuple[str, str, str], str], cells: Sequence[Mapping[str, Any]], data: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the claims by paper, each with its cells by data set."""
    placed: dict[tuple[str, str, str], dict[str, list[tuple[int, Mapping[str, Any]]]]] = {}
    for place, cell in enumerate(cells):
        placed.setdefault(_claim(cell["row"]), {}).setdefault(cell["data"], []).append((place, cell))
    found: dict[str, list[dict[str, Any]]] = {}
    for key, anchor in anchors.items():
        paper, claim, statement = key
        own = placed.get(key, {})
        line = {"id": claim, "statement": statement, "anchor": anchor, "run": bool(own)}
        line["cells"] = [own.get(name, []) for name in data]
        found.setdefault(paper, []).append(line)
    return [{"paper": papers(paper), "claims": lines} for paper, lines in found.items()]


def summary_effect(summary: Summary) -> Effect:
    """Return the mean of a summary and its interval, as text."""
    numbers = {key: repr(getattr(summary, key)) for key in ("effect", "low", "high")}
    nothing = dict.fromkeys(("seeds", "smallest", "margin", "p", "p_holm", "reason"), "")
    return Effect.of({**summary.cells[0], **numbers, **nothing})


def _summary(summary: Summary) -> dict[str, Any]:
    """Return a row of the table of summaries."""
    first, found = summary.cells[0], summary.found
    scale = {"ratio": "on the log scale", "correlation": "of Fisher's z"}.get(first["scale"], "")
    left = "; ".join(f"{row['study']}, {row['dataset']}, {row['model']}" for row in summary.left_out)
    return {
        "row": first,
        "losses": pair(first["loss_settings"], first["baseline_settings"]),
        "measure": first["measure"],
        "effect": summary_effect(summary),
        "value": repr(summary.effect),
        "cells": [(row, Effect.of(row)) for row in summary.cells],
        "between": f"τ = {number(math.sqrt(found.between))}" + (f" {scale}" if scale else ""),
        "inconsistency": f"I² = {100 * found.inconsistency:.0f}%",
        "q": f"Q = {number(found.q)}, p = {number(found.p, 2)}",
        "left_out": sentence(f"not pooled, as on the same data: {left}") if left else "",
    }


def _studies(rows: Sequence[Row], now: tuple[str, str]) -> list[dict[str, Any]]:
    """Return the studies in the order of the table."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["study"], []).append(row)
    return [_study(name, own, now) for name, own in found.items()]


def _study(name: str, own: Sequence[Row], now: tuple[str, str]) -> dict[str, Any]:
    first, judged = own[0], [row for row in own if row["claim"]]
    models = (model for row in judged for model in row["model"].split(AGAINST))
    return {
        "name": name,
        **{key: first[key] for key in ("title", "status", "lacks", "origin", "link", "version", "code", "commit")},
        "mark": _mark(own, now) if judged else "",
        "data": ", ".join(dict.fromkeys(row["dataset"] for row in judged)),
        "models": ", ".join(dict.fromkeys(models)),
        "verdicts": len(judged),
    }


def _mark(own: Sequence[Row], now: tuple[str, str]) -> str:
    """Return how what judged a study differs from what judges now; empty where it does not, or cannot be told."""
    version, code = own[0]["version"], own[0]["code"]
    if not version:
        return "version not recorded"
    if version != now[0]:
        return "other version"
    # The digest of a study with claims of its own has these in it.
    stated = any(row["claim"] not in CLAIMS for row in own)
    return "other code" if code != now[1] and not stated else ""
