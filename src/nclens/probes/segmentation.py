"""Dense prediction: how well a trained backbone serves segmentation under a small head."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nclens._torchvision import import_torchvision
from nclens.data.segmentation import IGNORED
from nclens.data.tensors import Split
from nclens.models import FeatureMap, Network

CACHED_BYTES = 2**30
"""Maps of a frozen backbone are computed once where all of them take at most this, elsewhere batch by batch."""
MOMENTS_OF = 512
"""Training images, the first ones, that the scale of the maps is taken from."""


def segmentation(
    network: Network,
    train: Split,
    other: tuple[Split, Split],
    *,
    untrained: Callable[[], Network],
    seed: int,
    backbone: str = "frozen",
    head: str = "fcn",
    channels: int = 64,
    epochs: int = 15,
    batch_size: int = 8,
    learning_rate: float = 5e-3,
    weight_decay: float = 1e-4,
    bounds: bool = True,
) -> dict[str, float]:
    """Train a segmentation head on a network's feature map, and measure it on the other data set's test split.

    The head takes the map less its mean over the training images, a channel a number, divided by *one* number, the root
    mean square of all centred entries, so that the norm of the features makes no difference. Its logits are enlarged
    to the images' size by bilinear interpolation. It is trained by AdamW on the mean cross entropy of the pixels that
    have a class, the learning rate falling to 0 along a cosine.

    Args:
        network: left as it is, in evaluation mode.
        train: the training split of the network's own data, for the shape of its images.
        other: training and test split of a data set for segmentation, normalised as the network's own.
        untrained: returns the network with random weights.
        seed: of the head's weights and of the batches; the same for all losses and epochs.
        backbone: `frozen`, or `fine_tuned`: a copy is trained with the head.
        head: `fcn`, 3x3 convolution, batch normalisation, ReLU and 1x1 convolution, or `linear`, 1x1 convolution.
        channels: hidden channels of `fcn`.
        epochs, batch_size, learning_rate, weight_decay: of the training.
        bounds: whether a floor and a ceiling are measured too, under the same head and training: the random network,
            frozen, and the random network trained with the head.

    Returns:
        ``segmentation_miou`` and ``segmentation_pixel_accuracy``, as `scores`; with `bounds` also those of the floor,
        ``segmentation_floor_...``, and of the ceiling, ``segmentation_ceiling_...``.

    Raises:
        ValueError: the network has no feature map (`nclens.models.FeatureMap`), `backbone` or `head` is unknown, or a
            logit of the trained head is not finite.

    Source: dense prediction in MaxSup, arXiv 2502.15798, there UperNet on ADE20K; the head is that of fully
    convolutional networks (arXiv 1411.4038) at one scale.
    """
    for name, value, allowed in (("backbone", backbone, ("frozen", "fine_tuned")), ("head", head, ("fcn", "linear"))):
        if value not in allowed:
            raise ValueError(f"{name}: expected {' or '.join(allowed)}, got {value!r}")
    shape = tuple(train.inputs.shape[1:])
    trained, tested = other
    classes = _classes(other)
    cases = [("segmentation", network, backbone == "fine_tuned")]
    if bounds:
        start = untrained()
        cases += [("segmentation_floor", start, False), ("segmentation_ceiling", start, True)]
    found: dict[str, float] = {}
    for name, chosen, tuned in cases:
        network_used = copy.deepcopy(chosen) if tuned else chosen
        features = FeatureMap(network_used.eval(), shape)
        device = trained.inputs.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            top = _Head(features.channels, classes, head, channels)
        top = top.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model = _Segmenter(features, top, tuned)
        model.fit(trained, epochs, batch_size, learning_rate, weight_decay, seed)
        measured = scores(model.predict(tested, batch_size), tested.targets, classes)
        found |= {f"{name}_{score}": value for score, value in measured.items()}
    return found


def scores(predictions: Tensor, masks: Tensor, classes: int) -> dict[str, float]:
    """Mean intersection over union and pixel accuracy, by torchmetrics.

    Args:
        predictions: classes, integers (N, H, W) in 0..K-1.
        masks: integers (N, H, W) in 0..K-1, or `nclens.data.segmentation.IGNORED`, where nothing is measured.
        classes: K.

    Returns:
        ``miou``, the mean over classes of |A and B| / |A or B| over all pixels of all images, without classes that are
        neither predicted nor there; ``pixel_accuracy``, the share of pixels with the right class. Both in [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    import_torchvision()
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    if predictions.shape != masks.shape:
        raise ValueError(f"predictions have shape {tuple(predictions.shape)}, masks {tuple(masks.shape)}")
    options: dict[str, Any] = {"num_classes": classes, "ignore_index": IGNORED, "validate_args": False}
    measures = {
        "miou": MulticlassJaccardIndex(average="macro", **options),
        "pixel_accuracy": MulticlassAccuracy(average="micro", **options),
    }
    for some, true in zip(predictions.split(64), masks.split(64), strict=True):
        for measure in measures.values():
            measure.to(masks.device).update(some.long(), true.long())
    return {name: float(measure.compute()) for name, measure in measures.items()}


def _classes(other: tuple[Split, Split]) -> int:
    """Return K: the largest class that a pixel has, and 1."""
    return 1 + max(int(split.targets[split.targets != IGNORED].max()) for split in other)


class _Head(nn.Module):
    """A map (N, C, h, w) -> logits (N, K, h, w)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, classes: int, kind: str, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, dim, 1, 1))
        self.register_buffer("scale", torch.ones(()))
        hidden = [
            nn.Conv2d(dim, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        last = nn.Conv2d(channels if kind == "fcn" else dim, classes, 1)
        self.layers = nn.Sequential(*(hidden if kind == "fcn" else []), last)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits."""
        return self.layers((maps - self.mean) / self.scale)


class _Segmenter:
    """A head on the feature map of a network, which is trained with it where it is `tuned`."""

    def __init__(self, features: FeatureMap, head: _Head, tuned: bool) -> None:
        self.features, self.head, self.tuned = features, head, tuned

    def fit(self, split: Split, epochs: int, batch_size: int, rate: float, decay: float, seed: int) -> None:
        """Train on a split."""
        maps = self._fixed(split, batch_size)
        self._set_scale(split, batch_size)
        weights = [*self.head.parameters(), *(self.features.parameters() if self.tuned else ())]
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
        # A batch of one image may be one pixel of the map, which cannot be batch-normalised.
        batches = max(1, round(len(split) / batch_size))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
        generator = torch.Generator().manual_seed(seed)
        upsample = _Upsampling(split.inputs.shape[2:])
        for _ in range(epochs):
            self.head.train()
            self.features.train(self.tuned)
            order = torch.randperm(len(split), generator=generator).to(split.inputs.device)
            for index in order.tensor_split(batches):
                inputs, masks = split.take(index)
                made = self._maps(split, inputs) if maps is None else maps[index]
                targets = masks.long()
                # Summed here: PyTorch's own sum differs from run to run on a GPU. Of a batch without a class the mean
                # is 0, not nan.
                losses = functional.cross_entropy(
                    upsample(self.head(made)), targets, ignore_index=IGNORED, reduction="none"
                )
                optimizer.zero_grad(set_to_none=True)
                (losses.sum() / (targets != IGNORED).sum().clamp(min=1)).backward()
                optimizer.step()
                schedule.step()
        self.head.eval()
        self.features.eval()

    @torch.no_grad()
    def predict(self, split: Split, batch_size: int) -> Tensor:
        """Return the most probable class of every pixel, uint8 (N, H, W)."""
        upsample = _Upsampling(split.inputs.shape[2:])
        made = []
        for inputs in split.inputs.split(batch_size):
            logits = self.head(self._maps(split, inputs))
            # Of nan the first class would be the most probable.
            if not logits.isfinite().all():
                raise ValueError("the head's logits are not all finite: the network or the head has diverged")
            made.append(upsample(logits).argmax(1).to(torch.uint8))
        return torch.cat(made)

    def _maps(self, split: Split, inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            return self.features(split.normalise(inputs))

    @torch.no_grad()
    def _fixed(self, split: Split, batch_size: int) -> Tensor | None:
        """Return the maps of all images where they do not change and are few enough."""
        if self.tuned:
            return None
        first = self._maps(split, split.inputs[:1])
        if first.nbytes * len(split) > CACHED_BYTES:
            return None
        return torch.cat([self._maps(split, inputs) for inputs in split.inputs.split(batch_size)])

    @torch.no_grad()
    def _set_scale(self, split: Split, batch_size: int) -> None:
        """Set the head's mean and scale by the maps of the first training images, before any training."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for inputs in split.inputs[:MOMENTS_OF].split(batch_size):
            part = self._maps(split, inputs).double()
            count += part.numel() // part.shape[1]
            total = total.to(part) + part.sum((0, 2, 3))
            squares = squares.to(part) + part.square().sum()
        mean = total / count
        variance = (squares / count - mean.square().sum()) / len(mean)
        self.head.mean.copy_(mean.reshape(1, -1, 1, 1))
        self.head.scale.copy_(variance.clamp(min=0).sqrt() if float(variance) > 0 else torch.ones(()))


class _Upsampling:
    """Bilinear interpolation of logits to an image's size, as `interpolate` of PyTorch without aligned corners.

    As a product with two matrices, whose gradient on a GPU is the same from run to run.
    """

    def __init__(self, size: tuple[int, ...]) -> None:
        self.size = tuple(size)

    def __call__(self, logits: Tensor) -> Tensor:
        down, across = (
            functional.interpolate(torch.eye(short, device=logits.device)[None], side, mode="linear")[0]
            for short, side in zip(logits.shape[2:], self.size, strict=True)
        )
        return down.T @ logits @ across
