"""torchvision can be imported with any build of PyTorch: by nclens, by a user's file, and by what that imports."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nclens import _torchvision
from tests.process import python

ROOT = Path(__file__).parents[1]


def test_data_sets_models_and_transforms_are_there():
    vision = _torchvision.import_torchvision()
    assert vision.datasets.CIFAR10
    assert vision.models.resnet18(num_classes=3)(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert vision.transforms.ToTensor


@pytest.mark.lengthy
def test_nothing_is_declared_where_the_real_operators_load():
    code = (
        "import nclens._torchvision as v\n"
        "try:\n    import torchvision\n    loads = True\nexcept RuntimeError:\n    loads = False\n"
        "assert (v.complaint() is None) == loads\n"
        "v.import_torchvision()\n"
        "assert bool(v._declared) == (not loads)\n"
        "assert v.complaint() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


USER_FILE = """
import torch, torchvision
from torchvision.transforms import v2
from neighbour import resnet18

def net(shape, outputs):
    return torchvision.ops.MLP(1, [outputs])
"""


@pytest.mark.lengthy
@pytest.mark.parametrize("first", ["from nclens.workflow.build.functions import load_function", "import nclens.cli"])
def test_a_users_file_and_its_neighbours_may_import_torchvision_first(tmp_path, first):
    (tmp_path / "mine.py").write_text(USER_FILE)
    (tmp_path / "neighbour.py").write_text("from torchvision.models import resnet18\n")
    python(
        f"{first}\n"
        "from nclens.workflow.build.functions import load_function\n"
        "import sys\n"
        "assert 'torchvision' not in sys.modules\n"  # nothing heavy for files that need none
        "net = load_function(sys.argv.pop(1), 'mine:net')\n"
        "assert net((1,), 2)(sys.modules['torch'].ones(1, 1)).shape == (1, 2)\n"
        "import nclens._torchvision as v, torchvision\n"
        "assert v.import_torchvision() is torchvision\n",
        tmp_path / "mine.py",
    )


def test_the_repair_imports_nothing_until_it_is_needed():
    code = "import sys, nclens.workflow; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_repair_is_there_once():
    for _ in range(2):
        _torchvision.repair_on_import()
    assert sum(isinstance(finder, _torchvision._Finder) for finder in sys.meta_path) == 1


@pytest.mark.parametrize(
    ("build", "index"), [("2.13.0+cpu", "same index, here https://download.pytorch.org/whl/cpu"), ("2.13.0", "index")]
)
def test_set_up_says_in_one_line_that_other_packages_cannot_import_it(monkeypatch, build, index):
    def fails(name):
        raise RuntimeError(f"operator {name}::nms does not exist\nsecond line")

    monkeypatch.setattr(importlib, "import_module", fails)
    monkeypatch.setattr(_torchvision, "_version", {"torch": build, "torchvision": "0.28.0"}.get)
    line = _torchvision.complaint()
    assert line.startswith(f"torchvision 0.28.0 cannot be imported with torch {build} (operator torchvision::nms does")
    assert "timm, Lightning and other programs fail" in line
    assert line.endswith(index)
    assert "\n" not in line


def test_make_setup_runs_that_check_and_other_targets_do_not():
    def commands(target):
        make = ["make", "--dry-run", "--assume-old=.venv/ready", target]
        return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "python -m nclens._torchvision" in commands("setup")
    assert "nclens._torchvision" not in commands("report")


def test_scores_by_torchmetrics_need_no_repair_by_others():
    python(
        "import torch\n"
        "from nclens.probes.segmentation import scores\n"
        "masks = torch.tensor([[[0, 1], [1, 0]]])\n"
        "assert scores(masks, masks, 2)['miou'] == 1\n"
    )
