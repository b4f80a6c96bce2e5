"""Scripted experts reach their goals; MuJoCo runs without a display."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nclens.data import reacher_scripted, swimmer_scripted
from nclens.data.reacher_scripted import LIMIT, LINKS, way_to_goal
from nclens.data.simulator import simulate
from nclens.workflow.build.data import load_dataset

ENTRY = {"seed": 0, "scale_targets": "none", "targets": ["joint0", "joint1"], "train_rollouts": 4, "test_rollouts": 2}
angle = st.floats(-np.pi, np.pi)


def fingertip(angles):
    first, second = LINKS
    ends = np.cumsum(angles)
    return np.array(
        [
            first * np.cos(ends[0]) + second * np.cos(ends[1]),
            first * np.sin(ends[0]) + second * np.sin(ends[1]),
        ]
    )


@given(st.floats(0.02, 0.2), angle, angle, st.floats(-2.9, 2.9))
def test_the_joints_turn_the_fingertip_to_the_goal(distance, direction, shoulder, elbow):
    goal = distance * np.array([np.cos(direction), np.sin(direction)])
    angles = np.array([shoulder, elbow])
    way = way_to_goal(goal, angles)
    np.testing.assert_allclose(fingertip(angles + way), goal, atol=1e-9)
    assert abs(angles[1] + way[1]) <= LIMIT
    assert abs(way[0]) <= np.pi + 1e-9


@given(angle, angle, st.floats(-2.9, 2.9))
def test_a_goal_out_of_reach_is_approached(direction, shoulder, elbow):
    goal = 0.5 * np.array([np.cos(direction), np.sin(direction)])
    angles = np.array([shoulder, elbow])
    np.testing.assert_allclose(fingertip(angles + way_to_goal(goal, angles)), goal * 0.21 / 0.5, atol=1e-6)


@pytest.fixture
def mujoco():
    pytest.importorskip("gymnasium")
    pytest.importorskip("mujoco")


@pytest.mark.usefixtures("mujoco")
@pytest.mark.parametrize(("expert", "least"), [(reacher_scripted.EXPERT, -4.53), (swimmer_scripted.EXPERT, 117.28)])
def test_experts_are_better_than_the_published_ones(expert, least):
    count = 100 if expert.steps == 50 else 2
    *_, returns = simulate(expert, count, seed=0)
    assert returns.mean() - 2 * returns.std() / np.sqrt(count) > least == expert.published[0][0]


@pytest.mark.usefixtures("mujoco")
def test_a_rollout_does_not_depend_on_their_number_and_seeds_differ():
    few, many, other = (
        load_dataset({"source": "reacher_scripted", "every": 10, **ENTRY, **changes})
        for changes in ({}, {"train_rollouts": 5}, {"seed": 1})
    )
    assert few.train_inputs.shape == (20, 10)
    assert few.test_targets.shape == (10, 2)
    assert torch.equal(few.train_targets, many.train_targets[:20])
    assert torch.equal(few.test_inputs[:5], many.train_inputs[20:])
    assert not torch.equal(few.train_inputs, other.train_inputs)
    expert = few.facts["expert"]
    assert (expert["rollouts"], expert["published"][0]["mean_return"]) == (6, -4.53)


@pytest.mark.usefixtures("mujoco")
def test_actions_are_a_function_of_observations_and_one_of_them_may_be_chosen():
    entry = {"source": "reacher_scripted", "every": 1, **ENTRY}
    data, single = (load_dataset(entry | {"targets": names}) for names in (["joint0", "joint1"], ["joint1"]))
    expected = np.stack([reacher_scripted.act(row) for row in data.train_inputs.double().numpy()])
    np.testing.assert_allclose(data.train_targets, expected, atol=1e-5)
    assert single.targets == ["joint1"]
    assert torch.equal(single.train_targets[:, 0], data.train_targets[:, 1])


@pytest.mark.parametrize("missing", ["gymnasium", "mujoco"])
def test_without_mujoco_a_message_names_the_extra(monkeypatch, missing):
    for name in [name for name in sys.modules if name.split(".")[0] in ("gymnasium", "mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r"Reacher-v5 needs MuJoCo, .* pip install 'nclens\[mujoco\]'"):
        load_dataset({"source": "reacher_scripted", "every": 1, **ENTRY})
