"""Unequal classes and wrong labels in the training split of a data set for classification, both seeded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import torch

from nclens.data.dataset import Dataset, Splits
from nclens.data.shares import half_up

KINDS = ("symmetric", "pair")


def class_sizes(
    samples: int, classes: int, kind: str, ratio: float, minority: Sequence[int] | None = None
) -> list[int]:
    """Return the samples n_k that every class keeps, of n in each.

    `exponential`: n_k = n r^(-k/(K-1)); `step`: n / r for the minority, by default the last K/2 classes rounded down,
    and n for the others. Rounded half up, and at least 1.

    Args:
        samples: n.
        classes: K.
        kind: `exponential` or `step`.
        ratio: r, at least 1.
        minority: the small classes of a step.

    Raises:
        ValueError: another kind, a ratio that is no number of at least 1, or a minority of classes that there are not,
            of none or of all, or with one twice.

    >>> class_sizes(500, 10, "exponential", 100)
    [500, 300, 180, 108, 65, 39, 23, 14, 8, 5]
    >>> class_sizes(500, 4, "step", 100), class_sizes(500, 4, "step", 100, [0])
    ([500, 500, 5, 5], [5, 500, 500, 500])
    """
    if kind not in ("exponential", "step"):
        raise ValueError(f"imbalance.kind = {kind}: must be exponential or step")
    if not (_is_number(ratio) and 1 <= ratio < math.inf):
        raise ValueError(f"imbalance.ratio = {ratio!r}: must be a finite number of at least 1")
    small = range(classes - classes // 2, classes) if minority is None else minority
    named = all(_is_number(k) and k in range(classes) for k in small)
    if kind == "step" and not (named and 0 < len(small) == len(set(small)) < classes):
        raise ValueError(
            f"imbalance.minority = {list(small)}: must be some, not all, of the classes 0 to {classes - 1}, each once"
        )
    powers = [k / (classes - 1) if kind == "exponential" else float(k in small) for k in range(classes)]
    return [max(1, int(samples * ratio**-power + 0.5)) for power in powers]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def imbalanced(
    dataset: Dataset, *, kind: str, ratio: float, minority: Sequence[int] | None = None, seed: int = 0
) -> Dataset:
    """Return the data set with a subset of its training samples, `class_sizes` of each class, in their order.

    n is the size of the smallest class. A seeded permutation of each class gives its first samples, so that a larger
    subset contains the smaller one of the same seed. Clean targets go with their samples.

    Raises:
        ValueError: as `class_sizes`.
    """
    counts = dataset.train_targets.bincount(minlength=len(dataset.classes))
    sizes = class_sizes(int(counts.min()), len(counts), kind, ratio, minority)
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for label, size in enumerate(sizes):
        members = (dataset.train_targets == label).nonzero()[:, 0]
        kept.append(members[torch.randperm(len(members), generator=generator)[:size]])
    index = torch.cat(kept).sort().values
    clean = dataset.train_clean_targets
    made = {"kind": kind, "ratio": ratio, "seed": seed}
    if kind == "step":
        made["minority"] = [label for label, size in enumerate(sizes) if size < max(sizes)]
    return replace(
        dataset,
        train_inputs=dataset.train_inputs[index],
        train_targets=dataset.train_targets[index],
        train_clean_targets=None if clean is None else clean[index],
        facts={**dataset.facts, "imbalance": made},
    )


def noisy(dataset: Dataset, *, share: float, kind: str = "symmetric", seed: int = 0) -> Dataset:
    """Return the data set with wrong labels for a share of its training samples; the clean ones are kept beside them.

    `symmetric`: any other class, all alike. `pair`: class k becomes k + 1, the last class 0. The samples are drawn from
    the whole training split, share N of them rounded half up. Labels that were noisy before stay relative to the data
    set's own clean targets.

    Raises:
        ValueError: a share outside [0, 1), another kind, or noise that leaves a class without a training sample.
    """
    if not (_is_number(share) and 0 <= share < 1):
        raise ValueError(f"label_noise.share = {share!r}: must lie in [0, 1)")
    if kind not in KINDS:
        raise ValueError(f"label_noise.kind = {kind}: must be {' or '.join(KINDS)}")
    generator = torch.Generator().manual_seed(seed)
    labels, classes = dataset.train_targets.clone(), len(dataset.classes)
    chosen = torch.randperm(len(labels), generator=generator)[: half_up(share, len(labels))]
    steps = torch.randint(1, classes, (len(chosen),), generator=generator) if kind == "symmetric" else 1
    labels[chosen] = (labels[chosen] + steps) % classes
    if (absent := (labels.bincount(minlength=classes) == 0).nonzero()[:, 0].tolist()) != []:
        raise ValueError(
            f"label_noise: the classes {', '.join(map(str, absent))} have no training sample left; allowed: a smaller "
            "share, another seed or more samples"
        )
    clean = dataset.train_targets if dataset.train_clean_targets is None else dataset.train_clean_targets
    made = {"share": share, "kind": kind, "seed": seed}
    facts = {**dataset.facts, "label_noise": made}
    return replace(dataset, train_targets=labels, train_clean_targets=clean, facts=facts)


def altered(
    dataset: Splits, imbalance: Mapping[str, Any] | None = None, label_noise: Mapping[str, Any] | None = None
) -> Splits:
    """Return a data set with `imbalanced` classes, then `noisy` labels, where they are given.

    Raises:
        ValueError: as these two, or for a data set of another task than classification.
    """
    if imbalance is None and label_noise is None:
        return dataset
    if not isinstance(dataset, Dataset):
        raise ValueError("imbalance and label_noise are of classification; allowed: neither for a regression")
    if imbalance is not None:
        dataset = imbalanced(dataset, **imbalance)
    return dataset if label_noise is None else noisy(dataset, **label_noise)
