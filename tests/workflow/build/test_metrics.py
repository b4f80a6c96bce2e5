"""The functions of the catalogue are called with what each needs, and yield the metrics that it lists."""

import math
import re
from collections.abc import Iterable

import pytest
import torch

from nclens.losses import ce
from nclens.metrics import catalogue
from nclens.metrics.calibration import stratified_mask
from nclens.metrics.catalogue import MEASUREMENTS, METRICS
from nclens.metrics.collapse import class_means
from nclens.metrics.regression import regression_collapse, residual_deviation, target_covariance
from nclens.metrics.regressor import run_gamma, with_onehot_targets
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.metrics import measure_arrays, measure_snapshot, measured
from nclens.workflow.specs import Call, OwnMetric, calls
from tests.losses import entry

K = 4


def split(seed=0, count=80, dim=6):
    """Features, labels and a head that is right on some samples and wrong on others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % K
    centres = torch.randn(K, dim, generator=generator)
    features = centres[labels] + 1.2 * torch.randn(count, dim, generator=generator)
    return features, labels, centres + 0.3 * torch.randn(K, dim, generator=generator), torch.zeros(K)


def measure_split(features, labels, weight, bias, **others):
    arrays = {"features": features, "labels": labels, "weight": weight, "bias": bias}
    logits = features.double() @ weight.double().T
    given = arrays | {"logits": logits} | others
    return measured([call for call in calls("classification") if len(call.splits) == 2], given)


def snapshot(n=2, dim=6, seed=0, samples=40):
    """A regressor's snapshot of n targets."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    mixing = normal(n, n) + 2 * torch.eye(n)
    tensors = {"weight": normal(n, dim), "bias": normal(n)}
    for part, count in (("train", samples), ("test", samples // 2)):
        tensors[f"{part}.features"] = normal(count, dim)
        tensors[f"{part}.targets"] = normal(count, n) @ mixing
    return tensors


def table(rows):
    found = list(rows)
    assert len({row[:2] for row in found}) == len(found)
    return {row[:2]: row[2] for row in found}


def test_a_penalty_adds_its_derivative_to_the_gradient_on_the_top_logit():
    features, labels, weight, bias = split()
    alpha = 0.3

    def found(name, **arguments):
        return measure_split(features, labels, weight, bias, loss=build_loss(entry(name, **arguments)))

    plain = found("ce")
    assert plain["top_logit_gradient_correct"] == pytest.approx(plain["confidence_correct"] - 1)
    assert plain["top_logit_gradient_incorrect"] == pytest.approx(plain["confidence_incorrect"])
    for name, argument, on_right, on_wrong in (
        ("ls", "smoothing", 1 - 1 / K, -1 / K),
        ("maxsup", "alpha", 1 - 1 / K, 1 - 1 / K),
        ("ls_regularisation", "smoothing", 1 - 1 / K, 0.0),
        ("ls_error_amplification", "smoothing", 0.0, -1 / K),
    ):
        values = found(name, **{argument: alpha})
        for part, added in (("correct", on_right), ("incorrect", on_wrong)):
            key = f"top_logit_gradient_{part}"
            assert values[key] - plain[key] == pytest.approx(alpha * added, abs=1e-12)


def test_the_parts_of_smoothing_are_weighed_by_their_samples():
    features, labels, weight, bias = split()
    values = measure_split(features, labels, weight, bias)
    logits = features.double() @ weight.double().T
    penalty = float((logits.gather(1, labels[:, None])[:, 0] - logits.mean(1)).mean())
    parts = {
        part: values[f"ls_regularisation_{part}"] + values[f"ls_error_amplification_{part}"]
        for part in ("correct", "incorrect")
    }
    right = values["accuracy"]
    assert right * parts["correct"] + (1 - right) * parts["incorrect"] == pytest.approx(penalty)
    assert "top_logit_gradient_correct" not in values


def test_spread_is_of_directions_and_not_of_lengths():
    features, labels, weight, bias = split()
    lengths = torch.rand(len(labels), 1, generator=torch.Generator().manual_seed(1)) + 0.5
    first = measure_split(features, labels, weight, bias)
    second = measure_split(features * lengths, labels, weight, bias)
    for key in ("d_within", "d_total", "r2_angular"):
        assert first[key] == pytest.approx(second[key], rel=1e-5)
    assert first["nc1"] != pytest.approx(second["nc1"], rel=1e-5)


def test_what_no_sample_shows_is_not_a_number():
    values = measure_split(10 * torch.eye(K).repeat(2, 1), torch.arange(K).repeat(2), torch.eye(K), torch.zeros(K))
    assert values["ls_error_amplification_correct"] == 0
    assert all(math.isnan(values[f"{key}_incorrect"]) for key in ("ls_regularisation", "top_logit_gap", "confidence"))


def test_a_regressor_has_one_gamma_at_all_epochs_and_on_both_splits():
    gamma = run_gamma(snapshot())
    metrics = table(measure_snapshot(calls("regression"), snapshot(seed=1), {"gamma": gamma}))
    assert metrics["train", "nrc3_gamma"] == metrics["test", "nrc3_gamma"] == gamma


def test_one_target_has_no_nrc3():
    metrics = table(measure_snapshot(calls("regression"), snapshot(n=1), {"gamma": None}))
    assert ("train", "nrc3") not in metrics
    assert metrics["train", "gram_00"] == pytest.approx(snapshot(n=1)["weight"].square().sum().item())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_metrics_are_those_of_each_split_and_the_heads_gram(n):
    tensors = snapshot(n)
    gamma = run_gamma(tensors)
    metrics = table(measure_snapshot(calls("regression"), tensors, {"gamma": gamma, "c": 0.3}))
    weight, bias = tensors["weight"], tensors["bias"]
    gram = weight.double() @ weight.double().T
    for part in ("train", "test"):
        features, targets = tensors[f"{part}.features"], tensors[f"{part}.targets"]
        expected = regression_collapse(features, targets, weight, bias, gamma=gamma)
        residuals = targets.double() - features.double() @ weight.double().T - bias
        expected["residual_deviation"] = residual_deviation(target_covariance(residuals), 0.3)
        if part == "train":
            expected |= {f"gram_{i}{j}": gram[i, j].item() for i in range(n) for j in range(i, n)}
        found = {key: value for (where, key), value in metrics.items() if where == part}
        assert list(found) == list(expected)
        assert all(found[key] == pytest.approx(value, rel=1e-12) for key, value in expected.items())


def test_without_the_penalties_there_is_no_c_to_be_away_from():
    assert ("train", "residual_deviation") not in table(measure_snapshot(calls("regression"), snapshot(), {"c": None}))


def test_a_classifier_is_measured_as_a_regressor_on_onehot_targets():
    tensors = snapshot(3) | {"train.targets": torch.arange(40) % 3, "test.targets": torch.arange(20) % 3}
    onehot = with_onehot_targets(tensors)
    gamma = run_gamma(onehot)
    metrics = table(measure_snapshot(calls("onehot"), tensors, {"gamma": gamma}))
    expected = table(measure_snapshot(calls("regression"), onehot, {"gamma": gamma}))
    assert metrics == {
        (part, f"onehot_{key}"): value for (part, key), value in expected.items() if not key.startswith("gram_")
    }
    assert all(math.isfinite(value) for value in metrics.values())


def pattern(name):
    """The names that an entry of the catalogue stands for."""
    return re.compile(re.sub(r"\{\w\}", r"\\d+", name))


def toy_rows():
    """Task -> rows of a run in which every metric is defined."""
    features, labels, weight, bias = split()
    heads = {"weight": weight, "bias": bias}
    tensors = {"train.features": features, "train.logits": features @ weight.T, "train.targets": labels}
    tensors["train.clean_targets"] = labels.roll(1)
    tensors |= {key.replace("train", "test"): tensor[:40] for key, tensor in tensors.items()}
    mask = stratified_mask(tensors["test.targets"], 0.5, 0)
    given = {"reference_means": class_means(features, labels, K), "loss": ce, "held_out": mask, "gamma": 0.01}
    given["train_counts"] = labels.bincount(minlength=K)
    return {
        "classification": list(measure_snapshot(calls("classification"), tensors | heads, given)),
        "onehot": list(measure_snapshot(calls("onehot"), tensors | heads, given)),
        "regression": list(measure_snapshot(calls("regression"), snapshot(3), {"gamma": 0.01, "c": 0.3})),
    }


def test_each_metric_of_a_run_is_in_the_catalogue_and_each_of_the_catalogue_in_a_run():
    found = {(task, part, metric) for task, rows in toy_rows().items() for part, metric, _ in rows}
    listed = [
        (entry.task, part, pattern(metric.name))
        for entry in MEASUREMENTS
        if entry.task != "experiment"  # of all runs at once: the tests of `collect`
        for part in entry.splits
        for metric in entry.metrics
    ]
    for task, part, name in listed:
        assert any((task, part) == one[:2] and name.fullmatch(one[2]) for one in found), (task, part, name)
    for task, part, metric in found:
        assert any((task, part) == one[:2] and one[2].fullmatch(metric) for one in listed), (task, part, metric)
        assert catalogue.metric(metric).name == metric


def test_rows_follow_the_catalogues_order():
    def order(task, part, names: Iterable[str]):
        entries = [metric.name for entry in MEASUREMENTS if entry.task == task for metric in entry.metrics]
        return [next(i for i, name in enumerate(entries) if pattern(name).fullmatch(metric)) for metric in names]

    for task, rows in toy_rows().items():
        parts = [part for part, *_ in rows]
        assert parts == sorted(parts, reverse=True)  # train, then test
        for part in ("train", "test"):
            places = order(task, part, [metric for where, metric, _ in rows if where == part])
            if task != "classification":  # the functions there give their names in groups
                assert places == sorted(places)


def test_names_are_unique_and_labels_are_there():
    assert len(METRICS) == sum(len(entry.metrics) for entry in MEASUREMENTS)
    assert all(metric.label for metric in METRICS.values())


def test_a_function_is_left_out_where_an_argument_that_it_requires_is_not_given():
    features, labels, weight, bias = split()
    given = {"features": features, "labels": labels, "weight": weight, "bias": bias}
    found = measured(calls("classification"), given)
    assert {"nc1", "d_within", "template_spread"} <= found.keys()
    assert not found.keys() & {"temperature", "accuracy", "nc1_correct", "top_logit_gap_correct"}  # of logits


def test_the_one_number_of_a_function_is_called_as_the_function_is():
    call = Call("statistics:mean", "classification", ("train",))
    assert measured([call], {"data": [1.0, 2.0], "weight": None}) == {"mean": 1.5}


def test_calls_hold_no_labels():
    assert set(vars(calls("classification")[0])) == {"function", "task", "splits"}
    assert {call.task for call in calls("classification", "onehot")} == {"classification", "onehot"}


def test_arrays_without_logits_get_those_of_the_head():
    features, labels, weight, bias = split()
    arrays = {"features": features, "labels": labels, "weight": weight}
    assert measure_arrays(arrays) == measure_split(features, labels, weight, None)
    assert measure_arrays(arrays | {"labels": labels.to(torch.uint16)}) == measure_arrays(arrays)
    assert measure_arrays(arrays | {"bias": bias + 1.0})["accuracy"] == measure_arrays(arrays)["accuracy"]
    regressor = snapshot()
    given = {"features": regressor["train.features"], "targets": regressor["train.targets"]} | {
        "weight": regressor["weight"]
    }
    assert measure_arrays(given) == regression_collapse(*given.values(), None)


MINE = """
def norm(features, power=2):
    return (features.abs() ** power).sum()


def several(logits, labels, weight, bias):
    return {"lead": logits.max(), "rows": len(weight) + len(bias) + len(labels)}


def wrong(features):
    return features


def keys(features):
    return {"a b": 1.0}


def raising(features):
    return features.nothing


def regression(targets):
    return targets.mean()
"""


def own(tmp_path, name, **arguments):
    (tmp_path / "mine.py").write_text(MINE)
    return OwnMetric("mine", f"mine:{name}", str(tmp_path / "mine.py"), arguments, ("train", "test"))


def small_snapshot():
    generator = torch.Generator().manual_seed(0)
    tensors = {"weight": torch.randn(3, 4, generator=generator), "bias": torch.zeros(3)}
    for split in ("train", "test"):
        tensors[f"{split}.features"] = torch.randn(6, 4, generator=generator)
        tensors[f"{split}.logits"] = torch.randn(6, 3, generator=generator)
        tensors[f"{split}.targets"] = torch.arange(6) % 3
    return tensors


def test_a_metric_of_the_user_gets_what_it_names(tmp_path):
    tensors = small_snapshot()
    found = list(measure_snapshot([], tensors, {}, [own(tmp_path, "norm", power=1)]))
    assert found == [
        (split, "mine", pytest.approx(float(tensors[f"{split}.features"].abs().sum()))) for split in ("train", "test")
    ]
    found = {
        (split, metric): value for split, metric, value in measure_snapshot([], tensors, {}, [own(tmp_path, "several")])
    }
    assert found["test", "mine_lead"] == pytest.approx(float(tensors["test.logits"].max()))
    assert found["train", "mine_rows"] == 12


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wrong",
            r"metrics\.mine: mine:wrong \(.*mine\.py\) must return a number or a dict of numbers, not Tensor of "
            r"shape \(6, 4\)",
        ),
        ("keys", "returns the keys mine_a b; allowed: letters, digits and _"),
        ("raising", r"mine:raising \(.*mine\.py, line 19: `return features\.nothing`\) failed: AttributeError"),
        ("regression", "needs targets, which networks of this task do not have"),
    ],
)
def test_a_metric_of_the_user_that_does_not_fit_is_named(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        list(measure_snapshot([], small_snapshot(), {}, [own(tmp_path, name)]))
