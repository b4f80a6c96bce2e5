"""The key `keep_features` of experiments: what `none` goes with, and the disk that features take."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from nclens.figures.catalogue import ARCS
from nclens.study.imported import Imported

if TYPE_CHECKING:
    from nclens.study.study import Run, Study

#: Bytes of statistics a sample, at most; samples whose features are kept, about.
PER_SAMPLE, SAMPLED = 96, 12_000


def check_kept(study: "Study", name: str) -> None:
    """Refuse `keep_features: none` of an experiment where something needs the features of all samples.

    Raises:
        PydanticCustomError: names the experiment, and what needs them.
    """
    experiment, task = study.experiments[name], study.data_task(name)
    if experiment.keep_features != "none":
        return
    of_all = [stem for stem in experiment.figures or () if ARCS in study.figure(stem).needs]
    if task != "classification":
        needs = f"{experiment.dataset} is of {task}, and statistics in place of features are of classifiers of images"
    elif isinstance(experiment, Imported) and experiment.is_recorded:
        needs = "the runs are recorded features (.npz)"
    elif study.metrics:
        needs = f"metrics.{next(iter(study.metrics))} takes the features or logits of all samples"
    elif of_all:
        needs = f"the figure {of_all[0]} shows classes that are chosen once all features are known"
    else:
        return
    message = "experiments.{name}.keep_features = none: {needs}; allowed: all, last"
    raise PydanticCustomError("keep_features", message, {"name": name, "needs": needs})


def lacks_features(study: "Study", experiment: str) -> bool:
    """Return whether the features of all samples are there of no run, or not of all runs, of an experiment."""
    others = (source.experiment.get("keep_features") for source in study.reused(experiment).values())
    return study.experiments[experiment].keep_features == "none" or "none" in others


def features_mb(study: "Study", run: "Run", manifest: Mapping[str, Any]) -> int:
    """Return the disk that the features of all snapshots of a run take, in MB (10^6 bytes), rounded up.

    Features and logits are float32, targets int64. A feature dimension that is not known is taken for a large one. Of
    statistics in their place class means and scatter count, the numbers of each sample, and test logits.
    """
    outputs = manifest["classes"] if "classes" in manifest else manifest["targets"]
    dim, classes = study.dim(run.experiment, run.loss) or 2048, len(outputs)
    others = manifest["test"] + manifest.get("val", 0)
    samples = manifest["train"] + others
    size = samples * (4 * (dim + classes) + 8)
    experiment = study.experiments[run.experiment]
    if experiment.keep_features == "none":
        matrices = 2 * 8 * (2 * classes * dim + dim**2 + 50 * classes)
        if study.is_onehot(run.loss):
            matrices += 2 * 8 * ((dim + 2 * classes) ** 2 + dim**2)
        size = matrices + samples * PER_SAMPLE + 4 * classes * others + 4 * dim * min(samples, SAMPLED)
    return math.ceil(len(experiment.snapshot_epochs) * size / 10**6)
