"""The four axes of a schedule of smoothing side by side: accuracy, calibration, students and transfer. Our own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from nclens.figures import style
from nclens.figures.inputs import Drawing, FigureInputs, can_be_drawn
from nclens.figures.per_loss import DotPanel, Dots, draw_dots
from nclens.metrics.catalogue import by_numbers, student

STUDENT, PROBE = "student_error", "probe_accuracy"
MEAN = "mean_probe_accuracy"
"""The accuracy of linear probes, mean over the target sets."""


@style.look()
def schedule_profile(inputs: FigureInputs) -> Drawing:
    """Test error, ECE, students' error, mean accuracy of linear probes and NC1 at the last epoch, one row per loss."""
    names = sorted(inputs.metrics["metric"].unique(), key=by_numbers)
    students, probes = _with_suffix(names, STUDENT), _with_suffix(names, PROBE)
    inputs = replace(inputs, metrics=pd.concat([inputs.metrics, _mean_of_probes(inputs, probes)], ignore_index=True))

    def panel(label: str, *dots: Dots, percent: bool = True) -> DotPanel:
        return DotPanel(label, dots, percent, _baseline(inputs, dots[0]))

    ece = (Dots("ece_adaptive", "test"), Dots("ece", "test", True))
    panels = [panel("test error (%)", Dots("error", "test")), panel("ECE (%)\nhollow:\nequal width", *ece)]
    remarks, missing = [], []
    if students:
        dots = tuple(Dots(name, "test", place > 0) for place, name in enumerate(students))
        plain, *others = (student(name.partition("/")[2]) for name in students)
        hollow = f"\nhollow: {others[0] if len(others) == 1 else 'others'}" if others else ""
        panels.append(panel(f"student's\nerror (%){hollow}", *dots))
        ways = f", {', '.join([plain, *others])} from above" if plain else ""
        remarks.append(f"Student's error: of the network that learns from the one trained with the loss{ways}")
    else:
        missing.append("a student's error, for no network teaches another")
    if probes:
        sets = f"\nmean of {len(probes)} sets" if len(probes) > 1 else ""
        panels.append(panel(f"linear\nprobe (%){sets}", Dots(MEAN, "test")))
        datasets = [str(probe["dataset"]) for probe in inputs.probes_of("transfer")]
        remarks.append(f"Linear probe: accuracy on frozen features of {', '.join(datasets) or 'other data'}")
    else:
        missing.append("transfer, for there is no probe of it")
    panels.append(panel("NC1\ntraining set", Dots("nc1", "train"), percent=False))
    # Those that fit are below the panels, the first ones.
    first = [f"Not measured: {'; '.join(missing)}"] if missing else []
    first += (
        [] if inputs.baseline is None else [f"Vertical line: mean of {inputs.labels[inputs.baseline]}, filled dots"]
    )
    ece_note = "ECE: 15 bins of equal mass (adaptive) and of equal width"
    return draw_dots(inputs, panels, names={}, remarks=[*first, f"Epoch {inputs.last_epoch}", *remarks, ece_note])


def _baseline(inputs: FigureInputs, dots: Dots) -> float | None:
    """Return the baseline's mean after the last epoch; None where it has no finite value."""
    rows = inputs.select(dots.metric, dots.split, inputs.last_epoch)
    values = rows.loc[(rows["loss"] == inputs.baseline) & can_be_drawn(rows["value"]), "value"]
    return float(values.mean()) if len(values) else None


def _with_suffix(names: Iterable[str], metric: str) -> list[str]:
    """Return the metrics of that name, or of that name with more after a slash."""
    return [name for name in names if name == metric or name.startswith(f"{metric}/")]


def _mean_of_probes(inputs: FigureInputs, probes: list[str]) -> pd.DataFrame:
    """Return the mean over the probes of each run and snapshot that has all of them, as the metric `MEAN`."""
    rows = inputs.metrics[inputs.metrics["metric"].isin(probes) & (inputs.metrics["split"] == "test")]
    groups = rows.groupby(["loss", "seed", "epoch"], observed=True)["value"]
    means = groups.mean()[groups.count() == len(probes)].reset_index()
    return means.assign(metric=MEAN, split="test")
