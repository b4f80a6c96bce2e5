"""NC1 of a few samples, by hand."""

import math

import pytest
import torch

from nclens.workflow.agreement import nc1_of


def test_nc1_is_of_the_classes_with_two_samples():
    features = torch.tensor([[3.0], [1.0], [-1.5], [-2.5], [9.0]])
    assert nc1_of(features, torch.tensor([0, 0, 4, 4, 7])) == pytest.approx(
        nc1_of(features[:4], torch.tensor([0, 0, 1, 1]))
    )
    assert nc1_of(features, torch.tensor([0, 0, 1, 2, 3])) == 0
    assert nc1_of(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])) == math.inf
