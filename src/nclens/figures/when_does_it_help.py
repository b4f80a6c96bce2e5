"""The figures of "When Does Label Smoothing Help?" (arXiv 1906.02629), and of what else networks are asked.

Projections on the plane of three templates, mutual information along training, calibration against temperature, and
transfer; beside them the gradient variance that "Towards Understanding Label Smoothing" (arXiv 2006.11653) speaks of.
What is drawn of probes is what the experiment asks: one panel, or pair of panels, a probe.
"""

from __future__ import annotations

import math

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.per_loss import DotPanel, Dots, draw_dots
from nclens.figures.tables import Drawing, FigureInputs

TARGETS = {"onehot": "one-hot targets", "smoothed": "smoothed targets"}
PARTS = {"network": "all weights", "head": "classifier alone"}


@style.look()
def mutual_information(inputs: FigureInputs) -> Drawing:
    """The proxy of the information between input and logit difference of two classes, against epoch."""
    panels = []
    for probe in inputs.asked("mutual_information") or [{"suffix": "", "classes": ()}]:
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
            "Thin line: log 2 = 0.693 nats, what the class alone is worth; the most is log N for N samples. Estimated "
            "from a few random augmentations it is biased by about 0.1 nats; it is not clipped",
        ],
    )


@style.look()
def gradient_variance(inputs: FigureInputs) -> Drawing:
    """Gradient variance of one-hot and of smoothed targets at the same weights, against epoch, on log axes."""
    panels, smoothings = [], []
    for probe in inputs.asked("gradient_variance") or [{"suffix": "", "smoothing": math.nan}]:
        smoothings += [] if math.isnan(probe["smoothing"]) else [f"{probe['smoothing']:g}"]
        for part, words in PARTS.items():
            label = f"gradient variance (nats²)\n{words}" + (f", δ = {probe['smoothing']:g}" if probe["suffix"] else "")
            names = (f"gradient_variance_{part}_{targets}{probe['suffix']}" for targets in ("onehot", "smoothed"))
            series = tuple(Series(name, "train", key) for name, key in zip(names, TARGETS, strict=True))
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
            "evaluation mode; both kinds of targets at the same weights, whatever the network was trained with",
            f"Smoothed targets: δ = {', '.join(smoothings)}" if smoothings else "",
        ],
    )


@style.look()
def probe_accuracy(inputs: FigureInputs) -> Drawing:
    """Accuracy of the network on its own test set, and of a linear probe on its frozen features elsewhere."""
    asked = inputs.asked("transfer") or [{"suffix": "", "dataset": "another data set"}]
    panels = [DotPanel("own test set\naccuracy (%)", (Dots("accuracy", "test"),), percent=True)]
    panels += [
        DotPanel(
            f"linear probe on\n{probe['dataset']}, accuracy (%)",
            (Dots(f"probe_accuracy{probe['suffix']}", "test"),),
            percent=True,
        )
        for probe in asked
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
