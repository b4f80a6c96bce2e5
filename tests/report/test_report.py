"""The report against simulated inputs: complete, self-contained, and saying what the tables say."""

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nclens.claims import CLAIMS
from nclens.report import Drawn, report_page
from nclens.report.effects import VERDICTS
from nclens.report.provenance import _manifest
from nclens.report.summary import side_by_side
from nclens.report.text import Names, number, plainly
from nclens.report.verdicts import judged_claims
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.spectra import condition_numbers
from nclens.workflow import specs
from nclens.workflow.files import FileError
from nclens.workflow.paths import StudyFolder
from nclens.workflow.stages.report import report

LOSSES = {"ce": {"label": "CE", "colour": "#0072B2"}, "ls": {"label": "LS 0.05", "colour": "#D55E00"}}
STEMS = ["collapse_curves", "nc1_nc2", "train_test", "norms", "reliability", "ufm_conditioning"]
PAPER = "Guo et al., arXiv 2402.03979"


# --- simulated inputs -----------------------------------------------------------------------------------------------


def looks_of(losses):
    """The keys of an experiment that say how its losses look, from label and colour of each."""
    looks = {f"{key}s": {loss: look[key] for loss, look in losses.items()} for key in ("label", "colour")}
    return {"losses": tuple(losses), **looks}


def simulated_study(losses=LOSSES, **changes):
    experiment = {"experiment": "digits", "dataset": "mnist5k", "model": "resnet8", "baseline": "ce"}
    experiment |= looks_of(losses) | {"seeds": [0, 1, 2], "epochs": 60, "figures": STEMS}
    study = {"study": "demo", "title": "Cross entropy against label smoothing", "command": "make reproduce"}
    return {**study, "experiments": [experiment | changes]}


def claim(name, statement, effect, low, high, unit, null, verdict, note="", seeds=3, measures=()):
    """The row of a claim, and those of its measures: (quantity, effect, low, high, verdict) each."""
    key = {"claim": name, "paper": PAPER, "statement": statement, "experiment": "digits", "dataset": "mnist5k"}
    key |= {"model": "resnet8", "baseline": "ce", "loss": "ls", "unit": unit, "null": null, "seeds": seeds}
    key |= {"scale": "ratio" if unit.startswith("ratio") else "difference", "reason": "", "margin": float("nan")}
    key |= dict.fromkeys(("smallest", "p", "p_holm", "spread", "resolution"), float("nan"))
    row = {"level": "claim", "quantity": "", "effect": effect, "low": low, "high": high, "verdict": verdict}
    rows = [{**key, **row, "note": note}]
    for quantity, *numbers, judged in measures:
        row = {"level": "measure", "quantity": quantity, "verdict": judged, "note": ""}
        rows.append({**key, **row, **dict(zip(("effect", "low", "high"), numbers, strict=True))})
    return rows


def simulated_claims():
    nan = float("nan")
    rows = [
        *claim(
            *("C1", "Networks trained with label smoothing reach neural collapse in fewer epochs."),
            *(0.3517, 0.2981, 0.4149, "ratio of epochs", 1, "supported"),
            measures=[
                ("epochs_to_final_nc1", 0.3517, 0.2981, 0.4149, "supported"),
                ("epochs_to_nc1_at_75_percent", 0.52, 0.21, 1.29, "inconclusive"),
                ("epochs_to_error", 1.31, 1.12, 1.53, "contradicted"),
            ],
        ),
        *claim(
            *("C2", "Networks trained with label smoothing end at a stronger level of collapse."),
            *(0.402, 0.377, 0.429, "ratio", 1, "supported"),
            measures=[("nc1", 0.402, 0.377, 0.429, "supported"), ("nc3", 0.013, 0.00042, 0.41, "supported")],
        ),
        *claim(
            *("C3", "At the same level of NC1, NC2 is smaller under label smoothing."),
            *(nan, nan, nan, "ratio", 1, "inconclusive", "The NC1 ranges of the two losses do not overlap."),
        ),
        *claim(
            *("C4", "Label smoothing improves calibration."),
            *(0.0712, 0.0655, 0.0769, "difference in ECE", 0, "contradicted"),
            note="Cross entropy is calibrated already on this data set (ECE 0.006).",
            measures=[("ece", 0.0712, 0.0655, 0.0769, "contradicted"), ("ece_20", 0.05, -0.01, 0.11, "inconclusive")],
        ),
        *claim(
            *("C6", "The Hessian is better conditioned under label smoothing."),
            *(0.9551, nan, nan, "ratio", 1, "supported"),
            seeds=nan,
            measures=[
                ("kappa_ce", 0.9551, nan, nan, "supported"),
                ("kappa_full", 2.256, nan, nan, "contradicted"),
            ],
        ),
    ]
    return pd.DataFrame(rows)


def simulated_metrics():
    final = {("test", "accuracy"): 0.97, ("test", "ece"): 0.0432, ("train", "nc1"): 0.0234}
    final |= {("train", "nc2"): 0.0441, ("train", "nc3"): 0.0612}
    rows = []
    for place, loss in enumerate(LOSSES):
        for seed in range(3):
            for epoch in (60, 1, 10):  # not in order: the last epoch counts, not the last row
                for (split, metric), value in final.items():
                    key = {"experiment": "digits", "dataset": "mnist5k", "model": "resnet8", "loss": loss, "seed": seed}
                    scaled = value * (1 + 0.1 * place + 0.01 * seed) * 60 / epoch
                    rows.append({**key, "split": split, "epoch": epoch, "metric": metric, "value": scaled})
    names = ["experiment", "dataset", "model", "loss", "split", "metric"]
    return pd.DataFrame(rows).astype(dict.fromkeys(names, "category"))


QUANTITIES = ("logit_gap", "weight_norm", "feature_norm", "p_true", "p_other", "objective", "nuclear_norm")


def simulated_theory(smoothings=None, **changes):
    """Closed forms at the release's penalties, and numeric values 3e-9 beside them."""
    rows = []
    for loss, smoothing in (smoothings or {"ce": 0.0, "ls": 0.05}).items():
        sizes = {"classes": 10, "per_class": 5000, "dim": 64} | changes
        problem = UnconstrainedFeatureModel(
            **sizes, lambda_w=1e-3, lambda_h_sum=1e-6, lambda_b=1e-2, smoothing=smoothing
        )
        key = {"experiment": "digits", "dataset": "mnist5k", "model": "resnet8", "loss": loss, "smoothing": smoothing}
        key |= sizes | {"lambda_w": 1e-3, "lambda_h": 1e-6, "lambda_b": 1e-2}
        values = {name: getattr(problem, name) for name in QUANTITIES} | condition_numbers(problem)
        for quantity, value in values.items():
            row = {"quantity": quantity, "closed_form": value, "numeric": None, "relative_error": None}
            if value:
                row |= {"numeric": value * (1 + 3e-9), "relative_error": 3e-9}
            rows.append(key | row)
    return pd.DataFrame(rows).astype(dict.fromkeys(("closed_form", "numeric", "relative_error"), float))


def simulated_manifest():
    return {
        "dataset": "mnist5k",
        "source": "https://example.org/mnist",
        "licence": "CC BY-SA 3.0",
        "citation": "LeCun, Bottou, Bengio, Haffner 1998",
        "sha256": "ab" * 32,
        "classes": [str(digit) for digit in range(10)],
        "shape": [1, 28, 28],
        "mean": [0.13],
        "std": [0.31],
        "train": 4000,
        "test": 1000,
        "extra": "ignored",
    }


def simulated_runs():
    return {
        ("mnist5k", "resnet8", loss, seed): {
            "spec": {},
            "versions": {"python": "3.11.9", "torch": "2.13.0"},
            "git_revision": "0123456789abcdef",
            "device": "cpu",
            "threads": 1,
            "seed": seed,
            "data_sha256": "ab" * 32,
            "wall_time": 92.4 + seed,
            "parameters": 77_850,
            "finished": f"2025-11-2{seed}T10:00:00+00:00",
            "extra": None,
        }
        for loss in LOSSES
        for seed in range(3)
    }


def drawing(finding="NC1 of LS ends lower"):
    """A figure as the stage `draw` writes it, with one panel of two texts."""
    part = {"kind": "panel", "size": [60, 40], "pieces": [{"from": [5, 0, 60, 40], "at": [0, 0], "group": "panel0"}]}
    content = json.dumps({"size": [70, 40], "parts": [part], "notes": ["n = 3 seeds", r"Loss: $\epsilon$ = 1"]})
    return f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 70 50">
<desc>{finding}</desc><metadata>{content}</metadata><defs><style>*{{stroke-linejoin: round}}</style></defs>
<g id="figure_1"><g id="patch_1"><path d="M 0 0 L 70 0" style="fill: #ffffff"/></g>
<g id="panel0"><defs><path id="mark" d="M 0 0 L 1 1"/></defs>
<g clip-path="url(#clip)"><use xlink:href="#mark" x="9" y="9" style="fill: #440154; stroke: #ffffff"/></g>
<g id="text_1"><text style="font-size: 8px; font-family: 'DejaVu Sans'; fill: #d55e00" x="9" y="9">epoch</text></g>
<g id="fixed1"><path d="M 0 0" style="fill: #fde725"/></g></g>
<g id="notes"><text>n = 3 seeds</text></g></g>
<defs><clipPath id="clip"><rect width="9" height="9"/></clipPath></defs></svg>
""".encode()


def simulated_figures(stems=STEMS):
    return {
        ("digits", stem): Drawn(drawing(), f"The {stem}", "figure 1 of the paper", "How to read it.") for stem in stems
    }


def page(**changes):
    inputs = {"study": simulated_study(), "claims": simulated_claims(), "metrics": simulated_metrics()}
    inputs |= {"theory": simulated_theory(), "figures": simulated_figures(), "runs": simulated_runs()}
    inputs |= {"datasets": {"mnist5k": simulated_manifest()}}
    inputs |= {"losses": side_by_side(simulated_study()["experiments"], simulated_metrics())}
    return report_page(**(inputs | changes))


# --- reading the page -----------------------------------------------------------------------------------------------

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Checks that elements are balanced; collects text, attributes and identifiers."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.elements = [], [], []
        self.section, self.rows, self._rows, self._cells = None, [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), list(self.open)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attributes)["id"]
        elif tag == "tr":
            self._rows.append([])
            self.rows.append((self.section, self._rows[-1]))
        elif tag in ("td", "th"):
            self._cells.append([])

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), list(self.open)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()
        if tag in ("dt", "dd", "td", "th", "li", "p", "title", "summary", "h1", "h2", "h3", "figcaption"):
            self.words.append(" ")
        if tag == "tr":
            self._rows.pop()
        elif tag in ("td", "th"):
            self._rows[-1].append(" ".join("".join(self._cells.pop()).split()))

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)
            for cell in self._cells[-1:]:  # of a table within a table's cell, the inner one
                cell.append(data)

    def all(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def text_of(fragment):
    return Reader(fragment).text


def captions(text):
    return [text_of(found) for found in re.findall(r"<figcaption>.*?</figcaption>", text, re.S)]


def table_rows(text, anchor):
    """Every row of a section's tables as the texts of its cells."""
    return [row for section, row in Reader(text).rows if section == anchor]


# --- the page as a whole --------------------------------------------------------------------------------------------


def test_page_is_well_formed_and_its_links_lead_somewhere():
    text = page()
    reader = Reader(text)
    names = [attributes["id"] for _, attributes, _ in reader.elements if "id" in attributes]
    assert text.startswith("<!doctype html>")
    assert len(names) == len(set(names))
    inner = [attributes["href"][1:] for attributes in reader.all("a") if attributes["href"].startswith("#")]
    assert len(inner) >= 7
    assert set(inner) <= set(names)
    labelled = [
        attributes["aria-labelledby"] for _, attributes, _ in reader.elements if "aria-labelledby" in attributes
    ]
    assert labelled
    assert set(labelled) <= set(names)


def test_headings_descend_without_a_gap():
    levels = [int(tag[1]) for tag, _, _ in Reader(page()).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_nothing_is_loaded_from_elsewhere():
    text = page()
    reader = Reader(text)
    for tag, attributes, _ in reader.elements:
        for name in ("src", "srcset", "poster", "data", "action", "background", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
        if tag != "a":
            assert attributes.get("href", "data:").startswith(("data:", "#")), (tag, attributes)
    assert not {"iframe", "object", "embed", "base", "form"} & {tag for tag, _, _ in reader.elements}
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    script = re.search(r"<script>(.*?)</script>", text, re.S).group(1)
    assert not re.search(r"url\(|@import|//[a-z]", style)
    assert not re.search(r"https?:|fetch|import|XMLHttp|WebSocket", script)
    policy = next(a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


@pytest.mark.lengthy
def test_same_inputs_give_the_same_bytes_in_another_process():
    program = (
        f"import importlib.util as u, sys; s = u.spec_from_file_location('simulated', {__file__!r}); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); sys.stdout.buffer.write(m.page().encode())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert other.stdout.decode() == page()


def test_verdicts_come_first():
    sections = [attributes["id"] for attributes in Reader(page()).all("section")]
    assert sections == ["verdicts", "evidence", "figures", "losses", "runs", "theory", "provenance", "reproduce"]


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_verdict_table_says_what_the_claims_table_says():
    rows = [row for row in table_rows(page(), "verdicts") if row and row[0] == "LS 0.05 against CE"]
    pair = "LS 0.05 against CE"
    ece = "ECE, 15 bins, whole test set +0.0712 [+0.0655, +0.0769] difference in ECE (below 0: better calibrated)"
    kappa = "condition number, cross entropy alone, W or H 0.955 ratio (below 1: better conditioned)"
    assert rows == [
        [pair, "epochs to final NC1 0.352 [0.298, 0.415] ratio of epochs (below 1: faster)", "", "3", "supported"],
        [pair, "NC1 0.402 [0.377, 0.429] ratio (below 1: more collapsed)", "", "3", "supported"],
        [pair, "not measured", "", "3", "inconclusive"],
        [pair, ece, "", "3", "contradicted"],
        [pair, kappa, "", "–", "supported"],
    ]


def test_the_first_sentence_names_the_claims_with_their_verdicts():
    words = Reader(page()).text
    title, *_ = Reader(page()).text.split(" On mnist5k")
    assert title.endswith("Cross entropy against label smoothing")
    assert (
        "On mnist5k with resnet8, label smoothing converges faster to neural collapse (supports C1), ends more "
        "strongly collapsed (supports C2), is worse calibrated (contradicts C4) and is better conditioned and "
        "faster in the unconstrained feature model (supports C6). It is inconclusive whether label smoothing has a "
        "lower NC2 at the same NC1 (C3). CE and LS 0.05; 3 seeds, 60 epochs"
    ) in words
    # The claims of the sentence lead to their verdicts.
    assert {"#claim-C1", "#claim-C3", "#claim-C4"} <= {a["href"] for a in Reader(page()).all("a")}


def test_data_set_and_model_are_written_once_where_all_rows_share_them():
    reader = Reader(page())
    assert reader.text.count("mnist5k, resnet8") == 0
    # The sentence, the data set's record, and the runs' folder.
    assert reader.text.count("mnist5k") == 3


def test_measures_notes_and_rules_are_in_the_verdict_table():
    text = page()
    rows = table_rows(text, "verdicts")
    assert ["NC3", "0.0130 [4.20×10⁻⁴, 0.410] ratio", "", "1", "supported"] in rows
    assert [
        "ECE, 20 bins, whole test set",
        "+0.0500 [−0.0100, +0.110] difference in ECE",
        "",
        "0",
        "inconclusive",
    ] in rows
    assert "Cross entropy is calibrated already on this data set (ECE 0.006)." in Reader(text).text
    assert f"C1 {plainly(CLAIMS['C1'].rule)[:60]}" in Reader(text).text


def test_contradicted_claims_are_counted_named_and_badged_like_the_others():
    text = page()
    words = Reader(text).text
    assert "3 supported 1 contradicted 1 inconclusive" in words
    assert "5 verdicts on 5 claims, by " in words
    assert "(contradicts C4)" in words
    assert "It is inconclusive whether label smoothing has a lower NC2 at the same NC1 (C3)." in words
    for verdict in VERDICTS:
        badges = re.findall(rf'<span class="badge {verdict}"><svg.*?</svg>{verdict}</span>', text, re.S)
        judged = (simulated_claims()["verdict"] == verdict).sum()
        headings = ((simulated_claims()["verdict"] == verdict) & (simulated_claims()["level"] == "claim")).sum()
        assert len(badges) == judged + headings


def test_open_interval_is_written_as_one():
    claims = simulated_claims()
    claims.loc[claims["quantity"] == "epochs_to_nc1_at_75_percent", "high"] = np.inf
    rows = table_rows(page(claims=claims), "verdicts")
    measure = "epochs to NC1 at 75%"
    assert [measure, "0.520 [0.210, ∞) ratio of epochs", "", "1", "inconclusive"] in rows


def test_drawn_intervals_keep_order_and_scale():
    text = page()
    intervals = [
        tuple(float(number) for number in found)
        for found in re.findall(
            r'd="M([\d.]+) 1V15"/><path class="range" d="M([\d.]+) 8H([\d.]+)"/><circle cx="([\d.]+)"', text
        )
    ]
    assert len(intervals) == 10  # of the verdicts on C1, C2 and C4, each before its measures, and of those
    assert len(re.findall('<td class="drawn"[^>]*><svg', text)) == 4  # the effect of C6 is a point
    assert all(6 <= low <= effect <= high <= 114 for _, low, high, effect in intervals)
    intervals = [found for place, found in enumerate(intervals) if place not in (0, 4, 7)]
    assert all(6 <= low <= effect <= high <= 114 for _, low, high, effect in intervals)
    nulls = [null for null, *_ in intervals]
    assert nulls[0] == nulls[1] == nulls[2]
    # Ratios on a log scale: places are affine in the logarithm, so the first measure fixes where the third one lies.
    (null, low, _, _), *_ = intervals
    per_unit = (null - low) / -np.log(0.2981)
    assert intervals[2][3] == pytest.approx(null + per_unit * np.log(1.31), abs=0.15)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("verdict", "maybe", "verdict 'maybe' of C1; allowed: supported, contradicted, inconclusive"),
        ("level", "other", "level 'other' of C1; allowed: claim, measure"),
        ("level", "measure", "belongs to no verdict"),
        ("claim", "C0", "claim 'C0'; allowed: C1, C2"),
        ("quantity", "nc9", "claim C1: the measure 'nc9' has no label; known: epochs_to_final_nc1"),
    ],
)
def test_claims_that_cannot_be_shown_are_refused(column, value, message):
    claims = simulated_claims()
    claims.loc[0, column] = value
    with pytest.raises(ValueError, match=re.escape(message)):
        page(claims=claims)


def test_a_loss_compared_with_two_others_has_two_verdicts():
    claims = simulated_claims().query("claim == 'C2'")
    other = claims.assign(baseline="other", effect=0.77)
    names = Names(simulated_study())
    (judged,) = judged_claims(pd.concat([claims, other]), names)
    assert [(row["baseline"]["label"], row["effect"].value) for row in judged["rows"]] == [
        ("CE", "0.402"),
        ("other", "0.770"),
    ]
    assert [{measure["effect"].value for measure in row["measures"]} for row in judged["rows"]] == [
        {"0.402", "0.0130"},
        {"0.770"},
    ]


def test_many_verdicts_of_a_kind_on_a_claim_are_counted():
    own = simulated_claims().query("claim == 'C4' and level == 'claim'")
    claims = pd.concat([own.assign(baseline=f"other{place}") for place in range(3)] + [own.assign(verdict="supported")])
    words = Reader(page(claims=claims)).text
    assert "4 verdicts on 1 claim, by 0 measures. Intervals are of 95% each" in words
    start = "comparisons differ on whether label smoothing is better calibrated"
    assert f"{start} (C4: supported in 1, contradicted in 3 of 4 comparisons)." in words


def test_a_note_calls_its_measures_by_their_names():
    claims = simulated_claims().query("claim == 'C1'")
    note = "epochs_to_error is supported, epochs_to_error0 and a/epochs_to_error are none of its measures"
    quantities = [quantity for quantity in claims["quantity"] if quantity]
    assert CLAIMS["C1"].labelled(note, quantities) == (
        "epochs to error is supported, epochs_to_error0 and a/epochs_to_error are none of its measures"
    )
    assert CLAIMS["C1"].labelled(note, []) == note


def test_a_reason_has_two_lines_and_the_rest_folds():
    note = "a short remark; " + "; ".join(f"remark {place} of a long reason" for place in range(9)) + "; up to 1e-06"
    claims = simulated_claims().query("claim == 'C1' and level == 'claim'").assign(note=note)
    reader = Reader(page(claims=claims))
    shown = re.search(r'<details class="reason"><summary>(.*?)</summary>', page(claims=claims)).group(1)
    assert shown.startswith("A short remark; remark 0")
    assert len(shown) <= 90
    assert "remark 8 of a long reason; up to 10⁻⁶" in reader.text


def test_only_the_rules_of_the_studys_claims_are_shown():
    words = Reader(page(claims=simulated_claims().query("claim in ('C1', 'C4')"))).text
    assert "C1 Ratio of the epochs" in words
    assert "C4 Differences of the expected calibration error" in words
    assert "Measure A measure is supported when its whole interval" in words
    assert not [name for name in CLAIMS if f" {name} {CLAIMS[name].rule[:40]}" in words and name not in ("C1", "C4")]


@pytest.mark.parametrize("name", ["claims", "metrics", "theory"])
def test_table_without_a_column_is_refused(name):
    table = {"claims": simulated_claims, "metrics": simulated_metrics, "theory": simulated_theory}[name]()
    with pytest.raises(ValueError, match=f"the {name} table lacks the columns experiment"):
        page(**{name: table.drop(columns="experiment")})


def test_several_experiments_and_losses_are_distinguished():
    study = simulated_study()
    first = study["experiments"][0]
    study["experiments"] += [first | {"experiment": "again"}, first | {"experiment": "other", "dataset": "cifar10"}]
    claims = simulated_claims()
    more = [
        claims.assign(experiment="again"),
        claims.assign(experiment="other", dataset="cifar10", verdict="contradicted"),
    ]
    text = page(study=study, claims=pd.concat([claims, *more]))
    rows = [row for row in table_rows(text, "verdicts") if len(row) == 6 and row[1] == "LS 0.05 against CE"]
    # The model, which all share, is written once.
    assert [row[0] for row in rows] == [*("mnist5k (digits)", "mnist5k (again)", "cifar10")] * 5
    assert "15 verdicts on 5 claims" in Reader(text).text


# --- figures --------------------------------------------------------------------------------------------------------


def test_each_figure_is_shown_once_with_a_number_and_says_what_it_shows():
    text = page()
    images = [image for image in Reader(text).all("svg") if image.get("role") == "img"]
    assert [image["aria-label"] for image in images] == [
        f"Figure {n}. NC1 of LS ends lower" for n in range(1, len(STEMS) + 1)
    ]
    assert {image["viewbox"] for image in images} == {"0 0 70 40"}
    assert [caption.split(".")[0] for caption in captions(text)] == [f"Figure {n}" for n in range(1, len(STEMS) + 1)]


def test_a_figure_without_a_finding_is_called_by_its_title():
    figures = {("digits", "nc1_nc2"): Drawn(drawing(""), "The collapse")}
    named = [image.get("aria-label") for image in Reader(page(figures=figures)).all("svg")]
    assert "Figure 1. The collapse, for CE and LS 0.05 on mnist5k, resnet8." in named


def test_ids_are_unique_and_every_reference_has_its_target():
    reader = Reader(page())
    ids = [attributes["id"] for _, attributes, _ in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [a[key][1:] for _, a, _ in reader.elements for key in ("href", "xlink:href") if a.get(key, "")[:1] == "#"]
    wanted += [a["clip-path"][5:-1] for _, a, _ in reader.elements if "clip-path" in a]
    assert {"f1-mark", "f1-panel0", "f1-clip", "f6-panel0"} <= set(wanted) <= set(ids)


def test_figures_have_colours_for_both_themes_the_font_of_the_page_and_their_notes_as_text():
    text = page()
    rules = "".join(re.findall(r"<style>(\.d0.*?)</style>", text))
    assert "fill:light-dark(#440154," in rules
    assert "stroke:light-dark(#ffffff,#1c2026)" in rules
    assert "fill:light-dark(#c15500," in rules  # text: darker orange, 4.5 to 1
    assert "fill:#fde725}" in rules  # of a scale: the same in both
    assert len(re.findall(r"<style>\.d", text)) == 1  # each look once a page
    figure = text[text.index('<div class="image">') : text.index("<figcaption>")]
    assert "DejaVu" not in figure
    assert "n = 3 seeds" not in figure
    assert "stroke-linejoin: round}" not in figure
    assert Reader(text).text.count("n = 3 seeds") == len(STEMS)


def test_captions_repeat_the_numbers_of_the_verdict_table():
    text = page()
    by_claim = dict(zip(("C1", "C2", "C3", "C4", "C6"), captions(text), strict=False))
    verdict_rows = simulated_claims().query("level == 'claim'").set_index("claim")
    for name, caption in by_claim.items():
        row = verdict_rows.loc[name]
        assert caption.count(f": {row['verdict']}.") == 1
        if pd.isna(row["effect"]):
            assert "not measured" in caption
        else:
            assert f"{written(row, 'effect')} ({row['unit']})" in caption
        if pd.notna(row["low"]):
            assert f"95% interval [{written(row, 'low')}, {written(row, 'high')}]" in caption
            assert f"[{written(row, 'low')}, {written(row, 'high')}]" in Reader(text).text.split("Evidence C1")[0]


def written(row, end):
    """A number of an effect: differences have their sign."""
    return number(row[end], signed=row["unit"].startswith("difference"))


def test_claim_whose_figure_is_already_shown_refers_to_it():
    words = Reader(page(figures=simulated_figures(["collapse_curves"]))).text
    c2 = words[
        words.index("C2 Networks", words.index("Evidence C1")) : words.index(
            "C3 At the same", words.index("Evidence C1")
        )
    ]
    assert "See also Figure 1." in c2
    assert "0.402" in c2


def test_figures_that_are_missing_are_named():
    words = Reader(page(figures=simulated_figures(STEMS[:-1]))).text
    assert "Not found, so not shown here: figures/digits_ufm_conditioning.svg." in words
    assert "Not found" not in Reader(page()).text


@pytest.mark.parametrize("image", [b"", b"not an image", drawing()[:-20], b"x" + drawing(), b"<svg/>"])
def test_image_that_is_not_a_whole_svg_is_refused(image):
    with pytest.raises(ValueError, match="figure digits_nc1_nc2: the image is not a whole SVG of a figure"):
        page(figures={("digits", "nc1_nc2"): Drawn(image, "NC")})


# --- tables ---------------------------------------------------------------------------------------------------------


def test_run_table_has_the_last_epoch_of_every_run():
    rows = table_rows(page(), "runs")
    assert rows[0] == [
        *("Loss", "Seed", "Accuracy test", "ECE whole test set", "NC1 train", "NC2 train", "NC3 train"),
        *("Training seconds", "Device"),
    ]
    assert len(rows) == 7
    factor = 1 + 0.1 + 0.02  # ls, seed 2, at epoch 60
    numbers = [number(value * factor) for value in (0.97, 0.0432, 0.0234, 0.0441, 0.0612)]
    assert rows[-1] == ["LS 0.05", "2", *numbers, "94.4", "cpu"]


def test_run_table_shows_what_became_undefined_at_the_end():
    metrics = simulated_metrics()
    ended = (metrics["epoch"] == 60) & (metrics["loss"] == "ls")
    metrics.loc[ended & (metrics["metric"] == "nc1"), "value"] = np.inf
    metrics.loc[ended & (metrics["metric"] == "nc2"), "value"] = np.nan
    assert table_rows(page(metrics=metrics), "runs")[-1][4:6] == ["∞", "–"]


def test_run_table_leaves_out_what_no_run_measured_and_dashes_what_one_lacks():
    metrics = simulated_metrics()
    metrics = metrics[(metrics["metric"] != "ece") & ~((metrics["metric"] == "nc1") & (metrics["seed"] == 1))]
    runs = simulated_runs()
    del runs["mnist5k", "resnet8", "ce", 1]
    rows = table_rows(page(metrics=metrics, runs=runs), "runs")
    assert "ECE whole test set" not in rows[0]
    assert [cell for cell in rows[2] if cell == "–"] == ["–"] * 3  # nc1, training time, device


# --- provenance and the way back ------------------------------------------------------------------------------------


def test_provenance_says_where_the_numbers_come_from():
    words = Reader(page()).text
    for expected in (
        "licence CC BY-SA 3.0",
        "citation LeCun, Bottou, Bengio, Haffner 1998",
        "training samples 4000 test samples 1000 classes 10 shape of a sample 1 × 28 × 28 "
        "temperature fitted on a held-out part of the test set; scores after scaling are of the rest",
        "SHA-256 " + "ab" * 32,
        "runs trained on exactly this 6 of 6",
        "python 3.11.9 torch 2.13.0 git revision 0123456789abcdef device cpu threads a run 1",
        "finished 2025-11-20T10:00:00+00:00 to 2025-11-22T10:00:00+00:00",
        "6 runs, 9 min 20 s of training when added up.",
    ):
        assert expected in words
    assert ["LS 0.05", "3", "4 min 40 s", "1 min 33 s"] in table_rows(page(), "provenance")


def test_alterations_of_the_training_split_and_the_validation_split_are_on_the_page():
    made = {"imbalance": {"kind": "step", "ratio": 10.0, "seed": 0}, "train_counts": [50, 5], "noisy_labels": 7}
    rows = {key: text for key, text, _ in _manifest(made | {"classes": ["a", "b"], "val": 9, "held_out": "val"}, [])}
    assert rows["imbalance"] == "kind step, ratio 10.0, seed 0"
    assert (rows["samples a class"], rows["wrong training labels"], rows["validation samples"]) == ("50, 5", "7", "9")
    assert rows["temperature fitted on"] == "the validation split; scores after scaling are of the whole test set"


def test_damaged_files_of_a_stream_that_were_left_out_are_counted_on_the_page():
    made = {"storage": "stream", "bytes": 12_345_678, "skipped": {"train": 3, "test": 0}, "classes": ["a", "b"]}
    rows = {key: text for key, text, _ in _manifest(made, [])}
    assert rows["streamed from files of"] == "12.3 MB"
    assert rows["damaged files left out"] == "train 3, test 0"


def test_what_of_sequences_is_not_measured_not_known_or_not_trained_on_is_on_the_page():
    made = {"task": "sequences", "classes": ["a", "b"], "tokens": {"train": 50, "test": 9}, "min_samples": 10}
    made |= {"left_out": {"train": [], "test": [1]}, "left_out_tokens": {"train": 0, "test": 4}}
    rows = {key: text for key, text, _ in _manifest(made, [])}
    assert rows["target tokens"] == "train 50, test 9"
    assert rows["classes with fewer than 10 measured tokens, left out"] == "train 0, test 1"
    assert rows["their tokens"] == "train 0, test 4"
    assert "unknown target tokens" not in rows
    unknown = {"train": {"source": 1, "target": 2}, "test": {"source": 3, "target": 0}}
    rows = {key: text for key, text, _ in _manifest(made | {"unknown": unknown, "too_long": 0}, [])}
    assert (rows["unknown source tokens"], rows["unknown target tokens"]) == ("train 1, test 3", "train 2, test 0")
    assert rows["training pairs left out for their length"] == "0"


def test_runs_that_differ_in_versions_or_data_are_reported():
    runs = simulated_runs()
    odd = runs["mnist5k", "resnet8", "ls", 2]
    runs["mnist5k", "resnet8", "ls", 2] = odd | {"versions": {"torch": "2.12.0"}, "data_sha256": "cd" * 32}
    words = Reader(page(runs=runs)).text
    assert "torch 2.13.0 (5 runs), 2.12.0 (1 run)" in words
    assert "runs trained on exactly this 5 of 6" in words


def test_command_is_on_the_page_as_it_is_typed():
    text = page(study=simulated_study() | {"command": "snakemake --configfile 'a b.yaml' && echo <done>"})
    code = re.search(r"<pre.*?><code>(.*?)</code></pre>", text, re.S).group(1)
    assert html.unescape(code) == "snakemake --configfile 'a b.yaml' && echo <done>"


def test_page_without_what_is_optional():
    text = page(losses=None, theory=None, figures=None, datasets=None, runs=None)
    words = Reader(text).text
    sections = [attributes["id"] for attributes in Reader(text).all("section")]
    assert sections == ["verdicts", "evidence", "figures", "runs", "provenance", "reproduce"]
    for absent in ("figures/digits_norms.svg", "data/mnist5k.json", "mnist5k/resnet8/ls/seed2/run.json"):
        assert absent in words
    assert "theory/ufm.csv" not in words
    assert "0.352" in words


def test_study_without_claims():
    text = page(claims=simulated_claims().iloc[:0], figures=None)
    words = Reader(text).text
    assert "No claim was judged." in words
    assert not [one for one in Reader(text).all("table") if one.get("class") == "verdicts"]
    assert "0 supported" not in words


# --- hostile input --------------------------------------------------------------------------------------------------

HOSTILE = """"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7*7 }}&amp;"""


def test_hostile_names_are_shown_and_nothing_more():
    losses = {"ce": LOSSES["ce"], "ls": {"label": HOSTILE, "colour": "#D55E00"}}
    study = simulated_study(experiment=HOSTILE, dataset=HOSTILE, model=HOSTILE, losses=losses)
    study |= {"title": HOSTILE, "command": HOSTILE, "study": HOSTILE}
    claims = simulated_claims().assign(experiment=HOSTILE, dataset=HOSTILE, model=HOSTILE, statement=HOSTILE)
    claims = claims.assign(paper=HOSTILE, unit=HOSTILE, note=HOSTILE)
    metrics = simulated_metrics().astype(object).assign(experiment=HOSTILE, dataset=HOSTILE, model=HOSTILE)
    manifest = dict.fromkeys(("source", "licence", "citation", "sha256", "classes", "train"), HOSTILE)
    record = {"versions": {HOSTILE: HOSTILE}, "device": HOSTILE, "git_revision": HOSTILE, "wall_time": 1.0}
    text = page(
        study=study,
        claims=claims,
        metrics=metrics,
        losses=side_by_side(study["experiments"], metrics).assign(quantity=HOSTILE),
        theory=simulated_theory().assign(experiment=HOSTILE),
        figures={(HOSTILE, "nc1_nc2"): Drawn(drawing(), HOSTILE, HOSTILE, HOSTILE)},
        datasets={HOSTILE: manifest},
        runs={(HOSTILE, HOSTILE, "ls", 0): record},
    )
    reader = Reader(text)
    assert [tag for tag, _, _ in reader.elements].count("script") == 1
    assert len([image for image in reader.all("svg") if image.get("role") == "img"]) == 1
    assert not [name for _, attributes, _ in reader.elements for name in attributes if name.startswith("on")]
    assert HOSTILE in "".join(reader.words)


def test_addresses_become_links_only_when_they_are_of_the_web():
    harmless = simulated_manifest() | {"source": "javascript:alert(1)"}
    assert not [a for a in Reader(page(datasets={"mnist5k": harmless})).all("a") if "javascript" in a["href"]]
    assert "https://example.org/mnist" in [a["href"] for a in Reader(page()).all("a")]


@pytest.mark.parametrize("colour", ["red;background:url(//x)", "#12345", "", "#0072B2 "])
def test_colour_that_is_none_is_refused(colour):
    losses = LOSSES | {"ls": {"label": "LS", "colour": colour}}
    with pytest.raises(ValueError, match=r"colour of loss ls: .*allowed: #rrggbb"):
        page(study=simulated_study(losses=losses))


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (0, "0"),
            (0.0, "0"),
            (1, "1.00"),
            (-0.5, "−0.500"),
            (0.9996, "1.00"),
            (99949, "99949"),
            (99951, "1.00×10⁵"),
            (123456.0, "1.23×10⁵"),
        ),
        *((0.00123, "0.00123"), (0.000999, "9.99×10⁻⁴"), (float("inf"), "∞"), (float("-inf"), "−∞"), (None, "–")),
        *((float("nan"), "–"), (5e-324, "4.94×10⁻³²⁴")),
    ],
)
def test_number(value, text):
    assert number(value) == text


@given(st.floats(-1e300, 1e300), st.integers(2, 8))
def test_number_reads_back_to_its_digits(value, digits):
    text = number(value, digits).replace("−", "-")
    mantissa, _, power = text.partition("×10")
    read = float(mantissa + "e" + (power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or "0"))
    assert read == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits), abs=1e-323)


# --- losses side by side ---------------------------------------------------------------------------------------------


def test_the_best_loss_is_bold_and_only_where_the_seeds_leave_no_doubt():
    table = side_by_side(simulated_study()["experiments"], simulated_metrics())
    assert list(table.query("quantity == 'NC1'")["best"]) == [True, False]
    reader = Reader(page())
    bold = [attributes for tag, attributes, above in reader.elements if tag == "b" and "table" in above]
    assert len(bold) == int(table["best"].sum())
    doubtful = table.assign(best=False)
    reader = Reader(page(losses=doubtful))
    assert not [tag for tag, _, above in reader.elements if tag == "b" and "table" in above]


def test_few_losses_are_columns_and_many_are_rows():
    rows = table_rows(page(), "losses")
    assert rows[0] == ["Quantity", "CE", "LS 0.05"]
    assert [row[0] for row in rows[1:3]] == ["NC1 train", "NC2 train"]
    many = LOSSES | {f"ls{k}": {"label": f"LS {k}", "colour": "#009E73"} for k in range(3)}
    experiments = simulated_study(losses=many)["experiments"]
    metrics = simulated_metrics()
    metrics = pd.concat([metrics, *(metrics[metrics["loss"] == "ls"].assign(loss=f"ls{k}") for k in range(3))])
    text = page(study=simulated_study(losses=many), metrics=metrics, losses=side_by_side(experiments, metrics))
    assert [row[0] for row in table_rows(text, "losses")] == ["Loss", "CE", "LS 0.05", "LS 0", "LS 1", "LS 2"]


def test_a_level_that_is_never_reached_is_sorted_last():
    table = side_by_side(simulated_study()["experiments"], simulated_metrics())
    never = table["quantity"] == "epochs to collapse"
    table.loc[never, ["mean", "low", "high"]] = [np.inf, np.nan, np.nan]
    text = page(losses=table)
    section = text[text.index('id="losses"') : text.index('id="runs"')]
    assert section.count(">never<") == 2
    assert "inf" not in section.replace("information", "")


def test_one_loss_alone_is_not_set_beside_itself():
    study = simulated_study(losses={"ce": LOSSES["ce"]})
    losses = side_by_side(study["experiments"], simulated_metrics())
    assert set(losses["loss"]) == {"ce"}
    assert 'id="losses"' not in page(study=study, losses=losses)


# --- the stage ------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The files of a finished study."""
    monkeypatch.setattr("nclens.workflow.stages.report.repository", lambda: None)
    for folder in ("theory", "figures", "data"):
        (tmp_path / folder).mkdir()
    simulated_claims().to_csv(tmp_path / "claims.csv", index=False)
    simulated_theory().to_csv(tmp_path / "theory" / "ufm.csv", index=False)
    simulated_metrics().to_parquet(tmp_path / "metrics.parquet", index=False)
    for stem in STEMS:
        (tmp_path / "figures" / f"digits_{stem}.svg").write_bytes(drawing())
    (tmp_path / "data" / "mnist5k.json").write_text(json.dumps(simulated_manifest()))
    for key, record in simulated_runs().items():
        folder = tmp_path.joinpath(*key[:3], f"seed{key[3]}")
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
    return tmp_path


def specification(**changes):
    """The simulated study as the stage takes it."""
    study = simulated_study(**changes)
    experiments = []
    for entry in study["experiments"]:
        rest = {"task": "classification", "first_epoch": 1, "weight_decays": {}, "regularised": False}
        experiments.append(specs.ReportExperiment(**entry, **rest))
    return specs.Report(study["study"], study["title"], study["command"], tuple(experiments))


def test_stage_writes_the_page_of_the_files(root):
    report(specification(), root, root / "report.html")
    text = (root / "report.html").read_text(encoding="utf-8")
    # The same page as from memory, where the figures have the words of the registry and the rules those of the claims.
    from nclens.figures.catalogue import FIGURES

    figures = {
        ("digits", stem): Drawn(drawing(), FIGURES[stem].title, FIGURES[stem].source, FIGURES[stem].caption)
        for stem in STEMS
    }
    assert text == page(figures=figures, folder=StudyFolder(Path()), has=lambda path: (root / path).is_file())
    table = pd.read_csv(root / "tables" / "losses.csv")
    assert set(table["quantity"]) == {"NC1", "NC2", "NC3", "epochs to collapse"}
    assert not list(root.glob(".*"))


def test_stage_reads_names_that_look_like_nothing(root):
    claims = simulated_claims().assign(loss="null", baseline="NA")
    claims.to_csv(root / "claims.csv", index=False)
    losses = {"NA": LOSSES["ce"], "null": LOSSES["ls"]}
    report(specification(losses=losses, baseline="NA"), root, root / "report.html")
    assert "LS 0.05 against CE" in Reader((root / "report.html").read_text(encoding="utf-8")).text


def test_stage_shows_what_there_is(root):
    for path in [*root.glob("figures/*"), *root.glob("theory/*"), *root.glob("data/*"), *root.rglob("run.json")]:
        path.unlink()
    report(specification(), root, root / "report.html")
    assert (root / "report.html").read_text(encoding="utf-8") == page(
        theory=None,
        figures=None,
        datasets=None,
        runs=None,
        folder=StudyFolder(Path()),
        has=lambda path: (root / path).is_file(),
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("claims.csv", None, "claims.csv is missing: the rule `judge` makes it"),
        ("claims.csv", b"claim,paper\n", "claims.csv is damaged .* the rule `judge`"),
        ("claims.csv", b"", "claims.csv is damaged .* the rule `judge`"),
        ("metrics.parquet", None, "metrics.parquet is missing: the rule `collect` makes it"),
        ("metrics.parquet", b"PAR1", "metrics.parquet is damaged .* the rule `collect`"),
        ("theory/ufm.csv", b"\xff\xfe", "ufm.csv is damaged .* the rule `theory`"),
        ("figures/digits_norms.svg", drawing()[:60], "digits_norms.svg is damaged .* the rule `draw`"),
        ("data/mnist5k.json", b"{", "mnist5k.json is damaged .* the rule `prepare`"),
        ("mnist5k/resnet8/ls/seed1/run.json", b"", "run.json is damaged .* the rule `train`"),
    ],
)
def test_stage_names_the_file_that_is_at_fault_and_its_rule(root, name, content, message):
    (root / name).unlink() if content is None else (root / name).write_bytes(content)
    with pytest.raises(FileError, match=message):
        report(specification(), root, root / "report.html")
    assert not (root / "report.html").exists()
