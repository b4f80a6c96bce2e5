"""Networks of our own for small images."""

import pytest
import torch
from torch import nn

from nclens.models.small import GlobalAveragePool
from nclens.workflow.build.models import build_network


def test_resnet8_has_the_documented_shape():
    network = build_network({"entry": "x", "name": "resnet8", "width": 16, "stem_stride": 2}, (1, 28, 28), 10)
    features = network.backbone(torch.rand(2, 1, 28, 28))
    assert features.shape == (2, 64)
    assert sum(parameter.numel() for parameter in network.parameters()) == 77_754
    stem = network.backbone[0]
    assert (stem.kernel_size, stem.stride, stem.bias) == ((3, 3), (2, 2), None)


@pytest.mark.parametrize("depth", [11, 13, 16])
def test_vgg_has_the_convolutions_of_its_name(depth):
    """The original's depth counts three linear layers where this one has one."""
    network = build_network({"name": "vgg", "depth": depth, "width": 2}, (3, 32, 32), 4)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == depth - 3
    assert {(layer.kernel_size, layer.stride, layer.padding) for layer in convolutions} == {((3, 3), (1, 1), (1, 1))}
    assert sorted({layer.out_channels for layer in convolutions}) == [2, 4, 8, 16]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in network.modules()) == 4


@pytest.mark.parametrize("depth", [11, 13, 16])
def test_vgg_at_full_width_has_torchvisions_convolutions(depth):
    from nclens._torchvision import import_torchvision

    with torch.device("meta"):
        theirs = getattr(import_torchvision().models, f"vgg{depth}_bn")()
        ours = build_network({"name": "vgg", "depth": depth}, (3, 32, 32), 10)

    def shapes(module):
        return [layer.weight.shape for layer in module.modules() if isinstance(layer, nn.Conv2d)]

    assert shapes(ours) == shapes(theirs)


def test_vgg_says_how_large_images_must_be():
    assert build_network({"name": "vgg", "width": 2}, (1, 16, 16), 3).eval()(torch.rand(1, 1, 16, 16)).shape == (1, 3)
    with pytest.raises(ValueError, match="at least 16 x 16 pixels, not 15 x 20"):
        build_network({"name": "vgg", "width": 2}, (1, 15, 20), 3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_is_the_mean_over_pixels_and_its_gradient_is_channels_last(layout):
    inputs = torch.rand(2, 5, 3, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    pooled = GlobalAveragePool()(inputs)
    torch.testing.assert_close(pooled, nn.AdaptiveAvgPool2d(1)(inputs).flatten(1))
    seen = []
    hidden = inputs * 1
    hidden.register_hook(seen.append)
    GlobalAveragePool()(hidden).square().sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(seen[0], (pooled / 6)[:, :, None, None].expand(2, 5, 3, 4))


def test_pooling_gives_the_same_bits_without_a_gradient_and_takes_onednns_layout():
    inputs = torch.rand(7, 16, 5, 5).contiguous(memory_format=torch.channels_last)
    pooled = GlobalAveragePool()(inputs)
    with torch.no_grad():
        assert torch.equal(GlobalAveragePool()(inputs), pooled)
        if torch.backends.mkldnn.is_available():
            torch.testing.assert_close(GlobalAveragePool()(inputs.to_mkldnn()).to_dense(), pooled)
