"""The fastest forward pass of a network in evaluation mode that gives the features of the plain one."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from nclens.data.tensors import Split
from nclens.models import Network, check_affine
from nclens.models.folding import fold, foldable
from nclens.models.memory import is_out_of_memory
from nclens.training.loop import Backbone, evaluation_batch

#: Largest relative change of the features of the samples compared, and of their NC1.
FEATURES, NC1 = 1e-6, 1e-3
#: The samples compared: this many, of this many classes at most.
SAMPLES, CLASSES = 64, 16
#: Bytes of a hidden layer's output in a batch on a CPU: half of a usual last-level cache.
CACHE = 16 * 2**20

#: Features (N, d) and labels (N,) -> NC1.
Measure = Callable[[Tensor, Tensor], float]


class Passes:
    """Forward passes of a network, for one set of weights after the other.

    Batch normalisation is folded into the layer before it, see `nclens.models.folding`; on a CPU, images also pass in
    oneDNN's own memory layout, where the folded network runs in it. For each set of weights, a pass is taken if its
    features H' of some training samples are those of the plain pass, H, up to rounding: |H' - H|_F <= 1e-6 |H|_F, and
    NC1 moves by at most 1e-3 of its value. Otherwise, and where nothing can be folded, the plain pass is taken.

    Attributes:
        batch_size: at which the output of the largest hidden layer fits into a CPU's cache; at most that of evaluation.
    """

    def __init__(self, network: Network, split: Split, nc1: Measure | None = None) -> None:
        """Trace the network, which is left in evaluation mode.

        Args:
            network: on its device, with any weights.
            split: the samples compared are some of these.
            nc1: measures NC1 of features on the CPU; of regression it is not used. None compares the features alone.
        """
        self.network, self._nc1 = network.eval(), nc1 if split.task == "classification" else None
        self._pairs = foldable(network.backbone)
        chosen = compared_samples(split)
        self._inputs, self._labels = split.normalise(split.inputs[chosen]), split.targets[chosen].cpu()
        self.batch_size = evaluation_batch(split.inputs)
        if not self._inputs.is_cuda:
            fitting = CACHE // max(1, largest_output(network.backbone, self._inputs[:2]))
            self.batch_size = min(self.batch_size, max(1, fitting))
        images = self._inputs.ndim == 4 and not self._inputs.is_cuda
        self._blocked = images and torch.backends.mkldnn.is_available()

    @torch.no_grad()
    def choose(self) -> Backbone:
        """Return the pass to take with the network's weights as they are now."""
        plain = self.network.backbone
        expected: Tensor | None = None
        for candidate in self._candidates():
            if expected is None:
                expected = self._features(plain)
            if self._agrees(candidate, expected):
                return candidate
        return plain

    def _candidates(self) -> list[Backbone]:
        """Return the passes other than the plain one, the fastest first: none where nothing is folded."""
        if not self._pairs:
            return []
        folded = fold(self.network.backbone, self._pairs)
        return [partial(in_blocks, folded), folded] if self._blocked else [folded]

    def _features(self, backbone: Backbone) -> Tensor:
        return torch.cat([backbone(inputs) for inputs in self._inputs.split(self.batch_size)])

    def _agrees(self, candidate: Backbone, expected: Tensor) -> bool:
        try:
            found = self._features(candidate)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if isinstance(candidate, partial):
                self._blocked = False  # an operation that this layout lacks: it fails for all weights
            return False
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return False
        # In float64: float32 squares of large features overflow. Written so that nan disagrees.
        if not (found.double() - expected.double()).norm() <= FEATURES * expected.double().norm():
            return False
        if self._nc1 is None:
            return True
        before, after = (self._nc1(features.cpu(), self._labels) for features in (expected, found))
        return before == after or math.isclose(before, after, rel_tol=NC1)


@torch.no_grad()
def batches(
    network: Network, split: Split, batch_size: int, backbone: Backbone, rows: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features (n, d) and logits (n, K) of a split in order, float32, on the network's device.

    They are those of `nclens.training.loop.extract_features`, at least so many rows at a time, but for the last.

    Raises:
        ValueError: as `extract_features`, of the first and the last batch that passes the network.
    """
    network.eval()
    parts: list[tuple[Tensor, Tensor]] = []
    first, last = True, None
    for inputs, _ in split.batches(batch_size):
        hidden = backbone(inputs)
        last = hidden, network.head(hidden)
        if first:
            check_affine(network.head, *last, network.head_path)
            first = False
        parts.append(last)
        if sum(len(part) for part, _ in parts) >= rows:
            yield _joined(parts)
            parts = []
    if last is not None:
        check_affine(network.head, *last, network.head_path)
    if parts:
        yield _joined(parts)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    features, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    return features, logits


def in_blocks(backbone: nn.Module, inputs: Tensor) -> Tensor:
    """Return the features of images in oneDNN's memory layout, whose convolutions on a CPU are faster."""
    features = backbone(inputs.to_mkldnn())
    return features.to_dense() if features.is_mkldnn else features


def compared_samples(split: Split) -> Tensor:
    """Return the indices of at most 64 samples, evenly spaced; of a classifier, of its first 16 classes, by class."""
    if split.task != "classification":
        return _spaced(torch.arange(len(split), device=split.targets.device))
    classes = split.targets.unique(return_inverse=True)[1]
    order = classes.argsort(stable=True)
    return _spaced(order[classes[order] < CLASSES])


def _spaced(indices: Tensor) -> Tensor:
    places = torch.linspace(0, len(indices) - 1, min(SAMPLES, len(indices)), device=indices.device)
    return indices[places.round().long()]


def largest_output(module: nn.Module, inputs: Tensor) -> int:
    """Return the bytes of the largest output of any layer, per sample of `inputs`."""
    sizes = [0]

    def note(layer: nn.Module, given: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size() // len(inputs))

    hook = register_module_forward_hook(note)
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        hook.remove()
    return max(sizes)
