"""Neural collapse of a set of features, measured in float64 without a d x d matrix.

Notation, as in section "Neural collapse metrics" of the paper's formulas (Guo et al., arXiv 2402.03979): h_i is the
feature (penultimate activation) of sample i, d numbers; y_i its class among K; hbar_k the mean of class k; hG the mean
of the K class means; M the K x d matrix with rows hbar_k - hG; W the K x d weight of the linear classifier, b its bias;

    S_W = (1/N) sum_i (h_i - hbar_{y_i}) (h_i - hbar_{y_i})' ,   S_B = (1/K) M'M .

M has rank K - 1 at most. With its singular values s and right singular vectors V, tr(S_W pinv(S_B)) / K is the mean of
|diag(1/s) V' (h_i - hbar_{y_i})|^2 over the samples, so the samples are centred first and then projected: nothing
cancels and no cut-off has to be chosen for a pseudo-inverse.
"""

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from nclens._inputs import (
    Array,
    as_integer,
    as_tensor,
    check_device,
    check_labels,
    check_masked,
    describe,
    magnitude,
    scaled,
    unscaled,
)
from nclens.metrics.largest import find_largest
from nclens.metrics.pairs import ONE_TILE, distance_to_etf, pair_measures
from nclens.metrics.samples import without_ignored

KEYS = (
    "nc0",
    "nc0_share",
    "nc1",
    "nc1_sum",
    "nc1_quotient",
    "cdnv",
    "nc2",
    "nc2_means",
    "nc2_classifier",
    "nc3",
    "nc3_squared",
    "equinorm_means",
    "equinorm_classifier",
    "equiangular_means",
    "equiangular_classifier",
    "nc4",
    "feature_norm",
    "classifier_norm",
    "rank_means",
)
"""The keys of `neural_collapse`, in order."""

# Keys that need every sample once the class means are known, of these the scatter's, and those of W alone.
_OF_SCATTER = {"nc1", "nc1_sum", "nc1_quotient", "cdnv"}
_OF_SAMPLES = {*_OF_SCATTER, "nc4"}
_OF_CLASSIFIER = {key for key in KEYS if key.startswith("nc0") or "classifier" in key}

# Float64 bytes of one chunk of samples: small enough to stay in a core's cache, large enough to hide the call overhead.
_CHUNK_BYTES = 2**21
# Samples of a chunk where there are many classes: a product with few rows waits for the other matrix.
_ROWS = 1024


def neural_collapse(
    features: Array,
    labels: Array,
    weight: Array,
    bias: Array | None,
    *,
    reference_means: Array | None = None,
    ignore_index: int | None = None,
    min_samples: int | None = None,
    metrics: Collection[str] | None = None,
) -> dict[str, float]:
    """Measure every variant of neural collapse on one split.

    With nrm(A) = A / |A|_F, E = (I_K - 11'/K) / sqrt(K-1), v_k the mean of |h_i - hbar_k|^2 over class k, and r the
    numerical rank of M. Every value but `nc0`, the norms and the rank has no unit; 0 is full collapse; norms have
    the unit of the features and of the weight, `nc0` that of the weight squared.

    | key | formula | range |
    |---|---|---|
    | `nc0` | |W'1|^2 / K, the squared norm of the sum of W's rows over K (arXiv 2602.16642) | [0, inf) |
    | `nc0_share` | nc0 / |W|_F^2, the share of |W|_F^2 that is common to all rows: free of scale | [0, 1] |
    | `nc1` | tr(S_W pinv(S_B)) / K; the paper's equation (4) | [0, inf] |
    | `nc1_sum` | K nc1; what the paper's released code plots | [0, inf] |
    | `nc1_quotient` | tr S_W / tr S_B | [0, inf] |
    | `cdnv` | class-distance normalised variance: mean over k < l of (v_k + v_l) / (2 |hbar_k - hbar_l|^2) | [0, inf] |
    | `nc2` | |nrm(W M') - E|_F; the paper's plotted NC2 | [0, 2] |
    | `nc2_means` | |nrm(M M') - E|_F | [0, 2] |
    | `nc2_classifier` | |nrm(W W') - E|_F, W not centred | [0, 2] |
    | `nc3` | |nrm(W) - nrm(M)|_F; the paper's equation (6) | [0, 2] |
    | `nc3_squared` | nc3^2; what the paper's released code plots, as the original NC paper | [0, 4] |
    | `equinorm_means`, `equinorm_classifier` | std / mean of the row norms of M, of W | [0, sqrt(K-1)] |
    | `equiangular_means`, `equiangular_classifier` | mean over k != l of |cos_kl + 1/(K-1)|, rows of M, of W | [0, 2] |
    | `nc4` | share of samples whose argmax(W h + b) is not the class with the nearest mean | [0, 1] |
    | `feature_norm`, `classifier_norm` | mean over k of |hbar_k - hG|, of |w_k| | [0, inf) |
    | `rank_means` | r, the numerical rank of M, tolerance max(K, d) eps s_max | 0 ... min(K-1, d) |
    | `classes_measured` | the number of classes that are measured; only where `min_samples` is given | 2 ... K |

    The class means are those of the split that is measured. Only `nc4` uses `reference_means`: for a test split, give
    the train split's class means (`class_means`), which is what a nearest-class-mean classifier would have learnt.
    The equinorm, equiangular and nc4 keys are the NC2 and NC4 of the original neural collapse paper; the standard
    deviation is the population's (divisor K). Exact ties in nc4 go to the lower class.

    A full collapse of W has `nc0` 0, for the rows of a simplex sum to zero. Where it is not 0 it sets a floor under
    `nc3` (`nclens.ufm.nc0.nc3_floor`).

    With `min_samples`, classes with fewer samples are left out: the samples, the rows of M and of W, and K (in E, 1/K
    and 1/(K-1) too) are those of the classes measured; only `nc0` and `nc0_share` are of all K rows of W. `nc4` speaks
    of the logits, so its argmax is over all K of them; its nearest mean is among the classes that have a reference
    mean, and so are its samples' labels. A row of nan in `reference_means` is a class without one.

    Where classes differ in size:

    | | weighs |
    |---|---|
    | S_W, of `nc1`, `nc1_sum`, `nc1_quotient`; `nc4` | samples: a large class counts more |
    | S_B and hG, of these; `cdnv`, `nc2...`, `nc3...`, `equi...`, the norms | classes: each counts alike |

    `nclens.metrics.imbalance.class_imbalance` has `nc1_balanced`, which weighs classes throughout, and `nc1`, `nc2` and
    `nc3` about the mean of the samples; so has `nclens.NeuralCollapse`, given the `class_counts` beforehand.

    Where r < K - 1 (d < K - 1, or classes that share a direction) the trace of `nc1` runs over the r directions. Where
    all class means coincide (M = 0), `nc1`, `nc1_sum`, `nc1_quotient` and `cdnv` are inf and the values that are
    normalised by M, `nc2`, `nc2_means`, `nc3`, `nc3_squared`, `equinorm_means` and `equiangular_means`, are nan; `nc4`
    is nan where the reference means coincide. The same holds for W = 0 and the values normalised by W. A
    `RuntimeWarning` says so. Two coinciding class means alone make `cdnv` inf; a single zero row of M or of W makes
    its equiangular value nan. Where a class has a single sample, which has no scatter and would look collapsed, `nc1`,
    `nc1_sum`, `nc1_quotient` and `cdnv` are nan, with a `RuntimeWarning`; the other keys need class means alone.

    All arithmetic is in float64, in chunks of the samples and tiles of the classes: memory beyond the inputs is tens of
    MiB at most plus O(N + K d). Of more than 512 classes `nc4` on a CPU finds the largest scores in float32 and
    computes in float64 those that are too close to be told apart there, so that it is the same number.
    Features and weights beyond about 1e60, or all below 1e-60, whose fourth powers float64 does not hold, are first
    divided by a power of two (the features in a copy): values without a unit are those at an ordinary scale.
    On CUDA the last bits may differ between two runs, unless `torch.use_deterministic_algorithms` is on: sums over a
    class are atomic additions there. Nothing is differentiable. Under `torch.compile` the call is a graph break and
    runs uncompiled.

    Args:
        features: (N, d), any floating dtype, on any device with float64; a tensor or NumPy array, as all arguments.
        labels: (N,), integers of any type in [0, K), on the features' device; every class needs a sample, and two for
            the keys of the scatter, unless `min_samples` is given.
        weight: (K, d), the classifier's weight, K >= 2.
        bias: (K,), the classifier's bias, or None for none. Only `nc4` uses it.
        reference_means: (K, d), the class means for `nc4`; by default those of this split.
        ignore_index: samples with this label are left out, whatever their features; by default none is.
        min_samples: 2 or more; classes with fewer samples are left out. By default no class may lack samples.
        metrics: the keys that are wanted; what only the others need is not computed. By default all are.

    Raises:
        ValueError: a wrong type, shape or device; labels that are not integers or are out of range; a value that is
            not finite; K < 2; a metric that is no key; without `min_samples` a class with no sample, with it fewer than
            two classes to measure; features so large that their norms exceed float64.

    >>> features = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-3.0, 0.0]])
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> values = neural_collapse(features, labels, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), None)
    >>> round(values["nc1"], 12), values["nc1_quotient"], values["cdnv"], values["nc4"]
    (0.125, 0.25, 0.0625, 0.0)
    >>> abs(values["nc2"]) < 1e-12, values["feature_norm"], values["rank_means"]
    (True, 2.0, 1.0)
    """
    if torch.compiler.is_compiling():  # a graph break, rather than half a minute of compilation for one dictionary
        run = torch.compiler.disable(neural_collapse)
        rest = {"reference_means": reference_means, "ignore_index": ignore_index, "min_samples": min_samples}
        return run(features, labels, weight, bias, **rest, metrics=metrics)
    with torch.no_grad():
        keys = check_metrics(metrics, KEYS if min_samples is None else (*KEYS, "classes_measured"))
        features = _check_floating("features", features, (None, None))
        weight = check_float64("weight", weight, (None, features.shape[1]), features)
        classes = len(weight)
        bias = weight.new_zeros(classes) if bias is None else check_float64("bias", bias, (classes,), features)
        features, labels = check_samples(features, labels, classes, ignore_index)
        features, exponent = scaled(features)
        counts, means = _counts_and_means(features, labels, classes, 1 if min_samples is None else 2, min_samples)
        reference = unscaled(means, exponent)
        if reference_means is not None:
            check = check_float64 if min_samples is None else check_means
            reference = check("reference_means", reference_means, tuple(weight.shape), features)
        near, kept = with_mean(reference), with_mean(means)
        scored, measured = Chosen(near, classes), Chosen(kept, classes)
        scorer, offset = readout(weight, bias, reference[near], exponent)
        if min_samples is None:
            warn_single(counts, keys)
        samples = counts[near].sum()
        sums = row_sums(weight)
        counts, means, weight = counts[kept], means[kept], weight[kept]
        white = whitening(means) if needs_whitening(keys) else None
        squares, deviation = means.new_zeros(len(kept)), means.new_zeros(())
        disagreements = torch.zeros((), dtype=torch.int64, device=means.device)
        for x, y in _chunks(classes, features, labels) if _OF_SAMPLES & set(keys) else ():
            if "nc4" in keys:
                disagreements += count_disagreements(scored.samples(x, y)[0], scorer, offset, near)
            if _OF_SCATTER & set(keys):
                x, y = measured.samples(x, y)
                residual = means[y].sub_(x)
                squares.index_add_(0, y, torch.linalg.vector_norm(residual, dim=1).square())
                if white is not None:
                    deviation += (residual @ white).square().sum()
        values = sums | collapse_table(counts, means, squares, deviation, white, weight, keys)
        if "feature_norm" in keys:
            values["feature_norm"] = unscaled(values["feature_norm"], exponent)
            if bool(values["feature_norm"].isinf()):
                raise ValueError("features: values so large that their norms exceed float64")
        if "nc4" in keys:
            values["nc4"] = nc4_share(disagreements, samples, reference[near])
        return dict(zip(keys, torch.stack([values[key] for key in keys]).tolist(), strict=True))


def few_classes_collapse(
    features: Array, labels: Array, weight: Array, bias: Array | None, reference_means: Array
) -> dict[str, float]:
    """Return the keys of `neural_collapse` of a split in which fewer than two classes have two samples.

    Only `nc0`, `nc0_share`, `nc4`, about the means given, and `classes_measured` have a value; the others are nan.
    Arguments and errors are those of `neural_collapse`, with `min_samples` = 2.
    """
    with torch.no_grad():
        weight = check_float64("weight", weight, (None, None), as_tensor("features", features))
        features, labels = check_samples(features, labels, len(weight))
        check_float64("features", features, (None, weight.shape[1]), weight)
        bias = weight.new_zeros(len(weight)) if bias is None else check_float64("bias", bias, (len(weight),), weight)
        reference = check_means("reference_means", reference_means, tuple(weight.shape), weight)
        features, exponent = scaled(features)
        near = with_mean(reference)
        scorer, offset = readout(weight, bias, reference[near], exponent)
        x, _ = Chosen(near, len(weight)).samples(features.double(), labels)
        share = nc4_share(count_disagreements(x, scorer, offset, near), len(x), reference[near])
        found = {key: float(value) for key, value in row_sums(weight).items()} | {"nc4": float(share)}
        measured = float((labels.bincount(minlength=len(weight)) >= 2).sum())
        return dict.fromkeys(KEYS, math.nan) | found | {"classes_measured": measured}


def has_two_classes(labels: Tensor, classes: int, least: int = 2) -> bool:
    """Return whether two classes have so many samples, as the scatter of a split needs where classes lack them."""
    return int((labels.bincount(minlength=classes) >= least).sum()) >= 2


def class_means(
    features: Array, labels: Array, classes: int, *, ignore_index: int | None = None, min_samples: int | None = None
) -> Tensor:
    """Return the means hbar_k of the classes' features, summed in float64.

    Args:
        features: (N, d), any floating dtype.
        labels: (N,), integers in [0, classes), every class at least once, unless `min_samples` is given.
        classes: K, the number of classes.
        ignore_index: samples with this label are left out; by default none is.
        min_samples: 1 or more; a class with fewer samples has a row of nan. By default no class may lack samples.

    Returns:
        (K, d), float64, on the features' device, in the features' unit. Where all samples of a class are equal the
        mean is exactly that sample.

    Raises:
        ValueError: as `neural_collapse`, or for `classes` that are no integer of at least 2.

    >>> class_means(torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([1, 0, 0]), classes=2)
    tensor([[4.],
            [1.]], dtype=torch.float64)
    """
    with torch.no_grad():
        classes = as_integer("classes", classes, 2)
        features, labels = check_samples(features, labels, classes, ignore_index)
        features, exponent = scaled(features)
        _, means = _counts_and_means(features, labels, classes, 1, min_samples)
        return unscaled(means, exponent)


def nc1_subset(features: Array, labels: Array, classes: int, subset: Array) -> float:
    """Return `nc1` of some samples about the whole split's class means, against the whole split's S_B.

    The mean over the subset's samples of |diag(1/s) V' (h_i - hbar_{y_i})|^2, where s, V and hbar are those of the
    whole split. So over all samples it is `nc1`, and `nc1` is the average of `nc1_correct` (the subset that the network
    predicts correctly) and `nc1_incorrect` (the rest), weighted by their sizes. The paper's figure 8 shows NC1 split by
    correct and incorrect prediction; how it splits it is not known to us; this definition is ours.

    Args:
        features: (N, d), any floating dtype: the whole split.
        labels: (N,), the true classes, integers in [0, classes), every class at least once.
        classes: K, the number of classes.
        subset: (N,), bool: the samples to average over.

    Returns:
        A value in [0, inf], without unit; nan where the subset is empty, and where a class of the whole split has a
        single sample, which has no scatter; inf, with a `RuntimeWarning`, where all class means coincide.

    Raises:
        ValueError: as `neural_collapse`, and for a subset that is not a bool tensor of shape (N,).

    >>> features = torch.tensor([[3.0], [1.0], [-1.5], [-2.5]])
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> round(nc1_subset(features, labels, 2, torch.tensor([True, True, False, False])), 12)
    0.125
    """
    with torch.no_grad():
        classes = as_integer("classes", classes, 2)
        features, labels = check_samples(features, labels, classes)
        subset = as_tensor("subset", subset)
        if subset.dtype != torch.bool or subset.shape != labels.shape:
            raise ValueError(f"subset: expected a bool tensor of shape {tuple(labels.shape)}, got {describe(subset)}")
        check_device("subset", subset, features)
        features, _ = scaled(features)
        counts, means = _counts_and_means(features, labels, classes, at_least=1)
        white = whitening(means)
        size = int(subset.sum()) if bool((counts > 1).all()) else 0
        if size > 0 and white.shape[1] == 0:
            _warn_coinciding()
            return float("inf")
        total = means.new_zeros(())
        for x, y, keep in _chunks(classes, features, labels, subset):
            total += (means[y].sub_(x)[keep] @ white).square().sum()
        return float(total) / size if size > 0 else float("nan")


def nc1_by_correctness(
    features: Array, logits: Array, labels: Array, *, min_samples: int | None = None
) -> dict[str, float]:
    """Return `nc1_correct` and `nc1_incorrect`: `nc1_subset` of the samples predicted correctly, and of the others.

    Args:
        features: (N, d), any floating dtype.
        logits: (N, K), the network's; its prediction is the first of the largest. -inf masks a class.
        labels: (N,), integers in [0, K), every class at least once, unless `min_samples` is given.
        min_samples: 2 or more; classes with fewer samples are left out. By default no class may lack samples.

    Raises:
        ValueError: as `nc1_subset`, and for logits of another shape, or with nan or +inf.
    """
    logits = _check_floating("logits", logits, (None, None))
    labels = check_labels(labels, logits.shape[1], len(logits), logits)
    check_masked(logits)
    correct, classes = logits.argmax(1) == labels, logits.shape[1]
    if min_samples is not None:
        kept = (~find_lacking(labels.bincount(minlength=classes), 2, min_samples)).nonzero()[:, 0]
        place = torch.searchsorted(kept, labels).clamp(max=len(kept) - 1)
        here = kept[place] == labels
        features, labels, correct, classes = (
            as_tensor("features", features)[here],
            place[here],
            correct[here],
            len(kept),
        )
    parts = {"nc1_correct": correct, "nc1_incorrect": ~correct}
    return {name: nc1_subset(features, labels, classes, subset) for name, subset in parts.items()}


def _counts_and_means(
    features: Tensor, labels: Tensor, classes: int, at_least: int, min_samples: int | None = None
) -> tuple[Tensor, Tensor]:
    """(K,) and (K, d), float64, if every class has enough samples; with `min_samples`, rows of nan for those that lack.

    Each class is summed relative to its first sample, so that equal samples have exactly their own value as the mean
    and total collapse is recognised as such.
    """
    counts = torch.bincount(labels, minlength=classes)
    lacking = find_lacking(counts, at_least, min_samples)
    places = (counts.cumsum(0) - counts).clamp(max=len(labels) - 1)  # a class without samples has another's first one
    first = features[labels.argsort(stable=True)[places]].double()
    totals = torch.zeros_like(first)
    for x, y in _chunks(classes, features, labels):
        totals.index_add_(0, y, first[y].sub_(x))
    means = first - totals / counts.clamp(min=1)[:, None]
    if not bool(means.isfinite().all()):
        row = int((~features.isfinite().all(dim=1)).nonzero()[0])
        raise ValueError(f"features: every value must be finite, found nan or inf in row {row}")
    return counts.double(), means.masked_fill(lacking[:, None], torch.nan)


class Chosen(NamedTuple):
    """Some classes, (R,) in increasing order, of K."""

    classes: Tensor
    of: int

    def samples(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the samples of the classes chosen, and each one's place in `classes`."""
        if len(self.classes) == self.of:
            return x, y
        place = torch.full((self.of,), -1, device=y.device).scatter_(
            0, self.classes, torch.arange(len(self.classes), device=y.device)
        )[y]
        return x[place >= 0], place[place >= 0]


def with_mean(means: Tensor) -> Tensor:
    """Return the classes (R,) that have a mean, of (K, d) means with a row of nan for each of the others."""
    return (~means.isnan().all(dim=1)).nonzero()[:, 0]


def _chunks(classes: int, features: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the rows of all tensors chunk by chunk, the features in float64 (not to be written to)."""
    dim = features.shape[1]
    if classes <= ONE_TILE:
        size = max(1, _CHUNK_BYTES // (8 * max(dim, 2 * classes)))  # a sample is d features and, in nc4, 2K scores
    else:
        size = max(1, min(_ROWS, 4 * _CHUNK_BYTES // (8 * dim)))  # the scores are taken in tiles
    for x, *rest in zip(*(tensor.split(size) for tensor in (features, *others)), strict=True):
        yield x.double(), *rest


def centred_rows(means: Tensor) -> Tensor:
    """M, (K, d). Taking the first mean off first makes M exactly zero where all means are equal."""
    shifted = means - means[:1]
    return shifted - shifted.mean(0)


def whitening(means: Tensor) -> Tensor:
    """(d, r) matrix A = V diag(1/s), from the SVD of M: the mean of |A'(h_i - hbar_{y_i})|^2 is nc1."""
    classes, dim = means.shape
    centred = centred_rows(means)
    if classes > max(ONE_TILE, 2 * dim):  # the left singular vectors, K x d numbers, are not made
        centred = torch.linalg.qr(centred, mode="r").R
    _, s, vh = torch.linalg.svd(centred, full_matrices=False)
    s = s[: classes - 1]
    rank = int((s > max(classes, dim) * torch.finfo(s.dtype).eps * s[0]).sum())
    return vh[:rank].T / s[:rank]


def readout(weight: Tensor, bias: Tensor, means: Tensor, exponent: int = 0) -> tuple[Tensor, Tensor]:
    """(d, K + R) and (K + R,): h @ readout + offset is the K logits, then a score a mean, highest at the nearest.

    |h - m_k|^2 = |h|^2 - 2 (h - c)'(m_k - c) + |m_k - c|^2 + terms without k, so the nearest mean is a linear
    classifier too; c is the centre of the means, which keeps a common offset out of the squares. h are the features
    divided by 2^exponent. The logits, and the scores, may have a common factor > 0, which no argmax sees.
    """
    unit, means_exponent = scaled(means)
    centred = centred_rows(unit)
    centre = unit[0] - centred[0]
    scores = -centred @ centre - centred.square().sum(1) / 2
    rows, weight_exponent = scaled(weight)
    rows, bias = _levelled(rows, bias, exponent + weight_exponent)
    centred, scores = _levelled(centred, scores, exponent - means_exponent)
    return torch.cat([rows, centred]).T, torch.cat([bias, scores])


def _levelled(rows: Tensor, offset: Tensor, exponent: int) -> tuple[Tensor, Tensor]:
    """Rows and offset of `2^exponent rows h + offset`, both divided by a power of two that lets neither overflow."""
    if exponent == 0:
        return rows, offset
    common = max(exponent, magnitude(offset) if bool(offset.any()) else -1000, -1000)
    return rows * math.ldexp(1.0, exponent - common), offset * math.ldexp(1.0, -common)


def count_disagreements(x: Tensor, scorer: Tensor, offset: Tensor, near: Tensor) -> Tensor:
    """Count the samples (n, d) for which the network and the nearest mean differ.

    `scorer` and `offset` are from `readout`; `near` are the classes (R,) of the means.
    """
    classes = len(offset) - len(near)
    if classes <= ONE_TILE:
        scores = x @ scorer + offset
        return (scores[:, :classes].argmax(1) != near[scores[:, classes:].argmax(1)]).sum()
    rows = scorer.T
    predicted = find_largest(x, rows[:classes], offset[:classes])
    return (predicted != near[find_largest(x, rows[classes:], offset[classes:])]).sum()


def nc4_share(disagreements: Tensor, total: Tensor | int, means: Tensor) -> Tensor:
    """Share of disagreements, float64; nan where the means coincide: then no mean is the nearest."""
    share = disagreements.double() / total
    return torch.where(centred_rows(means).any(), share, torch.nan)


def row_sums(weight: Tensor) -> dict[str, Tensor]:
    """Return `nc0` and `nc0_share` of a weight (K, d), float64 scalars; the share is nan where W = 0."""
    unit, exponent = scaled(weight)
    nc0 = unit.sum(0).square().sum() / len(unit)
    return {"nc0": unscaled(unscaled(nc0, exponent), exponent), "nc0_share": nc0 / unit.square().sum()}


def check_metrics(metrics: Collection[str] | None, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the keys that are wanted, in their order; None: all.

    Raises:
        ValueError: the metrics are no collection of names, there is none, or one is no key.
    """
    if metrics is None:
        return keys
    if isinstance(metrics, str) or not isinstance(metrics, Collection) or not metrics:
        raise ValueError(f"metrics: expected one name or more in a tuple, got {metrics!r}")
    if unknown := [name for name in metrics if name not in keys]:
        raise ValueError(f"metrics: no metric is named {unknown[0]!r}; expected some of {', '.join(keys)}")
    return tuple(key for key in keys if key in metrics)


def needs_whitening(keys: Collection[str]) -> bool:
    """Return whether one of the keys needs `whitening`."""
    return bool({"nc1", "nc1_sum", "rank_means"} & set(keys))


def collapse_table(
    counts: Tensor,
    means: Tensor,
    squares: Tensor,
    deviation: Tensor,
    white: Tensor | None,
    weight: Tensor,
    keys: Collection[str] = (*KEYS, "classes_measured"),
) -> dict[str, Tensor]:
    """Those of the keys that are not `nc4` or of `row_sums`, as float64 scalars; K are the classes measured.

    Args:
        counts: (K,), samples a class.
        means: (K, d), class means.
        squares: (K,), sum over class k of |h_i - hbar_k|^2.
        deviation: sum over all samples of |A'(h_i - hbar_{y_i})|^2.
        white: A from `whitening`, or None where `needs_whitening` is false.
        weight: (K, d).
        keys: those that are wanted; the others are not computed.
    """
    m = centred_rows(means)
    classes = len(m)
    unit_m, m_exponent = scaled(m)
    unit_w, w_exponent = scaled(weight)
    between = m.square().sum() / classes
    if not bool(m.any()):
        if set(keys) - _OF_CLASSIFIER - {"nc4", "feature_norm", "rank_means", "classes_measured"}:
            _warn_coinciding()
        deviation = torch.full_like(deviation, torch.inf)
    if not bool(weight.any()) and {"nc2", "nc3", "nc3_squared", *_OF_CLASSIFIER} - {"nc0", "classifier_norm"} & set(
        keys
    ):
        warnings.warn("the classifier weight is zero: values normalised by it are nan", RuntimeWarning, stacklevel=3)
    if bool((counts < 2).any()):  # a single sample has no scatter, which would look like collapse
        deviation, squares = deviation * torch.nan, squares * torch.nan
    nc1 = deviation / counts.sum()
    within = squares.sum() / counts.sum()
    mean_norms, weight_norms = unit_m.norm(dim=1), unit_w.norm(dim=1)

    @cache
    def nc3() -> Tensor:
        return (_normalised(unit_w) - _normalised(unit_m)).norm()

    of_means = {"nc2_means": "etf", "equiangular_means": "equiangularity"}
    of_classifier = {"nc2_classifier": "etf", "equiangular_classifier": "equiangularity"}

    @cache
    def means_pairs() -> dict[str, Tensor]:
        # One pass for all where no scale was taken out, as of all ordinary values.
        wanted = [name for key, name in of_means.items() if key in keys]
        if unit_m is not m:
            return pair_measures(unit_m, wanted) | {"cdnv": pair_measures(m, ("cdnv",), squares / counts)["cdnv"]}
        return pair_measures(m, [*wanted, *(("cdnv",) if "cdnv" in keys else ())], squares / counts)

    @cache
    def classifier_pairs() -> dict[str, Tensor]:
        return pair_measures(unit_w, [name for key, name in of_classifier.items() if key in keys])

    values: dict[str, Callable[[], Tensor]] = {
        "nc1": lambda: nc1,
        "nc1_sum": lambda: classes * nc1,
        "nc1_quotient": lambda: torch.where((between > 0) | within.isnan(), within / between, torch.inf),
        "cdnv": lambda: means_pairs()["cdnv"],
        "nc2": lambda: distance_to_etf(unit_w, unit_m),
        "nc2_means": lambda: means_pairs()["etf"],
        "nc2_classifier": lambda: classifier_pairs()["etf"],
        "nc3": nc3,
        "nc3_squared": lambda: nc3().square(),
        "equinorm_means": lambda: mean_norms.std(correction=0) / mean_norms.mean(),
        "equinorm_classifier": lambda: weight_norms.std(correction=0) / weight_norms.mean(),
        "equiangular_means": lambda: means_pairs()["equiangularity"],
        "equiangular_classifier": lambda: classifier_pairs()["equiangularity"],
        "feature_norm": lambda: unscaled(mean_norms.mean(), m_exponent),
        "classifier_norm": lambda: unscaled(weight_norms.mean(), w_exponent),
        "rank_means": lambda: nc1.new_tensor(math.nan if white is None else float(white.shape[1])),
        "classes_measured": lambda: nc1.new_tensor(float(classes)),
    }
    return {key: value() for key, value in values.items() if key in keys}


def _normalised(matrix: Tensor) -> Tensor:
    return matrix / matrix.norm()


def find_lacking(counts: Tensor, at_least: int, min_samples: int | None) -> Tensor:
    """Return which of K classes are left out as they lack samples, (K,), bool.

    Args:
        counts: (K,), samples a class.
        at_least: the samples that every class needs where `min_samples` is None.
        min_samples: `at_least` or more, the samples of a class that is measured; None: no class may lack any.

    Raises:
        ValueError: without `min_samples`, for the first class that lacks samples; with it, if fewer than two are left.
    """
    if min_samples is None:
        for k, count in enumerate(counts.tolist()):
            if count < at_least:
                raise ValueError(f"labels: class {k} has {int(count)} sample(s), at least {at_least} needed")
    least = as_integer("min_samples", at_least if min_samples is None else min_samples, at_least)
    lacking = counts < least
    measured = len(counts) - int(lacking.sum())
    if measured < 2:
        has = f"{measured} of {len(counts)} classes " + ("has" if measured == 1 else "have")
        raise ValueError(f"labels: {has} {least} sample(s) or more, at least two classes are needed")
    return lacking


def check_samples(
    features: Array, labels: Array, classes: int | None, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return features and int64 labels as tensors after checking types, shapes, devices and range (None: any K)."""
    classes = None if classes is None else as_integer("classes (rows of the weight)", classes, 2)
    features = _check_floating("features", features, (None, None))
    if features.shape[1] == 0:
        raise ValueError("features: expected at least one column")
    if ignore_index is None:
        return features, check_labels(labels, classes, len(features), features)
    return _without(ignore_index, features, labels, classes)


def _without(ignore_index: int, features: Tensor, labels: Array, classes: int | None) -> tuple[Tensor, Tensor]:
    """Return the samples whose label is not `ignore_index`, checked; messages have their rows among all samples."""
    counted, found = without_ignored(labels, classes, features, ignore_index)
    bad = counted & ~features.isfinite().all(dim=1)
    if bool(bad.any()):
        raise ValueError(f"features: every value must be finite, found nan or inf in row {int(bad.nonzero()[0])}")
    return features[counted], found[counted]


def check_float64(name: str, values: Array, shape: tuple[int | None, ...], like: Tensor) -> Tensor:
    """Return a tensor, detached and in float64, after checking dtype, shape (None: any size), device and values."""
    return check_finite(name, values, shape, like).double()


def check_finite(name: str, values: Array, shape: tuple[int | None, ...], like: Tensor) -> Tensor:
    """Return a tensor, detached, after the checks of `check_float64`."""
    tensor = _check_floating(name, values, shape).detach()
    check_device(name, tensor, like)
    if tensor.numel() and not bool(torch.stack(tensor.aminmax()).isfinite().all()):
        raise ValueError(f"{name}: every value must be finite, found nan or inf")
    return tensor


def check_means(name: str, values: Array, shape: tuple[int | None, ...], like: Tensor) -> Tensor:
    """Return class means as `check_float64`, but a class without a mean, a row of nan, is allowed; two need one."""
    tensor = _check_floating(name, values, shape)
    near = with_mean(tensor)
    if len(tensor) and len(near) < 2:
        raise ValueError(f"{name}: {len(near)} of {len(tensor)} rows have numbers, at least two are needed")
    check_float64(name, tensor[near], (None, tensor.shape[1]), like)
    return tensor.detach().double()


def _check_floating(name: str, values: Array, shape: tuple[int | None, ...]) -> Tensor:
    tensor = as_tensor(name, values)
    good = tensor.is_floating_point() and tensor.dim() == len(shape)
    if not good or any(size not in (None, found) for size, found in zip(shape, tensor.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: expected a floating-point tensor of shape ({wanted}), got {describe(tensor)}")
    return tensor


def warn_single(counts: Tensor, keys: Collection[str] = KEYS) -> None:
    """Warn where a class (K,) has a single sample, if one of the keys needs its scatter."""
    if _OF_SCATTER & set(keys) and bool((single := counts == 1).any()):
        warnings.warn(
            f"class {int(single.nonzero()[0])} has a single sample and no scatter: nc1, nc1_sum, nc1_quotient and cdnv "
            "are nan",
            RuntimeWarning,
            stacklevel=3,
        )


def _warn_coinciding() -> None:
    warnings.warn("all class means coincide: nc1 is inf, values normalised by M nan", RuntimeWarning, stacklevel=4)
