"""A watched network: the values of the whole-set function, everything else as it was, one process as two."""

import math
import random
from collections import OrderedDict, UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import nclens
from nclens.callbacks import watch as module
from nclens.metrics.collapse import KEYS, class_means, neural_collapse
from nclens.metrics.collapse_streaming import NeuralCollapse
from nclens.metrics.imbalance import TABLE_KEYS, class_imbalance
from tests.process import Process

CLASSES = 3


def network(seed=0):
    """One with batch normalisation, dropout and another linear layer after which the head comes."""
    torch.manual_seed(seed)
    layers = {"first": nn.Linear(5, 8), "norm": nn.BatchNorm1d(8), "act": nn.ReLU(), "drop": nn.Dropout(0.5)}
    return nn.Sequential(OrderedDict(layers)).append(nn.Linear(8, CLASSES))


def data(samples=50, seed=1):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    return TensorDataset(torch.randn(samples, 5, generator=generator) + 2 * labels[:, None] + 1, labels)


def expected(model, dataset=None, **options):
    """The values of the whole set, of features in evaluation mode."""
    inputs, labels = (dataset or data()).tensors
    modes = {layer: layer.training for layer in model.modules()}
    with torch.no_grad():
        features = model.eval()[:-1](inputs)
    for layer, mode in modes.items():
        layer.training = mode
    return neural_collapse(features, labels, model[-1].weight, model[-1].bias, **{"min_samples": 2, **options})


@pytest.mark.parametrize("batch", [7, 50])
def test_the_values_are_those_of_the_whole_set_in_evaluation_mode(batch):
    model = network()
    values = nclens.watch(model).measure(DataLoader(data(), batch, shuffle=True))
    assert list(values) == [*KEYS, "classes_measured"]
    assert values == pytest.approx(expected(model), rel=1e-6, abs=1e-9)  # float32 batches of other sizes


def test_class_counts_add_what_weighs_classes():
    model, dataset = network(), data()
    inputs, labels = dataset.tensors
    counts = labels.bincount(minlength=CLASSES)
    values = nclens.watch(model).measure(DataLoader(dataset, 50), class_counts=counts)
    with torch.no_grad():
        features = model.eval()[:-1](inputs)
        found = class_imbalance(features, labels, model[-1](features), model[-1].weight, counts)
    assert list(values) == [*KEYS, "classes_measured", *TABLE_KEYS]
    assert {key: values[key] for key in TABLE_KEYS} == pytest.approx({key: found[key] for key in TABLE_KEYS}, rel=1e-6)


def test_training_mode_gives_other_values_without_a_word():
    """Clusters a hundredth as wide as they are apart: NC1 is a hundred times too large, or more, in training mode."""
    model, labels = network(), torch.arange(60) % CLASSES
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, 5, generator=generator)
    dataset = TensorDataset(centres[labels] + 0.01 * torch.randn(60, 5, generator=generator), labels)
    loader = DataLoader(dataset, 10, shuffle=True)
    for _ in range(10):
        for inputs, _ in loader:
            model(inputs)  # the running statistics
    metric = NeuralCollapse(CLASSES, 8)
    for inputs, batch in loader:
        metric.update(model[:-1](inputs), batch, model[-1].weight)
    right = nclens.watch(model).measure(loader)["nc1"]
    assert right == pytest.approx(expected(model, dataset)["nc1"], rel=1e-5)
    assert metric.compute()["nc1"] > 100 * right


def test_one_epoch_after_the_other_is_of_the_weights_at_that_time():
    model, loader = network(), DataLoader(data(), 10, shuffle=True)
    watch, optimiser = nclens.watch(model), torch.optim.SGD(model.parameters(), 0.1)
    seen = []
    for _ in range(3):
        for inputs, labels in loader:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimiser.step()
        seen.append(watch.measure(loader))
        assert seen[-1] == pytest.approx(expected(model), rel=1e-5)
    assert len({values["nc1"] for values in seen}) == 3


def states(model, loader):
    """All that a measurement must leave as it was."""
    return {
        "modes": [layer.training for layer in model.modules()],
        "buffers": [buffer.clone() for buffer in model.buffers()],
        "hooks": [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in model.modules()],
        "grad": [torch.is_grad_enabled(), *(parameter.grad is None for parameter in model.parameters())],
        "autocast": [torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")],
        "torch": torch.get_rng_state(),
        "loader": loader.generator.get_state(),
        "others": [random.getstate(), str(np.random.get_state())],  # noqa: NPY002
    }


class Augmented(TensorDataset):
    """Draws from every global generator."""

    def __getitem__(self, index):
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        return super().__getitem__(index)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails):
    model = network()
    model[1].eval()  # a frozen normalisation stays frozen
    dataset = Augmented(*data().tensors)
    loader = DataLoader(dataset, 10, shuffle=True, generator=torch.Generator().manual_seed(3))
    watch = nclens.watch(model)
    with torch.autocast("cpu", torch.bfloat16):
        before = states(model, loader)
        if fails:
            dataset.tensors = (dataset.tensors[0], dataset.tensors[1] + 1)
            with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), got 3"):
                watch.measure(loader)
        else:
            values = watch.measure(loader)
            watch.collect(loader)
            assert values == pytest.approx(expected_without_autocast(model), rel=1e-6)  # float32, not bfloat16
        after = states(model, loader)
    for name, state in before.items():
        for one, other in zip(state, after[name], strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, name


def expected_without_autocast(model):
    with torch.autocast("cpu", enabled=False):
        return expected(model)


def test_a_watched_network_trains_as_one_that_is_not():
    def train(watched):
        torch.manual_seed(5)
        model = network()
        loader = DataLoader(data(), 10, shuffle=True)
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        watch = nclens.watch(model)
        for _ in range(2):
            for inputs, labels in loader:
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(inputs), labels).backward()
                optimiser.step()
            if watched:
                watch.measure(loader)
        return model.state_dict()

    watched, alone = train(True), train(False)
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


class Renamed(nn.Module):
    """A model whose last linear layer by position is not its head, and whose output is a table or a tuple."""

    def __init__(self, kind=None, scale=None):
        super().__init__()
        torch.manual_seed(0)
        self.classifier, self.body = nn.Linear(4, CLASSES), nn.Linear(5, 4)
        self.kind, self.scale = kind, scale

    def forward(self, inputs):
        logits = self.classifier(self.body(inputs))
        logits = logits if self.scale is None else logits * self.scale
        return {"dict": {"logits": logits}, "tuple": (inputs, logits), None: logits}[self.kind]


@pytest.mark.parametrize("kind", [None, "dict", "tuple"])
def test_the_head_is_found_or_named(kind):
    model = Renamed(kind)
    found = nclens.watch(model)
    with pytest.raises(ValueError, match="head: found in the first `measure` or `collect`"):
        found.head  # noqa: B018
    values = found.measure(DataLoader(data(), 20))
    assert found.head is model.classifier
    for head in ("classifier", model.classifier):
        told = nclens.watch(model, head)
        assert told.head is model.classifier
        assert told.measure(DataLoader(data(), 20)) == values
    inner = nclens.watch(model, "body")  # any linear layer: its rows are the classes
    with pytest.raises(ValueError, match="weight"):
        inner.measure(DataLoader(data(), 20), reference_means=torch.zeros(2, 2))


def test_a_named_head_may_be_followed_by_anything():
    model = Renamed(scale=2.0)
    with pytest.raises(ValueError, match="no linear layer of the model Renamed returns the model's output itself"):
        nclens.watch(model).measure(DataLoader(data(), 20))
    values = nclens.watch(model, "classifier").measure(DataLoader(data(), 20))
    assert values == nclens.watch(Renamed()).measure(DataLoader(data(), 20))


def test_wrapped_models_are_looked_through():
    model = network()
    values = nclens.watch(model).measure(DataLoader(data(), 20))
    assert nclens.watch(nn.DataParallel(model)).measure(DataLoader(data(), 20)) == values


@pytest.mark.lengthy
def test_compiled_models_are_looked_through():
    model = network()
    values = nclens.watch(model).measure(DataLoader(data(), 20))
    in_place = nn.Sequential(*model)
    in_place.compile(backend="eager")
    for compiled in (torch.compile(model, backend="eager"), in_place):
        compiled(torch.randn(4, 5))
        model.load_state_dict(network().state_dict())
        assert nclens.watch(compiled).measure(DataLoader(data(), 20)) == values


def test_ignored_samples_and_missing_classes():
    model = network()
    inputs, labels = data().tensors
    labels = torch.where(labels == 2, -100, labels)
    labels[:3] = 2
    dataset = TensorDataset(inputs, labels)
    watch = nclens.watch(model)
    for min_samples, measured in ((2, 3), (4, 2)):
        options = {"ignore_index": -100, "min_samples": min_samples}
        values = watch.measure(DataLoader(dataset, 8, shuffle=True), **options)
        assert values == pytest.approx(expected(model, dataset, **options), rel=1e-6)
        assert values["classes_measured"] == measured
    assert watch.class_means.isnan().all(1).tolist() == [False, False, True]
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), got -100"):
        watch.measure(DataLoader(dataset, 8))
    labels[:3] = -100
    with pytest.raises(ValueError, match=r"labels: class 2 has 0 sample\(s\), at least 1 needed"):
        watch.measure(DataLoader(dataset, 8), ignore_index=-100, min_samples=None)


def test_tokens():
    """Features (N, T, d) and labels (N, T), padding ignored."""
    model = nn.Sequential(nn.Embedding(7, 4), nn.Tanh(), nn.Linear(4, CLASSES))
    tokens = torch.arange(60).reshape(6, 10) % 7
    labels = torch.where(tokens == 6, -100, tokens % 3)
    values = nclens.watch(model).measure([(tokens, labels)], ignore_index=-100)
    with torch.no_grad():
        features = model[:2](tokens).flatten(0, 1)
    whole = neural_collapse(features, labels.flatten(), model[2].weight, model[2].bias, ignore_index=-100)
    assert {key: values[key] for key in KEYS} == pytest.approx(whole, rel=1e-9)
    with pytest.raises(ValueError, match=r"the head `2` has an input of shape \(6, 10, 4\), the labels \(6,\)"):
        nclens.watch(model).measure([(tokens, labels[:, 0])])


def test_the_means_of_the_training_data_are_the_reference_of_the_test_data():
    model, test = network(), data(seed=2)
    watch = nclens.watch(model)
    watch.measure(DataLoader(data(), 50))
    with torch.no_grad():
        means = class_means(model.eval()[:-1](data().tensors[0]), data().tensors[1], CLASSES)
    torch.testing.assert_close(watch.class_means, means)
    values = watch.measure(DataLoader(test, 50), reference_means=watch.class_means)
    assert values == pytest.approx(expected(model, test, reference_means=means), rel=1e-6)


def test_collected_samples_are_in_their_order():
    model = network()
    features, labels = nclens.watch(model).collect(DataLoader(data(), 7))
    assert torch.equal(labels, data().tensors[1])
    with torch.no_grad():
        torch.testing.assert_close(features, model.eval()[:-1](data().tensors[0]))
    assert not features.requires_grad


@pytest.mark.parametrize("table", [dict, UserDict])
def test_batches_of_other_forms(table):
    model = network()
    inputs, labels = data().tensors
    values = nclens.watch(model).measure([(inputs, labels)])
    assert nclens.watch(model).measure([[inputs, labels]]) == values
    assert nclens.watch(model).measure([table(input=inputs, labels=labels)]) == values

    def step(model, batch):
        model(batch.image)
        return batch.target

    batch = SimpleNamespace(image=inputs, target=labels)
    assert nclens.watch(model).measure([batch], step=step) == values


INPUTS, LABELS = data().tensors


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "loader: it has no batch"),
        ([INPUTS], {}, "batch: expected .inputs, labels. or a table with `labels`, got Tensor; `step`, a function"),
        ([(INPUTS, LABELS, LABELS)], {}, "got tuple of 3"),
        ([{"x": INPUTS}], {}, "got dict of 1"),
        (iter([(INPUTS, LABELS)]), {}, "loader: its second pass has other samples; `nc4=False` makes one pass only"),
        ([(INPUTS, LABELS[1:])], {}, r"head `4` has an input of shape \(50, 8\), the labels \(49,\)"),
        ([(INPUTS, LABELS.double())], {}, "labels: expected an integer tensor"),
        ([(INPUTS, LABELS.tolist())], {}, "labels: expected a tensor, got list"),
        ([(INPUTS / 0, LABELS)], {}, "features: every value must be finite"),
        ([(INPUTS, LABELS)], {"min_samples": 1}, "min_samples: expected an integer of 2 or more, got 1"),
        ([(INPUTS, 0 * LABELS)], {}, r"labels: 1 of 3 classes has 2 sample\(s\) or more"),
        ([(INPUTS, LABELS)], {"step": lambda model, batch: batch[1]}, "is not called itself, so its head cannot be"),
    ],
)
def test_what_cannot_be_measured(given, options, message):
    with pytest.raises(ValueError, match=message):
        nclens.watch(network()).measure(given, **options)


@pytest.mark.parametrize(
    ("model", "head", "message"),
    [
        (print, None, r"model: expected a torch.nn.Module, got builtin_function_or_method"),
        (network(), "fc", "head: 'fc' is no layer of the model; its linear layers are first, 4"),
        (network(), nn.Linear(2, 2), "head: a Linear is no layer of the model"),
        (network(), "act", r"head: ReLU has no weight \(K, d\)"),
    ],
)
def test_heads_that_are_none(model, head, message):
    with pytest.raises(ValueError, match=message):
        nclens.watch(model, head)


def test_heads_that_are_not_affine_or_run_twice():
    class Cosine(nn.Linear):
        def forward(self, inputs):
            return super().forward(nn.functional.normalize(inputs))

    with pytest.raises(ValueError, match=r"head `4` \(Cosine\) is not z = W h \+ b"):
        nclens.watch(network()[:-1].append(Cosine(8, CLASSES))).measure(DataLoader(data(), 20))

    class Twice(Renamed):
        def forward(self, inputs):
            self.classifier(self.body(inputs) + 1)
            return super().forward(inputs)

    for head in (None, "classifier"):
        with pytest.raises(ValueError, match="head `classifier` runs 2 times in a forward pass; it must run once"):
            nclens.watch(Twice(), head).measure(DataLoader(data(), 20))
    with pytest.raises(ValueError, match="the model ReLU has no linear layer"):
        nclens.watch(nn.ReLU()).measure([(INPUTS, LABELS)])


def test_one_pass_takes_an_iterator_and_leaves_nc4_out():
    values = nclens.watch(network()).measure(iter([(INPUTS, LABELS)]), nc4=False)
    assert "nc4" not in values
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(("samples", "processes"), [(7, 2), (8, 2), (7, 4), (2, 4), (9, 3)])
@pytest.mark.parametrize("drop", [False, True])
def test_padding_of_a_distributed_sampler_comes_last(samples, processes, drop, monkeypatch):
    monkeypatch.setattr(module, "_processes", lambda: processes)
    seen = []
    for rank in range(processes):
        sampler = DistributedSampler(range(samples), processes, rank, shuffle=True, drop_last=drop)
        loader = DataLoader(range(samples), 3, sampler=sampler)
        seen += list(sampler)[: module._own(loader, sharded=False)]
    assert len(set(seen)) == len(seen)
    if not drop:
        assert sorted(seen) == list(range(samples))


def test_several_processes_refuse_what_they_would_count_more_than_once(monkeypatch):
    with pytest.raises(ValueError, match="loader: its DistributedSampler is for 2 processes, not 1"):
        module._own(DataLoader(data(), sampler=DistributedSampler(data(), 2, 0)), sharded=False)
    monkeypatch.setattr(module, "_processes", lambda: 2)
    for loader in (DataLoader(data(), 20), [(INPUTS, LABELS)]):
        with pytest.raises(ValueError, match="loader: 2 processes would count samples more than once"):
            module._own(loader, sharded=False)
        assert module._own(loader, sharded=True) is None
    with pytest.raises(ValueError, match="collect: expected one process"):
        nclens.watch(network()).collect([(INPUTS, LABELS)])


PROCESS = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
import nclens
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
inputs, labels = torch.load(f"{folder}/data.pt")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
wrapped = nn.parallel.DistributedDataParallel(model)
dataset = TensorDataset(inputs, labels)
loader = DataLoader(dataset, 8, sampler=DistributedSampler(dataset))
values = nclens.watch(wrapped).measure(loader, ignore_index=-100, min_samples=3)
uneven = [(inputs[:30], labels[:30])] if rank else [(inputs[30:40], labels[30:40]), (inputs[40:], labels[40:])]
parts = nclens.watch(wrapped).measure(uneven, ignore_index=-100, min_samples=3, sharded=True)
try:
    nclens.watch(wrapped).measure(DataLoader(dataset, 8))
except ValueError as error:
    refused = str(error)
from accelerate import Accelerator
accelerate = Accelerator(cpu=True).prepare(DataLoader(dataset, 8))
try:
    nclens.watch(wrapped).measure(accelerate)
except ValueError as error:
    refused_too = str(error)
torch.save((values, parts, refused, refused_too), f"{folder}/values{rank}.pt")
"""


@pytest.mark.lengthy
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_real_processes_are_one(tmp_path):
    inputs, labels = data(51).tensors
    labels = torch.where(labels == 2, -100, labels)
    labels[::20] = 2  # 0, 20 and 40: three samples; the first is what the sampler repeats as padding of the 51
    torch.save((inputs, labels), tmp_path / "data.pt")
    processes = [Process(["-c", PROCESS, rank, tmp_path]) for rank in (0, 1)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    one = nclens.watch(model).measure([(inputs, labels)], ignore_index=-100, min_samples=3)
    assert one["classes_measured"] == 3
    for rank in (0, 1):
        values, parts, *refused = torch.load(tmp_path / f"values{rank}.pt")
        assert values == pytest.approx(one, rel=1e-6)
        assert parts == pytest.approx(one, rel=1e-6)
        assert all("2 processes would count samples more than once" in message for message in refused)
