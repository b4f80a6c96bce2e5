"""Sufficient statistics of one split of a classifier: every measurement follows from them, without the features.

Features and logits come in batches, in two passes in the same order. The first one sums what needs no class mean:
counts, class means and ONE pooled within-class scatter (d x d), class means of h / |h|, bins of calibration by class,
and a few float64 numbers of each sample, such as its likelihood. The second one sums what the class means, known by
then, make numbers of: squared deviations along the directions of S_B and of the span of W's differences, distances of
directions, and nc4. `nclens.metrics.from_statistics` has the measurements.

Memory is that of a batch in float64, some K x d and d x d matrices, and 88 bytes a sample; no K x K table is made, nor
a scatter of each class. The symbols are those of `nclens.metrics.collapse`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nclens._inputs import check_labels
from nclens.metrics.alignment import unit_rows
from nclens.metrics.alignment_streaming import SampleAlignment
from nclens.metrics.calibration import BINS, see
from nclens.metrics.collapse import check_float64, whitening
from nclens.metrics.collapse_streaming import NearestClassMean, NeuralCollapse
from nclens.metrics.pairs import squared_distances
from nclens.metrics.regression_streaming import RegressionCollapse
from nclens.metrics.representation import gradients_on_top, leads, parts_of_smoothing, template_span

#: Samples of a batch that wastes no time on matrices that are merged once a batch.
ROWS = 4096
#: The prefixes of what is by the clean labels, and of what has one-hot rows as targets.
CLEAN, ONEHOT = "clean.", "onehot."

#: Numbers of the tables of samples by classes that `margins` makes at a time.
_MARGINS = 2**21

Loss = Callable[[Tensor, Tensor], Tensor]


class SufficientStatistics:
    """Sums over the samples of a split, in two passes: `add` all batches, `begin_again`, `add_again` all batches.

    Args:
        labels: (N,), integers in [0, K), of all samples in the order in which they come.
        weight: (K, d), the classifier's, on the device of the features.
        bias: (K,), the classifier's.
        clean_labels: (N,), where the labels are noisy.
        loss: of float64 logits and labels, one value per sample (N,); None where logits do not determine it.
        onehot: whether the classifier is measured as a regressor on one-hot targets too.

    Raises:
        ValueError: labels out of range; a weight or bias of a wrong type or shape, or not finite.

    >>> labels, weight = torch.tensor([0, 1, 0, 1]), torch.tensor([[1.0], [-1.0]])
    >>> features = torch.tensor([[3.0], [-1.5], [1.0], [-2.5]])
    >>> found = SufficientStatistics(labels, weight, torch.zeros(2))
    >>> for batch in features.split(2):
    ...     found.add(batch, batch @ weight.T)
    >>> means = found.begin_again()
    >>> for batch in features.split(2):
    ...     found.add_again(batch, batch @ weight.T)
    >>> found.tensors()["means"].tolist()
    [[2.0], [-2.0]]
    """

    def __init__(
        self,
        labels: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        clean_labels: Tensor | None = None,
        loss: Loss | None = None,
        onehot: bool = False,
    ) -> None:
        self._weight = check_float64("weight", weight.detach(), (None, None), weight)
        classes, dim = self._weight.shape
        self._bias = check_float64("bias", bias.detach(), (classes,), weight)
        device = weight.device
        self._labels = check_labels(labels, classes).to(device)
        self._by_labels = _ByLabels(self._labels, self._weight, self._bias)
        self._by_clean, self._clean = None, None
        if clean_labels is not None:
            self._clean = check_labels(clean_labels, classes, len(labels), name="clean_labels").to(device)
            self._by_clean = _ByLabels(self._clean, self._weight, self._bias)
        self._loss = loss
        self._onehot = RegressionCollapse(dim, classes).to(device) if onehot else None
        counts = self._labels.bincount(minlength=classes)
        self._counts = counts.double()
        # As `template_spread` is measured: where a class has no sample, of the classes that have two or more.
        self._span = template_span(self._weight[counts >= (2 if int(counts.min()) < 1 else 0)])
        zeros = self._weight.new_zeros
        self._directions, self._direction_squares = zeros((classes, dim)), zeros(classes)
        self._span_squares, self._classwise = zeros(classes), zeros((classes, 3, BINS))
        self._samples: dict[str, Tensor] = {}
        self._alignment: SampleAlignment | None = None
        self._eps, self._done = 0.0, 0

    @torch.no_grad()
    def add(self, features: Tensor, logits: Tensor) -> None:
        """Add the next batch (n, d) and (n, K) in the first pass.

        Raises:
            ValueError: more samples than labels, a wrong type, shape or device, or values that are not finite.
        """
        rows = self._rows(features)
        y = self._labels[rows]
        self._by_labels.add(features, rows)
        if self._by_clean is not None:
            self._by_clean.add(features, rows)
        x = features.double()
        self._eps = max(self._eps, torch.finfo(features.dtype).eps)
        self._directions.index_add_(0, y, unit_rows(features).nan_to_num(0.0))
        seen = see(logits, y)
        self._classwise += seen.classwise
        z = logits.double()
        found = {
            "confidence": seen.confidence,
            "correct": seen.correct == 1,
            "right": seen.right,
            "brier": seen.brier,
            "entropy": seen.samples["entropy"],
            "nll": seen.samples["nll"],
            "leads": leads(z, y),
            **parts_of_smoothing(z, y),
            "margin": margins(x, y, self._weight, self._bias),
        }
        if self._loss is not None:
            found["top_logit_gradient"] = gradients_on_top(logits, y, self._loss)
        if self._clean is not None:
            found["right_by_clean"] = logits.argmax(1) == self._clean[rows]
        for name, values in found.items():
            if name not in self._samples:
                self._samples[name] = values.new_zeros(len(self._labels))
            self._samples[name][rows] = values
        if self._onehot is not None:
            targets = torch.nn.functional.one_hot(y, len(self._weight)).double()
            self._onehot.update(features, targets, self._weight, self._bias)

    def begin_again(self, reference_means: Tensor | None = None) -> Tensor:
        """End the first pass, and return the class means (K, d), float64; a class without samples has a row of nan.

        Args:
            reference_means: (K, d), those that nc4 and the centred alignment are about; by default the split's own.

        Raises:
            ValueError: there were fewer samples than labels, or fewer than two classes have a reference mean.
        """
        self._check_all("first")
        reference = self._by_labels.begin_again(reference_means)
        if self._by_clean is not None:
            self._by_clean.begin_again(None)
        self._alignment = SampleAlignment(reference, self._weight)
        self._directions /= self._counts[:, None]
        self._done = 0
        return self._by_labels.means

    @torch.no_grad()
    def add_again(self, features: Tensor, logits: Tensor) -> None:
        """Add the next batch in the second pass; as `add`."""
        if self._alignment is None:
            raise ValueError("add_again: the first pass has not ended; call `begin_again` after its last batch")
        rows = self._rows(features)
        y, right = self._labels[rows], self._samples["right"][rows]
        self._by_labels.add_again(features, rows, right)
        if self._by_clean is not None:
            self._by_clean.add_again(features, rows, right)
        self._alignment.update(features, y, logits)
        units = unit_rows(features).nan_to_num(0.0)
        self._direction_squares.index_add_(0, y, (units - self._directions[y]).square().sum(1))
        residual = features.double() - self._by_labels.means[y]
        self._span_squares.index_add_(0, y, (residual @ self._span.T).square().sum(1))

    def tensors(self) -> dict[str, Tensor]:
        """Return the statistics by name, as `nclens.metrics.from_statistics` takes them.

        | name | shape | of |
        |---|---|---|
        | `counts`, `means`, `squares`, `scatter` | (K,), (K, d), (K,), (d, d) | as in `NeuralCollapse` |
        | `deviation` | (K, 2) | samples predicted wrongly and correctly: sum of |diag(1/s) V' (h_i - hbar_k)|^2 |
        | `disagreements`, `nearest` | () | nc4: samples that differ, and all that are counted |
        | `eps` | () | the features' type: relative spacing |
        | `direction_means`, `direction_squares` | (K, d), (K,) | h / |h|: class means, squared distances from them |
        | `span_squares` | (K,) | h_i - hbar_k in the span of W's differences: sum of the squares |
        | `alignment` | (2, 6) | as in `SampleAlignment` |
        | `classwise` | (K, 3, 15) | each class's probability: sums in bins |
        | `confidence`, `brier`, `entropy`, `nll`, `leads`, `margin`, `ls_...`, `top_logit_...` | (N,) | each sample |
        | `correct`, `right`, `right_by_clean` | (N,), bool | the prediction by softmax, by logits, by clean labels |

        The first three rows are there by the clean labels too, with the prefix `clean.`, and the state of
        `RegressionCollapse` with the prefix `onehot.`, where the arguments ask for them.

        Raises:
            ValueError: there were fewer samples in the second pass than labels.
        """
        if self._alignment is None:
            self._done = 0
        self._check_all("second")
        assert self._alignment is not None
        found = {
            **self._by_labels.tensors(),
            "eps": self._weight.new_tensor(self._eps),
            "direction_means": self._directions,
            "direction_squares": self._direction_squares,
            "span_squares": self._span_squares,
            "alignment": self._alignment.sums,
            "classwise": self._classwise,
            **self._samples,
        }
        if self._by_clean is not None:
            found |= {CLEAN + name: tensor for name, tensor in self._by_clean.tensors().items()}
        if self._onehot is not None:
            found |= {ONEHOT + name: getattr(self._onehot, name) for name in self._onehot.metric_state}
        return found

    def _rows(self, features: Tensor) -> slice:
        start, self._done = self._done, self._done + len(features)
        if self._done > len(self._labels):
            raise ValueError(f"features: more samples than the {len(self._labels)} labels")
        return slice(start, self._done)

    def _check_all(self, which: str) -> None:
        if self._done != len(self._labels):
            raise ValueError(
                f"features: {self._done} samples in the {which} pass, and there are {len(self._labels)} labels"
            )


class _ByLabels:
    """What is by the labels of a split, which may be its clean ones."""

    def __init__(self, labels: Tensor, weight: Tensor, bias: Tensor) -> None:
        self._labels, self._weight, self._bias = labels, weight, bias
        self._moments = NeuralCollapse(*weight.shape).to(weight.device)
        self._several = torch.zeros(0)
        self._white: Tensor | None = None
        self._deviation = weight.new_zeros((len(weight), 2))
        self._nearest: NearestClassMean | None = None
        self.means = weight

    def add(self, features: Tensor, rows: slice) -> None:
        self._moments.update(features, self._labels[rows], self._weight)

    def begin_again(self, reference: Tensor | None) -> Tensor:
        """Fix the class means; return those of reference."""
        counts = self._moments.counts
        self.means = self._moments.means.masked_fill((counts == 0)[:, None], torch.nan)
        self._several = counts >= 2
        if int(self._several.sum()) >= 2:
            self._white = whitening(self.means[self._several])
        reference = self.means if reference is None else reference
        self._nearest = NearestClassMean(reference, self._weight, self._bias)
        return reference

    def add_again(self, features: Tensor, rows: slice, right: Tensor) -> None:
        assert self._nearest is not None
        y = self._labels[rows]
        self._nearest.update(features, y)
        if self._white is None:
            return
        here = self._several[y]
        y = y[here]
        residual = self.means[y] - features[here].double()
        squares = (residual @ self._white).square().sum(1)
        self._deviation.view(-1).index_add_(0, 2 * y + right[here], squares)

    def tensors(self) -> dict[str, Tensor]:
        assert self._nearest is not None
        moments = {name: getattr(self._moments, name) for name in ("counts", "squares", "scatter")}
        counted = {"disagreements": self._nearest.disagreements, "nearest": self._nearest.total}
        return {**moments, "means": self.means, "deviation": self._deviation, **counted}


def margins(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return of each sample (N,) what `nclens.metrics.representation.margin` averages; nan where undefined.

    By few products for many classes, where that function takes the differences of W's rows class by class.

    The leads come of the logits under the centred weight, whose differences are those of the weight.

    Args:
        features: (N, d), float64.
        labels: (N,).
        weight, bias: (K, d) and (K,), float64.
    """
    w = weight - weight.mean(dim=0)
    squares, norm = w.square().sum(1), features.norm(dim=1)
    found = []
    rows = max(1, _MARGINS // len(w))
    for h, y, own_norm in zip(*(each.split(rows) for each in (features, labels, norm)), strict=True):
        present_classes, place = y.unique(return_inverse=True)
        own = w[present_classes]
        distance = squared_distances(own, w, squares[present_classes], squares, own=False).sqrt()
        scores = h @ w.T + bias
        lead = scores.gather(1, y[:, None]) - scores
        there = (distance > 0)[place]
        nearest = (lead / distance[place]).masked_fill(~there, math.inf).amin(dim=1)
        found.append((nearest / own_norm).masked_fill((own_norm == 0) | ~there.any(dim=1), math.nan))
    return torch.cat(found) if found else norm
