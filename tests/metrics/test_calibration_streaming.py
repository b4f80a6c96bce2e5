"""Streaming calibration against the whole-set functions: in any batches, merged, moved, over processes, misused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics.calibration import KEYS, binary_calibration_metrics, calibration_metrics
from nclens.metrics.calibration_streaming import BinaryCalibrationMetrics, CalibrationMetrics
from tests.process import Process


def draw(seed=0, samples=70, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (samples,), generator=generator)
    logits[torch.arange(samples), labels] += 1
    logits[::9, 1] = -math.inf
    labels[::9] = 0
    return logits, labels


def numbers(values):
    return {key: value.item() for key, value in values.items()}


def close(expected):
    return pytest.approx(expected, rel=1e-10, abs=1e-13, nan_ok=True)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 70), ignore=st.sampled_from([None, 2, -100]))
def test_any_batches_in_two_metrics_give_the_values_of_the_whole(seed, size, ignore):
    logits, labels = draw(seed)
    if ignore == -100:
        labels[::4] = -100
    metrics = [CalibrationMetrics(4, ignore_index=ignore) for _ in range(2)]
    pairs = [BinaryCalibrationMetrics() for _ in range(2)]
    keep = labels != (99 if ignore is None else ignore)
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    right = predicted == labels
    for number, part in enumerate(torch.arange(len(labels)).split(size)):
        metrics[number % 2].update(logits[part], labels[part])
        pairs[number % 2].update(confidence[part], right[part])
    metrics[0].merge_state(metrics[1])
    pairs[0].merge_state(pairs[1].metric_state)
    found = metrics[0].compute()
    assert tuple(found) == KEYS
    assert all(value.dtype == torch.float64 and value.dim() == 0 for value in found.values())
    assert numbers(found) == close(calibration_metrics(logits[keep], labels[keep]))
    assert numbers(pairs[0].compute()) == close(binary_calibration_metrics(confidence, right))


def test_forward_reset_and_precision():
    logits, labels = draw()
    metric = CalibrationMetrics(4).half().to(torch.float16)
    batch = metric(logits[:30], labels[:30])
    assert numbers(batch) == close(calibration_metrics(logits[:30], labels[:30]))
    metric(logits[30:], labels[30:])
    assert numbers(metric.compute()) == close(calibration_metrics(logits, labels))
    metric.reset()
    metric.update(logits[:30], labels[:30])
    metric.update(logits[:0], labels[:0])
    assert numbers(metric.compute()) == close(calibration_metrics(logits[:30], labels[:30]))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_gathered_states_are_those_of_all_processes(monkeypatch):
    logits, labels = draw()
    parts = [CalibrationMetrics(4, distributed_available_fn=lambda: True) for _ in range(2)]
    parts[0].update(logits, labels)  # the other process has no sample
    for metric in parts:
        other = {id(metric): 0}
        order = [name for name, default in metric._defaults.items() for _ in [default]]

        def gather(value, group=None, *, order=order, other=other, metric=metric):
            name = order[other[id(metric)] % len(order)]
            other[id(metric)] += 1
            states = [getattr(one, name) for one in parts]
            empty = torch.zeros(0, dtype=torch.float64)
            return [torch.cat([empty, *state]) if isinstance(state, list) else state for state in states]

        metric.dist_sync_fn = gather
        assert numbers(metric.compute()) == close(calibration_metrics(logits, labels))


PROCESS = """
import sys
import torch
from nclens.metrics.calibration_streaming import CalibrationMetrics
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
logits, labels = torch.load(f"{folder}/data.pt")
some, none = CalibrationMetrics(4), CalibrationMetrics(4)
part = slice(0, 50) if rank == 0 else slice(50, None)
some.update(logits[part], labels[part])
if rank == 0:
    none.update(logits, labels)  # the other process has no sample
values = [{key: value.item() for key, value in metric.compute().items()} for metric in (some, none)]
torch.save(values, f"{folder}/values{rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_real_processes(tmp_path):
    data = draw()
    torch.save(data, tmp_path / "data.pt")
    processes = [Process(["-c", PROCESS, rank, tmp_path]) for rank in (0, 1)]
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    for rank in (0, 1):
        for values in torch.load(tmp_path / f"values{rank}.pt"):
            assert values == close(calibration_metrics(*data))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_misuse():
    metric = CalibrationMetrics(4)
    with pytest.raises(ValueError, match="compute: there is no sample yet"):
        metric.compute()
    logits, labels = draw()
    with pytest.raises(ValueError, match=r"logits: expected shape \(N, 4\), got \(70, 3\)"):
        metric.update(logits[:, 1:], labels)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\), got 4"):
        metric.update(logits, labels + 4)
    assert metric.confidence == []
    with pytest.raises(ValueError, match="merge_state: expected a CalibrationMetrics, got BinaryCalibrationMetrics"):
        metric.merge_state(BinaryCalibrationMetrics())
    with pytest.raises(ValueError, match=r"merge_state: expected classwise of shape \(4, 3, 15\)"):
        metric.merge_state(CalibrationMetrics(5))
    with pytest.raises(ValueError, match="merge_state: expected a CalibrationMetrics or its metric_state, got list"):
        metric.merge_state([])
    with pytest.raises(ValueError, match="dist_sync_on_step: not supported"):
        CalibrationMetrics(4, dist_sync_on_step=True)
    with pytest.raises(ValueError, match="classes: expected an integer of 2 or more, got 1"):
        CalibrationMetrics(1)
