"""Neural collapse of a network in your own training loop."""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.utils.data import BatchSampler, DistributedSampler

from nclens._inputs import Array
from nclens.metrics.collapse import KEYS
from nclens.metrics.collapse_streaming import NearestClassMean, NeuralCollapse
from nclens.metrics.imbalance import TABLE_KEYS
from nclens.models.cosine import CosineHead
from nclens.models.head import check_affine, find_head, uncompiled

Step = Callable[[nn.Module, Any], Tensor]
"""Runs the model on a batch, and returns the batch's labels."""


def watch(model: nn.Module, head: nn.Module | str | None = None) -> "Watch":
    """Return a `Watch` of a model, which measures its neural collapse once an epoch.

    Args:
        model: any module. A wrapper for several devices (DistributedDataParallel, DataParallel) or of `torch.compile`
            is looked through.
        head: the linear layer that returns the logits, z = W h + b, or its name in the model, such as "fc"; by default
            the linear layer that returns the model's output itself, found in the first forward pass.

    Raises:
        ValueError: the model has no such layer.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> loader = [(torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 0, 1, 1]))]
    >>> values = watch(model).measure(loader)
    >>> list(values)[:2], values["classes_measured"], model.training
    (['nc0', 'nc0_share'], 2.0, True)
    """
    return Watch(model, head)


class Watch:
    """Measures neural collapse at the head of a model. Made by `watch`.

    The features are the input of the head, which a hook takes in each forward pass of `measure` and `collect`, and in
    no other. These passes are in evaluation mode, without gradients and without automatic mixed precision. Afterwards
    the mode of every layer, mixed precision and the states of the random generators are as before, so a network that
    is watched trains as one that is not.

    Args:
        model: as in `watch`.
        head: as in `watch`.

    Attributes:
        class_means: (K, d), float64, of the last `measure`; a row of nan for a class that was not measured. Those of
            the training data are the `reference_means` of the test data.
    """

    def __init__(self, model: nn.Module, head: nn.Module | str | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        self.model = _unwrapped(model)
        self.class_means: Tensor | None = None
        self._path = ""
        self._head: nn.Module | None = None
        if head is not None:
            self._path, self._head = _told(self.model, head)

    @property
    def head(self) -> nn.Module:
        """The head.

        Raises:
            ValueError: it has not been named, and no forward pass has found it yet.
        """
        if self._head is None:
            raise ValueError("head: found in the first `measure` or `collect`; name it to have it before")
        return self._head

    def measure(
        self,
        loader: Iterable[Any],
        *,
        step: Step | None = None,
        ignore_index: int | None = None,
        min_samples: int | None = 2,
        class_counts: Array | None = None,
        reference_means: Tensor | None = None,
        nc4: bool = True,
        sharded: bool = False,
    ) -> dict[str, float]:
        """Return every key of `nclens.neural_collapse` for the samples of a loader, each counted once.

        A batch is (inputs, labels), or a table with `labels` whose other entries are the model's arguments; otherwise
        give `step`. Features (N, ..., d), such as those of tokens, have labels (N, ...). Two passes over the loader
        are made, one without `nc4`; memory beyond the batches is one d x d matrix and a few of K x d.

        Where torch.distributed has several processes, all of them call this and get the values of all their samples.
        What a DistributedSampler repeats as padding is not counted. Other loaders are refused, as each process would
        count every sample again, unless `sharded` says that each process has samples of its own.

        Args:
            loader: a DataLoader, or any iterable that can be iterated twice. What it leaves out, such as a last batch
                by `drop_last`, is not measured, and what it augments is measured augmented.
            step: step(model, batch) calls the model and returns the labels. The batch is on the model's device.
            ignore_index: samples with this label are left out; by default none is.
            min_samples: 2 or more. Classes with fewer samples are left out, as in `nclens.neural_collapse`, and
                `classes_measured` counts the others. With None every class must have a sample.
            class_counts: (K,), the training samples of each class, where they differ; then the values have the keys of
                `nclens.NeuralCollapse` that need them, such as `nc1_balanced` and `seli_means`, too.
            reference_means: (K, d), the class means for `nc4`; by default those of these samples.
            nc4: whether to measure `nc4`, which takes the second pass.
            sharded: whether each process has samples of its own.

        Raises:
            ValueError: a batch, label or feature that does not fit; no head; a head that is not z = W h + b or does not
                run once in a pass; a loader that several processes would count more than once or that ends early in
                its second pass; as `nclens.neural_collapse`.
        """
        metric: NeuralCollapse | None = None
        counted = 0
        with self._measuring(loader):
            for features, labels in self._samples(loader, step, sharded):
                weight, _ = self._weights()
                if metric is None:
                    counting: dict[str, Any] = {
                        "ignore_index": ignore_index,
                        "min_samples": min_samples,
                        "class_counts": class_counts,
                    }
                    metric = NeuralCollapse(*weight.shape, **counting)
                    metric.to(weight.device)
                metric.update(features, labels, weight)
                counted += len(labels)
            if metric is None:
                raise ValueError("loader: it has no batch")
            values = {key: float(value) for key, value in metric.compute().items()}
            self.class_means = metric.class_means()
            if nc4:
                means = self.class_means if reference_means is None else reference_means
                nearest = NearestClassMean(means, *self._weights(), ignore_index=ignore_index).to(weight.device)
                for features, labels in self._samples(loader, step, sharded):
                    nearest.update(features, labels)
                    counted -= len(labels)
                if counted:
                    raise ValueError("loader: its second pass has other samples; `nc4=False` makes one pass only")
                values["nc4"] = float(nearest.compute())
        return {key: values[key] for key in (*KEYS, "classes_measured", *TABLE_KEYS) if key in values}

    def collect(self, loader: Iterable[Any], *, step: Step | None = None) -> tuple[Tensor, Tensor]:
        """Return the features (N, d), float32, and the labels (N,), int64, of a loader's samples, on the CPU.

        The passes are those of `measure`. For `nclens.Recorder` and for measures of your own.

        Raises:
            ValueError: as `measure`; there are several processes, each of which would have a part.
        """
        if _processes() > 1:
            raise ValueError("collect: expected one process, in several each would have a part of the samples")
        with self._measuring(loader):
            parts = [(x.float().cpu(), y.long().cpu()) for x, y in self._samples(loader, step, sharded=True)]
        if not parts:
            raise ValueError("loader: it has no batch")
        features, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return features, labels

    def _weights(self) -> tuple[Tensor, Tensor | None]:
        bias = getattr(self.head, "bias", None)
        return self.head.weight.detach(), None if bias is None else bias.detach()  # type: ignore[operator]

    @contextlib.contextmanager
    def _measuring(self, loader: Iterable[Any]) -> Iterator[None]:
        """Within this the model is in evaluation mode, without gradients, in full precision and uncompiled."""
        modes = {layer: layer.training for layer in self.model.modules()}
        entries = vars(self.model)
        mixed = entries.get("forward") if "_original_forward" in entries else None  # accelerate's, which autocasts
        device = _device(self.model)
        try:
            if mixed is not None:
                self.model.forward = entries["_original_forward"]
            self.model.eval()
            autocast = torch.autocast(device.type, enabled=False)
            with torch.no_grad(), autocast, uncompiled(), _same_randomness(loader, device):
                yield
        finally:
            for layer, mode in modes.items():
                layer.training = mode
            if mixed is not None:
                self.model.forward = mixed

    def _samples(self, loader: Iterable[Any], step: Step | None, sharded: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features (n, d) and labels (n,) of each batch, without those that only pad this process's part."""
        left = _own(loader, sharded)
        for number, batch in enumerate(loader):
            moved = _moved(batch, _device(self.model))
            if self._head is None:
                self._path, self._head = find_head(self.model, partial(step or run_batch, self.model, moved))
            features, logits, labels = self._pass(moved, step or run_batch)
            if number == 0:
                check_affine(self.head, features, logits, self._path)  # type: ignore[arg-type]
            features, labels = features[:left], labels[:left]
            left = None if left is None else left - len(labels)
            yield features.flatten(0, -2), labels.to(features.device).flatten()

    def _pass(self, batch: Any, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features, logits and labels of one forward pass."""
        calls: list[tuple[Tensor, Tensor]] = []

        def note(layer: nn.Module, args: tuple[Any, ...], given: dict[str, Any], output: Tensor) -> None:
            calls.append((args[0] if args else next(iter(given.values())), output))

        hook = self.head.register_forward_hook(note, prepend=True, with_kwargs=True)
        try:
            labels = step(self.model, batch)
        finally:
            hook.remove()
        called = f"head `{self._path}`" if self._path else "head"
        if len(calls) != 1:
            raise ValueError(f"the {called} runs {len(calls)} times in a forward pass; it must run once")
        if not isinstance(labels, Tensor):
            raise ValueError(f"labels: expected a tensor, got {type(labels).__name__}")
        features, logits = calls[0]
        if features.shape[:-1] != labels.shape:
            raise ValueError(
                f"the {called} has an input of shape {tuple(features.shape)}, the labels {tuple(labels.shape)}; there "
                "must be one label for each row of features"
            )
        return features, logits, labels


def run_batch(model: nn.Module, batch: Any) -> Tensor:
    """Call a model on (inputs, labels), or on a table with `labels` whose other entries are its arguments.

    Returns:
        The labels.

    Raises:
        ValueError: the batch is something else.
    """
    if isinstance(batch, Mapping) and "labels" in batch:
        model(**{name: value for name, value in batch.items() if name != "labels"})
        return batch["labels"]
    if isinstance(batch, tuple | list) and len(batch) == 2:
        model(batch[0])
        return batch[1]
    length = f" of {len(batch)}" if isinstance(batch, tuple | list | Mapping) else ""
    raise ValueError(
        f"batch: expected (inputs, labels) or a table with `labels`, got {type(batch).__name__}{length}; `step`, a "
        "function of model and batch, calls the model and returns the labels"
    )


def _told(model: nn.Module, head: nn.Module | str) -> tuple[str, nn.Module]:
    """Return the name and the layer of a head that was named, or given."""
    found = {path: layer for path, layer in model.named_modules() if layer is head or path == head}
    if not found:
        given = repr(head) if isinstance(head, str) else f"a {type(head).__name__}"
        last = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        raise ValueError(f"head: {given} is no layer of the model; its linear layers are {', '.join(last) or 'none'}")
    path, layer = found.popitem()
    if isinstance(layer, CosineHead):  # the linear layer in it has the features and the weight that the logits are of
        path, layer = f"{path}.linear".lstrip("."), layer.linear
    if getattr(getattr(layer, "weight", None), "ndim", 0) != 2:
        raise ValueError(f"head: {type(layer).__name__} has no weight (K, d)")
    return path, layer


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model without wrappers, whose parameters are the same."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while isinstance(model, wrappers) or isinstance(vars(model).get("_modules", {}).get("_orig_mod"), nn.Module):
        inner = model.module if isinstance(model, wrappers) else model._orig_mod
        assert isinstance(inner, nn.Module)
        model = inner
    return model


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _moved(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    if type(batch) in (tuple, list):
        return type(batch)(_moved(value, device) for value in batch)
    return batch


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _own(loader: Iterable[Any], sharded: bool) -> int | None:
    """Return how many of this process's samples are no padding, which comes last; None for all of them.

    Raises:
        ValueError: several processes would count a sample more than once.
    """
    batches = getattr(loader, "batch_sampler", None)
    sampler = getattr(batches, "sampler", None) or getattr(loader, "sampler", None)
    processes = _processes()
    if isinstance(sampler, DistributedSampler) and type(batches) is BatchSampler:
        if sampler.num_replicas != processes:
            raise ValueError(f"loader: its DistributedSampler is for {sampler.num_replicas} processes, not {processes}")
        return max(0, -(-(len(sampler.dataset) - sampler.rank) // sampler.num_replicas))  # type: ignore[arg-type]
    if processes > 1 and not sharded:
        raise ValueError(
            f"loader: {processes} processes would count samples more than once; give it a DistributedSampler, whose "
            "padding is not counted, in batches of its order, or `sharded=True` if each process has its own samples"
        )
    return None


@contextlib.contextmanager
def _same_randomness(loader: Iterable[Any], device: torch.device) -> Iterator[None]:
    """Leave the random generators, the loader's among them, as they are: measuring must not change the training.

    NumPy's is the global one, from which users' transforms draw.
    """
    owners = (loader, getattr(loader, "sampler", None))
    generators = [one for one in (getattr(owner, "generator", None) for owner in owners) if one is not None]
    states = [(one, one.get_state()) for one in generators if isinstance(one, torch.Generator)]
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002
        for generator, state in states:
            generator.set_state(state)
