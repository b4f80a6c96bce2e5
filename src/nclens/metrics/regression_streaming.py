"""Regression collapse accumulated over batches, as a `torchmetrics.Metric`.

`RegressionCollapse` gives the measures of `nclens.metrics.regression.regression_collapse` in one pass, without keeping
the samples. No measure needs a second pass. NRC2 and the residuals need the head, which every `update` is given, so
they are summed as they come. NRC1 projects onto principal directions that are known only at the end; but the squared
length of a unit vector outside their span is 1 minus that inside, and the sum over the samples of the latter follows
from sum_i htilde_i htilde_i', which is held beside the scatter matrix of the features.

Means and scatter matrices are merged by Chan's rule, in float64: raw second moments would cancel.
"""

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from nclens._inputs import Array, as_integer, check_squares
from nclens.metrics.collapse_streaming import Float64Metric
from nclens.metrics.regression import (
    check_batch,
    fit_measures,
    head_measures,
    measure_keys,
    residuals_of,
    row_space,
    unit_rows,
    variance_measures,
    warn_undefined,
)

State = dict[str, Tensor]


class RegressionCollapse(Float64Metric):
    """The measures of `nclens.metrics.regression.regression_collapse` over any number of batches.

    `update(features, targets, weight, bias)` takes features (m, d), targets (m, n) and the head, weight (n, d) and bias
    (n,) or None, which must be the same in all batches until `reset`. `compute()` returns the function's dict as
    float64 scalars. `forward` accumulates, and returns the values of its batch alone, or nan for every key where the
    batch cannot be measured (a single sample, a constant target, a gamma above its range).

    The states of several processes are merged in `compute()`, those of two metrics in one process by `merge_state`.
    The state moves with the metric and stays in float64 under `.half()`, `.to(dtype)` and `set_dtype`.

    Precision: equal to the function to about 1e-9 relative, except that ``nrc1`` and ``nrc1_centred`` have an absolute
    error of about 1e-14, that a principal component counts only where its variance is above d eps times the mean of
    |h|^2 (eps = 2.2e-16), that the largest feature of a batch must be 0 or lie in [4e-121, 3e120], and that no residual
    may exceed 3e120, because a scatter matrix holds squares. The function has none of these limits.

    Memory: about 2 (d + n)^2 numbers of float64, whatever M is.

    Args:
        dim: d, length of a feature.
        targets: n, number of targets.
        gamma: NRC3's gamma; None fits it to the head, see `nclens.metrics.regression.fit_gamma`.
        **kwargs: those of `torchmetrics.Metric`, but not `dist_sync_on_step`.

    Raises:
        ValueError: dim or targets below 1, a gamma for n = 1. In `update`: a wrong type, shape or device, numbers that
            are not finite, another head than in the batches before; the state is then as before. In `compute`: no
            samples, a constant target, a gamma out of range.

    Example:
        >>> import torch
        >>> targets = torch.tensor([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
        >>> metric = RegressionCollapse(dim=2, targets=2)
        >>> for batch in targets.split(2):
        ...     metric.update(batch, batch, 0.5 * torch.eye(2), torch.zeros(2))
        >>> measures = metric.compute()
        >>> measures["r2"].item(), measures["mse"].item()
        (0.75, 1.25)
    """

    full_state_update = True

    samples: Tensor
    mean: Tensor
    scatter: Tensor
    directed: Tensor
    unit_moment: Tensor
    outside_head: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, targets: int, *, gamma: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.dist_sync_on_step:
            raise ValueError("dist_sync_on_step: not supported, forward returns the values of the local batch")
        dim, targets = as_integer("dim", dim, 1), as_integer("targets", targets, 1)
        if targets == 1 and gamma is not None:
            raise ValueError(f"gamma: expected None for n = 1 target, where NRC3 is not defined, got {gamma:g}")
        self.dim, self.targets, self.gamma = dim, targets, gamma
        joint = dim + 2 * targets  # features, targets and residuals side by side
        for name, shape in (
            ("samples", ()),
            ("mean", (joint,)),
            ("scatter", (joint, joint)),
            ("directed", ()),  # how many rows h are not zero
            ("unit_moment", (dim, dim)),  # sum of htilde htilde' over them
            ("outside_head", ()),  # sum of NRC2's terms over them
            ("weight", (targets, dim)),
            ("bias", (targets,)),
        ):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx=None)

    def update(self, features: Array, targets: Array, weight: Array, bias: Array | None) -> None:
        """Add one batch."""
        self._set(_merge(self._state(), self._batch(features, targets, weight, bias)))

    def compute(self) -> dict[str, Tensor]:
        """Return every key of `regression_collapse`, float64 scalars."""
        return self._measure(self._state())

    def forward(self, features: Array, targets: Array, weight: Array, bias: Array | None) -> dict[str, Tensor]:
        """Add one batch and return its own values; nan for each where the batch cannot be measured."""
        self.update(features, targets, weight, bias)
        try:
            values = self._measure(self._batch(features, targets, weight, bias))
        except ValueError:
            values = {key: self.scatter.new_tensor(math.nan) for key in measure_keys(self.targets, self.dim)}
        self._forward_cache = values  # type: ignore[assignment]
        return values

    def merge_state(self, incoming_state: Any) -> None:
        """Add what another metric, given as itself or as its `metric_state`, has seen; this one's gamma stays.

        Raises:
            ValueError: neither a `RegressionCollapse` nor the state of one, other sizes, another head.
        """
        other: Any = incoming_state.metric_state if isinstance(incoming_state, RegressionCollapse) else incoming_state
        if not isinstance(other, dict):
            raise ValueError(f"merge_state: expected a RegressionCollapse or its state, got {type(other).__name__}")
        own = self._state()
        for name, value in own.items():
            if not isinstance(other.get(name), Tensor) or other[name].shape != value.shape:
                raise ValueError(f"merge_state: expected {name} of shape {tuple(value.shape)}")
        self._set(_merge(own, {name: other[name].to(value, copy=True) for name, value in own.items()}))
        self._computed = None
        self._update_count += 1

    def _batch(self, features: Array, targets: Array, weight: Array, bias: Array | None) -> State:
        """The states of one batch alone."""
        features, targets, weight, bias = check_batch(features, targets, weight, bias)
        if weight.shape != self.weight.shape:
            raise ValueError(
                f"weight: expected shape (n, d) = {tuple(self.weight.shape)} as the metric, got {tuple(weight.shape)}"
            )
        if features.device != self.scatter.device:
            raise ValueError(f"features: expected on {self.scatter.device} as the metric, got {features.device}")
        residuals = residuals_of(features, targets, weight, bias)
        check_squares("features", features)
        check_squares("the residuals of targets", residuals, least=False)
        rows = torch.cat([features, targets, residuals], dim=1)
        # Relative to one sample: equal samples then have exactly equal means.
        mean = rows[0] + (rows - rows[0]).mean(0)
        centred = rows - mean
        state = {name: torch.zeros_like(value) for name, value in self._state().items()}
        state |= {"samples": mean.new_tensor(float(len(rows))), "mean": mean, "scatter": centred.T @ centred}
        state |= {"weight": weight.clone(), "bias": bias.clone()}  # the caller's own may go on being trained
        head = row_space(weight)
        for unit in unit_rows(features):
            state["directed"] += len(unit)
            state["unit_moment"] += unit.T @ unit
            state["outside_head"] += (unit - (unit @ head.T) @ head).square().sum()
        return state

    def _measure(self, state: State) -> dict[str, Tensor]:
        samples = state["samples"].item()
        if samples == 0:
            raise ValueError("features: expected at least one batch before compute(), got none")
        d, n = self.dim, self.targets
        mean, covariance = state["mean"], state["scatter"] / samples
        targets, residuals = slice(d, d + n), slice(d + n, d + 2 * n)
        second_moment = covariance[:d, :d] + torch.outer(mean[:d], mean[:d])
        directed = state["directed"].item()
        variances, nrc1_centred = _principal(covariance[:d, :d], second_moment, state, n)
        _, nrc1 = _principal(second_moment, second_moment, state, n)
        measures = {
            "nrc1": nrc1,
            "nrc1_centred": nrc1_centred,
            "nrc2": state["outside_head"].item() / directed if directed else math.nan,
            "feature_norm_rms": math.sqrt(second_moment.trace().item()),
            "zero_features": samples - directed,
        }
        measures |= fit_measures(
            mean[targets], covariance[targets, targets], mean[residuals], covariance[residuals, residuals]
        )
        measures |= head_measures(state["weight"], covariance[targets, targets], self.gamma)
        measures |= variance_measures(variances, n, d)
        warn_undefined(measures)
        return {key: mean.new_tensor(measures[key]) for key in measure_keys(n, d)}

    def _state(self) -> State:
        """The states; where torchmetrics has stacked those of several processes, merged."""
        names = list(self._defaults)
        if self.samples.ndim == 0:
            return {name: getattr(self, name) for name in names}
        return reduce(_merge, ({name: getattr(self, name)[i] for name in names} for i in range(len(self.samples))))

    def _set(self, state: State) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def _merge(first: State, second: State) -> State:
    """Chan's rule for the means and scatter matrices, sums for the rest."""
    if first["samples"] == 0 or second["samples"] == 0:
        return second if first["samples"] == 0 else first
    for name in ("weight", "bias"):
        if not torch.equal(first[name], second[name]):
            raise ValueError(f"{name}: expected the same head in everything that is merged, got another {name}")
    samples = first["samples"] + second["samples"]
    shift = second["mean"] - first["mean"]
    return {
        "samples": samples,
        "mean": first["mean"] + shift * (second["samples"] / samples),
        "scatter": first["scatter"]
        + second["scatter"]
        + torch.outer(shift, shift) * (first["samples"] * second["samples"] / samples),
        **{name: first[name] + second[name] for name in ("directed", "unit_moment", "outside_head")},
        "weight": first["weight"],
        "bias": first["bias"],
    }


def _principal(matrix: Tensor, second_moment: Tensor, state: State, components: int) -> tuple[Tensor, float]:
    """Variances along the principal components of `matrix`, falling, and NRC1 for the leading ones."""
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(matrix))
    tolerance = len(matrix) * torch.finfo(values.dtype).eps * second_moment.trace()
    values = torch.where(values > tolerance, values, 0.0)
    directed = state["directed"].item()
    if not directed:
        return values, math.nan
    leading = vectors[:, :components][:, values[:components] > 0]
    inside = (leading * (state["unit_moment"] @ leading)).sum().item()
    return values, max(0.0, (state["unit_moment"].trace().item() - inside) / directed)
