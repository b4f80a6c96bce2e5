"""Information: how much a logit difference tells about the single input, beyond its class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nclens.data.tensors import Split, flip_crop
from nclens.metrics.representation import mutual_information
from nclens.models import Network

BATCH = 250

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""Stored images (N, C, H, W) and a generator -> as many images, each changed at random."""


def random_shift(images: Tensor, generator: torch.Generator, pixels: int = 2) -> Tensor:
    """Return each image moved by -`pixels`..`pixels` whole pixels down and to the right, all equally likely.

    The edges are filled with zeros in stored units, which is black for MNIST. For images (N, C, H, W) of any type.

    Source: arXiv 1906.02629; 2 pixels are our choice for MNIST.
    """
    count, _, height, width = images.shape
    device = images.device
    offsets = torch.randint(2 * pixels + 1, (count, 2), generator=generator, device=generator.device).to(device)
    rows = offsets[:, :1] + torch.arange(height, device=device)
    columns = offsets[:, 1:] + torch.arange(width, device=device)
    padded = torch.nn.functional.pad(images, [pixels] * 4).permute(0, 2, 3, 1)
    picture = torch.arange(count, device=device)[:, None, None]
    return padded[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


AUGMENTATIONS: dict[str, Augmentation] = {"shift": random_shift, "flip_crop": flip_crop}
"""By the name in a study's configuration: shifted by up to 2 pixels, or flipped and cropped as in training."""


def logit_information(
    network: Network,
    train: Split,
    *,
    classes: Sequence[int],
    augmentation: str,
    samples: int,
    draws: int,
    seed: int,
) -> dict[str, float]:
    """Mutual information between the input and the difference of two classes' logits under random augmentation.

    Args:
        network: left in evaluation mode.
        train: images and targets.
        classes: two class numbers.
        augmentation: a key of `AUGMENTATIONS`.
        samples, draws: as for :func:`logit_differences`.
        seed: of the choice of samples and the augmentations.

    Returns:
        ``mutual_information``, in nats, see :func:`nclens.metrics.representation.mutual_information`.

    Raises:
        ValueError: as :func:`logit_differences` and `mutual_information`.
    """
    first, second = classes
    generator = torch.Generator(train.inputs.device).manual_seed(seed)
    found = logit_differences(
        network, train, (first, second), AUGMENTATIONS[augmentation], samples=samples, draws=draws, generator=generator
    )
    return {"mutual_information": mutual_information(*found)}


@torch.no_grad()
def logit_differences(
    network: Network,
    split: Split,
    classes: tuple[int, int],
    augment: Augmentation,
    *,
    samples: int = 600,
    draws: int = 5,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Logit differences ``z_a - z_b`` of samples of classes a and b: one fresh draw, and the mean over other draws.

    The arguments of :func:`nclens.metrics.representation.mutual_information`: for each input x the value f_x at one
    random augmentation, and mu_x, the mean over `draws` other ones.

    Args:
        network: left in evaluation mode.
        split: images and targets.
        classes: a and b, class numbers that differ.
        augment: the random augmentation of stored images.
        samples: N, half of each class, chosen at random. If a class has fewer, all of it and as many of the other, so
            that the class itself contributes log 2.
        draws: L, augmentations per mean.
        generator: of the choice and the augmentations, on the device of the split.

    Returns:
        draws (N,) and means (N,), float64.

    Raises:
        ValueError: the classes are equal, one of them has no samples, the inputs are not images, `samples` is below 2
            or `draws` below 1.

    Source: arXiv 1906.02629; L = 5, N = 600.
    """
    if split.inputs.ndim != 4:
        raise ValueError(f"mutual information needs images (N, C, H, W), not rows of shape {tuple(split.inputs.shape)}")
    if samples < 2 or draws < 1:
        raise ValueError(f"samples must be at least 2 and draws at least 1, got {samples} and {draws}")
    members = [(split.targets == label).nonzero()[:, 0] for label in classes]
    if classes[0] == classes[1] or not all(len(of_class) for of_class in members):
        counts = ", ".join(f"{label}: {len(of_class)}" for label, of_class in zip(classes, members, strict=True))
        raise ValueError(f"classes must be two different ones that have samples, got {counts} samples")
    size = min(samples // 2, *(len(of_class) for of_class in members))
    device = split.inputs.device
    chosen = torch.cat(
        [of_class[torch.randperm(len(of_class), generator=generator, device=device)[:size]] for of_class in members]
    )
    network.eval()

    def draw() -> Tensor:
        images = augment(split.inputs[chosen], generator)
        logits = torch.cat([network(split.normalise(batch)) for batch in images.split(BATCH)]).double()
        return logits[:, classes[0]] - logits[:, classes[1]]

    means = torch.stack([draw() for _ in range(draws)]).mean(dim=0)
    return draw(), means
