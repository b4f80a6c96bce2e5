"""The four axes of a schedule of smoothing side by side: accuracy, calibration, students and transfer. Our own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from nclens.figures import style
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.figures.per_loss import DotPanel, Dots, draw_dots

STUDENT, PROBE = "student_error", "probe_accuracy"
MEAN = "mean_probe_accuracy"
"""The accuracy of linear probes, mean over the target sets."""


@style.look()
def schedule_profile(inputs: FigureInputs) -> Drawing:
    """Test error, ECE, students' error, mean accuracy of linear probes and NC1 at the last epoch, one row per loss."""
    names = sorted(inputs.metrics["metric"].unique())
    students, probes = _with_suffix(names, STUDENT), _with_suffix(names, PROBE)
    inputs = replace(inputs, metrics=pd.concat([inputs.metrics, _mean_of_probes(inputs, probes)], ignore_index=True))
    panels = [
        DotPanel("test error (%)", (Dots("error", "test"),), percent=True),
        DotPanel(
            "ECE (%)\nequal mass, hollow: width", (Dots("ece_adaptive", "test"), Dots("ece", "test", True)), percent=True
        ),
    ]
    remarks, missing = ["ECE: 15 bins, of equal mass (adaptive) and of equal width"], []
    if students:
        dots = tuple(Dots(name, "test", place > 0) for place, name in enumerate(students))
        first, *others = (name.partition("/")[2] for name in students)
        label = f"\n{first}, hollow: {', '.join(others)}" if others else f"\n{first}" if first else ""
        panels.append(DotPanel(f"student's error (%){label}", dots, percent=True))
        remarks.append("Student: a network that learns from the one trained with the loss; its test error")
    else:
        missing.append("a student's error, for no network teaches another")
    if probes:
        sets = f"\nmean over {len(probes)} sets" if len(probes) > 1 else ""
        panels.append(DotPanel(f"linear probe (%){sets}", (Dots(MEAN, "test"),), percent=True))
        datasets = [str(probe["dataset"]) for probe in inputs.probes_of("transfer")]
        remarks.append(f"Linear probe: accuracy on frozen features of {', '.join(datasets) or 'other data'}")
    else:
        missing.append("transfer, for there is no probe of it")
    panels.append(DotPanel("NC1\ntraining set", (Dots("nc1", "train"),)))
    if missing:
        remarks.append(f"Not measured: {'; '.join(missing)}")
    return draw_dots(inputs, panels, names={}, remarks=[f"Epoch {inputs.last_epoch}, test set", *remarks])


def _with_suffix(names: Iterable[str], metric: str) -> list[str]:
    """Return the metrics of that name, or of that name with more after a slash."""
    return [name for name in names if name == metric or name.startswith(f"{metric}/")]


def _mean_of_probes(inputs: FigureInputs, probes: list[str]) -> pd.DataFrame:
    """Return the mean over the probes of each run and snapshot that has all of them, as the metric `MEAN`."""
    rows = inputs.metrics[inputs.metrics["metric"].isin(probes) & (inputs.metrics["split"] == "test")]
    groups = rows.groupby(["loss", "seed", "epoch"], observed=True)["value"]
    means = groups.mean()[groups.count() == len(probes)].reset_index()
    return means.assign(metric=MEAN, split="test")
