"""MuJoCo's Reacher, with a controller by inverse kinematics."""

from functools import partial

import numpy as np

from nclens.data.simulator import Array, Expert, scripted_dataset

#: Lengths of the two links (metres) and the limit of the second joint (radians), from reacher.xml.
LINKS = (0.1, 0.11)
LIMIT = 3.0
#: Torque on a joint at action 1; its inertia and damping are 1, and the inertia of the links is negligible.
GEAR = 200.0
#: Natural frequency (1/s) and damping ratio of the controlled joints, tuned for the mean return.
FREQUENCY, DAMPING = 8.0, 0.85


def act(observation: Array) -> Array:
    """Return the torques, in [-1, 1], that make each joint a damped oscillator about its target angle.

    The observation (Reacher-v5) contains the cosines and sines of the two angles, the goal, the angular velocities, and
    the vector from goal to fingertip.
    """
    angles = np.arctan2(observation[2:4], observation[:2])
    velocity = observation[6:8]
    wanted = FREQUENCY**2 * way_to_goal(observation[4:6], angles) - 2 * DAMPING * FREQUENCY * velocity
    return np.clip((wanted + velocity) / GEAR, -1.0, 1.0)


def way_to_goal(goal: Array, angles: Array) -> Array:
    """Return the rotations of the two joints that bring the fingertip to the goal (x, y): the smaller of two solutions.

    The elbow's angle follows from the law of cosines, up to its sign; a goal out of reach is replaced by the nearest
    reachable point.
    """
    first, second = LINKS
    distance = np.clip(np.hypot(*goal), abs(second - first), second + first)
    elbow = np.arccos(np.clip((distance**2 - first**2 - second**2) / (2 * first * second), -1.0, 1.0))
    elbow = min(elbow, LIMIT)
    ways = []
    for bend in (elbow, -elbow):
        inner = np.arctan2(second * np.sin(bend), first + second * np.cos(bend))
        shoulder = np.arctan2(goal[1], goal[0]) - inner - angles[0]
        # The shoulder rotates freely; the elbow has limits.
        ways.append(np.array([(shoulder + np.pi) % (2 * np.pi) - np.pi, bend - angles[1]]))
    return min(ways, key=lambda way: float(way @ way))


EXPERT = Expert(
    environment="Reacher-v5",
    steps=50,
    policy=act,
    controller="an arm led to its goal by inverse kinematics and a damped spring on each joint",
    # From the model card, which states neither the version of the environment nor the number of episodes.
    published=[(-4.53, 1.79, "Sample Factory, APPO: huggingface.co/andrewzhang505/sample-factory-2-mujoco-reacher")],
)

#: Returns rollouts of 50 steps: observations (N, 10) as inputs, joint torques as targets.
load = partial(scripted_dataset, EXPERT)
