"""Simulated arcs and round clusters, and their ratios by loops."""

import math

import numpy as np
import torch

# Three templates in a plane of four dimensions, and two more classes.
BASIS = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double())[0]
ANGLES = (0.3, 1.4)


def example(kind, distance=10.0, spread=1.0, samples=4000, seed=1):
    """Two clusters about the mean of a third class: arcs of `spread` radians' length, or round ones."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([2.0, -1.0]).double()
    groups = []
    for angle in ANGLES:
        along = torch.randn(samples, generator=generator).double()
        across = torch.randn(samples, generator=generator).double()
        if kind == "arc":
            radius, theta = distance + 0.1 * spread * along, angle + spread / distance * across
        else:
            at = torch.tensor([math.cos(angle), math.sin(angle)]).double()
            points = distance * at + spread * torch.stack([along, across], 1)
            groups.append(centre + points)
            continue
        groups.append(centre + radius[:, None] * torch.stack([theta.cos(), theta.sin()], 1))
    groups.append(centre + spread * torch.randn(samples, 2, generator=generator).double())
    labels = torch.tensor([1, 3, 0]).repeat_interleave(samples)
    beyond = torch.randn(len(labels), 2, generator=generator).double()  # out of the plane, where nothing is measured
    weight = torch.zeros(4, 4).double()
    weight[[1, 3, 0], :2] = torch.tensor([[1.0, 0.2], [-0.3, 1.0], [-0.7, -1.0]]).double()
    return torch.cat([torch.cat(groups), beyond], 1) @ BASIS.T, labels, weight @ BASIS.T


def literal(features, labels, weight, classes):
    """The two ratios by loops in NumPy, in any basis of the plane."""
    w = weight.numpy()
    plane = np.linalg.qr((w[list(classes[1:])] - w[classes[0]]).T)[0]
    points = {k: features.numpy()[labels.numpy() == k] @ plane for k in classes}
    centre = points[classes[2]].mean(0)
    sums = np.zeros(4)
    for k in classes[:2]:
        u = points[k].mean(0) - centre
        u /= np.linalg.norm(u)
        v = np.array([-u[1], u[0]])
        r, theta = [], []
        for x in points[k] - centre:
            r.append(math.hypot(*x))
            theta.append(math.atan2(x @ v, x @ u))
        sums += (np.var(points[k] @ u), np.var(points[k] @ v), np.var(r), np.mean(r) ** 2 * np.var(theta))
    return sums[0] / sums[1], sums[2] / sums[3]
