"""MuJoCo's Swimmer, with a gait from linear feedback."""

from functools import partial

import numpy as np

from nclens.data.simulator import Array, Expert, scripted_dataset

#: From the angles and angular velocities of the two joints to the torques. The first torque opposes the second joint's
#: angle and the second follows the first joint's, so that a wave travels down the body; the first joint's velocity
#: sustains it.
GAIN = np.array([[-1.0, -2.0, 0.4, 0.0], [1.5, -0.5, 0.4, 0.0]])


def act(observation: Array) -> Array:
    """Return the torques, in (-1, 1): the hyperbolic tangent of the linear feedback.

    The observation (Swimmer-v5) contains the body's angle, the joints' angles, the velocities, and the three angular
    velocities in the same order.
    """
    return np.tanh(GAIN @ observation[[1, 2, 6, 7]])


EXPERT = Expert(
    environment="Swimmer-v5",
    steps=1000,
    policy=act,
    controller="a swimmer on a gait of linear feedback from its joints",
    # From the model card, which states neither the version of the environment nor the number of episodes.
    published=[(117.28, 2.91, "Sample Factory, APPO: huggingface.co/andrewzhang505/sample-factory-2-mujoco-swimmer")],
)

#: Returns rollouts of 1,000 steps: observations (N, 8) as inputs, joint torques as targets.
load = partial(scripted_dataset, EXPERT)
