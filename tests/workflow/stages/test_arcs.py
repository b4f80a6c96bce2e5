"""Arcs from the features of all runs: which classes they are of, their ratios, and what a claim and a figure say."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from nclens.claims import CLAIMS, Comparison, Measurements, claim_rows
from nclens.metrics.held_out import stratified_mask
from nclens.workflow import specs
from nclens.workflow.build.figures import draw_figure
from nclens.workflow.epochs import write_epochs
from nclens.workflow.paths import StudyFolder
from nclens.workflow.stages.collect import collect
from nclens.workflow.stages.draw import experiment_inputs
from tests.figures.artists import notes_of
from tests.metrics.arcs import example, literal

SEEDS, SAMPLES = (0, 1, 2), 400
ARCS = specs.Arcs("ce", held_out=0.5, held_out_seed=3, most_classes=1000)
RUNS = {"experiment": "main", "dataset": "digits", "model": "net", "losses": ("ce", "ls"), "seeds": SEEDS, "epochs": 1}
EXPERIMENT = specs.CollectExperiment(**RUNS, task="classification", arcs=ARCS)
#: Logits of class b on samples of a, without its own: 1 and 3 are similar, 0 exchanges least with both.
CONFUSED = torch.tensor([[0, 0, 2, 0], [0, 0, 1, 3], [2, 1, 0, 1], [0, 1, 1, 0]]).double()
THEORY = pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric", "relative_error"])


def tensors(kind, seed, lacking=-1):
    """A run's features: of the classes 0, 1 and 3 arcs or round clusters, and few of class 2."""
    found = {}
    for split, own in (("train", 0), ("test", 100)):
        features, labels, weight = example(kind, samples=SAMPLES, seed=seed + own)
        labels = torch.cat([labels, torch.full((5,), 2)])
        features = torch.cat([features, features[:5]])
        kept = labels != (lacking if split == "train" else -1)
        logits = (5 * torch.eye(4) + CONFUSED)[labels]
        found |= {
            f"{split}.features": features[kept],
            f"{split}.targets": labels[kept],
            f"{split}.logits": logits[kept],
        }
    weight[2] = weight[0].flip(0)
    return found | {"weight": weight, "bias": torch.zeros(4).double()}


@pytest.fixture
def root(tmp_path):
    for loss, kind in (("ce", "round"), ("ls", "arc")):
        for seed in SEEDS:
            run = tmp_path / "digits" / "net" / loss / f"seed{seed}"
            run.mkdir(parents=True)
            (run / "metrics.csv").write_text("epoch,split,metric,value\n1,train,nc1,0.1\n")
            (run / "history.csv").write_text(
                "epoch,split,loss,cross_entropy,error,learning_rate,seconds\n1,train,2,1,0.5,0.1,3\n"
            )
            put(tmp_path, loss, seed, tensors(kind, seed))
    return tmp_path


def put(root, loss, seed, content):
    with write_epochs(root / "digits" / "net" / loss / f"seed{seed}" / "features.safetensors", [1]) as write:
        write(1, content)


def collected(root, **more):
    collect(specs.Collect((replace(EXPERIMENT, **more),)), root, root / "metrics.parquet")
    return pd.read_parquet(root / "metrics.parquet")


def values(table, metric):
    own = table[table["metric"] == metric]
    return {(loss, seed, split): value for loss, seed, split, value in own[["loss", "seed", "split", "value"]].values}


def drawing(root, table):
    drawn = specs.DrawExperiment(
        **RUNS,
        **{"task": "classification", "figures": ("arcs",), "baseline": "ce", "labels": {"ce": "CE", "ls": "LS"}},
        **{"colours": {"ce": "#0072B2", "ls": "#D55E00"}, "first_epoch": 1, "weight_decays": {}, "regularised": False},
    )
    return draw_figure("arcs", experiment_inputs(drawn, {"metrics": table, "theory": THEORY}, StudyFolder(root)))


def verdicts(table, loss="ls", baseline="ce", seeds=SEEDS):
    comparison = Comparison(*("main", "digits", "net", baseline, loss, seeds, 1), Measurements(table), THEORY)
    return {row.quantity or "claim": row for row in claim_rows(CLAIMS["W12"], comparison)}


def test_arcs_are_of_the_classes_that_cross_entropy_takes_for_each_other(root):
    table = collected(root)
    chosen = {values(table, f"arc_class_{place}")["ls", 1, "test"] for place in (1, 2)}
    assert (chosen, set(values(table, "arc_class_3").values())) == ({1, 3}, {0})
    ratios, polar = values(table, "arc_ratio"), values(table, "arc_ratio_polar")
    assert len(ratios) == len(polar) == 2 * len(SEEDS) * 2
    for (loss, seed, split), ratio in ratios.items():
        own = tensors("arc" if loss == "ls" else "round", seed)
        rest = ~stratified_mask(own["test.targets"], 0.5, 3) if split == "test" else slice(None)
        features, labels = own[f"{split}.features"][rest], own[f"{split}.targets"][rest]
        assert (ratio, polar[loss, seed, split]) == pytest.approx(literal(features, labels, own["weight"], (1, 3, 0)))


def test_the_claim_holds_of_simulated_arcs_and_round_clusters(root):
    table = collected(root)
    found = verdicts(table)
    assert {name: row.verdict for name, row in found.items()} == dict.fromkeys(found, "supported")
    assert len(found) == 5
    assert found["arc_ratio_test"].effect == pytest.approx(0.015, abs=0.01)
    assert {row.verdict for row in verdicts(table, seeds=SEEDS[:2]).values()} == {"inconclusive"}
    # Round clusters on both sides: no flatter, and no arc.
    same = table.assign(loss=table["loss"].astype(str))
    same = pd.concat([same[same["loss"] == "ce"], same[same["loss"] == "ce"].assign(loss="ls")])
    found = verdicts(same)
    assert {name: row.verdict for name, row in found.items()} == {
        **{"claim": "inconclusive", "arc_ratio_test": "inconclusive", "arc_ratio_train": "inconclusive"},
        **{"bent_test": "contradicted", "round_test": "supported"},
    }
    # The baseline has the arcs.
    found = verdicts(table, "ce", "ls")
    assert {name: row.verdict for name, row in found.items()} == dict.fromkeys(found, "contradicted")


def test_the_figure_shows_the_classes_about_the_third(root):
    table = collected(root)
    figure, points = drawing(root, table)
    assert list(dict.fromkeys(points["class"])) == [1, 3, 0]
    own = tensors("arc", SEEDS[0])
    offset = own["test.features"] - own["test.features"][own["test.targets"] == 0].mean(0)
    plane = torch.linalg.qr((own["weight"][[3, 0]] - own["weight"][1]).T)[0]
    distances = (offset[own["test.targets"] == 3][:100] @ plane).norm(dim=1)
    drawn = points[(points["loss"] == "ls") & (points["split"] == "test") & (points["class"] == 3)]
    assert (drawn["x"] ** 2 + drawn["y"] ** 2).tolist() == pytest.approx((distances**2).tolist())
    logs = [math.log(values(table, "arc_ratio")["ls", seed, "test"]) for seed in SEEDS]
    own = points[(points["loss"] == "ls") & (points["split"] == "test")].iloc[0]
    assert own["ratio"] == pytest.approx(math.exp(sum(logs) / 3))
    assert own["low"] < own["ratio"] < own["high"]
    assert f"arc ratio {own['ratio']:.2g}\n[{own['low']:.2g}, {own['high']:.2g}]" in figure.axes[3].get_title(
        loc="left"
    )


def test_the_figure_says_why_a_panel_is_empty(root):
    content = tensors("arc", 0)
    put(root, "ls", 0, content | {name: content[name] * math.nan for name in ("train.features", "test.features")})
    figure, points = drawing(root, collected(root))
    assert set(points["loss"]) == {"ce"}
    assert "No plane: LS" in notes_of(figure)
    figure, points = drawing(root, collected(root, arcs=None))
    assert points.empty
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"no classes"}
    assert "main, epoch 1. No classes were chosen" in notes_of(figure)


def test_there_are_no_arcs_where_no_classes_can_be_chosen(root):
    assert "arc_ratio" not in set(collected(root, arcs=replace(ARCS, most_classes=3))["metric"])
    assert "arc_ratio" not in set(collected(root, arcs=None)["metric"])
    # A diverged network chooses nothing, and has no ratio itself.
    content = tensors("round", 0)
    put(root, "ce", 0, content | {name: content[name] * math.nan for name in ("test.logits", "weight")})
    masked = tensors("round", 1)
    put(root, "ce", 1, masked | {"test.logits": masked["test.logits"] - math.inf})
    table = collected(root)
    assert set(values(table, "arc_class_3").values()) == {0}
    assert {key for key, value in values(table, "arc_ratio").items() if math.isnan(value)} == {
        ("ce", 0, "train"),
        ("ce", 0, "test"),
    }
    # A class that a split lacks is none of the three, nor one that has fewer samples than collapse takes.
    for seed in SEEDS:
        put(root, "ce", seed, tensors("round", seed, lacking=0) | {"min_samples": torch.tensor(20)})
    assert "arc_ratio" not in set(collected(root)["metric"])
    for seed in SEEDS:
        put(root, "ce", seed, tensors("round", seed, lacking=0))
    assert set(values(collected(root), "arc_class_3").values()) == {2}
