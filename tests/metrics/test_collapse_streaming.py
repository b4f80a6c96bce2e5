"""The streaming metrics against the whole-set function, merged, gathered, moved and misused."""

import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics import collapse, collapse_streaming, pairs
from nclens.metrics.collapse import class_means, neural_collapse
from nclens.metrics.collapse_streaming import NearestClassMean, NeuralCollapse
from nclens.metrics.imbalance import TABLE_KEYS, class_imbalance
from tests.metrics.allocations import largest_tensor
from tests.process import Process

CLASSES, DIM = 4, 6


def draw(seed=0, spread=0.5, offset=0.0, samples=90, dtype=torch.float64):
    """Features, labels in no order and of unequal frequency, weight, bias."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (samples,), generator=generator) ** 2 // (CLASSES - 1)
    labels[: 2 * CLASSES] = torch.arange(CLASSES).repeat(2)
    labels = labels[torch.randperm(samples, generator=generator)]
    centres, weight = torch.randn(2, CLASSES, DIM, generator=generator, dtype=torch.float64)
    noise = torch.randn(samples, DIM, generator=generator, dtype=torch.float64)
    bias = torch.randn(CLASSES, generator=generator, dtype=torch.float64)
    return (offset + centres[labels] + spread * noise).to(dtype), labels, weight, bias


def feed(metric, features, labels, weight, sizes):
    for x, y in zip(features.split(sizes), labels.split(sizes), strict=True):
        metric.update(x, y, weight)
    return metric


def numbers(values):
    return {key: value.item() for key, value in values.items()}


def whole_set(features, labels, weight, bias=None):
    values = neural_collapse(features, labels, weight, bias)
    values.pop("nc4")
    return values


@pytest.mark.parametrize("size", [1, 7, 32, 90])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_equals_the_whole_set_function(size, dtype):
    features, labels, weight, bias = draw(dtype=dtype)
    metric = feed(NeuralCollapse(CLASSES, DIM), features, labels, weight, size)
    values = metric.compute()
    assert all(value.dtype == torch.float64 and value.dim() == 0 for value in values.values())
    assert numbers(values) == pytest.approx(whole_set(features, labels, weight, bias), rel=1e-9, abs=1e-13)
    assert list(values) == list(whole_set(features, labels, weight))
    torch.testing.assert_close(metric.class_means(), class_means(features, labels, CLASSES), rtol=1e-12, atol=0)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_equals_the_whole_set_function_at_strong_collapse(offset):
    features, labels, weight, _ = draw(spread=2e-5, offset=offset)
    expected = whole_set(features, labels, weight)
    assert 1e-10 < expected["nc1"] < 1e-8
    values = feed(NeuralCollapse(CLASSES, DIM), features, labels, weight, 7).compute()
    for key in ("nc1", "nc1_sum", "nc1_quotient", "cdnv"):
        assert values[key].item() == pytest.approx(expected[key], rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 90), max_size=6), spread=st.floats(1e-4, 2))
def test_any_partition_gives_the_same_values(seed, cuts, spread):
    features, labels, weight, _ = draw(seed, spread)
    cuts = sorted([0, *cuts, 90])
    sizes = [b - a for a, b in itertools.pairwise(cuts)]
    metrics = [
        feed(NeuralCollapse(CLASSES, DIM), x, y, weight, 11)
        for x, y in zip(features.split(sizes), labels.split(sizes), strict=True)
        if len(x) > 0
    ]
    while len(metrics) > 1:  # a tree of merges, not a chain
        metrics[0].merge_state(metrics.pop())
        metrics.append(metrics.pop(0))
    assert numbers(metrics[0].compute()) == pytest.approx(whole_set(features, labels, weight), rel=1e-8, abs=1e-12)


def test_an_empty_batch_adds_nothing():
    features, labels, weight, _ = draw()
    metric = NeuralCollapse(CLASSES, DIM)
    metric.update(features[:0], labels[:0], weight)
    feed(metric, features, labels, weight, 30)
    before = metric.metric_state
    metric.update(features[:0], labels[:0], weight)
    assert all(torch.equal(before[name], state) for name, state in metric.metric_state.items())


def test_the_last_weight_is_the_one_measured():
    features, labels, weight, _ = draw()
    metric = feed(NeuralCollapse(CLASSES, DIM), features, labels, weight + 1, 30)
    metric.update(features[:0], labels[:0], weight)
    assert numbers(metric.compute()) == pytest.approx(whole_set(features, labels, weight), abs=1e-12)


def test_compute_sees_what_came_after_the_last_compute():
    features, labels, weight, _ = draw()
    metric = feed(NeuralCollapse(CLASSES, DIM), features[:60], labels[:60], weight, 30)
    metric.compute()
    rest = feed(NeuralCollapse(CLASSES, DIM), features[60:], labels[60:], weight, 30)
    metric.merge_state(rest)
    assert numbers(metric.compute()) == pytest.approx(whole_set(features, labels, weight), abs=1e-12)


def test_total_collapse():
    metric = NeuralCollapse(CLASSES, DIM)
    for _ in range(3):
        metric.update(torch.full((8, DIM), 0.1), torch.arange(8) % CLASSES, torch.eye(CLASSES, DIM))
    with pytest.warns(RuntimeWarning, match="means coincide"):
        values = numbers(metric.compute())
    assert (values["nc1"], values["cdnv"], values["rank_means"]) == (math.inf, math.inf, 0)
    assert math.isnan(values["nc2"])
    nearest = NearestClassMean(metric.class_means(), torch.eye(CLASSES, DIM))
    nearest.update(torch.ones(3, DIM))
    assert math.isnan(nearest.compute())


def test_merging_takes_a_metric_or_its_state():
    features, labels, weight, _ = draw()
    expected = pytest.approx(whole_set(features, labels, weight), rel=1e-9, abs=1e-12)
    first = feed(NeuralCollapse(CLASSES, DIM), features[:50], labels[:50], weight, 9)
    second = feed(NeuralCollapse(CLASSES, DIM), features[50:], labels[50:], weight, 9)
    merged = first.clone()
    merged.merge_state(second)
    assert numbers(merged.compute()) == expected
    merged = NeuralCollapse(CLASSES, DIM)
    merged.merge_state(second.metric_state)
    merged.merge_state(first)
    merged.merge_state(NeuralCollapse(CLASSES, DIM))  # an empty one changes nothing, its weight neither
    assert numbers(merged.compute()) == expected


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (NearestClassMean(torch.ones(2, 1), torch.ones(2, 1)), "expected a NeuralCollapse, got NearestClassMean"),
        (NeuralCollapse(CLASSES, DIM + 1), r"expected means of shape \(4, 6\)"),
        ({"counts": torch.zeros(CLASSES)}, "expected means of shape"),
        ({}, "expected counts of shape"),
        (None, "expected a NeuralCollapse or its metric_state, got NoneType"),
    ],
)
def test_merging_something_else(other, message):
    with pytest.raises(ValueError, match=message):
        NeuralCollapse(CLASSES, DIM).merge_state(other)


def gathered(metrics):
    """An all-gather among metrics of one process: what every process would get for the first one's state."""

    def gather(tensor, group=None):
        names = [name for name in metrics[0].metric_state if getattr(metrics[0], name) is tensor]
        return [getattr(metric, names[0]) for metric in metrics]

    return gather


@pytest.mark.filterwarnings("ignore:The ``compute`` method")  # the process without samples
@pytest.mark.parametrize("cuts", [[90], [40, 50], [60, 30, 0], [0, 90]])
def test_states_gathered_from_several_processes(cuts):
    features, labels, weight, bias = draw()
    metrics = [NeuralCollapse(CLASSES, DIM) for _ in cuts]
    for metric, x, y in zip(metrics, features.split(cuts), labels.split(cuts), strict=True):
        if len(x) > 0:
            feed(metric, x, y, weight, 13)
    metrics[0] = metrics[0].clone()
    metrics[0].distributed_available_fn = lambda: True
    metrics[0].dist_sync_fn = gathered(metrics)
    local = metrics[0].counts.clone()
    means = metrics[0].class_means()
    torch.testing.assert_close(means, class_means(features, labels, CLASSES), rtol=1e-12, atol=0)
    assert numbers(metrics[0].compute()) == pytest.approx(whole_set(features, labels, weight), rel=1e-9, abs=1e-12)
    assert torch.equal(metrics[0].counts, local)
    metrics[0].sync(dist_sync_fn=metrics[0].dist_sync_fn)
    torch.testing.assert_close(metrics[0].class_means(), means)
    metrics[0].unsync()
    metrics[0].update(features, labels, weight)  # accumulation goes on with the local state
    assert metrics[0].counts.sum() == local.sum() + len(features)

    halves = [NearestClassMean(means, weight, bias) for _ in cuts]
    for half, x in zip(halves, features.split(cuts), strict=True):
        half.update(x)
    halves[0].distributed_available_fn = lambda: True
    halves[0].dist_sync_fn = gathered(halves)
    assert halves[0].compute().item() == neural_collapse(features, labels, weight, bias)["nc4"]


PROCESS = """
import sys
import torch
from nclens.metrics.collapse_streaming import NearestClassMean, NeuralCollapse
from nclens.metrics.imbalance import TABLE_KEYS, class_imbalance
from tests.metrics.allocations import largest_tensor
from tests.process import Process
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
features, labels, weight, bias = torch.load(f"{folder}/data.pt")
part = slice(0, 70) if rank == 0 else slice(70, None)
metric = NeuralCollapse(4, 6)
metric.update(features[part], labels[part], weight)
values = {key: value.item() for key, value in metric.compute().items()}
nearest = NearestClassMean(metric.class_means(), weight, bias)
nearest.update(features[part])
torch.save(values | {"nc4": nearest.compute().item()}, f"{folder}/values{rank}.pt")
"""


@pytest.mark.lengthy
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_real_processes(tmp_path):
    data = draw()
    torch.save(data, tmp_path / "data.pt")
    processes = [Process(["-c", PROCESS, rank, tmp_path]) for rank in (0, 1)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    expected = neural_collapse(*data)
    for rank in (0, 1):
        assert torch.load(tmp_path / f"values{rank}.pt") == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_forward_accumulates_and_returns_the_batch():
    features, labels, weight, _ = draw()
    metric = NeuralCollapse(CLASSES, DIM)
    batch = metric(features[:60], labels[:60], weight)
    assert numbers(batch) == pytest.approx(whole_set(features[:60], labels[:60], weight), rel=1e-9, abs=1e-12)
    few = metric(features[60:63], labels[60:63], weight)
    assert list(few) == list(batch)
    assert all(math.isnan(value) for value in few.values())
    empty = metric(features[:0], labels[:0], weight)
    assert all(math.isnan(value) for value in empty.values())
    metric(features[63:], labels[63:], weight)
    assert numbers(metric.compute()) == pytest.approx(whole_set(features, labels, weight), rel=1e-9, abs=1e-12)


def test_reset_starts_afresh():
    features, labels, weight, _ = draw()
    metric = feed(NeuralCollapse(CLASSES, DIM), features + 5, labels, weight + 1, 20)
    metric.reset()
    assert all(not state.any() for state in metric.metric_state.values())
    feed(metric, features, labels, weight, 20)
    assert numbers(metric.compute()) == pytest.approx(whole_set(features, labels, weight), rel=1e-9, abs=1e-12)


def test_pickle_and_state_dict_keep_the_state():
    features, labels, weight, bias = draw()
    metric = feed(NeuralCollapse(CLASSES, DIM), features[:50], labels[:50], weight, 20)
    pickled = pickle.loads(pickle.dumps(metric))
    metric.persistent(True)
    loaded = NeuralCollapse(CLASSES, DIM)
    loaded.load_state_dict(metric.state_dict(), strict=False)
    for copy in (pickled, loaded):
        feed(copy, features[50:], labels[50:], weight, 20)
        assert numbers(copy.compute()) == pytest.approx(whole_set(features, labels, weight), rel=1e-9, abs=1e-12)
    nearest = NearestClassMean(class_means(features, labels, CLASSES), weight, bias)
    nearest.update(features[:50])
    nearest = pickle.loads(pickle.dumps(nearest))
    nearest.update(features[50:])
    assert nearest.compute().item() == neural_collapse(features, labels, weight, bias)["nc4"]


@pytest.mark.parametrize(
    "convert",
    [
        lambda metric: metric.half(),
        lambda metric: metric.to(torch.float16),
        lambda metric: metric.to("cpu", torch.bfloat16),
        lambda metric: metric.set_dtype(torch.float16),
        lambda metric: torch.nn.ModuleList([metric]).half()[0],
        lambda metric: torch.nn.ModuleList([metric]).to(torch.float32)[0],
    ],
)
def test_no_conversion_lowers_the_precision(convert):
    features, labels, weight, bias = draw()
    metric = convert(feed(NeuralCollapse(CLASSES, DIM), features[:50], labels[:50], weight, 20))
    assert all(state.dtype == torch.float64 for state in metric.metric_state.values())
    feed(metric, features[50:], labels[50:], weight, 20)
    assert numbers(metric.compute()) == pytest.approx(whole_set(features, labels, weight), rel=1e-12, abs=1e-12)
    metric.reset()
    assert all(state.dtype == torch.float64 for state in metric.metric_state.values())
    nearest = convert(NearestClassMean(class_means(features, labels, CLASSES), weight, bias))
    assert nearest.scorer.dtype == torch.float64
    nearest.update(features)
    assert nearest.compute().item() == neural_collapse(features, labels, weight, bias)["nc4"]


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_moves_with_its_device(device):
    features, labels, weight, bias = draw()
    metric = feed(NeuralCollapse(CLASSES, DIM), features[:50], labels[:50], weight, 20).to(device)
    nearest = NearestClassMean(class_means(features, labels, CLASSES), weight, bias).to(device)
    assert {state.device.type for state in metric.metric_state.values()} == {device}
    assert {t.device.type for t in (nearest.means, nearest.scorer, nearest.offset, nearest.total)} == {device}
    with pytest.raises(ValueError, match=f"features: expected on the device {device}"):
        metric.update(features, labels, weight)
    with pytest.raises(ValueError, match=f"features: expected on the device {device}"):
        nearest.update(features)
    if device == "cuda":
        feed(metric, features[50:].cuda(), labels[50:].cuda(), weight.cuda(), 20)
        assert numbers(metric.compute()) == pytest.approx(whole_set(features, labels, weight), rel=1e-9, abs=1e-12)


def test_inference_mode_and_gradients_mix():
    features, labels, weight, _ = draw()
    metric = NeuralCollapse(CLASSES, DIM)
    with torch.inference_mode():
        metric.reset()
        metric.update(features[:50], labels[:50], weight)
    metric.update(features[50:].requires_grad_(), labels[50:], torch.nn.Parameter(weight))
    values = metric(features[:0], labels[:0], torch.nn.Parameter(weight)) | metric.compute()
    assert not any(value.requires_grad for value in values.values())
    assert numbers(values) == pytest.approx(whole_set(features, labels, weight), rel=1e-9, abs=1e-12)


@pytest.mark.lengthy
def test_update_from_compiled_code():
    features, labels, weight, _ = draw()
    metric = NeuralCollapse(CLASSES, DIM)

    @torch.compile(backend="eager")
    def step(x, y):
        metric.update(2 * x, y, weight)
        return x + 1

    assert torch.equal(step(features[:45], labels[:45]), features[:45] + 1)
    step(features[45:], labels[45:])
    assert numbers(metric.compute()) == pytest.approx(whole_set(2 * features, labels, weight), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [1, 13, 90])
def test_nearest_class_mean_is_nc4(size):
    features, labels, weight, bias = draw(spread=1.0)
    train_means = class_means(*draw(seed=8)[:2], CLASSES)
    for means in (None, train_means):
        expected = neural_collapse(features, labels, weight, bias, reference_means=means)["nc4"]
        metric = NearestClassMean(class_means(features, labels, CLASSES) if means is None else means, weight, bias)
        for x in features.split(size):
            metric.update(x)
        assert 0 < expected < 1
        assert metric.compute().item() == expected


def test_nearest_class_mean_merges_resets_and_forwards():
    features, labels, weight, _ = draw(spread=1.0)
    means = class_means(features, labels, CLASSES)
    first, second = NearestClassMean(means, weight), NearestClassMean(means, weight)
    batch = first(features[:30])
    assert batch.item() == pytest.approx(first.compute().item())
    second.update(features[30:])
    first.merge_state(second)
    assert first.compute().item() == neural_collapse(features, labels, weight, None)["nc4"]
    first.reset()
    first.update(features[:0])
    assert math.isnan(first.compute())


@pytest.mark.parametrize("other", [torch.eye(2).flip(0), torch.ones(3, 2)])
def test_nearest_class_mean_merges_its_own_kind_only(other):
    metric = NearestClassMean(torch.eye(2), torch.eye(2))
    with pytest.raises(ValueError, match="other class means or another classifier"):
        metric.merge_state(NearestClassMean(other, torch.ones_like(other).cumsum(1)))
    with pytest.raises(ValueError, match="expected a NearestClassMean, got dict"):
        metric.merge_state({})


FEATURES, LABELS, WEIGHT, BIAS = draw()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": FEATURES[:, 1:]}, r"features: expected a floating-point tensor of shape \(any, 6\)"),
        ({"features": FEATURES.long()}, "features: expected a floating-point tensor"),
        ({"features": FEATURES / 0}, "features: every value must be finite"),
        ({"labels": LABELS[1:]}, "labels: expected shape"),
        ({"labels": LABELS.float()}, "labels: expected an integer tensor"),
        ({"labels": LABELS + 1}, r"labels must lie in \[0, 4\), got 4"),
        ({"labels": LABELS - 1}, r"labels must lie in \[0, 4\), got -1"),
        ({"weight": WEIGHT.T}, r"weight: expected a floating-point tensor of shape \(4, 6\)"),
        ({"weight": WEIGHT * math.nan}, "weight: every value must be finite"),
    ],
)
def test_a_bad_batch_leaves_the_state_as_it_was(changed, message):
    metric = feed(NeuralCollapse(CLASSES, DIM), FEATURES, LABELS, WEIGHT, 30)
    before = {name: state.clone() for name, state in metric.metric_state.items()}
    for call in (metric.update, metric.forward):
        with pytest.raises(ValueError, match=message):
            call(**({"features": FEATURES, "labels": LABELS, "weight": WEIGHT} | changed))
    assert all(torch.equal(before[name], state) for name, state in metric.metric_state.items())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_classes_with_too_few_samples():
    metric = NeuralCollapse(CLASSES, DIM)
    with pytest.raises(ValueError, match="class 0 has 0 sample"):
        metric.compute()
    with pytest.raises(ValueError, match="class 0 has 0 sample"):
        metric.class_means()
    metric.update(FEATURES[:5], torch.tensor([0, 0, 1, 2, 3]), WEIGHT)
    torch.testing.assert_close(metric.class_means()[3], FEATURES[4])
    with pytest.warns(RuntimeWarning, match="class 1 has a single sample and no scatter"):
        values = numbers(metric.compute())
    with pytest.warns(RuntimeWarning, match="class 1 has a single sample and no scatter"):
        expected = whole_set(FEATURES[:5], torch.tensor([0, 0, 1, 2, 3]), WEIGHT)
    assert values == pytest.approx(expected, nan_ok=True)
    assert [key for key, value in values.items() if math.isnan(value)] == ["nc1", "nc1_sum", "nc1_quotient", "cdnv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1, "dim": 3}, "classes: expected an integer of 2 or more, got 1"),
        ({"classes": 2, "dim": 0}, "dim: expected an integer of 1 or more, got 0"),
        ({"classes": 2, "dim": 3, "dist_sync_on_step": True}, "dist_sync_on_step: not supported"),
    ],
)
def test_bad_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeuralCollapse(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WEIGHT[0], WEIGHT), "means: expected a floating-point tensor"),
        ((WEIGHT / 0, WEIGHT), "means: every value must be finite"),
        ((WEIGHT, WEIGHT[:, 1:]), r"weight: expected a floating-point tensor of shape \(4, 6\)"),
        ((WEIGHT, WEIGHT, BIAS[1:]), r"bias: expected a floating-point tensor of shape \(4\)"),
    ],
)
def test_bad_construction_of_the_second_pass(arguments, message):
    with pytest.raises(ValueError, match=message):
        NearestClassMean(*arguments)


def test_bad_batch_of_the_second_pass():
    with pytest.raises(ValueError, match="features: expected a floating-point tensor"):
        NearestClassMean(WEIGHT, WEIGHT).update(FEATURES[:, 1:])


# Classes and samples that are left out

OPTIONS = {"ignore_index": -100, "min_samples": 4}


def lacking(seed=0, spread=0.5):
    """Some samples are ignored, with features that are no numbers; one class has three samples, one has none."""
    features, labels, weight, bias = draw(seed, spread, samples=120)
    labels = torch.where(labels == 3, 0, labels)
    labels[labels == 2] = torch.where((labels == 2).cumsum(0)[labels == 2] <= 3, 2, 1)
    labels[1::7] = torch.where(labels[1::7] == 2, 2, -100)
    weight, bias = torch.cat([weight, weight[:1] + 1]), torch.cat([bias, bias[:1]])
    labels = torch.where((labels >= 0) & (torch.arange(120) % 9 == 0), 4, labels)
    return features.masked_fill((labels < 0)[:, None], math.nan), labels, weight, bias


def left_out(features, labels, weight, bias=None):
    values = neural_collapse(features, labels, weight, bias, **OPTIONS)
    assert 2 <= values["classes_measured"] < 5
    return values


@pytest.mark.parametrize("size", [1, 3, 16, 120])
@pytest.mark.parametrize("spread", [0.5, 2e-5])
def test_left_out_classes_as_in_the_whole_set_function(size, spread):
    features, labels, weight, bias = lacking(spread=spread)
    expected = left_out(features, labels, weight, bias)
    metric = feed(NeuralCollapse(5, DIM, **OPTIONS), features, labels, weight, size)
    values = numbers(metric.compute())
    nc4 = expected.pop("nc4")
    assert list(values) == list(expected)
    assert values == pytest.approx(expected, rel=1e-9, abs=1e-13)
    means = metric.class_means()
    torch.testing.assert_close(means, class_means(features, labels, 5, **OPTIONS), rtol=1e-12, atol=0, equal_nan=True)
    nearest = NearestClassMean(means, weight, bias, ignore_index=-100)
    for x, y in zip(features.split(size), labels.split(size), strict=True):
        nearest.update(x, y)
    assert nearest.compute().item() == nc4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 120), max_size=6))
def test_left_out_classes_in_any_partition(seed, cuts):
    features, labels, weight, _ = lacking(seed)
    cuts = sorted([0, *cuts, 120])
    sizes = [b - a for a, b in itertools.pairwise(cuts)]
    metrics = [
        feed(NeuralCollapse(5, DIM, **OPTIONS), x, y, weight, 11) if len(x) else NeuralCollapse(5, DIM, **OPTIONS)
        for x, y in zip(features.split(sizes), labels.split(sizes), strict=True)
    ]
    expected = left_out(features, labels, weight)
    expected.pop("nc4")
    first = metrics[0].clone()
    for one in metrics[1:]:
        first.merge_state(one)
    assert numbers(first.compute()) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    metrics[0].distributed_available_fn = lambda: True
    metrics[0].dist_sync_fn = gathered(metrics)
    metrics[0]._update_count += 1
    assert numbers(metrics[0].compute()) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    means = class_means(features, labels, 5, **OPTIONS)
    torch.testing.assert_close(metrics[0].class_means(), means, rtol=1e-10, atol=0, equal_nan=True)


def test_forward_measures_the_classes_that_its_batch_has():
    features, _, weight, _ = draw()
    metric = NeuralCollapse(CLASSES, DIM, min_samples=3)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    values = numbers(metric(features[:8], batch, weight))
    expected = neural_collapse(features[:8], batch, weight, None, min_samples=3)
    expected.pop("nc4")
    assert values == pytest.approx(expected, rel=1e-9, abs=1e-12)
    few = metric(features[8:12], batch[:4], weight)
    assert few.pop("classes_measured") == 1
    assert all(math.isnan(value) for value in few.values())
    assert list(metric.compute()) == list(values)
    metric.reset()
    assert not metric.waiting_counts.any()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_too_few_classes_to_measure():
    metric = NeuralCollapse(CLASSES, DIM, min_samples=3)
    with pytest.raises(ValueError, match="labels: 0 of 4 classes have 3 sample"):
        metric.compute()
    metric.update(FEATURES[:5], torch.tensor([0, 0, 0, 1, 1]), WEIGHT)
    for value in (metric.compute, metric.class_means):
        with pytest.raises(ValueError, match="labels: 1 of 4 classes has 3 sample"):
            value()
    with pytest.raises(ValueError, match="min_samples: expected an integer of 2 or more, got 1"):
        NeuralCollapse(CLASSES, DIM, min_samples=1)
    with pytest.raises(ValueError, match=r"merge_state: expected waiting of shape \(4, 2, 6\)"):
        metric.merge_state(NeuralCollapse(CLASSES, DIM, min_samples=4))
    with pytest.raises(ValueError, match="labels: needed, as ignore_index is given"):
        NearestClassMean(WEIGHT, WEIGHT, ignore_index=-1).update(FEATURES)
    with pytest.raises(ValueError, match="means: 1 of 4 rows have numbers, at least two are needed"):
        NearestClassMean(WEIGHT.masked_fill(torch.arange(4)[:, None] > 0, math.nan), WEIGHT)


def test_nearest_class_mean_without_labels_counts_every_sample():
    features, labels, weight, bias = draw(spread=1.0)
    means = class_means(features, labels, CLASSES)
    means[2] = math.nan
    metric = NearestClassMean(means, weight, bias)
    metric.update(features)
    near = torch.tensor([0, 1, 3])
    nearest = near[torch.cdist(features, means[near]).argmin(1)]
    assert metric.compute() == (nearest != (features @ weight.T + bias).argmax(1)).double().mean()
    other = NearestClassMean(means, weight, bias)
    other.update(features, labels)
    kept = labels != 2
    assert other.compute() == (nearest != (features @ weight.T + bias).argmax(1))[kept].double().mean()
    with pytest.raises(ValueError, match="other class means or another classifier"):
        metric.merge_state(NearestClassMean(means.roll(1, 0), weight, bias))


def test_some_metrics_alone():
    features, labels, weight, _ = draw()
    counts = labels.bincount()
    every = feed(NeuralCollapse(CLASSES, DIM, class_counts=counts), features, labels, weight, 30).compute()
    for keys in (("nc2", "cdnv"), ("nc1", "nc1_balanced"), ("seli_means",)):
        metric = NeuralCollapse(CLASSES, DIM, class_counts=counts, metrics=keys)
        assert feed(metric, features, labels, weight, 30).compute() == {
            key: every[key] for key in sorted(keys, key=list(every).index)
        }
        assert set(metric(features[:3], labels[:3], weight)) == set(keys)
    with pytest.raises(ValueError, match="metrics: no metric is named 'nc4'"):
        NeuralCollapse(CLASSES, DIM, metrics=("nc4",))


# Many classes


@pytest.fixture
def many(monkeypatch):
    """As if a handful of classes were many: those that a batch lacks are not touched."""
    for module in (collapse, collapse_streaming, pairs):
        monkeypatch.setattr(module, "ONE_TILE", 2)


@pytest.mark.parametrize("size", [1, 7, 120])
def test_rows_of_many_classes_are_added_to_as_those_of_few(many, size):
    features, labels, weight, bias = draw()
    counts = labels.bincount()
    metric = feed(NeuralCollapse(CLASSES, DIM, class_counts=counts), features, labels, weight, size)
    values = numbers(metric.compute())
    assert {key: values[key] for key in TABLE_KEYS} == pytest.approx(
        in_loops(features, labels, weight, counts), rel=1e-9
    )
    expected = whole_set(features, labels, weight, bias)
    assert {key: values[key] for key in expected} == pytest.approx(expected, rel=1e-9, abs=1e-13)
    features, labels, weight, bias = lacking()
    metric = feed(NeuralCollapse(5, DIM, **OPTIONS), features, labels, weight, size)
    expected = left_out(features, labels, weight, bias)
    del expected["nc4"]
    assert numbers(metric.compute()) == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_many_classes_in_and_out_of_inference_mode(many):
    """The states are written to in place; the weight is a copy, whatever becomes of the one that was given."""
    features, labels, weight, _ = draw()
    expected = whole_set(features, labels, weight)
    metric, given = NeuralCollapse(CLASSES, DIM), weight.clone()
    with torch.inference_mode():
        metric.update(features[:30], labels[:30], given)
    metric.update(features[30:60], labels[30:60], given)
    metric.update(features[:0], labels[:0], given)
    with torch.inference_mode():
        metric.update(features[60:], labels[60:], given)
    given.zero_()
    assert numbers(metric.compute()) == pytest.approx(expected, rel=1e-9, abs=1e-13)
    with pytest.raises(ValueError, match="weight: every value must be finite"):
        metric.update(features, labels, weight * math.inf)
    metric._computed = None
    assert numbers(metric.compute()) == pytest.approx(expected, rel=1e-9, abs=1e-13)
    metric.reset()
    assert not metric.counts.any()
    assert not NeuralCollapse(CLASSES, DIM).means.any()


@pytest.mark.parametrize("options", [{}, {"min_samples": 2}])
def test_a_batch_costs_no_more_for_more_classes(options):
    """No tensor of K rows is made."""
    classes, dim = 3000, 32
    metric = NeuralCollapse(classes, dim, **options)
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(20, dim, generator=generator), torch.randn(classes, dim, generator=generator)
    metric.update(x, torch.arange(20), weight)
    with largest_tensor() as found:
        metric.update(x, torch.arange(20) * 7, weight)
    assert found.bytes <= 8 * max(40, dim) * dim


# Classes that weigh alike


def in_loops(features, labels, weight, counts):
    """nc1_balanced by its formula, sample by sample; the others by the batch function."""
    classes = len(weight)
    means = torch.stack([features[labels == k].double().mean(0) for k in range(classes)])
    inverse = torch.linalg.pinv((means - means.mean(0)).T @ (means - means.mean(0)) / classes, rtol=1e-10)
    nc1 = sum(
        ((h.double() - means[y]) @ inverse @ (h.double() - means[y])).item() / classes / (labels == y).sum().item()
        for h, y in zip(features, labels, strict=True)
    )
    found = class_imbalance(features, labels, features.double() @ weight.double().T, weight, counts)
    assert found["nc1_balanced"] == pytest.approx(nc1 / classes, rel=1e-6)
    return {key: found[key] for key in TABLE_KEYS}


@pytest.mark.parametrize("size", [1, 7, 90])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_with_class_counts_as_the_function_of_unequal_classes(size, dtype):
    features, labels, weight, _ = draw(dtype=dtype)
    counts = labels.bincount()
    assert len(set(counts.tolist())) > 2
    metric = feed(NeuralCollapse(CLASSES, DIM, class_counts=counts), features, labels, weight, size)
    values = numbers(metric.compute())
    plain = feed(NeuralCollapse(CLASSES, DIM), features, labels, weight, size).compute()
    assert list(values) == [*plain, *TABLE_KEYS]
    assert {key: values[key] for key in plain} == numbers(plain)
    expected = in_loops(features, labels, weight, counts)
    assert expected["nc1_balanced"] != pytest.approx(values["nc1"], rel=1e-2)
    assert {key: values[key] for key in TABLE_KEYS} == pytest.approx(expected, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 89), spread=st.floats(1e-4, 2), offset=st.sampled_from([0, 100]))
def test_class_counts_in_two_metrics_or_processes(seed, cut, spread, offset):
    features, labels, weight, _ = draw(seed, spread, offset)
    counts = labels.bincount()
    expected = pytest.approx(in_loops(features, labels, weight, counts), rel=1e-7)
    metrics = [
        feed(NeuralCollapse(CLASSES, DIM, class_counts=counts.numpy()), x, y, weight, 11)
        for x, y in zip(features.split([cut, 90 - cut]), labels.split([cut, 90 - cut]), strict=True)
    ]
    merged = metrics[0].clone()
    merged.merge_state(metrics[1].metric_state)
    metrics[0].distributed_available_fn = lambda: True
    metrics[0].dist_sync_fn = gathered(metrics)
    for metric in (merged, metrics[0]):
        values = numbers(metric.compute())
        assert {key: values[key] for key in TABLE_KEYS} == expected


def test_class_counts_with_classes_left_out():
    features, labels, weight, _ = lacking()
    counts = torch.bincount(labels[labels >= 0], minlength=5).clamp(min=1)
    metric = feed(
        NeuralCollapse(5, DIM, class_counts=counts, ignore_index=-100, min_samples=2), features, labels, weight, 7
    )
    kept = labels >= 0
    found = class_imbalance(features[kept], labels[kept], features[kept] @ weight.T, weight, counts)
    assert found["classes_measured"] == 4
    values = numbers(metric.compute())
    assert {key: values[key] for key in TABLE_KEYS} == pytest.approx({key: found[key] for key in TABLE_KEYS}, rel=1e-9)


def test_what_class_counts_allow():
    features, labels, weight, _ = draw()
    counts = labels.bincount()
    twice = NeuralCollapse(CLASSES, DIM, class_counts=counts)
    for _ in range(2):
        feed(twice, features, labels, weight, 40)
    assert twice.compute()["nc1_balanced"].item() == pytest.approx(
        in_loops(features, labels, weight, counts)["nc1_balanced"], rel=1e-9
    )
    # A balanced test split: classes and samples weigh alike, whatever the training counts.
    each = torch.cat([(labels == k).nonzero()[: int(counts.min()), 0] for k in range(CLASSES)])
    balanced = numbers(
        feed(NeuralCollapse(CLASSES, DIM, class_counts=counts), features[each], labels[each], weight, 5).compute()
    )
    assert balanced["nc1_balanced"] == pytest.approx(balanced["nc1"], rel=1e-12)
    assert {key: balanced[key] for key in TABLE_KEYS} == pytest.approx(
        in_loops(features[each], labels[each], weight, counts), rel=1e-9
    )
    part = feed(NeuralCollapse(CLASSES, DIM, class_counts=counts), features[:60], labels[:60], weight, 30)
    with pytest.warns(RuntimeWarning, match="nc1_balanced is nan: the samples of the classes are neither in propor"):
        values = numbers(part.compute())
    expected = in_loops(features[:60], labels[:60], weight, counts) | {"nc1_balanced": math.nan}
    assert {key: values[key] for key in TABLE_KEYS} == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_class_counts_of_a_batch_alone_and_after_a_reset():
    features, labels, weight, _ = draw()
    counts = labels.bincount()
    metric = NeuralCollapse(CLASSES, DIM, class_counts=counts)
    batch = numbers(metric(features[:60], labels[:60], weight))
    assert {key: batch[key] for key in TABLE_KEYS} == pytest.approx(
        in_loops(features[:60], labels[:60], weight, counts), rel=1e-9
    )
    few = metric(features[60:63], labels[60:63], weight)
    assert list(few) == list(batch)
    assert all(math.isnan(value) for value in few.values())
    metric.reset()
    assert not metric.weighted.any()
    assert torch.equal(metric.class_counts, counts)
    metric = pickle.loads(pickle.dumps(metric.half()))
    values = numbers(feed(metric, features, labels, weight, 20).compute())
    assert {key: values[key] for key in TABLE_KEYS} == pytest.approx(
        in_loops(features, labels, weight, counts), rel=1e-9
    )


@pytest.mark.filterwarnings("ignore:class 1 has a single sample", "ignore:all class means coincide")
def test_class_counts_where_nothing_can_be_measured():
    metric = NeuralCollapse(CLASSES, DIM, class_counts=torch.tensor([2, 1, 1, 1]))
    metric.update(FEATURES[:5], torch.tensor([0, 0, 1, 2, 3]), WEIGHT)
    values = numbers(metric.compute())
    assert [key for key in TABLE_KEYS if math.isnan(values[key])] == ["nc1_balanced", "nc1_sample_mean"]
    metric = NeuralCollapse(CLASSES, DIM, class_counts=torch.tensor([3, 2, 2, 2]))
    metric.update(torch.full((9, DIM), 0.1), torch.arange(9) % CLASSES, WEIGHT)
    values = numbers(metric.compute())
    assert (values["nc1_balanced"], values["nc1_sample_mean"]) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 4, 0, 1], r"class_counts: expected 4 integers of at least 1, got \[3, 4, 0, 1\]"),
        ([3, 4, 1], r"class_counts: expected 4 integers of at least 1, got \[3, 4, 1\]"),
        ([3.0, 4.0, 1.0, 1.0], "class_counts: expected an integer tensor"),
    ],
)
def test_class_counts_that_do_not_fit(counts, message):
    with pytest.raises(ValueError, match=message):
        NeuralCollapse(CLASSES, DIM, class_counts=torch.tensor(counts))


def test_class_counts_must_be_the_same():
    first, second = (NeuralCollapse(CLASSES, DIM, class_counts=torch.tensor([1, 2, 3, last])) for last in (4, 5))
    for metric in (first, second):
        metric.update(FEATURES, LABELS, WEIGHT)
    with pytest.raises(ValueError, match="merge_state: the other metric has other class_counts"):
        first.merge_state(second)
    with pytest.raises(ValueError, match=r"merge_state: expected class_counts of shape \(4,\)"):
        first.merge_state(feed(NeuralCollapse(CLASSES, DIM), FEATURES, LABELS, WEIGHT, 40))
    first.distributed_available_fn = lambda: True
    first.dist_sync_fn = gathered([first, second])
    with pytest.raises(ValueError, match="class_counts: not the same in all processes"):
        first.compute()
