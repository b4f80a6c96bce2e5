"""The streaming metric against the whole-set function: batches, merges, processes, devices, bad input."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nclens.metrics.regression import measure_keys, regression_collapse
from nclens.metrics.regression_streaming import RegressionCollapse

torchmetrics = pytest.importorskip("torchmetrics")  # after nclens, which makes it importable beside any torchvision

Problem = tuple[Tensor, Tensor, Tensor, Tensor]


def problem(samples: int = 60, dim: int = 7, n: int = 3, seed: int = 0, collapse: float = 1.0) -> Problem:
    """A regressor whose features leave the head's row space by about `collapse`; some features are zero."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight, bias, inside = normal(n, dim), normal(n), normal(samples, n)
    features = inside @ weight + collapse * normal(samples, dim)
    features[samples // 3] = 0
    targets = features @ weight.T + bias + 0.3 * normal(samples, n)
    return features, targets, weight, bias


def streamed(data: Problem, sizes: list[int], **kwargs: float | None) -> RegressionCollapse:
    features, targets, weight, bias = data
    metric = RegressionCollapse(features.shape[1], targets.shape[1], **kwargs)
    for x, y in zip(features.split(sizes), targets.split(sizes), strict=True):
        metric.update(x, y, weight, bias)
    return metric


def assert_equal(values: dict[str, Tensor], expected: dict[str, float]) -> None:
    assert list(values) == list(expected)
    for key, value in values.items():
        assert value.dtype == torch.float64
        assert value.shape == ()
        assert value.item() == pytest.approx(expected[key], rel=1e-9, abs=1e-13, nan_ok=True), key


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    dim=st.integers(1, 9),
    batch=st.integers(1, 60),
    exponent=st.floats(-4, 0),
)
def test_any_batches_give_what_the_function_gives(seed: int, n: int, dim: int, batch: int, exponent: float) -> None:
    data = problem(60, dim, n, seed, 10**exponent)
    sizes = [batch] * (60 // batch) + ([60 % batch] if 60 % batch else [])
    # Gamma's search is only as sharp as the square root of rounding, so that it is compared on its own.
    gamma = 1e-3 if n > 1 else None
    assert_equal(streamed(data, sizes, gamma=gamma).compute(), regression_collapse(*data, gamma=gamma))


def test_gamma_is_fitted_as_by_the_function() -> None:
    data = problem()
    values, expected = streamed(data, [25, 35]).compute(), regression_collapse(*data)
    assert values["nrc3_gamma"].item() == pytest.approx(expected["nrc3_gamma"], rel=1e-6)
    assert values["nrc3"].item() == pytest.approx(expected["nrc3"], rel=1e-9)


@pytest.mark.parametrize("collapse", [1e-3, 1e-5, 1e-6])
def test_collapse_is_seen_down_to_the_stated_error(collapse: float) -> None:
    data = problem(collapse=collapse)
    values, expected = streamed(data, [7] * 8 + [4], gamma=0.01).compute(), regression_collapse(*data, gamma=0.01)
    assert expected["nrc1"] < 100 * collapse**2
    assert values["nrc1"].item() == pytest.approx(expected["nrc1"], rel=0, abs=1e-14)
    assert values["nrc1_centred"].item() == pytest.approx(expected["nrc1_centred"], rel=0, abs=1e-14)
    assert values["nrc2"].item() == pytest.approx(expected["nrc2"], rel=1e-9)


def test_a_large_common_offset_does_not_cancel() -> None:
    features, targets, weight, bias = problem()
    offset = torch.full_like(bias, 1e5)
    data = (features, targets + offset, weight, bias + offset)
    values, expected = streamed(data, [20] * 3, gamma=0.1).compute(), regression_collapse(*data, gamma=0.1)
    for key in ("mse", "r2", "residual_variance", "residual_anisotropy", "nrc3"):
        assert values[key].item() == pytest.approx(expected[key], rel=1e-8), key


def test_equal_features_have_no_principal_components() -> None:
    _, targets, weight, bias = problem()
    data = (torch.full((60, 7), 0.1, dtype=torch.float64), targets, weight, bias)
    with pytest.warns(RuntimeWarning, match="nan: evr"):
        expected = regression_collapse(*data, gamma=0.1)
    with pytest.warns(RuntimeWarning, match="nan: evr"):
        assert_equal(streamed(data, [13] * 4 + [8], gamma=0.1).compute(), expected)


def test_zero_features_and_zero_weights() -> None:
    _, targets, weight, bias = problem()
    data = (torch.zeros(60, 7), targets, torch.zeros_like(weight), bias)
    with pytest.warns(RuntimeWarning, match="nrc3"):
        expected = regression_collapse(*data)
    with pytest.warns(RuntimeWarning, match="nrc3"):
        assert_equal(streamed(data, [30, 30]).compute(), expected)


def test_merge_state_is_the_union() -> None:
    data = problem()
    expected = regression_collapse(*data, gamma=0.1)
    parts = [streamed((data[0][i::3], data[1][i::3], *data[2:]), [9, 11], gamma=0.1) for i in range(3)]
    before = parts[0].compute()
    parts[0].merge_state(parts[1])
    parts[0].merge_state(parts[2].metric_state)
    assert before["mse"] != parts[0].compute()["mse"]  # nothing cached
    assert_equal(parts[0].compute(), expected)
    empty = RegressionCollapse(7, 3, gamma=0.1)
    empty.merge_state(parts[0])
    assert_equal(empty.compute(), expected)
    parts[0].merge_state(RegressionCollapse(7, 3))
    assert_equal(parts[0].compute(), expected)
    parts[1].reset()
    assert parts[1].samples == 0


def test_merged_metrics_share_no_memory() -> None:
    data = problem()
    source, target = streamed(data, [60], gamma=0.1), RegressionCollapse(7, 3, gamma=0.1)
    target.merge_state(source)
    source.scatter.zero_()
    assert_equal(target.compute(), regression_collapse(*data, gamma=0.1))


def test_processes_are_merged() -> None:
    data = problem()
    parts = [streamed((data[0][i::3], data[1][i::3], *data[2:]), [20], gamma=0.1) for i in range(3)]
    parts.insert(1, RegressionCollapse(7, 3, gamma=0.1))  # a process without samples
    gathered = iter([[getattr(part, name) for part in parts] for name in parts[0]._defaults])
    # torchmetrics asks for one state after the other and stacks what it gets.
    parts[0].distributed_available_fn = lambda: True
    parts[0].dist_sync_fn = lambda state, group=None: next(gathered)
    assert_equal(parts[0].compute(), regression_collapse(*data, gamma=0.1))
    assert parts[0].samples == 20  # its own again afterwards
    parts[0].update(data[0][1::3], data[1][1::3], *data[2:])
    assert parts[0].samples == 40


def test_forward_returns_the_batch_and_accumulates() -> None:
    data = problem()
    metric = RegressionCollapse(7, 3, gamma=0.1)
    for i in (0, 1):
        batch = (data[0][i::2], data[1][i::2], *data[2:])
        assert_equal(metric(*batch), regression_collapse(*batch, gamma=0.1))
    single = metric(data[0][:1], data[1][:1], *data[2:])
    assert tuple(single) == measure_keys(3, 7)
    assert all(math.isnan(value) for value in single.values())
    everything = (torch.cat([data[0], data[0][:1]]), torch.cat([data[1], data[1][:1]]), *data[2:])
    assert_equal(metric.compute(), regression_collapse(*everything, gamma=0.1))


def test_copies_pickles_conversions_and_collections() -> None:
    data = problem()
    metric = streamed(data, [60], gamma=0.1)
    expected = regression_collapse(*data, gamma=0.1)
    assert_equal(copy.deepcopy(metric).compute(), expected)
    assert_equal(pickle.loads(pickle.dumps(metric)).compute(), expected)
    for converted in (metric.half(), metric.to(torch.float16), metric.set_dtype(torch.float32)):
        assert converted.scatter.dtype == torch.float64
        assert_equal(converted.compute(), expected)
    collection = torchmetrics.MetricCollection({"collapse": RegressionCollapse(7, 3, gamma=0.1)})
    collection.update(*data)
    assert collection.compute()["nrc2"].item() == pytest.approx(expected["nrc2"])


def test_a_trained_head_does_not_change_what_was_kept() -> None:
    features, targets, weight, bias = problem()
    head = torch.nn.Linear(7, 3).double()
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    metric = RegressionCollapse(7, 3, gamma=0.1)
    metric.update(features, targets, head.weight, head.bias)
    with torch.no_grad():
        head.weight.mul_(2)
    assert_equal(metric.compute(), regression_collapse(features, targets, weight, bias, gamma=0.1))
    state = {name: value.clone() for name, value in metric.metric_state.items()}
    with pytest.raises(ValueError, match="weight: expected the same head"):
        metric.update(features, targets, head.weight, head.bias)
    with pytest.raises(ValueError, match="bias: expected the same head"):
        metric.update(features, targets, weight, None)
    with pytest.raises(ValueError, match="targets: expected finite"):
        metric.update(features, targets / 0, weight, bias)
    assert all(torch.equal(value, state[name]) for name, value in metric.metric_state.items())
    metric.reset()
    metric.update(features, targets, head.weight, head.bias)
    assert metric.compute()["weight_norm_frobenius"].item() == pytest.approx(2 * weight.norm().item())


def test_bad_arguments() -> None:
    for arguments, message in (
        ((0, 3), "dim: expected an integer of 1 or more, got 0"),
        ((7, 1.0), r"targets: expected an integer of 1 or more, got 1\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            RegressionCollapse(*arguments)
    with pytest.raises(ValueError, match="gamma: expected None for n = 1"):
        RegressionCollapse(7, 1, gamma=0.1)
    with pytest.raises(ValueError, match="dist_sync_on_step"):
        RegressionCollapse(7, 3, dist_sync_on_step=True)
    metric = RegressionCollapse(7, 3)
    with pytest.raises(ValueError, match=r"weight: .*as the metric"):
        metric.update(*problem(dim=6))
    for other, message in (
        (torchmetrics.MeanMetric(), "expected a RegressionCollapse or its state, got MeanMetric"),
        (RegressionCollapse(6, 3), "expected mean of shape"),
        ({}, "expected samples of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.merge_state(other)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_what_cannot_be_computed() -> None:
    features, targets, weight, bias = problem()
    metric = RegressionCollapse(7, 3)
    with pytest.raises(ValueError, match="at least one batch"):
        metric.compute()
    targets[:, 2] = 0.1
    metric.update(features[:40], targets[:40], weight, bias)
    metric.update(features[40:], targets[40:], weight, bias)
    with pytest.raises(ValueError, match="constant ones: 2"):
        metric.compute()
