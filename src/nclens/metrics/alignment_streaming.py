"""Sample-wise alignment accumulated batch by batch, as a `torchmetrics` metric."""

from typing import Any

import torch
from torch import Tensor

from nclens._inputs import Array, as_tensor
from nclens.metrics.alignment import (
    ORIGINS,
    SUMS,
    alignment_table,
    check_predicted,
    chunk_sums,
    mean_of_means,
    unit_rows,
)
from nclens.metrics.collapse import check_float64, check_means
from nclens.metrics.collapse_streaming import Float64Metric
from nclens.metrics.samples import check_ignore_index


class SampleAlignment(Float64Metric):
    """Sample-wise alignment in a second pass: `sample_alignment` for features that come in batches.

    `update(features, labels, logits)` takes features (n, d), labels (n,), integers in [0, K), and the network's logits
    (n, K). `compute()` returns every key of `nclens.metrics.alignment.sample_alignment` as float64 scalars, the same
    values up to the rounding of sums. hG is the mean of the class means given: those of `NeuralCollapse.class_means`
    after a first pass, or of the training split. As in `NeuralCollapse`, the network must be in evaluation mode.
    Processes are merged in `compute()`, metrics by `merge_state`. Precision and moves are as in `NeuralCollapse`.

    Args:
        means: (K, d), the class means; a row of nan is a class without one.
        weight: (K, d), the classifier's weight.
        ignore_index: samples with this label are left out, whatever their features and logits; by default none is.
        **kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: a wrong type, shape or device; values that are not finite; labels out of range.

    >>> metric = SampleAlignment(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> metric.update(torch.tensor([[3.0, 1.0]]), torch.tensor([0]), torch.tensor([[1.0, 0.0]]))
    >>> metric.update(torch.tensor([[1.0, 1.0]]), torch.tensor([1]), torch.tensor([[0.0, 1.0]]))
    >>> values = metric.compute()
    >>> round(values["alignment_correct"].item(), 3), values["alignment_centred"].item()
    (1.084, 0.0)
    """

    full_state_update = False

    weight: Tensor
    rows: Tensor
    centre: Tensor
    sums: Tensor

    def __init__(self, means: Array, weight: Array, *, ignore_index: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_index = check_ignore_index(ignore_index)
        means = as_tensor("means", means)
        means = check_means("means", means, (None, None), means)
        weight = check_float64("weight", weight, tuple(means.shape), means)
        for name, tensor in {"weight": weight, "rows": unit_rows(weight), "centre": mean_of_means(means)}.items():
            self.register_buffer(name, tensor.clone(), persistent=False)
        sums = torch.zeros((len(ORIGINS), SUMS), dtype=torch.float64, device=means.device)
        self.add_state("sums", sums, dist_reduce_fx="sum")

    def update(self, features: Array, labels: Array, logits: Array) -> None:
        """Add one batch."""
        found = check_predicted(features, labels, logits, self.weight, self.ignore_index)
        self.sums = self.sums + torch.stack([chunk_sums(*found, self.rows, origin) for origin in (None, self.centre)])

    def merge_state(self, incoming_state: Any) -> None:
        """Merge the samples that another metric, of the same means and classifier, has measured.

        Raises:
            ValueError: the other is none, or has other means or another classifier.
        """
        if not isinstance(incoming_state, SampleAlignment):
            raise ValueError(f"merge_state: expected a SampleAlignment, got {type(incoming_state).__name__}")
        for name in ("weight", "centre"):
            mine, other = getattr(self, name), getattr(incoming_state, name)
            if mine.shape != other.shape or not mine.equal(other.to(mine)):
                raise ValueError("merge_state: the other metric has other class means or another classifier")
        self.sums = self.sums + incoming_state.sums.to(self.sums)
        self._computed = None
        self._update_count += 1

    def compute(self) -> dict[str, Tensor]:
        """Return every key of `sample_alignment`, float64 scalars."""
        return alignment_table(self.sums)
