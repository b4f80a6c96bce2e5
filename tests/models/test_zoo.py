"""Networks of torchvision and timm: ResNets with another stem, and any classifier that ends in a linear layer."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from nclens._torchvision import import_torchvision
from nclens.workflow.build.models import build_network


def classifier(builder, shape=(3, 64, 64), outputs=4, **parameters):
    entry = {"name": "torchvision", "builder": builder, "parameters": parameters}
    return build_network(entry, shape, outputs)


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_173_962), ("resnet50", 23_520_842)])
def test_the_papers_stem(name, parameters):
    network = build_network({"name": name}, (3, 32, 32), 10)
    stem = network.backbone.conv1
    assert (stem.kernel_size, stem.stride, stem.padding, stem.bias) == ((3, 3), (1, 1), (1, 1), None)
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in network.modules())
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    # Nothing before the second stage halves the image.
    with torch.no_grad():
        hidden = network.backbone.layer1(network.backbone.maxpool(stem(torch.rand(1, 3, 32, 32))))
    assert hidden.shape[2:] == (32, 32)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_with_the_imagenet_stem_it_is_torchvisions(name):
    theirs = getattr(import_torchvision().models, name)(num_classes=7).eval()
    ours = build_network({"name": name, "stem": "imagenet"}, (3, 64, 64), 7).eval()
    weights = theirs.state_dict()
    head = {key: weights.pop(f"fc.{key}") for key in ("weight", "bias")}
    ours.backbone.load_state_dict(weights)
    ours.head.load_state_dict(head)
    inputs = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(inputs), theirs(inputs))


def test_signed_features_follow_the_pooling():
    plain = build_network({"name": "resnet18"}, (3, 16, 16), 3)
    signed = build_network({"name": "resnet18", "signed_features": True}, (3, 16, 16), 3)
    signed.backbone.load_state_dict(plain.backbone.state_dict(), strict=False)
    inputs = torch.rand(6, 3, 16, 16)
    with torch.no_grad():
        pooled = plain.train().backbone(inputs)
        made = signed.train().backbone(inputs)
    expected = (pooled - pooled.mean(0)) / (pooled.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("builder", "dim", "parameters"),
    [
        ("mobilenet_v3_small", 1024, {}),
        ("efficientnet_b0", 1280, {"dropout": 0.0}),
        ("densenet121", 1024, {}),
        ("googlenet", 1024, {"aux_logits": False, "init_weights": False}),
        ("vit_b_32", 768, {"image_size": 64}),
        ("swin_t", 768, {}),
        ("alexnet", 4096, {}),
    ],
)
def test_a_classifier_by_name_is_split_at_its_head(builder, dim, parameters):
    network = classifier(builder, **parameters).eval()
    inputs = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = network.backbone(inputs)
        assert features.shape == (2, dim)
        torch.testing.assert_close(network(inputs), network.head(features))
    assert network.head.out_features == 4


@pytest.mark.parametrize(
    ("builder", "parameters", "words"),
    [
        ("densnet121", {}, r"no classifier `densnet121` \(did you mean `densenet121`\?\); it has: alexnet, "),
        ("fcn_resnet50", {}, "no classifier `fcn_resnet50`"),
        ("squeezenet1_1", {}, "`squeezenet1_1` of torchvision has no linear layer that could be its head"),
        ("densenet121", {"growth": 3}, "`densenet121` of torchvision cannot be built with .*unexpected.*'growth'"),
        ("vit_b_32", {"image_size": 33}, "cannot be built with .*'image_size': 33"),
        ("vit_b_32", {}, r"does not accept inputs of shape \(3, 64, 64\): AssertionError: Wrong image height"),
        ("googlenet", {"init_weights": False}, "GoogLeNetOutputs in training .* switch off its auxiliary outputs"),
    ],
)
def test_unsuitable_models_are_refused(builder, parameters, words):
    with pytest.raises(ValueError, match=words):
        classifier(builder, **parameters)


def test_a_classifier_takes_colour_images():
    with pytest.raises(ValueError, match="takes images with 3 channels, not 1"):
        classifier("densenet121", (1, 28, 28))


def of_timm(builder, shape=(1, 32, 32), **entry):
    return build_network({"name": "timm", "builder": builder, "parameters": {}} | entry, shape, 4)


@pytest.mark.lengthy
@pytest.mark.parametrize(("builder", "dim"), [("test_resnet", 96), ("test_vit", 64), ("test_convnext", 64)])
def test_a_model_of_timm_is_split_at_its_head(builder, dim):
    network = of_timm(builder).eval()
    inputs = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        features = network.backbone(inputs)
        torch.testing.assert_close(network(inputs), network.head(features))
    assert (network.head.in_features, network.head.out_features) == (dim, 4)


@pytest.mark.lengthy
def test_stochastic_depth_skips_blocks_in_training_alone_and_has_no_weights():
    plain, skipping = of_timm("test_resnet"), of_timm("test_resnet", parameters={"drop_path_rate": 0.6})
    rates = [layer.drop_prob for layer in skipping.modules() if type(layer).__name__ == "DropPath"]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.6)
    skipping.load_state_dict(plain.state_dict())
    inputs = torch.rand(8, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(skipping.eval()(inputs), plain.eval()(inputs))
        skipping.train()
        for layer in skipping.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval().weight.fill_(1.0)  # that of a block's last one is 0 at first
        torch.manual_seed(0)
        first, other = skipping(inputs), skipping(inputs)
        torch.manual_seed(0)
        assert torch.equal(skipping(inputs), first)
    assert not torch.equal(first, other)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("builder", "entry", "words"),
    [
        ("test_resnett", {}, r"timm has no model `test_resnett` \(did you mean `test_resnet`\?\)"),
        (
            "vgg11",
            {"parameters": {"drop_path_rate": 0.1}},
            "`vgg11` of timm has no stochastic depth: it takes no `drop_path_rate`",
        ),
        ("test_resnet", {"parameters": {"depth": 3}}, "`test_resnet` of timm cannot be built with parameters .*depth"),
    ],
)
def test_unsuitable_models_of_timm_are_refused(builder, entry, words):
    with pytest.raises(ValueError, match=words):
        of_timm(builder, **entry)


@pytest.mark.lengthy
def test_timm_takes_images():
    with pytest.raises(ValueError, match=r"`test_resnet` of timm needs images \(C, H, W\)"):
        of_timm("test_resnet", (7,))


@pytest.mark.lengthy
def test_torchvision_is_imported_only_when_a_network_of_it_is_built():
    code = (
        "import sys\n"
        "from nclens.workflow.build.models import build_network\n"
        "build_network({'name': 'vgg', 'width': 2}, (3, 16, 16), 3)\n"
        "assert not any(name.split('.')[0] == 'torchvision' for name in sys.modules)\n"
        "build_network({'name': 'resnet18'}, (3, 16, 16), 3)\n"
        "assert 'torchvision.models' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
