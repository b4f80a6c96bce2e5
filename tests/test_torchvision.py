"""torchvision can be imported with any build of PyTorch."""

import subprocess
import sys

import pytest
import torch


def test_data_sets_models_and_transforms_are_there():
    from nclens._torchvision import import_torchvision

    vision = import_torchvision()
    assert vision.datasets.CIFAR10
    assert vision.models.resnet18(num_classes=3)(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert vision.transforms.ToTensor


@pytest.mark.lengthy
def test_nothing_is_declared_where_the_real_operators_load():
    code = (
        "import nclens._torchvision as v\n"
        "try:\n    import torchvision\n    loads = True\nexcept RuntimeError:\n    loads = False\n"
        "v.import_torchvision()\n"
        "assert bool(v._declared) == (not loads)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
