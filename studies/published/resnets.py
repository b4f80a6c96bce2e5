"""ResNets for CIFAR-10 (He et al. 2016, arXiv 1512.03385, section 4.2), with the names of the published weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters: every second pixel, and channels of zeros on both sides."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.stride, self.more = (1, 0) if before == channels else (2, (channels - before) // 2)
        self.conv1 = nn.Conv2d(before, channels, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more))
        return torch.relu(inner + shortcut)


class ResNet(nn.Module):
    """A convolution, three stages of 16, 32 and 64 channels with as many blocks each, the mean over pixels, a head."""

    def __init__(self, blocks: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        for number, channels in enumerate((16, 32, 64), 1):
            inputs = [max(16, channels // 2), *[channels] * (blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*(Block(before, channels) for before in inputs)))
        self.linear = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def resnet(shape: tuple[int, ...], outputs: int, blocks: int) -> ResNet:
    """Build a network of 6 `blocks` + 2 layers."""
    return ResNet(blocks, outputs)
