"""Unequal classes and wrong labels: sizes by the formula, seeds, and the labels that are kept."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.data.alterations import altered, class_sizes, imbalanced, noisy
from nclens.data.dataset import Dataset


def data(classes=4, each=40):
    targets = torch.arange(classes * each) % classes
    rows = torch.arange(float(len(targets)))[:, None]
    names = [str(k) for k in range(classes)]
    return Dataset(train_inputs=rows, train_targets=targets, test_inputs=rows, test_targets=targets, classes=names)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5000), st.integers(2, 20), st.floats(1, 1000))
def test_sizes_fall_from_n_to_n_over_r(samples, classes, ratio):
    sizes = class_sizes(samples, classes, "exponential", ratio)
    assert sizes == [max(1, math.floor(samples * ratio ** (-k / (classes - 1)) + 0.5)) for k in range(classes)]
    step = class_sizes(samples, classes, "step", ratio)
    assert set(step[: classes - classes // 2]) == {samples}
    assert set(step[classes - classes // 2 :]) == {sizes[-1]}


def test_a_subset_is_seeded_and_contains_the_smaller_one():
    few, more = (imbalanced(data(), kind="exponential", ratio=ratio, seed=3) for ratio in (20, 4))
    assert few.train_targets.bincount().tolist() == class_sizes(40, 4, "exponential", 20)
    assert set(few.train_inputs.flatten().tolist()) < set(more.train_inputs.flatten().tolist())
    assert torch.equal(few.train_inputs.flatten().long() % 4, few.train_targets)
    assert torch.equal(few.train_inputs, imbalanced(data(), kind="exponential", ratio=20, seed=3).train_inputs)
    assert not torch.equal(few.train_inputs, imbalanced(data(), kind="exponential", ratio=20, seed=4).train_inputs)
    assert few.test_targets.bincount().tolist() == [40] * 4
    step = imbalanced(data(), kind="step", ratio=8, minority=[0])
    assert step.facts["imbalance"] == {"kind": "step", "ratio": 8, "seed": 0, "minority": [0]}
    assert step.target_facts["train_counts"] == [5, 40, 40, 40]


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_wrong_labels_are_a_share_and_the_clean_ones_stay(kind):
    made = noisy(data(), share=0.3, kind=kind, seed=1)
    wrong = made.train_targets != made.train_clean_targets
    assert torch.equal(made.train_clean_targets, data().train_targets)
    assert int(wrong.sum()) == made.target_facts["noisy_labels"] == 48
    steps = (made.train_targets - made.train_clean_targets)[wrong] % 4
    assert steps.unique().tolist() == ([1, 2, 3] if kind == "symmetric" else [1])
    assert torch.equal(made.train_targets, noisy(data(), share=0.3, kind=kind, seed=1).train_targets)
    assert not torch.equal(made.train_targets, noisy(data(), share=0.3, kind=kind, seed=2).train_targets)
    assert torch.equal(made.tensors["train.clean_targets"], made.train_clean_targets)


def test_imbalance_comes_before_noise_and_clean_labels_go_along():
    both = altered(data(), {"kind": "step", "ratio": 4}, {"share": 0.1})
    assert both.train_clean_targets.bincount().tolist() == [40, 40, 10, 10]
    assert torch.equal(both.train_clean_targets, both.train_inputs.flatten().long() % 4)
    again = imbalanced(both, kind="exponential", ratio=2)
    assert torch.equal(again.train_clean_targets, again.train_inputs.flatten().long() % 4)
    assert altered(plain := data()) is plain


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"imbalance": {"kind": "linear", "ratio": 2}}, "imbalance.kind = linear: must be exponential or step"),
        (
            {"imbalance": {"kind": "step", "ratio": 0.5}},
            r"imbalance.ratio = 0\.5: must be a finite number of at least 1",
        ),
        ({"imbalance": {"kind": "step", "ratio": True}}, "imbalance.ratio = True: must be a finite number"),
        ({"imbalance": {"kind": "step", "ratio": 2, "minority": [0, 0]}}, r"minority = \[0, 0\]: must be .* each once"),
        ({"imbalance": {"kind": "step", "ratio": 2, "minority": [True]}}, r"minority = \[True\]: must be some"),
        ({"imbalance": {"kind": "step", "ratio": 2, "minority": ["0"]}}, r"minority = \['0'\]: must be some"),
        ({"label_noise": {"share": False}}, r"label_noise.share = False: must lie in \[0, 1\)"),
        ({"imbalance": {"kind": "step", "ratio": 2, "minority": [7]}}, r"minority = \[7\]: must be some, not all, of"),
        ({"label_noise": {"share": 1.0}}, r"label_noise.share = 1\.0: must lie in \[0, 1\)"),
        ({"label_noise": {"share": 0.1, "kind": "odd"}}, "label_noise.kind = odd: must be symmetric or pair"),
    ],
)
def test_what_cannot_be_made_is_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        altered(data(), **keys)
