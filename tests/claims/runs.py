"""Metrics of runs along given courses, and comparisons of them."""

import math

import pandas as pd

from nclens.claims.measurements import Measurements
from nclens.claims.verdict import Comparison

SEEDS = (0, 1, 2)
SNAPSHOTS = (1, *range(10, 101, 10))
NO_METRICS = pd.DataFrame(columns=["loss", "seed", "split", "epoch", "metric", "value"])
NO_THEORY = pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric", "relative_error"])


def runs(course, loss, metric="nc1", split="train", seeds=SEEDS, epochs=SNAPSHOTS):
    """Rows of the runs of one loss; `course` gives the value at (epoch, seed)."""
    return pd.DataFrame(
        [(loss, seed, split, epoch, metric, float(course(epoch, seed))) for seed in seeds for epoch in epochs],
        columns=NO_METRICS.columns,
    )


def compare(*tables, theory=NO_THEORY, baseline="ce", loss="ls", seeds=SEEDS, epochs=100):
    metrics = pd.concat(tables, ignore_index=True) if tables else NO_METRICS
    return Comparison("main", "mnist5k", "resnet8", baseline, loss, tuple(seeds), epochs, Measurements(metrics), theory)


def by_quantity(measures):
    return {measure.quantity: measure for measure in measures}


def decay(rate):
    return lambda epoch, seed: math.exp(-rate * epoch)
