"""Seeded textures: images without objects, as samples far from any training distribution, and as backgrounds.

Six kinds, each with random wavelength, direction, phase, brightness and contrast. Lengths are in pixels, so that a
larger image shows more of the same texture and not a magnified one.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nclens.data.dataset import Dataset


def load(image_size: int, channels: int, train_per_class: int, test_per_class: int, split_seed: int) -> Dataset:
    """Return textures, a class a kind; images are uint8 (N, C, image_size, image_size).

    The images of a larger split begin with those of a smaller one of the same seed.
    """
    parts = {
        split: torch.cat(
            [
                textures(kind, count, image_size, channels, _seed(split_seed, split, place))
                for place, kind in enumerate(KINDS)
            ]
        )
        for split, count in (("train", train_per_class), ("test", test_per_class))
    }
    classes = torch.arange(len(KINDS))
    return Dataset(
        train_inputs=parts["train"],
        train_targets=classes.repeat_interleave(train_per_class),
        test_inputs=parts["test"],
        test_targets=classes.repeat_interleave(test_per_class),
        classes=list(KINDS),
        source=f"Textures made by nclens from seed {split_seed}, {image_size} x {image_size}",
        licence="none needed: no data of others",
    )


def textures(kind: str, count: int, size: int, channels: int, seed: int) -> Tensor:
    """Return images of one kind of texture.

    Args:
        kind: one of `KINDS`.
        count: how many.
        size: side in pixels, 4 or more.
        channels: 1 for grey; of more, each texture goes from one random colour to another.
        seed: of the random choices.

    Returns:
        uint8 (count, channels, size, size).

    Raises:
        ValueError: the kind is not known, or a size is too small.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: there is no texture {kind!r}; allowed: {', '.join(KINDS)}")
    for name, value, least in (("count", count, 0), ("size", size, 4), ("channels", channels, 1)):
        if value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}")
    generator = torch.Generator().manual_seed(seed)
    images = torch.empty(count, channels, size, size, dtype=torch.uint8)
    for image in images:
        ends = torch.rand(2, channels, 1, 1, generator=generator, dtype=torch.float64)
        # Apart enough to be seen: at least a quarter of the range in some channel.
        first, second = ends if float((ends[0] - ends[1]).abs().max()) > 0.25 else (0.5 * ends[0], 0.5 + 0.5 * ends[1])
        image.copy_((255 * (first + (second - first) * KINDS[kind](size, generator))).round())
    return images


def _seed(seed: int, split: str, place: int) -> int:
    return (seed * 1_000_003 + 2 * place + (split == "test")) % 2**63


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _phase(size: int, generator: torch.Generator, shortest: float, longest: float) -> Tensor:
    """Return the phase of a plane wave of random direction and wavelength at every pixel, in turns."""
    wavelength = _uniform(generator, shortest, longest)
    angle, offset = _uniform(generator, 0, math.pi), _uniform(generator, 0, 1)
    along = torch.arange(size, dtype=torch.float64)
    return (along[:, None] * math.sin(angle) + along * math.cos(angle)) / wavelength + offset


def _stripes(size: int, generator: torch.Generator) -> Tensor:
    return 0.5 + 0.5 * torch.sin(2 * math.pi * _phase(size, generator, 3, 12))


def _checks(size: int, generator: torch.Generator) -> Tensor:
    """Two sets of stripes with sharp edges, combined by exclusive or."""
    first, second = (_phase(size, generator, 4, 14) % 1 < 0.5 for _ in range(2))
    return (first ^ second).double()


def _waves(size: int, generator: torch.Generator) -> Tensor:
    """The mean of four plane waves."""
    waves = [torch.sin(2 * math.pi * _phase(size, generator, 4, 20)) for _ in range(4)]
    return 0.5 + 0.5 * torch.stack(waves).mean(dim=0)


def _dots(size: int, generator: torch.Generator) -> Tensor:
    """Discs on a square lattice."""
    step, radius = _uniform(generator, 5, 12), _uniform(generator, 0.2, 0.45)
    angle, offset = _uniform(generator, 0, math.pi / 2), torch.rand(2, generator=generator, dtype=torch.float64)
    along = torch.arange(size, dtype=torch.float64) / step
    right = along * math.cos(angle) + along[:, None] * math.sin(angle) + offset[0]
    down = along[:, None] * math.cos(angle) - along * math.sin(angle) + offset[1]
    distance = ((right % 1 - 0.5).square() + (down % 1 - 0.5).square()).sqrt()
    return (0.5 + (radius - distance) * step).clamp(0, 1)


def _clouds(size: int, generator: torch.Generator) -> Tensor:
    """Random values on coarser and finer grids, interpolated and added; the finer the fainter."""
    total = torch.zeros(size, size, dtype=torch.float64)
    step, weight = 16.0, 1.0
    for _ in range(4):
        knots = math.ceil(size / step) + 1
        coarse = torch.rand(1, 1, knots, knots, generator=generator, dtype=torch.float64)
        side = math.ceil((knots - 1) * step) + 1
        fine = torch.nn.functional.interpolate(coarse, side, mode="bilinear", align_corners=True)
        total += weight * fine[0, 0, :size, :size]
        step, weight = step / 2, weight / 2
    return (total - total.min()) / (total.max() - total.min())


def _grain(size: int, generator: torch.Generator) -> Tensor:
    return torch.rand(size, size, generator=generator, dtype=torch.float64)


KINDS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "stripes": _stripes,
    "checks": _checks,
    "waves": _waves,
    "dots": _dots,
    "clouds": _clouds,
    "grain": _grain,
}
"""Kind of texture -> its values in [0, 1] (size, size)."""
