"""All runs' measurements, probes and histories in one table."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from nclens.metrics.translation import paired_bootstrap
from nclens.workflow import specs
from nclens.workflow.files import FileError
from nclens.workflow.stages.collect import collect

EXPERIMENT = specs.CollectExperiment("main", "digits", "net", ("ce", "ls"), (0,), epochs=1, task="classification")


@pytest.fixture
def root(tmp_path):
    for loss in ("ce", "ls"):
        run = tmp_path / "digits" / "net" / loss / "seed0"
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text("epoch,split,metric,value\n1,train,nc1,0.1\n")
        (run / "probes.csv").write_text("epoch,split,metric,value\n1,test,probe_accuracy,0.30000000000000004\n")
        (run / "history.csv").write_text(
            "epoch,split,loss,cross_entropy,error,learning_rate,seconds\n1,train,2,1,0.5,0.1,3\n"
        )
    return tmp_path


def collected(root, **more):
    collect(specs.Collect((replace(EXPERIMENT, **more),)), root, root / "metrics.parquet")
    return pd.read_parquet(root / "metrics.parquet")


def test_probes_stand_among_the_metrics_where_the_experiment_lists_them(root):
    table = collected(root, probed=True)
    assert table.groupby("loss", observed=True)["metric"].apply(set).to_dict() == {
        loss: {
            *("nc1", "probe_accuracy", "epoch_loss", "epoch_cross_entropy", "epoch_error"),
            *("learning_rate", "epoch_seconds"),
        }
        for loss in ("ce", "ls")
    }
    (row,) = table[(table["metric"] == "probe_accuracy") & (table["loss"] == "ls")].to_dict("records")
    assert (row["experiment"], row["split"], row["epoch"], row["value"]) == ("main", "test", 1, 0.1 + 0.2)


def test_probes_that_are_not_asked_for_do_not_count(root):
    assert "probe_accuracy" not in set(collected(root, probed=False)["metric"])


def test_a_table_that_is_missing_is_named_with_its_rule(root):
    (root / "digits" / "net" / "ls" / "seed0" / "probes.csv").unlink()
    with pytest.raises(FileError, match=r"ls/seed0/probes.csv is missing: the rule `probe` makes it"):
        collected(root, probed=True)


def test_translations_are_compared_with_the_baselines_of_the_same_seed(root):
    pytest.importorskip("sacrebleu")
    references = ["the dog runs now", "a cat sleeps here"]
    for loss, found in (("ce", ["the dog runs now", "a dog"]), ("ls", references)):
        text = {"hypotheses": found, "references": references}
        said = {"signatures": {}, "probes": {"/beam": text}}
        (root / "digits" / "net" / loss / "seed0" / "hypotheses.json").write_text(json.dumps(said))
    table = collected(root, translations={"ls": "ce"})
    own = table[table["metric"].str.contains("difference").astype(bool)]
    assert set(own["loss"]) == {"ls"}
    values = dict(zip(own["metric"], own["value"], strict=True))
    expected = paired_bootstrap(["the dog runs now", "a dog"], references, references)
    for score in ("bleu", "chrf"):
        assert values[f"{score}_difference/beam"] == expected[score]["difference"] > 0
        assert values[f"{score}_difference_p/beam"] == expected[score]["p_value"]
    said["probes"]["/beam"]["references"] = references[::-1]
    (root / "digits" / "net" / "ls" / "seed0" / "hypotheses.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="have translations of other sentences: run their probes again"):
        collected(root, translations={"ls": "ce"})
    assert not collected(root)["metric"].str.contains("difference").any()


def test_a_student_has_the_last_error_of_its_teachers_run_at_its_own_last_epoch(root):
    rows = "epoch,split,metric,value\n1,test,error,0.5\n8,train,error,0.01\n8,test,error,0.30000000000000004\n"
    for seed in (0, 1):
        teacher = root / "digits" / "large" / "ls" / f"seed{seed}"
        shutil.copytree(root / "digits" / "net" / "ls" / "seed0", teacher)
        (teacher / "metrics.csv").write_text(rows.replace("0.3", f"0.{3 + seed}"))
    for loss in ("ce", "ls"):
        shutil.copytree(root / "digits" / "net" / loss / "seed0", root / "digits" / "net" / loss / "seed1")
    large = replace(EXPERIMENT, experiment="large", model="large", losses=("ls",), seeds=(0, 1), epochs=8)
    teaching = specs.Teaching("large", "ls", smoothing=0.1, temperature=1.0, weight=1.0)
    spec = specs.Collect((replace(EXPERIMENT, seeds=(0, 1), teachers={"ls": teaching}), large))
    collect(spec, root, root / "metrics.parquet")
    table = pd.read_parquet(root / "metrics.parquet")
    found = table[table["metric"] == "teacher_error"]
    keys = ["experiment", "loss", "seed", "split", "epoch", "value"]
    assert set(found[keys].itertuples(index=False, name=None)) == {
        ("main", "ls", seed, split, 1, value)
        for seed, test in ((0, 0.1 + 0.2), (1, float("0.40000000000000004")))
        for split, value in (("train", 0.01), ("test", test))
    }
    (teacher / "metrics.csv").unlink()
    with pytest.raises(FileError, match=r"large/ls/seed1/metrics.csv is missing: the rule `measure` makes it"):
        collect(spec, root, root / "metrics.parquet")
