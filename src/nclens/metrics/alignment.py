"""Sample-wise alignment: how far each feature's direction is from that of a class's row of the classifier.

h_i is the feature of sample i, y_i its class, w_k row k of the classifier's weight W, hG the mean of the class means:

    d_i(k) = | h_i / |h_i| - w_k / |w_k| | ,   or with h_i - hG in place of h_i.

At perfect collapse the second is 0 for k = y_i; the first only where hG = 0.
"""

import torch
from torch import Tensor

from nclens._inputs import Array, as_tensor, check_device, check_labels, check_masked, count_rows
from nclens.metrics.collapse import check_float64, check_means, check_samples, class_means, with_mean
from nclens.metrics.samples import without_ignored

_PARTS = ("", "_correct", "_incorrect", "_predicted", "_predicted_incorrect")
ORIGINS = ("alignment", "alignment_centred")
KEYS = tuple(f"{origin}{part}" for origin in ORIGINS for part in (*_PARTS, "_zero_features"))
"""The keys of `sample_alignment`, in order."""

SUMS = 6
"""Numbers by which `chunk_sums` and `alignment_table` exchange what is known of some samples."""

# Float64 bytes of one chunk of features.
_CHUNK_BYTES = 2**19


def alignment_distances(features: Array, labels: Array, weight: Array, *, centre: Array | None = None) -> Tensor:
    """Return d_i(y_i), the distance of each feature's direction from that of a class's row, (N,), float64.

    Args:
        features: (N, d), any floating dtype, finite; a tensor or NumPy array, as all arguments.
        labels: (N,), integers in [0, K): the class that each sample is compared with, the true or the predicted one.
        weight: (K, d), finite.
        centre: (d,), what is subtracted from the features, such as hG; by default nothing.

    Returns:
        Values in [0, 2], without unit; nan where the feature, or the row, is zero.

    Raises:
        ValueError: a wrong type, shape or device, values that are not finite, or labels out of range.

    Source: arXiv 2512.10421.

    >>> features, weight = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> alignment_distances(features, torch.tensor([1, 1]), weight)
    tensor([1.4142,    nan], dtype=torch.float64)
    """
    with torch.no_grad():
        weight = check_float64("weight", weight, (None, None), as_tensor("features", features))
        features, labels = check_samples(features, labels, len(weight))
        features = check_float64("features", features, (None, weight.shape[1]), weight)
        rows = unit_rows(weight)
        origin = None if centre is None else check_float64("centre", centre, (weight.shape[1],), weight)
        parts = zip(*(tensor.split(_size(weight)) for tensor in (features, labels)), strict=True)
        found = [_distance(directions(x, origin), rows[y]) for x, y in parts]
        return torch.cat(found) if found else weight.new_zeros(0)


def sample_alignment(
    features: Array,
    labels: Array,
    weight: Array,
    logits: Array,
    *,
    reference_means: Array | None = None,
    ignore_index: int | None = None,
) -> dict[str, float]:
    """Return the mean distance of the features' directions from those of the classifier's rows, by class and outcome.

    | key | mean of | over |
    |---|---|---|
    | `alignment` | d_i(y_i), to the true class | all samples |
    | `alignment_correct`, `alignment_incorrect` | d_i(y_i) | samples predicted correctly, and the others |
    | `alignment_predicted` | d_i(p_i), to the predicted class p_i | all samples |
    | `alignment_predicted_incorrect` | d_i(p_i) | samples predicted wrongly |
    | `alignment_zero_features` | their number | samples with h_i = 0 |

    Correctly predicted samples have p_i = y_i. The keys `alignment_centred...` are the same of h_i - hG; only these are
    0 at perfect collapse. Distances are in [0, 2], without unit, invariant to scaling of single features (not centred)
    and of single rows of W. A sample with h_i = 0 (h_i = hG where centred) has no direction: it is in no mean, and is
    counted. A mean over no samples is nan, and so is one that meets a row of W that is zero.

    Args:
        features: (N, d), any floating dtype; a tensor or NumPy array, as all arguments.
        labels: (N,), integers in [0, K).
        weight: (K, d), the classifier's weight, K >= 2.
        logits: (N, K), the network's; its prediction is the first of the largest. -inf masks a class.
        reference_means: (K, d), the class means whose mean is hG, such as those of the training split; a row of nan is
            a class without one. By default those of the samples given.
        ignore_index: samples with this label are left out, whatever their features and logits; by default none is.

    Raises:
        ValueError: a wrong type, shape or device; values that are not finite; labels out of range.

    Source: distances to the true class of h_i: arXiv 2512.10421; the rest is ours.

    >>> features, weight = torch.tensor([[3.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> values = sample_alignment(features, torch.tensor([0, 1]), weight, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> round(values["alignment_correct"], 3), values["alignment_centred"]
    (1.084, 0.0)
    """
    with torch.no_grad():
        weight = check_float64("weight", weight, (None, None), as_tensor("features", features))
        x, y, predicted = check_predicted(features, labels, logits, weight, ignore_index)
        if reference_means is None:
            means = class_means(x, y, len(weight), min_samples=1)
        else:
            means = check_means("reference_means", reference_means, tuple(weight.shape), x)
        centre = mean_of_means(means)
        rows = unit_rows(weight)
        sums = weight.new_zeros((len(ORIGINS), SUMS))
        for h, true, found in zip(*(tensor.split(_size(weight)) for tensor in (x, y, predicted)), strict=True):
            for place, origin in enumerate((None, centre)):
                sums[place] += chunk_sums(h, true, found, rows, origin)
        values = alignment_table(sums)
        return dict(zip(KEYS, torch.stack([values[key] for key in KEYS]).tolist(), strict=True))


def check_predicted(
    features: Array, labels: Array, logits: Array, weight: Tensor, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, labels and predicted classes of the samples that are counted, after checking all of them."""
    classes, dim = weight.shape
    found, z = as_tensor("features", features), as_tensor("logits", logits)
    if z.shape != (count_rows("features", found), classes) or not z.is_floating_point():
        raise ValueError(f"logits: expected floats of shape ({len(found)}, {classes}), got {z.dtype} {tuple(z.shape)}")
    if ignore_index is None:
        known = check_labels(labels, classes, len(found), found)
    else:
        counted, known = without_ignored(labels, classes, found, ignore_index)
        check_masked(z.masked_fill(~counted[:, None], 0))
        found, z, known = found[counted], z[counted], known[counted]
    if len(z):
        check_masked(z)
    found, known = check_samples(found, known, classes)
    check_device("weight", weight, found)
    if found.shape[1] != dim:
        raise ValueError(f"features: expected shape (N, {dim}) as the weight, got {tuple(found.shape)}")
    if not bool(found.isfinite().all()):
        raise ValueError("features: every value must be finite, found nan or inf")
    return found, known, z.argmax(1)


def mean_of_means(means: Tensor) -> Tensor:
    """Return hG (d,), the mean of the rows (K, d) that are not nan, exactly that of equal rows."""
    means = means[with_mean(means)]
    return means[0] + (means - means[0]).mean(0)


def unit_rows(rows: Tensor) -> Tensor:
    """Return rows over their norms, in float64; nan where the norm is zero."""
    return directions(rows, None)


def directions(features: Tensor, centre: Tensor | None) -> Tensor:
    """Return the unit vectors of the features, or of their differences from a centre (d,); nan for zero."""
    rows = features.double()
    rows = rows if centre is None else rows - centre
    if features.dtype == torch.float64:  # in which squares may overflow or vanish
        rows = rows / rows.abs().amax(dim=1, keepdim=True)
    return rows / rows.norm(dim=1, keepdim=True)


def chunk_sums(x: Tensor, y: Tensor, predicted: Tensor, rows: Tensor, centre: Tensor | None) -> Tensor:
    """Return, of some samples, the sums that `alignment_table` takes, (6,), float64.

    Distances to the true class of correct and of wrong predictions, to the predicted class of wrong ones; the numbers
    of both; and the number of features that are zero.
    """
    unit = directions(x, centre)
    if bool((zero := unit[:, 0].isnan()).any()):
        unit, y, predicted = unit[~zero], y[~zero], predicted[~zero]
    true = _distance(unit, rows[y])
    wrong = (y != predicted).nonzero()[:, 0]
    to_predicted = _distance(unit[wrong], rows[predicted[wrong]]).sum()
    right, of_wrong = true.sum() - true[wrong].sum(), true[wrong].sum()
    counts = (len(true) - len(wrong), len(wrong), int(zero.sum()))
    return torch.stack([right, of_wrong, to_predicted, *(unit.new_tensor(float(count)) for count in counts)])


def alignment_table(sums: Tensor) -> dict[str, Tensor]:
    """Return every key from the sums (2, 6) of the features and of the centred features, as float64 scalars."""
    values: dict[str, Tensor] = {}
    for origin, (right, wrong, predicted, correct, incorrect, zero) in zip(ORIGINS, sums, strict=False):
        means = (
            (right + wrong) / (correct + incorrect),
            right / correct,
            wrong / incorrect,
            (right + predicted) / (correct + incorrect),
            predicted / incorrect,
        )
        values |= {f"{origin}{part}": mean for part, mean in zip(_PARTS, means, strict=True)}
        values[f"{origin}_zero_features"] = zero
    return values


def _distance(unit: Tensor, rows: Tensor) -> Tensor:
    return (unit - rows).norm(dim=1)


def _size(weight: Tensor) -> int:
    """Samples of a chunk."""
    return max(1, _CHUNK_BYTES // (8 * weight.shape[1]))
