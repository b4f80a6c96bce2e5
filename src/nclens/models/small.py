"""Convolutional networks of any width for small images, with global average pooling before the head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nclens.models.blocks import block
from nclens.models.network import Network, check_images, register


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (1x1 convolution if the shape changes)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output (N, C, H, W) of the block, after the ReLU."""
        hidden = torch.relu_(self.norm1(self.conv1(inputs)))
        # In place: no later step of the backward pass reads what is overwritten.
        return torch.relu_(self.norm2(self.conv2(hidden)).add_(self.shortcut(inputs)))


class GlobalAveragePool(nn.Module):
    """Mean over the pixels, (N, C, H, W) -> (N, C)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mean of each channel (N, C)."""
        if not torch.is_grad_enabled():
            return functional.adaptive_avg_pool2d(inputs, 1).flatten(1)  # of every memory layout, oneDNN's too
        # Channels last, and so is the gradient; that of adaptive pooling is not, and the next layer is slow on it.
        return inputs.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def pooled(layers: Sequence[nn.Module], dim: int, outputs: int, signed_features: bool) -> Network:
    """Return the network of convolutional layers with `dim` output channels, global average pooling and a head.

    With `signed_features` a batch normalisation follows the pooling, so that features take both signs, as in the
    unconstrained feature model; otherwise they are non-negative if the outputs of the layers are.
    """
    # nn.Flatten has nothing left to do; it keeps the names of the layers behind it.
    backbone = nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten())
    if signed_features:
        backbone.append(nn.BatchNorm1d(dim))
    return Network(backbone, dim, outputs)


@register
def resnet8(
    shape: Sequence[int], outputs: int, *, width: int = 16, stem_stride: int = 2, signed_features: bool = False
) -> Network:
    """Return a small ResNet: 3x3 stem, three stages of one basic block, global average pooling.

    The stages have `width`, 2 `width` and 4 `width` channels, the last two with stride 2. Features are the output of
    the pooling after the last ReLU, so they are non-negative, and d = 4 `width`. With `signed_features` a batch
    normalisation follows the pooling, so that features take both signs.

    Raises:
        ValueError: the inputs are not images.
    """
    check_images("resnet8", shape)
    return _small_resnet(1, shape, outputs, width, stem_stride, signed_features)


@register
def resnet20(
    shape: Sequence[int], outputs: int, *, width: int = 16, stem_stride: int = 1, signed_features: bool = False
) -> Network:
    """Return the ResNet-20 of small images: as `resnet8`, with three basic blocks a stage (arXiv 1512.03385).

    Raises:
        ValueError: the inputs are not images.
    """
    check_images("resnet20", shape)
    return _small_resnet(3, shape, outputs, width, stem_stride, signed_features)


def _small_resnet(
    blocks: int, shape: Sequence[int], outputs: int, width: int, stem_stride: int, signed_features: bool
) -> Network:
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], width, 3, stem_stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        block(nn.ReLU(inplace=True)),
    ]
    channels = width
    for stage, wide in enumerate((width, 2 * width, 4 * width)):
        for number in range(blocks):
            layers.append(block(BasicBlock(channels, wide, 2 if stage and not number else 1)))
            channels = wide
    return pooled(layers, channels, outputs, signed_features)


#: Depth of a VGG, which counts the three linear layers of the original -> convolutions of each of its five groups.
VGG_GROUPS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


@register
def vgg(
    shape: Sequence[int], outputs: int, *, depth: int = 11, width: int = 64, signed_features: bool = False
) -> Network:
    """Return a VGG with batch normalisation for small images: five groups of 3x3 convolutions, global average pooling.

    The groups have 1, 2, 4, 8 and 8 times `width` channels, with 2x2 max-pooling between them. Global average pooling
    replaces the last max-pooling and the hidden linear layers, so that a single linear head follows the features, which
    are non-negative, with d = 8 `width`. `depth` is 11, 13 or 16; `signed_features` is as for `resnet8`.

    Raises:
        ValueError: the inputs are not images, or are smaller than 16 x 16.
    """
    check_images("vgg", shape, smallest=16)
    layers: list[nn.Module] = []
    channels = shape[0]
    for group, convolutions in enumerate(VGG_GROUPS[depth]):
        if group:
            layers.append(nn.MaxPool2d(2))
        for _ in range(convolutions):
            wide = width * min(2**group, 8)
            layers += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide)]
            layers.append(block(nn.ReLU(inplace=True)))
            channels = wide
    return pooled(layers, channels, outputs, signed_features)
