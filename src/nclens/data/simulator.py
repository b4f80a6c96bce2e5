"""Rollouts of a scripted expert in one of gymnasium's MuJoCo environments, without a display."""

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
        policy: observation to action.
        controller: what the policy does, in words.
        published: mean and standard deviation of published experts' returns, and where they stand.
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
    scaling: Scaling,
    chosen: Sequence[int],
) -> RegressionDataset:
    """Return observations as inputs and the actions taken on them as targets; no rollout is in both splits.

    Args:
        expert: who acts, and where.
        train_rollouts, test_rollouts: rollouts of each split.
        every: keep one step in so many of each rollout.
        seed: of the initial states and goals.
        scaling: units of the targets.
        chosen: the actions that are targets, by column; their names are `joint0`, `joint1`, ...

    Raises:
        ValueError: MuJoCo is not installed.
    """
    observations, actions, returns = simulate(expert, train_rollouts + test_rollouts, seed)
    parts = []
    for values in (observations, actions[:, :, list(chosen)]):
        kept = torch.from_numpy(values[:, ::every])
        parts += [kept[:train_rollouts].flatten(0, 1), kept[train_rollouts:].flatten(0, 1)]
    return RegressionDataset(
        train_inputs=parts[0].float(),
        test_inputs=parts[1].float(),
        targets=[f"joint{column}" for column in chosen],
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
        **scaled(parts[2], parts[3], scaling),
    )


def simulate(expert: Expert, count: int, seed: int) -> tuple[Array, Array, Array]:
    """Return observations (count, steps, F), actions (count, steps, n) and returns (count,) of seeded rollouts.

    Raises:
        ValueError: MuJoCo is not installed.
    """
    environment = _make(expert.environment, expert.steps)
    observations, actions, returns = [], [], np.zeros(count)
    for rollout in range(count):
        # A seed of its own, so that rollout i is the same whatever their number.
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
        # gymnasium has an error of its own for a package that it lacks.
        if type(error).__name__ != "DependencyNotInstalled":
            raise
        raise ValueError(f"{name} needs MuJoCo, which is not installed: pip install 'nclens[mujoco]'") from None
