"""Networks: a backbone that makes features, and a linear head that makes logits.

Each builder is registered under its own name, which is its name in the configuration; its keyword arguments are the
entry's keys. A builder returns the backbone and its feature dimension d; the head is the same for all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nclens import custom

MODELS: dict[str, Callable[..., tuple[nn.Module, int]]] = {}


def register(builder: Callable[..., tuple[nn.Module, int]]) -> Callable[..., tuple[nn.Module, int]]:
    """Register a builder under its own name."""
    MODELS[builder.__name__] = builder
    return builder


class Network(nn.Module):
    """A backbone x -> h in R^d and a linear head z = W h + b.

    Attributes:
        backbone: maps inputs (N, ...) to features h (N, d).
        head: linear, weight W (K, d) and bias b (K,).
    """

    def __init__(self, backbone: nn.Module, dim: int, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(dim, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K)."""
        return self.head(self.backbone(inputs))


def build_network(entry: dict[str, Any], shape: Sequence[int], outputs: int) -> Network:
    """Return the network of a model entry for inputs of `shape` (C, H, W) or (F,) and K = `outputs`.

    The user's own function gets `shape` and `outputs` and its parameters, and returns a module whose last linear layer,
    of `outputs` rows, is the head.

    Raises:
        ValueError: the model does not fit the inputs, or has no linear head.
    """
    entry = {key: value for key, value in entry.items() if key != "entry"}
    if "function" in entry:
        module = custom.call(entry["file"], entry["function"], tuple(shape), outputs, **entry["parameters"])
        return split_at_head(module, shape, outputs, entry["function"])
    backbone, dim = MODELS[entry.pop("name")](tuple(shape), **entry)
    return Network(backbone, dim, outputs)


def place_network(network: Network, shape: Sequence[int], device: torch.device) -> Network:
    """Move a network to the device, in the memory format that is fast for its inputs: channels last for images."""
    network = network.to(device)
    if len(shape) == 3:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def split_at_head(module: nn.Module, shape: Sequence[int], outputs: int, name: str) -> Network:
    """Return the network whose backbone is `module` without its last linear layer, and whose head is that layer.

    Raises:
        ValueError: there is no linear layer, the last one has not `outputs` rows, the module does not take inputs of
            `shape`, or something comes after its last linear layer.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"the model {name} must be a torch.nn.Module, not {type(module).__name__}")
    linear = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(f"the model {name} has no linear layer that could be its head")
    path, head = linear[-1]
    if head.out_features != outputs:
        raise ValueError(
            f"the model {name} ends in a linear layer `{path}` of {head.out_features} rows; "
            f"the data have {outputs} classes"
        )
    # Chance of the comparison below must not reach the weights or what is drawn after them.
    example = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    training = module.training
    try:
        with torch.no_grad():
            expected = module.eval()(example)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the model {name} does not take inputs of shape {tuple(shape)}: {error}") from error
    network = Network(nn.Identity(), head.in_features, outputs)
    network.head = head
    if path:
        parent, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(parent), leaf, nn.Identity())
        network.backbone = module
    try:
        with torch.no_grad():
            same = torch.equal(network.eval()(example), expected)
    except RuntimeError:
        same = False
    if not same:
        raise ValueError(f"the model {name} must end in its last linear layer `{path}`; something comes after it")
    return network.train(training)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (1x1 where the shape changes)."""

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
        """Return the block's output, after ReLU."""
        hidden = torch.relu_(self.norm1(self.conv1(inputs)))
        return torch.relu_(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


@register
def resnet8(
    shape: tuple[int, ...], *, width: int = 16, stem_stride: int = 2, signed_features: bool = False
) -> tuple[nn.Module, int]:
    """Return a small ResNet's backbone: 3x3 stem, three stages of one basic block, global average pooling.

    The stages have `width`, 2 `width` and 4 `width` channels, the last two with stride 2; features are taken after the
    last ReLU and the pooling, so they are non-negative and d = 4 `width`. With `signed_features` a batch normalisation
    follows the pooling, so that features have both signs, as the unconstrained feature model's have.

    Raises:
        ValueError: the inputs are no images.
    """
    if len(shape) != 3:
        raise ValueError(f"resnet8 needs images (C, H, W), not inputs of shape {shape}")
    widths = (width, 2 * width, 4 * width)
    backbone = nn.Sequential(
        nn.Conv2d(shape[0], width, 3, stem_stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        BasicBlock(width, widths[0], 1),
        BasicBlock(widths[0], widths[1], 2),
        BasicBlock(widths[1], widths[2], 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    if signed_features:
        backbone.append(nn.BatchNorm1d(widths[2]))
    return backbone, widths[2]
