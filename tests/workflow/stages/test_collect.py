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


def of_students(root, teachers, epochs=3, **more):
    """The metrics of students among those of their teachers, `large`'s losses; the n-th student's last error is n/8."""
    folders = {"large": ("ce", "ls"), "net": list(teachers)}
    for model, losses in folders.items():
        for place, loss in enumerate(losses):
            for seed in (0, 1):
                run = root / "digits" / model / loss / f"seed{seed}"
                shutil.copytree(root / "digits" / "net" / "ls" / "seed0", run, dirs_exist_ok=True)
                rows = ["epoch,split,metric,value", "1,test,error,0.9", f"{epochs},train,error,0.9"]
                rows += [f"{epochs},test,nc1,0.9", f"{epochs},test,error,{(place + seed) / 8}", "8,test,error,0.9"]
                (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    large = replace(EXPERIMENT, experiment="large", model="large", losses=("ce", "ls"), seeds=(0, 1), epochs=8)
    keys = {"losses": tuple(teachers), "seeds": (0, 1), "epochs": epochs, "teachers": teachers}
    spec = specs.Collect((large, replace(EXPERIMENT, **keys, **more)))
    collect(spec, root, root / "metrics.parquet")
    table = pd.read_parquet(root / "metrics.parquet")
    found = table[table["metric"].astype(str).str.startswith("student_error")]
    assert set(found[["experiment", "dataset", "model", "split", "epoch"]].itertuples(index=False, name=None)) <= {
        ("large", "digits", "large", "test", 8)
    }
    return found.set_index(["loss", "seed", "metric"])["value"].to_dict()


def teaching(loss, temperature=1.0, weight=1.0):
    return specs.Teaching("large", loss, smoothing=None, temperature=temperature, weight=weight)


def test_a_teacher_has_the_last_test_error_of_its_students_at_its_own_last_epoch(root):
    found = of_students(root, {"of_ce": teaching("ce"), "of_ls": teaching("ls")})
    expected = {("ce", 0): 0.0, ("ce", 1): 1 / 8, ("ls", 0): 1 / 8, ("ls", 1): 2 / 8}
    assert found == {(*key, "student_error"): value for key, value in expected.items()}


def test_what_tells_students_apart_is_named(root):
    ways = {"a": teaching("ce"), "b": teaching("ls"), "c": teaching("ce", 4.0)}
    found = of_students(root, ways)
    assert {(loss, metric) for loss, _, metric in found} == {
        ("ce", "student_error/T1"),
        ("ls", "student_error/T1"),
        ("ce", "student_error/T4"),
    }
    weights = of_students(root, {"a": teaching("ce"), "b": teaching("ce", weight=0.5)})
    assert {metric for *_, metric in weights} == {"student_error/b1", "student_error/b0.5"}
    models = of_students(root, {"a": teaching("ce"), "ce": teaching("ce")}, models={"a": "net", "ce": "large"})
    assert {metric for *_, metric in models} == {"student_error/net", "student_error/large"}
    odd = of_students(root, {"a+b": teaching("ce"), "a_b": teaching("ce"), "d": teaching("ls")})
    assert {metric for *_, metric in odd} == {"student_error/a b", "student_error/a_b", "student_error"}
    alike = of_students(root, {"a": teaching("ce"), "b": teaching("ce"), "c": teaching("ls")})
    assert {(loss, metric) for loss, _, metric in alike} == {
        ("ce", "student_error/a"),
        ("ce", "student_error/b"),
        ("ls", "student_error"),
    }
