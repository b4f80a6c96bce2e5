"""MuJoCo's Swimmer, on a gait that a linear feedback keeps up."""

import numpy as np

from nclens.data.regression import RegressionDataset, Scaling
from nclens.data.simulator import Array, Expert, scripted_dataset

#: From the angles and angular velocities of the two joints to the torques: the first against the second's angle and the
#: second along the first's, so that a wave runs down the body, kept up by the first's velocity.
GAIN = np.array([[-1.0, -2.0, 0.4, 0.0], [1.5, -0.5, 0.4, 0.0]])


def load(
    train_rollouts: int, test_rollouts: int, every: int, seed: int, scale_targets: Scaling, targets: list[str]
) -> RegressionDataset:
    """Return steps of rollouts of 1,000: observations (8 numbers) as inputs, the torques on the joints as targets."""
    chosen = [int(name.removeprefix("joint")) for name in targets]
    return scripted_dataset(EXPERT, train_rollouts, test_rollouts, every, seed, scale_targets, chosen)


def act(observation: Array) -> Array:
    """Return the torques, in (-1, 1): the tangent hyperbolic of the linear feedback.

    The observation (Swimmer-v5) holds the body's angle, the joints' angles, the velocities, and the three angular
    velocities in the same order.
    """
    return np.tanh(GAIN @ observation[[1, 2, 6, 7]])


EXPERT = Expert(
    environment="Swimmer-v5",
    steps=1000,
    policy=act,
    controller="a swimmer on a gait of linear feedback from its joints",
    # Read on the model's card; it does not say which version of the environment, nor of how many episodes.
    published=[(117.28, 2.91, "Sample Factory, APPO: huggingface.co/andrewzhang505/sample-factory-2-mujoco-swimmer")],
)
