"""Shares of each class that become a test or a validation split, seeded."""

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from nclens.data.dataset import class_balanced_subsets

#: The set that is split, where data have no other.
TRAIN = "train"


@dataclass(frozen=True)
class Wanted:
    """How splits are drawn from a user's data; the keys of a data entry.

    Attributes:
        train_per_class, test_per_class: samples per class; None takes all.
        split_seed: seed of every choice.
        test, validation: shares of each class; None for no such split.
    """

    train_per_class: int | None = None
    test_per_class: int | None = None
    split_seed: int = 0
    test: float | None = None
    validation: float | None = None

    @property
    def shares(self) -> dict[str, float]:
        """The shares by the name of the split that they make: `test`, `val`."""
        named = {"test": self.test, "val": self.validation}
        return {split: share for split, share in named.items() if share is not None}

    @property
    def facts(self) -> dict[str, Any]:
        """The manifest's entry of the shares and their seed; none where there are none."""
        return {"shares": {**self.shares, "seed": self.split_seed}} if self.shares else {}


def half_up(share: float, count: int) -> int:
    """Return share x count rounded half up, exactly of the share as it is written.

    >>> half_up(0.29, 50), half_up(0.2, 2)
    (15, 0)
    """
    return math.floor(Fraction(repr(float(share))) * count + Fraction(1, 2))


def share_sizes(count: int, shares: Sequence[float]) -> list[int]:
    """Return how many of `count` samples each share takes: share x count rounded half up, at least 1.

    Training keeps the rest: at least two samples where there are enough, otherwise one.

    >>> share_sizes(100, [0.2, 0.1]), share_sizes(3, [0.5]), share_sizes(2, [0.2])
    ([20, 10], [1], [1])
    """
    sizes = [max(1, half_up(share, count)) for share in shares]
    while sum(sizes) > count - min(2, count - len(sizes)):
        sizes[sizes.index(max(sizes))] -= 1
    return sizes


def stratified(
    labels: Tensor, shares: Mapping[str, float], classes: Sequence[str], seed: int, what: str
) -> dict[str, Tensor]:
    """Return the indices of a random split by shares of each class, in ascending order; `train` has the rest.

    A seeded permutation of each class gives its first samples to the first share, the next ones to the second.
    scikit-learn's stratified split may leave a small class without a sample in a split; `share_sizes` does not.

    Args:
        labels: class labels (N,).
        shares: in (0, 1), by the split that each becomes; together below 1.
        classes: names of the K classes.
        seed: seed of the permutations.
        what: name of the data in error messages.

    Raises:
        ValueError: classes have fewer samples than there are splits; names up to five.
    """
    counts = labels.bincount(minlength=len(classes)).tolist()
    needed = 1 + len(shares)
    if short := [label for label, count in enumerate(counts) if 0 < count < needed]:
        listed = ", ".join(f"class {classes[label]} has {counts[label]}" for label in short[:5])
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise ValueError(
            f"{what}: {listed}{more} of the {needed} samples that {_keys(shares)} needs of every class, one for each "
            "split; add samples, or leave the class out"
        )
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, list[Tensor]] = {split: [] for split in (*shares, TRAIN)}
    for label, count in enumerate(counts):
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(count, generator=generator)]
        sizes = share_sizes(count, list(shares.values())) if count else [0] * len(shares)
        for split, part in zip(parts, members.split([*sizes, count - sum(sizes)]), strict=True):
            parts[split].append(part)
    return {split: torch.cat(found).sort().values for split, found in parts.items()}


def unstratified(count: int, shares: Mapping[str, float], seed: int, what: str) -> dict[str, Tensor]:
    """Return the indices of a random split of samples without classes by shares, as `stratified`.

    Raises:
        ValueError: a split would have fewer than two samples.
    """
    sizes = [half_up(share, count) for share in shares.values()]
    sizes.append(count - sum(sizes))
    if min(sizes) < 2:
        raise ValueError(f"{what}: of {count} samples {_keys(shares)} leaves a split with {min(sizes)}; 2 are needed")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return {split: part.sort().values for split, part in zip((*shares, TRAIN), order.split(sizes), strict=True)}


def refuse_shares(given: Mapping[str, object], shares: Mapping[str, float], what: str) -> None:
    """Raise a ValueError for a share that would become a split that the data have."""
    for split, share in shares.items():
        if split in given:
            raise ValueError(f"{what} has a split `{split}` already: leave out {_keys({split: share})}")


def same_samples(one: str, other: str, what: str) -> ValueError:
    """Return the error that says that two splits of the data `what` are the same samples."""
    return ValueError(
        f"{what}: the splits {one} and {other} are the same samples; allowed: other samples in each split, or one set "
        "and a share as `test: 0.2`"
    )


def repeated(inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return the names of two splits that are the same samples, in whatever order; None where there are none.

    >>> rows, labels = torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])
    >>> repeated({"train": rows, "test": rows.flip(0)}, {"train": labels, "test": labels.flip(0)})
    ('train', 'test')
    """
    for one, other in itertools.combinations(inputs, 2):
        # Cheap for most: only splits of one size are read.
        if inputs[one].shape == inputs[other].shape and targets[one].shape == targets[other].shape:
            first, second = (_digests(inputs[split], targets[split]) for split in (one, other))
            if first == second:
                return one, other
    return None


def _digests(inputs: Tensor, targets: Tensor) -> list[bytes]:
    """Return a digest of each sample, sorted."""
    pairs = zip(inputs.contiguous().numpy(), targets.contiguous().numpy(), strict=True)
    return sorted(hashlib.blake2b(row.tobytes() + target.tobytes(), digest_size=16).digest() for row, target in pairs)


def refuse_same_samples(inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], what: str) -> None:
    """Raise a ValueError for two splits that are the same samples, as a file and a copy of it."""
    if (found := repeated(inputs, targets)) is not None:
        raise same_samples(*found, what)


def draw(
    pools: Mapping[str, Tensor], wanted: Wanted, classes: Sequence[str], what: str
) -> dict[str, tuple[str, Tensor]]:
    """Return which samples each split takes: the split that they are taken from, and their indices, ascending.

    Shares are taken first, then the class-balanced subsets of `train_per_class` and `test_per_class`; without a test
    split and a share, these two are drawn from the training samples. A validation split is taken whole.

    Args:
        pools: class labels (N,) of the splits that the data have: `train`, perhaps `test` and `val`.
        wanted: the shares and sizes.
        classes: names of the K classes.
        what: name of the data in error messages.

    Raises:
        ValueError: a share is asked for a split that the data have, or classes have too few samples.
    """
    refuse_shares(pools, wanted.shares, what)
    taken = {split: (split, torch.arange(len(labels))) for split, labels in pools.items()}
    if wanted.shares:
        drawn = stratified(pools[TRAIN], wanted.shares, classes, wanted.split_seed, what)
        taken |= {split: (TRAIN, index) for split, index in drawn.items()}
    own = [taken[split] for split in ("train", "test") if split in taken]
    per_class = (wanted.train_per_class, wanted.test_per_class)
    labels = [pools[source][index] for source, index in own]
    # A share may leave one sample of a small class.
    least = 1 if wanted.shares else 2
    subsets = class_balanced_subsets(labels, per_class, classes, wanted.split_seed, what, least)
    own = own if len(own) == 2 else own * 2
    chosen = {
        split: (source, index[subset])
        for split, (source, index), subset in zip(("train", "test"), own, subsets, strict=True)
    }
    return chosen | ({"val": taken["val"]} if "val" in taken else {})


def draw_unstratified(pools: Mapping[str, Tensor], wanted: Wanted, what: str) -> dict[str, tuple[str, Tensor]]:
    """Return which samples each split takes, as `draw`, of data without classes; `pools` are the targets of each split.

    Raises:
        ValueError: a share is asked for a split that the data have, there is no test split, or too few samples.
    """
    refuse_shares(pools, wanted.shares, what)
    taken = {split: (split, torch.arange(len(part))) for split, part in pools.items()}
    if wanted.shares:
        drawn = unstratified(len(pools[TRAIN]), wanted.shares, wanted.split_seed, what)
        taken |= {split: (TRAIN, index) for split, index in drawn.items()}
    if "test" not in taken:
        raise ValueError(f"{what} has no separate test split: set `test`, a share of the samples")
    return {split: taken[split] for split in (TRAIN, "test", "val") if split in taken}


def _keys(shares: Mapping[str, float]) -> str:
    """Return shares as they are written in a data entry."""
    return " and ".join(f"`{'validation' if split == 'val' else split}: {share}`" for split, share in shares.items())
