"""Rollouts of a scripted policy in a MuJoCo environment of gymnasium, without a display."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nclens.data.regression import RegressionDataset, Scaling, scaled

Array = NDArray[np.float64]

LICENCE = "gymnasium: MIT; MuJoCo: Apache-2.0"
CITATION = "Todorov, Erez, Tassa (2012), MuJoCo: A physics engine for model-based control"


@dataclass(frozen=True)
class Expert:
    """A scripted policy.

    Attributes:
        environment: gymnasium's name of the environment.
        steps: length of a rollout.
        policy: maps an observation to an action.
        controller: description of the policy.
        published: mean and standard deviation of the returns of published policies, and their source.
    """

    environment: str
    steps: int
    policy: Callable[[Array], Array]
    controller: str
    published: Sequence[tuple[float, float, str]]


def scripted_dataset(
    expert: Expert,
    train_rollouts: int,
    test_rollouts: int,
    every: int,
    seed: int,
    scale_targets: Scaling,
    targets: Sequence[str],
) -> RegressionDataset:
    """Return observations as inputs and the policy's actions as targets; no rollout is in both splits.

    Args:
        expert: the policy and its environment.
        train_rollouts, test_rollouts: rollouts of each split.
        every: stride: step 0, `every`, 2 `every`, ... of each rollout is kept.
        seed: seed of the initial states and goals.
        scale_targets: units of the targets, as in `nclens.data.regression.scaled`.
        targets: the actions to regress, by column: `joint0`, `joint1`, ...

    Raises:
        ValueError: MuJoCo is not installed.
    """
    chosen = [int(name.removeprefix("joint")) for name in targets]
    observations, actions, returns = simulate(expert, train_rollouts + test_rollouts, seed)
    parts = []
    for values in (observations, actions[:, :, chosen]):
        kept = torch.from_numpy(values[:, ::every])
        parts += [kept[:train_rollouts].flatten(0, 1), kept[train_rollouts:].flatten(0, 1)]
    return RegressionDataset(
        train_inputs=parts[0].float(),
        test_inputs=parts[1].float(),
        targets=list(targets),
        source=f"{expert.environment} of gymnasium, {expert.controller}",
        licence=LICENCE,
        citation=CITATION,
        facts={
            "expert": {
                "rollouts": len(returns),
                "mean_return": float(returns.mean()),
                "std_return": float(returns.std()),
                "published": [
                    {"mean_return": mean, "std_return": std, "source": source} for mean, std, source in expert.published
                ],
            },
            "simulator": {name: importlib.metadata.version(name) for name in ("gymnasium", "mujoco")},
        },
        **scaled(parts[2], parts[3], scale_targets),
    )


def simulate(expert: Expert, count: int, seed: int) -> tuple[Array, Array, Array]:
    """Return observations (count, steps, F), actions (count, steps, n) and returns (count,) of seeded rollouts.

    Raises:
        ValueError: MuJoCo is not installed.
    """
    environment = _make(expert.environment, expert.steps)
    observations, actions, returns = [], [], np.zeros(count)
    for rollout in range(count):
        # One seed per rollout, so that rollout i does not depend on their number.
        start = int(np.random.SeedSequence([seed, rollout]).generate_state(1)[0])
        observation, _ = environment.reset(seed=start)
        for _ in range(expert.steps):
            action = expert.policy(observation)
            observations.append(observation)
            actions.append(action)
            observation, reward, *_ = environment.step(action)
            returns[rollout] += reward
    environment.close()
    shape = (count, expert.steps, -1)
    return np.stack(observations).reshape(shape), np.stack(actions).reshape(shape), returns


def _make(name: str, steps: int) -> Any:
    try:
        import gymnasium

        return gymnasium.make(name, max_episode_steps=steps)
    except ImportError as error:
        raise ValueError(
            f"{name} needs MuJoCo, which is not installed ({error}): pip install 'nclens[mujoco]'"
        ) from None
    except Exception as error:
        # gymnasium's own error for a missing package is no ImportError.
        if type(error).__name__ != "DependencyNotInstalled":
            raise
        raise ValueError(f"{name} needs MuJoCo, which is not installed: pip install 'nclens[mujoco]'") from None
