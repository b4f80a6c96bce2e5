"""Networks of torchvision and timm, imported when one is built, with random weights: nothing is downloaded."""

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from nclens._torchvision import import_torchvision
from nclens.models.blocks import block
from nclens.models.head import split_at_head
from nclens.models.memory import is_out_of_memory
from nclens.models.network import Network, UnfitError, check_images, register


@register
def resnet18(shape: Sequence[int], outputs: int, *, stem: str = "paper", signed_features: bool = False) -> Network:
    """Return torchvision's ResNet-18, d = 512; the options are those of `published_resnet`."""
    return published_resnet("resnet18", shape, outputs, stem, signed_features)


@register
def resnet34(shape: Sequence[int], outputs: int, *, stem: str = "paper", signed_features: bool = False) -> Network:
    """Return torchvision's ResNet-34, d = 512; the options are those of `published_resnet`."""
    return published_resnet("resnet34", shape, outputs, stem, signed_features)


@register
def resnet50(shape: Sequence[int], outputs: int, *, stem: str = "paper", signed_features: bool = False) -> Network:
    """Return torchvision's ResNet-50, d = 2048; the options are those of `published_resnet`."""
    return published_resnet("resnet50", shape, outputs, stem, signed_features)


def published_resnet(name: str, shape: Sequence[int], outputs: int, stem: str, signed_features: bool) -> Network:
    """Return a ResNet of torchvision for images of any number of channels, with features after its pooling.

    Features are the output of the global average pooling, after ReLU, so they are non-negative (2402.03979, setup).

    Args:
        name: the ResNet's name in torchvision.
        shape: shape of an image, (C, H, W).
        outputs: number of outputs K.
        stem: `paper`, for small images: first convolution 3x3, stride 1, padding 1, no bias, and no max-pooling
            (2402.03979, setup); `imagenet`: torchvision's own, 7x7 with stride 2, and max-pooling.
        signed_features: a batch normalisation follows the pooling, as in the released code's UFM-regularised runs, so
            that features take both signs.

    Raises:
        ValueError: the inputs are not images.
    """
    check_images(name, shape)
    trunk = getattr(import_torchvision().models, name)(num_classes=outputs)
    kernel, stride = (3, 1) if stem == "paper" else (7, 2)
    trunk.conv1 = nn.Conv2d(shape[0], trunk.conv1.out_channels, kernel, stride, padding=kernel // 2, bias=False)
    # torchvision's initialisation of convolutions; that of the paper's code is unknown for this layer.
    nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
    if stem == "paper":
        trunk.maxpool = nn.Identity()
    block(trunk.maxpool)
    for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
        for one in stage:
            block(one)
    dim = trunk.fc.in_features
    # `fc` follows the pooling in torchvision's forward pass.
    trunk.fc = nn.BatchNorm1d(dim) if signed_features else nn.Identity()
    return Network(trunk, dim, outputs)


@register
def torchvision(shape: Sequence[int], outputs: int, *, builder: str, parameters: dict[str, Any]) -> Network:
    """Return any classifier of torchvision whose last linear layer is its head.

    Args:
        shape: shape of an image, (3, H, W).
        outputs: number of outputs K.
        builder: its name in torchvision, such as `densenet121`.
        parameters: further keyword arguments of the builder.

    Raises:
        ValueError: torchvision has no such classifier, it does not accept the parameters or the images, or its head is
            not a linear layer.
    """
    models = import_torchvision().models
    known = models.list_models(module=models)
    if builder not in known:
        near = difflib.get_close_matches(builder, known, n=1)
        hint = f" (did you mean `{near[0]}`?)" if near else ""
        raise ValueError(f"torchvision has no classifier `{builder}`{hint}; it has: {', '.join(known)}")
    name = f"`{builder}` of torchvision"
    check_images(name, shape)
    if shape[0] != 3:
        raise UnfitError(f"{name} takes images with 3 channels, not {shape[0]}")
    try:
        module = models.get_model(builder, weights=None, num_classes=outputs, **parameters)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = f"{name} cannot be built with parameters {parameters}: {type(error).__name__}: {error}"
        raise ValueError(message) from error
    return split_at_head(module, shape, outputs, name)


@register
def timm(shape: Sequence[int], outputs: int, *, builder: str, parameters: dict[str, Any]) -> Network:
    """Return any classifier of timm whose last linear layer is its head.

    Args:
        shape: shape of an image, (C, H, W).
        outputs: number of outputs K.
        builder: its name in timm, such as `resnet10t`.
        parameters: further keyword arguments of `timm.create_model`. `drop_path_rate` is the rate of stochastic depth
            of the last residual block, in [0, 1); it rises linearly with the depth from 0 at the first.

    Raises:
        ValueError: timm is not installed, it has no such classifier, that does not accept the parameters or the images,
            has no residual block to skip, or its head is not a linear layer.
    """
    import_torchvision()  # which timm imports
    try:
        package = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ValueError("a model of `name: timm` needs the package timm: pip install 'nclens[timm]'") from None
    if not package.is_model(builder):
        near = difflib.get_close_matches(builder, package.list_models(), n=1)
        hint = f" (did you mean `{near[0]}`?)" if near else ""
        raise ValueError(f"timm has no model `{builder}`{hint}; `timm.list_models()` has their names")
    name = f"`{builder}` of timm"
    check_images(name, shape)
    rate = parameters.get("drop_path_rate")
    try:
        module = package.create_model(builder, num_classes=outputs, in_chans=shape[0], **parameters)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if rate and "drop_path_rate" in str(error):
            raise ValueError(f"{name} has no stochastic depth: it takes no `drop_path_rate`") from error
        message = f"{name} cannot be built with parameters {parameters}: {type(error).__name__}: {error}"
        raise ValueError(message) from error
    # Some take the argument and ignore it.
    skipping = any(getattr(layer, "drop_prob", 0.0) for layer in module.modules() if type(layer).__name__ == "DropPath")
    if rate and not skipping:
        raise ValueError(f"{name} has no residual block that stochastic depth could skip")
    return split_at_head(module, shape, outputs, name)
