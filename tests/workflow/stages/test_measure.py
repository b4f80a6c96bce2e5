"""Measuring the snapshots of a run, at the loss that each was trained with."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from nclens.metrics.calibration import fit_temperature
from nclens.workflow import specs
from nclens.workflow.build.losses import loss_after
from nclens.workflow.files import FileError, read_tensors
from nclens.workflow.paths import RunFolder
from nclens.workflow.stages.measure import measure
from tests.epochs import read_all, write_all
from tests.losses import entry

LS, CE = entry("ls", smoothing=0.2), entry("ce")


@pytest.fixture
def run(tmp_path):
    """The features of two snapshots, the same in both."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"weight": torch.randn(3, 5, generator=generator), "bias": torch.zeros(3)}
    for part in ("train", "test"):
        tensors[f"{part}.features"] = torch.randn(30, 5, generator=generator)
        tensors[f"{part}.logits"] = tensors[f"{part}.features"] @ tensors["weight"].T
        tensors[f"{part}.targets"] = torch.arange(30) % 3
    write_all(RunFolder(tmp_path).features, {2: tensors, 4: tensors})
    return tmp_path


def measured(run, loss, kept=(2, 4), tasks=("classification",), most_classes=1000):
    classifier = specs.MeasureClassifier(held_out=0.5, held_out_seed=0, loss=loss, epochs=4, most_classes=most_classes)
    measure(specs.Measure("classification", (2, 4), kept, specs.calls(*tasks), classifier), run, threads=1)
    table = pd.read_csv(run / "metrics.csv")
    assert not table.duplicated(["epoch", "split", "metric"]).any()
    return table.set_index(["epoch", "split", "metric"])["value"]


def test_a_snapshot_is_measured_at_the_strength_of_the_epoch_before_it(run):
    dropped = measured(run, replace(LS, schedule=specs.Schedule("drop", epoch=2)))
    kept, plain = measured(run, LS), measured(run, CE)
    key = "top_logit_gradient_incorrect"
    for split in ("train", "test"):
        assert dropped[2, split, key] == kept[2, split, key] == pytest.approx(plain[2, split, key] - 0.2 / 3)
        assert dropped[4, split, key] == pytest.approx(plain[4, split, key], abs=1e-12)
    # All else is of the features alone.
    assert (
        dropped.drop(key, level="metric")
        .drop("top_logit_gradient_correct", level="metric")
        .equals(plain.drop(key, level="metric").drop("top_logit_gradient_correct", level="metric"))
    )


def test_of_too_many_classes_imbalance_is_not_measured(run):
    tensors = read_all(RunFolder(run).features, (4,), "extract")[4]
    write_all(RunFolder(run).features, dict.fromkeys((2, 4), tensors | {"train_counts": torch.tensor([10, 20, 30])}))
    assert measured(run, CE)[4, "train", "train_count_class_2"] == 30
    too_many = measured(run, CE, most_classes=2)[4].index.get_level_values(1)
    assert not {"nc1_balanced", "train_count_class_2"} & set(too_many)


def test_a_test_split_may_lack_classes_and_unequal_and_noisy_classes_have_measures_of_their_own(run):
    tensors = read_all(RunFolder(run).features, (4,), "extract")[4]
    here, few = tensors["test.targets"] < 2, torch.arange(30) < 28
    changed = {name: values[here] for name, values in tensors.items() if name.startswith("test.")}
    changed |= {name: values[few] for name, values in tensors.items() if name.startswith("train.")}
    changed["train.clean_targets"] = (changed["train.targets"] + (torch.arange(28) < 3)) % 3
    before = measured(run, CE)
    assert not {"nc1_balanced", "nc1_clean", "classes_measured"} & set(before[4].index.get_level_values(1))
    write_all(RunFolder(run).features, dict.fromkeys((2, 4), tensors | changed))
    found = measured(run, CE)[4]
    assert found["test", "classes_measured"] == 2
    assert found["test"].drop(["accuracy_class_2", "nc1_class_2", "feature_norm_class_2"]).notna().sum() > 60
    assert found["test"][["accuracy_class_2", "nc1_class_2"]].isna().all()
    assert found["train", "classes_measured"] == 3
    assert found["train", "noise_share"] == pytest.approx(3 / 28)
    assert found["train", "train_count_class_1"] == 9


@pytest.mark.parametrize(
    ("labels", "classes"), [([0] * 6, 1), ([0, 0, 0, 1], 1), ([0, 1], 0), ([2], 0)], ids=["one", "two", "each", "1"]
)
def test_a_test_split_may_have_fewer_than_two_classes_of_two_samples(run, labels, classes):
    tensors = read_all(RunFolder(run).features, (4,), "extract")[4]
    targets = torch.tensor(labels)
    few = torch.arange(30) < 28
    changed = {name: values[few] for name, values in tensors.items() if name.startswith("train.")}
    changed |= {f"test.{name}": tensors[f"test.{name}"][: len(labels)] for name in ("features", "logits")}
    changed["test.targets"] = targets
    changed["train.clean_targets"] = (changed["train.targets"] + (torch.arange(28) < 3)) % 3
    write_all(RunFolder(run).features, dict.fromkeys((2, 4), tensors | changed))
    found = measured(run, replace(CE, name="mse"), tasks=("classification", "onehot"))[4]
    test, weight = found["test"], tensors["weight"].double()
    assert test["classes_measured"] == classes
    assert test[["nc1", "nc3", "nc2_means", "stable_rank_means", "unc3", "template_spread", "onehot_nrc1"]].isna().all()
    assert test[["nc1_balanced", "seli_means", "nc1_class_0", "nc1_correct"]].isna().all()
    assert test["nc0"] == pytest.approx(float(weight.sum(0).square().sum()) / 3)
    predicted = changed["test.logits"].argmax(1)
    accuracy = float((predicted == targets).double().mean())
    assert test["accuracy"] == pytest.approx(accuracy)
    means = torch.stack([changed["train.features"][changed["train.targets"] == k].double().mean(0) for k in range(3)])
    nearest = torch.cdist(changed["test.features"].double(), means).argmin(1)
    assert test["nc4"] == pytest.approx(float((predicted != nearest).double().mean()))
    each = [float((predicted == targets)[targets == k].double().mean()) for k in sorted(set(labels))]
    assert test["error_balanced"] == pytest.approx(1 - sum(each) / len(each))
    assert test["temperature"] > 0 if classes else math.isnan(test["temperature"])
    assert found["train"].drop("nc1_ceiling").notna().sum() > 90


def test_a_validation_split_fits_the_temperature_and_is_not_measured_itself(run):
    before = measured(run, CE)
    tensors = read_all(RunFolder(run).features, (4,), "extract")[4]
    split = {"val.features": tensors["test.features"][:7] * 2, "val.targets": tensors["test.targets"][:7]}
    split["val.logits"] = split["val.features"] @ tensors["weight"].T
    write_all(RunFolder(run).features, dict.fromkeys((2, 4), tensors | split))
    after = measured(run, CE)
    chosen = ("scaled", "temperature", "normalised", "logit_norm_power", "errors_rest")
    fitted = [name for name in before[2].index if any(part in name[1] for part in chosen)]
    assert after[2].drop(fitted).equals(before[2].drop(fitted))
    assert after[4, "test", "temperature"] == fit_temperature(split["val.logits"], split["val.targets"])
    assert after[4, "test", "ece_unscaled"] == after[4, "test", "ece"]
    assert {name for _, name, _ in after.index} == {"train", "test"}


def test_every_split_has_the_features_of_the_representation(run):
    keys = {"d_within", "d_total", "r2_angular", "top_logit_gap_incorrect", "ls_regularisation_correct"}
    found = set(measured(run, LS).index)
    assert {(epoch, split, key) for epoch in (2, 4) for split in ("train", "test") for key in keys} <= found


@pytest.mark.parametrize(
    "entry",
    [
        specs.Loss("mine", function="mine:loss", file="mine.py"),
        specs.Loss("online", "online_label_smoothing", arguments={"soft_weight": 0.5}),
    ],
    ids=["own", "memory"],
)
def test_a_loss_that_logits_do_not_tell_has_no_gradient(run, entry):
    assert loss_after(entry, 2, 4) is None
    assert not any("gradient" in metric for _, _, metric in measured(run, entry).index)


def test_the_snapshot_before_training_is_measured_at_the_first_strength():
    linear = entry("maxsup", alpha=0.1, schedule={"kind": "linear", "end": 0.2})
    assert [loss_after(linear, epoch, 10).parameters["alpha"] for epoch in (0, 1, 2, 10)] == pytest.approx(
        [0.1, 0.1, 0.11, 0.19]
    )


def test_features_that_are_not_kept_are_read_from_their_own_file(run):
    folder, expected = RunFolder(run), measured(run, LS)
    features = read_all(folder.features, (2, 4), "extract")
    write_all(folder.features, {4: features[4]})
    with pytest.raises(FileError, match=r"/earlier_features\.safetensors is missing: the rule `extract` makes it"):
        measured(run, LS, kept=(4,))
    write_all(folder.earlier_features, {2: features[2]})
    pd.testing.assert_series_equal(measured(run, LS, kept=(4,)), expected)
    with pytest.raises(FileError, match=r"/features\.safetensors is damaged \(it lacks epoch 2\).*rule `extract`"):
        measured(run, LS)


def test_a_film_of_every_snapshot_needs_no_features_that_are_kept(run):
    folder = RunFolder(run)
    measured(run, LS)
    expected, _ = read_tensors(folder.film, "measure")
    assert expected["epochs"].tolist() == [2, 4]
    assert expected["templates.points"].shape == expected["principal.points"].shape == (2, 30, 2)
    features = read_all(folder.features, (2, 4), "extract")
    write_all(folder.features, {4: features[4]})
    write_all(folder.earlier_features, {2: features[2]})
    measured(run, LS, kept=(4,))
    found, _ = read_tensors(folder.film, "measure")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
