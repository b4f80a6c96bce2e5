"""The user's own rollouts: no rollout is in both splits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nclens.data.raw import RawData
from nclens.data.rollouts import choose_rollouts
from nclens.workflow.build.data import load_dataset

SHARED = Path(__file__).parents[3] / "shared" / "data" / "imitation"
ENTRY = {
    **{"source": "rollouts", "path": "mine.npz", "sha256": None, "every": 1, "split_seed": 0, "targets": None},
    **{"inputs": "observations", "outputs": "actions", "rollout": "rollout", "scale_targets": "none"},
    **{"train_rollouts": 3, "test_rollouts": 2},
}


@pytest.fixture
def load(tmp_path):
    """Load a file of six rollouts of 10 steps, interleaved; each input encodes its rollout and step."""

    def load(arrays=None, **changes):
        steps = np.arange(60)
        content = {
            "observations": np.stack([steps % 6, steps // 6], axis=1),
            "actions": np.random.default_rng(0).normal(size=(60, 2)),
            "rollout": 100 + steps % 6,
        } | (arrays or {})
        np.savez(tmp_path / "mine.npz", **{key: value for key, value in content.items() if value is not None})
        return load_dataset({**ENTRY, **changes}, RawData(tmp_path))

    return load


def test_no_rollout_is_in_both_splits(load):
    data = load()
    train, test = (set(inputs[:, 0].tolist()) for inputs in (data.train_inputs, data.test_inputs))
    assert (len(train), len(test)) == (3, 2)
    assert not train & test
    assert data.train_inputs.shape == (30, 2)
    assert data.targets == ["actions_0", "actions_1"]
    assert load(split_seed=1).train_inputs.tolist() != data.train_inputs.tolist()
    assert torch.equal(load().train_targets, data.train_targets)


def test_every_is_the_stride_within_each_rollout(load):
    data = load(every=4)
    for rollout in set(data.train_inputs[:, 0].tolist()):
        assert data.train_inputs[data.train_inputs[:, 0] == rollout, 1].tolist() == [0, 4, 8]


def test_one_target_and_samples_without_rollouts(load):
    data = load(rollout=None, train_rollouts=40, test_rollouts=20, targets=[1])
    assert (data.train_targets.shape, data.test_targets.shape) == ((40, 1), (20, 1))
    assert data.targets == ["actions_1"]
    flat = load({"actions": np.arange(60.0)})
    assert flat.train_targets.shape == (30, 1)


@given(
    st.lists(st.integers(0, 5), min_size=12, max_size=40).filter(lambda numbers: len(set(numbers)) >= 4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_splits_are_whole_rollouts_in_order(numbers, train, every, seed):
    parts = choose_rollouts(torch.tensor(numbers), train, 1, every, seed, "mine")
    names = [{numbers[index] for index in part} for part in parts]
    assert not names[0] & names[1]
    assert [len(name) for name in names] == [train, 1]
    for part, chosen in zip(parts, names, strict=True):
        expected = [
            index for name in chosen for index in [i for i, number in enumerate(numbers) if number == name][::every]
        ]
        assert part.tolist() == sorted(expected)


@pytest.mark.parametrize(
    ("arrays", "changes", "words"),
    [
        ({}, {"path": "other.npz"}, "no file .*other.npz; `path` is relative to `data_dir`"),
        ({"actions": None}, {}, "lacks actions; it has observations, rollout"),
        ({"rollout": np.zeros(60)}, {}, "rollouts, rollout, must be integers, not torch.float64"),
        ({"rollout": np.zeros(59, dtype=int)}, {}, "one entry per sample"),
        ({"actions": np.zeros((60, 2, 2))}, {}, r"actions of .* must be numbers \(N, F\) or \(N,\)"),
        ({}, {"train_rollouts": 5}, "has 6 rollouts, fewer than .* = 7"),
        ({}, {"targets": [2]}, "names column 2; actions has 2 columns, numbered from 0"),
        ({}, {"sha256": "0" * 64}, "its SHA256 is"),
    ],
)
def test_invalid_rollouts_are_refused(load, arrays, changes, words):
    with pytest.raises((ValueError, OSError), match=words):
        load(arrays, **changes)


@pytest.mark.parametrize(("name", "shape"), [("hopper", (10_000, 11, 3)), ("reacher", (1000, 11, 2))])
def test_recorded_experts(name, shape):
    if not (SHARED / f"{name}.npz").is_file():
        pytest.skip(f"{name}.npz is not there")
    entry = ENTRY | {"path": f"{name}.npz", "train_rollouts": 20, "test_rollouts": 10}
    data = load_dataset(entry | {"every": 2 if name == "hopper" else 1}, RawData(SHARED))
    assert (*data.train_inputs.shape, data.train_targets.shape[1]) == shape
    covariance = torch.tensor(data.target_facts["target_covariance"])
    assert torch.linalg.eigvalsh(covariance)[0] > 0
