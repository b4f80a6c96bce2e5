"""Collapse by layer: the measures of a network's features after each of its blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nclens.data.tensors import Split
from nclens.metrics.collapse import class_means
from nclens.metrics.layers import equi_separation, layer_collapse, layer_regression, stable_rank
from nclens.models import Network, layers_of
from nclens.training.loop import evaluation_batch


class Layer(NamedTuple):
    """A layer's pooled output (N, d), and the weight that ran last before it, if any."""

    name: str
    features: Tensor
    weight: Tensor | None


def layer_measures(
    network: Network, train: Split, test: Split, *, names: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Measure the features after every block of a network, from its input to its head.

    Of a classifier `nclens.metrics.layers.layer_collapse`: on the test split about the test split's class means, but
    for the accuracy, which is to the means of the training split. Of a regressor
    `nclens.metrics.layers.layer_regression`, with the read-out fitted to the training split.

    Args:
        network: left in evaluation mode.
        train, test: the splits of its data set.
        names: of the layers, as for `nclens.models.layers_of`.

    Returns:
        split -> metric -> value: ``layers_{key}/{number}`` for layer 01, 02, ... in the order in which they run, and
        ``layers_slope`` and ``layers_correlation`` of the law of equi-separation, or ``layers_stable_rank_targets``.

    Raises:
        ValueError: as `nclens.models.layers_of` and `layer_features`.
    """
    splits = {"train": train, "test": test}
    layers = {name: layer_features(network, split, names) for name, split in splits.items()}
    measured = _classification if train.task == "classification" else _regression
    return {name: measured(network, layers, splits, name) for name in splits}


def _classification(
    network: Network, layers: Mapping[str, Sequence[Layer]], splits: Mapping[str, Split], name: str
) -> dict[str, float]:
    classes, labels = network.head.out_features, {split: one.targets.cpu() for split, one in splits.items()}
    found = []
    for train, layer in zip(layers["train"], layers[name], strict=True):
        means = class_means(train.features, labels["train"], classes, min_samples=1)
        found.append(layer_collapse(layer.features, labels[name], classes, reference_means=means))
    slope, correlation = equi_separation([one["nc1"] for one in found])
    return _numbered(found) | {"layers_slope": slope, "layers_correlation": correlation}


def _regression(
    network: Network, layers: Mapping[str, Sequence[Layer]], splits: Mapping[str, Split], name: str
) -> dict[str, float]:
    targets = {split: one.targets.cpu() for split, one in splits.items()}
    found = [
        layer_regression(
            layer.features,
            targets[name],
            train_features=train.features,
            train_targets=targets["train"],
            weight=layer.weight,
        )
        for train, layer in zip(layers["train"], layers[name], strict=True)
    ]
    centred = targets[name].double() - targets[name].double().mean(0)
    return _numbered(found) | {"layers_stable_rank_targets": stable_rank(centred)}


def _numbered(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the measures of all layers by metric: a measure's name and the layer's number, from 1."""
    return {f"layers_{key}/{number:02d}": one[key] for key in found[0] for number, one in enumerate(found, start=1)}


@torch.no_grad()
def layer_features(network: Network, split: Split, names: Sequence[str] | None = None) -> list[Layer]:
    """Return the pooled output of every layer on a split, in order, float32, on the CPU.

    The network runs in evaluation mode, as it is. Of outputs (N, C, ...) the mean over all places is taken, of
    (N, T, d) that over the T tokens; of a tuple, its first entry counts. A module that runs twice is two layers.

    Args:
        network: left in evaluation mode.
        split: the samples.
        names: of the layers, as for `nclens.models.layers_of`.

    Raises:
        ValueError: a layer does not run, or returns something else than a tensor of numbers for each sample; or as
            `nclens.models.layers_of`.
    """
    network.eval()
    watch = _Watch(network.backbone, layers_of(network.backbone, names))
    try:
        for inputs, _ in split.batches(evaluation_batch(split.inputs)):
            watch.begin()
            network.backbone(inputs)
    finally:
        watch.end()
    return watch.layers()


class _Watch:
    """Hooks that collect the pooled outputs of layers, batch by batch."""

    def __init__(self, backbone: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        self._names = list(layers)
        self._batches: list[list[tuple[str, Tensor, Tensor | None]]] = []
        self._weight: Tensor | None = None
        weighted = (module for module in backbone.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd))
        # First, so that a layer's own weight is known when its output is collected.
        self._hooks = [module.register_forward_hook(self._weigh) for module in weighted]
        self._hooks += [module.register_forward_hook(self._collector(name)) for name, module in layers.items()]

    def begin(self) -> None:
        self._weight = None
        self._batches.append([])

    def end(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def layers(self) -> list[Layer]:
        calls = self._batches[0]
        if idle := [name for name in self._names if name not in {name for name, *_ in calls}]:
            raise ValueError(f"the layer {idle[0]} does not run in a forward pass; name others")
        if any([name for name, *_ in batch] != [name for name, *_ in calls] for batch in self._batches):
            raise ValueError("other layers run for some of the samples than for others; name those that run for all")
        return [
            Layer(name, torch.cat([batch[place][1] for batch in self._batches]), weight)
            for place, (name, _, weight) in enumerate(calls)
        ]

    def _weigh(self, module: nn.Module, given: Any, output: Any) -> None:
        assert isinstance(module.weight, Tensor)
        self._weight = module.weight

    def _collector(self, name: str) -> Any:
        def collect(module: nn.Module, given: Any, output: Any) -> None:
            weight = None if self._weight is None else self._weight.detach().cpu()
            self._batches[-1].append((name, _pooled(name, output), weight))

        return collect


def _pooled(name: str, output: Any) -> Tensor:
    """Return an output as (N, d), float32, a copy: later layers may write into it."""
    while isinstance(output, tuple | list) and len(output):
        output = output[0]
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 2:
        found = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the layer {name} returns {found}; allowed: a tensor of numbers (N, d), (N, T, d) or (N, C, ...)"
        )
    output = output.float()
    if output.ndim == 3:
        output = output.mean(1)
    elif output.ndim > 3:
        output = output.flatten(2).mean(2)
    return output.to("cpu", copy=True)
