"""A film of collapse: a seeded sample of features and the class means, in planes that stay the same over training."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from nclens._inputs import Array, as_integer, as_tensor, check_labels
from nclens.metrics.collapse import class_means
from nclens.metrics.representation import principal_plane, project, template_plane, with_samples

#: Samples and classes in a film, and the seed that chooses them.
POINTS, CLASSES, SEED = 500, 10, 0
#: The largest number of 16 bits: that of the point farthest from the origin.
LARGEST = 2**15 - 1


class Film:
    """Projects the same samples of a run at every snapshot, into planes of the last one.

    Of a classifier there are at most `CLASSES` classes, and two planes: `principal`, in which the means of these
    classes vary most, and `templates`, through the templates of three classes (Mueller et al., arXiv 1906.02629),
    where these span one. The origin is the centre of the plane's class means at each snapshot. Of a regressor there is
    `principal`, in which the features of the sample vary most; the origin is their mean at each snapshot.

    >>> labels = torch.arange(6) % 3
    >>> last = {"train.features": torch.eye(3)[labels], "train.targets": labels, "weight": torch.eye(3)}
    >>> film = Film.of_classifier(last, [0, 1, 2])
    >>> film.add(1, last)
    >>> found = film.tensors()
    >>> found["templates.points"].shape, found["templates.points"].dtype
    (torch.Size([1, 6, 2]), torch.int16)
    >>> triangle = found["templates.means"][0] * found["templates.scale"]
    >>> [round(float((triangle[k] - triangle[k - 1]).norm()), 3) for k in range(3)]
    [1.414, 1.414, 1.414]
    """

    def __init__(
        self, samples: Tensor, known: Mapping[str, Tensor], planes: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        """Make a film of these samples, rows of the training split, from planes: name -> basis (d, 2), classes."""
        self._samples, self._known, self._planes = samples, dict(known), dict(planes)
        self._epochs: list[int] = []
        self._shown: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in planes}

    @classmethod
    def of_classifier(cls, last: Mapping[str, Array], templates: Sequence[int], means: Array | None = None) -> "Film":
        """Begin the film of a classifier.

        Args:
            last: the last snapshot: `train.features` (N, d), `train.targets` (N,) and `weight` (K, d). Where only some
                features are kept, those of the samples `train.sampled` (P,), ascending, `film_samples` are among them.
            templates: the classes whose templates span a plane; those without a sample are replaced
                (`nclens.metrics.representation.with_samples`).
            means: (K, d), the class means of the training split, where they are known already.

        Raises:
            ValueError: as `nclens.metrics.collapse.class_means`.
        """
        features, weight = as_tensor("features", last["train.features"]), as_tensor("weight", last["weight"])
        labels = check_labels(last["train.targets"], len(weight))
        first, chosen, samples = film_samples(labels, templates)
        if means is None:
            means = class_means(features, labels, len(weight), min_samples=1)
        planes = {"principal": (principal_plane(as_tensor("means", means)[chosen], _features(last, samples)), chosen)}
        if len(first) == 3:
            with suppress(ValueError):  # the templates are on one line
                planes = {"templates": (template_plane(weight, first), chosen[:3]), **planes}
        return cls(samples, {"labels": labels[samples].to(torch.int16), "classes": chosen.to(torch.int16)}, planes)

    @classmethod
    def of_regressor(cls, last: Mapping[str, Array]) -> "Film":
        """Begin the film of a regressor; `values` is the first target of each sample.

        Args:
            last: the last snapshot: `train.features` (M, d) and `train.targets` (M, n).
        """
        features, targets = as_tensor("features", last["train.features"]), as_tensor("targets", last["train.targets"])
        samples = torch.randperm(len(features), generator=torch.Generator().manual_seed(SEED))[:POINTS]
        values, scale = in_16_bits(targets[samples, 0])
        plane = principal_plane(features[samples]), torch.empty(0, dtype=torch.int64)
        return cls(samples, {"values": values, "values.scale": scale}, {"principal": plane})

    def add(self, epoch: int, tensors: Mapping[str, Array], means: Array | None = None) -> None:
        """Add a snapshot.

        Args:
            epoch: after which it was taken.
            tensors: `train.features` (N, d); of a classifier `train.targets` (N,) and `weight` (K, d) too.
            means: (K, d), the class means of the training split, where they are known already.
        """
        features = _features(tensors, self._samples)
        if means is None and "classes" in self._known:
            whole = tensors["train.features"]
            means = class_means(whole, tensors["train.targets"], len(tensors["weight"]), min_samples=1)
        for name, (basis, classes) in self._planes.items():
            points = project(features, basis)
            centres = points[:0] if means is None else project(as_tensor("means", means)[classes], basis)
            origin = (centres if len(centres) else points).mean(dim=0)
            self._shown[name].append((points - origin, centres - origin))
        self._epochs.append(epoch)

    def tensors(self) -> dict[str, Tensor]:
        """Return what was projected, 16 bits a number, of S snapshots, P samples and C classes.

        `epochs` (S,) and `samples` (P,), rows of the training split; of a classifier `labels` (P,) and `classes` (C,),
        of a regressor `values` (P,) and `values.scale`. Of each plane `PLANE.points` (S, P, 2), `PLANE.means`
        (S, C, 2), `PLANE.scale`, by which both are multiplied, and `PLANE.classes` (C,).
        """
        made = {"epochs": torch.tensor(self._epochs, dtype=torch.int32), "samples": self._samples.to(torch.int32)}
        for name, (_, classes) in self._planes.items():
            points, means = (torch.stack(part) for part in zip(*self._shown[name], strict=True))
            numbers, scale = in_16_bits(torch.cat([points, means], dim=1))
            parts = numbers.split([points.shape[1], means.shape[1]], dim=1)
            made |= {f"{name}.points": parts[0], f"{name}.means": parts[1], f"{name}.scale": scale}
            made[f"{name}.classes"] = classes.to(torch.int16)
        return {**made, **self._known}


def film_samples(labels: Tensor, templates: Sequence[int]) -> tuple[list[int], Tensor, Tensor]:
    """Return the classes whose templates span a plane, those of a film (C,), and its samples (P,).

    Args:
        labels: (N,), integers, of the training split.
        templates: as for `Film.of_classifier`.
    """
    first = with_samples(list(dict.fromkeys(templates)), labels)
    chosen = _classes(labels.unique().tolist(), first)
    return first, chosen, balanced_sample(labels, chosen.tolist())


def balanced_sample(labels: Array, classes: Sequence[int], count: int = POINTS, seed: int = SEED) -> Tensor:
    """Return at most so many indices (P,) of samples of some classes, as many of each as far as there are.

    Drawn at random by the seed. The classes alternate, so that the first p of them are balanced too.

    Args:
        labels: (N,), integers of any type.
        classes: those to draw from.
        count: the most indices.
        seed: of the draw.

    Raises:
        ValueError: labels that are no integers, or a class, count or seed that is none.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    >>> labels[balanced_sample(labels, [0, 1], count=5)].tolist()
    [0, 1, 0, 1, 0]
    """
    found = check_labels(labels, None)
    chosen, count = [as_integer("classes", k, 0) for k in classes], as_integer("count", count, 1)
    generator = torch.Generator().manual_seed(as_integer("seed", seed, 0))
    order = torch.randperm(len(found), generator=generator).to(found.device)
    drawn = [order[found[order] == k][:count] for k in chosen]
    turns = torch.cat([torch.arange(len(own)) for own in drawn])
    return torch.cat(drawn)[turns.argsort(stable=True).to(found.device)][:count]


def in_16_bits(values: Array) -> tuple[Tensor, Tensor]:
    """Return finite values as int16, and the scale () in float64 that they are multiplied by, 1 where all are zero."""
    numbers = as_tensor("values", values).double()
    largest = numbers.abs().max() if numbers.numel() else numbers.new_zeros(())
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    return (numbers / scale).round().to(torch.int16), scale


def _features(tensors: Mapping[str, Array], samples: Tensor) -> Tensor:
    """Return the features of some samples of the training split, which may be all that is kept of it."""
    features = as_tensor("features", tensors["train.features"])
    if "train.sampled" not in tensors:
        return features[samples]
    return features[torch.searchsorted(as_tensor("sampled", tensors["train.sampled"]), samples)]


def _classes(known: Sequence[int], first: Sequence[int]) -> Tensor:
    """At most `CLASSES` of the classes known: those that come first, then others by the seed, ascending."""
    others = [k for k in known if k not in first]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(SEED)).tolist()
    drawn = sorted(others[place] for place in order[: CLASSES - len(first)])
    return torch.tensor([*first, *drawn])
