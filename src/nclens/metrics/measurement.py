"""Every metric of one split's features, from a run of the workflow or made elsewhere."""

from collections.abc import Callable, Mapping

from torch import Tensor

from nclens.metrics.calibration import calibration_metrics
from nclens.metrics.collapse import nc1_subset, neural_collapse
from nclens.metrics.regression import regression_collapse
from nclens.metrics.representation import (
    angular_spread,
    mean_logit_gap,
    smoothing_parts,
    template_spread,
    top_logit_gradient,
)


def measure_arrays(arrays: Mapping[str, Tensor]) -> dict[str, float]:
    """Return collapse and calibration metrics, or those of a regressor; its outputs are features W' + b.

    Raises:
        ValueError: shapes, types or values do not fit.
    """
    if "labels" not in arrays:
        return regression_collapse(arrays["features"], arrays["targets"], arrays["weight"], arrays.get("bias"))
    return measure_split(arrays["features"], None, arrays["labels"], arrays["weight"], arrays.get("bias"))


def measure_split(
    features: Tensor,
    logits: Tensor | None,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    reference_means: Tensor | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """Return the metrics of one split: collapse, spread of directions, logits and calibration.

    Keys: those of :func:`nclens.metrics.collapse.neural_collapse`, `nc1_correct` and `nc1_incorrect`
    (:func:`nclens.metrics.collapse.nc1_subset`), `d_within`, `d_total`, `r2_angular`
    (:func:`nclens.metrics.representation.angular_spread`), `logit_gap`
    (:func:`nclens.metrics.representation.mean_logit_gap`), `{part}_correct` and `{part}_incorrect` for the parts
    `ls_regularisation`, `ls_error_amplification`, `top_logit_gap`
    (:func:`nclens.metrics.representation.smoothing_parts`) and, where a loss is given, `top_logit_gradient`
    (:func:`nclens.metrics.representation.top_logit_gradient`), and those of
    :func:`nclens.metrics.calibration.calibration_metrics`.

    Args:
        features: (N, d).
        logits: (N, K), of the network itself; None for those that the head makes of the features.
        labels: (N,), class numbers in 0..K-1.
        weight, bias: the head, (K, d) and (K,) or None.
        reference_means: (K, d), the training split's class means, for nc4 on another split.
        loss: what the network was trained with, logits (N, K) and labels (N,) -> one value a sample (N,).

    Raises:
        ValueError: shapes, types or values do not fit.
    """
    values = neural_collapse(features, labels, weight, bias, reference_means=reference_means)
    if logits is None:
        logits = features.double() @ weight.double().T + (0.0 if bias is None else bias.double())
    correct = logits.argmax(1) == labels
    values["nc1_correct"] = nc1_subset(features, labels, len(weight), correct)
    values["nc1_incorrect"] = nc1_subset(features, labels, len(weight), ~correct)
    values |= angular_spread(features, labels)
    values["template_spread"] = template_spread(features, labels, weight)
    values["logit_gap"] = mean_logit_gap(logits, labels)
    values |= smoothing_parts(logits, labels)
    if loss is not None:
        values |= top_logit_gradient(logits, labels, loss)
    return values | calibration_metrics(logits, labels)
