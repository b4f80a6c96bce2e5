"""The figures of "When Does Label Smoothing Help?" (arXiv 1906.02629), and of the probes.

Projections on the plane of three templates, mutual information along training, calibration against temperature, and
transfer, and the gradient variance of "Towards Understanding Label Smoothing" (arXiv 2006.11653). Probes have one
panel, or pair of panels, each.
"""

from __future__ import annotations

import math

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.figures.per_loss import DotPanel, Dots, draw_dots

TARGETS = {"onehot": "one-hot targets", "smoothed": "smoothed targets"}
PARTS = {"network": "all weights", "head": "classifier alone"}


@style.look()
def mutual_information(inputs: FigureInputs) -> Drawing:
    """The proxy of the information between input and logit difference of two classes, against epoch."""
    panels = []
    for probe in inputs.probes_of("mutual_information") or [{"suffix": "", "classes": ()}]:
        names = " and ".join(inputs.class_name(label) for label in probe["classes"])
        label = "mutual information (nats)" + (f"\n{names}" if names else "")
        series = (Series(f"mutual_information{probe['suffix']}", "train", "train"),)
        panels.append(Panel(label, series, reference=math.log(2)))
    columns = min(len(panels), 3)
    return draw_curves(
        inputs,
        panels,
        columns,
        legend={"train": "training set"},
        height=2.7 * -(-len(panels) // columns),
        log_epochs=True,
        remarks=[
            "Horizontal line: log 2 = 0.693 nats, the information in the class alone; the maximum is log N for N "
            "samples. The estimate from a few random augmentations has a bias of about 0.1 nats and is not clipped",
        ],
    )


@style.look()
def gradient_variance(inputs: FigureInputs) -> Drawing:
    """Gradient variance of one-hot and of smoothed targets at the same weights, against epoch, on log axes."""
    panels, smoothings = [], []
    for probe in inputs.probes_of("gradient_variance") or [{"suffix": "", "smoothing": math.nan}]:
        smoothings += [] if math.isnan(probe["smoothing"]) else [f"{probe['smoothing']:g}"]
        for part, name in PARTS.items():
            label = f"gradient variance (nats²)\n{name}" + (f", δ = {probe['smoothing']:g}" if probe["suffix"] else "")
            metrics = (f"gradient_variance_{part}_{targets}{probe['suffix']}" for targets in ("onehot", "smoothed"))
            series = tuple(Series(metric, "train", key) for metric, key in zip(metrics, TARGETS, strict=True))
            panels.append(Panel(label, series, log=True))
    return draw_curves(
        inputs,
        panels,
        columns=2,
        legend=TARGETS,
        height=2.7 * (len(panels) // 2),
        log_epochs=True,
        remarks=[
            "Variance of the samples' gradients about their mean, summed over weights; samples of the training set, in "
            "evaluation mode; both kinds of targets at the same weights, for every training loss",
            f"Smoothed targets: δ = {', '.join(smoothings)}" if smoothings else "",
        ],
    )


@style.look()
def probe_accuracy(inputs: FigureInputs) -> Drawing:
    """Accuracy of the network on its own test set, and of a linear probe on its frozen features elsewhere."""
    probes = inputs.probes_of("transfer") or [{"suffix": "", "dataset": "another data set"}]
    panels = [DotPanel("own test set\naccuracy (%)", (Dots("accuracy", "test"),), percent=True)]
    panels += [
        DotPanel(
            f"linear probe on\n{probe['dataset']}, accuracy (%)",
            (Dots(f"probe_accuracy{probe['suffix']}", "test"),),
            percent=True,
        )
        for probe in probes
    ]
    return draw_dots(
        inputs,
        panels,
        names={False: "mean over seeds"},
        remarks=[
            f"Epoch {inputs.last_epoch}. Probe: l2 multinomial logistic regression on the frozen penultimate features "
            "of the other data's training split, its penalty picked on a held-out part of that; accuracy on the other "
            "data's test split",
        ],
    )
