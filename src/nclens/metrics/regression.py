"""Neural regression collapse (NRC): measurements of features, targets and a linear head.

NRC1 to NRC3 are those of arXiv 2409.04180 (NeurIPS 2024), called "the paper" here; what is not the paper's is marked
*ours*. The paper writes samples as columns; here, as everywhere in nclens, a sample is a **row**: features H are
(M, d), targets Y are (M, n), the head is W (n, d) and b (n,), and its predictions are H W' + b. M counts samples, d
feature dimensions, n target dimensions. Covariances divide by M. Everything is computed in float64. Tensors and NumPy
arrays of real numbers are taken.

Features and weights may be of any size that float64 holds: measures without a unit are computed at an ordinary scale,
and squares beyond 1.8e308 are inf. The largest target must be 0 or lie in [4e-121, 3e120].

`regression_collapse` gives every measure at once; the other functions are its parts.
"""

import math
import warnings
from collections.abc import Iterator

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from nclens._inputs import Array, as_integer, as_number, as_tensor, check_squares, scaled, unscaled

_EPS = torch.finfo(torch.float64).eps
_CHUNK_ROWS = 4_096  # bounds the float64 working copies, whatever M is


def regression_collapse(
    features: Array, targets: Array, weight: Array, bias: Array | None, *, gamma: float | None = None
) -> dict[str, float]:
    """Measure the collapse of a regressor: NRC1 to NRC3, explained variance, fit and norms.

    Keys, in the order of `measure_keys` (R = Y - H W' - 1 b' are the residuals, C their covariance):

    * ``nrc1``, ``nrc1_centred``: see `nrc1`; ``nrc2``: see `nrc2`.
    * ``nrc3`` and ``nrc3_gamma``, the gamma it was computed with: see `nrc3`. Both are **left out for n = 1**.
    * ``evr_1`` ... ``evr_{n+1}`` (at most d of them): share of the features' variance on each leading principal
      component; ``evr``: the sum of the first n. In [0, 1], 1 at collapse.
    * ``mse``: (1/M) |R|_F^2, **summed** over the n targets and averaged over the samples, as in the paper's loss;
      ``mse_0`` ...: the same per target, so that they add up to ``mse``. `torch.nn.functional.mse_loss` is mse/n.
    * ``r2_0`` ...: 1 - mse_j / var(y_j); ``r2``: their plain mean. At most 1.
    * ``residual_variance``: v = tr(C)/n, and ``residual_anisotropy``: |C - v I|_F / |v I|_F, 0 when C is a multiple of
      I (left out for n = 1, where it could only be 0). The unconstrained feature model predicts C = c I where
      c = lambda_w lambda_h_mean < lambda_min(Sigma); `residual_deviation` is the distance to that. *Ours.*
    * ``feature_norm_rms``: sqrt((1/M) |H|_F^2); ``weight_norm_frobenius``: |W|_F.
    * ``zero_features``: number of rows h = 0. They have no direction and are left out of ``nrc1`` and ``nrc2``.

    Every covariance and mean is that of the samples given: pass a split to measure that split.

    Args:
        features: (M, d), M >= 2.
        targets: (M, n), no column constant; linearly dependent columns (one-hot targets) are allowed.
        weight: (n, d), the head's matrix.
        bias: (n,), the head's offset, or None for none.
        gamma: NRC3's gamma. The paper finds it once on the final weights and uses it for every epoch, so measure the
            last epoch first and pass its ``nrc3_gamma`` to the others. None fits it to `weight`.

    Limits: n >= d makes ``nrc1`` zero and n > d keeps ``nrc3`` above zero, whatever was learned. W = 0 has an empty
    row space: ``nrc2`` is 1, ``nrc3`` nan. Measures that divide by zero are nan, and one RuntimeWarning names them.

    Raises:
        ValueError: wrong types or shapes, numbers (predictions too) that are not finite, targets out of range, a
            constant target (one sample has no other), a gamma outside [0, lambda_max) of the targets' covariance, or
            any gamma with n = 1.

    Example:
        >>> import torch
        >>> targets = torch.tensor([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
        >>> features = torch.cat([targets, torch.zeros(4, 1)], dim=1)  # the targets themselves, in a plane of R^3
        >>> weight = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]])
        >>> measures = regression_collapse(features, targets, weight, torch.zeros(2), gamma=0.25)
        >>> {key: round(measures[key], 3) + 0.0 for key in ("nrc1", "nrc2", "nrc3", "evr_1", "r2", "mse")}
        {'nrc1': 0.0, 'nrc2': 0.0, 'nrc3': 0.211, 'evr_1': 0.8, 'r2': 0.75, 'mse': 1.25}
    """
    features, targets, weight, bias = check_batch(features, targets, weight, bias)
    spectrum = _Spectrum(features)
    components = min(targets.shape[1], features.shape[1])
    measures = {
        "nrc1": _outside(features, spectrum.directions(components, centred=False)),
        "nrc1_centred": _outside(features, spectrum.directions(components, centred=True)),
        "nrc2": _outside(features, row_space(weight)),
    }
    residuals, size = scaled(residuals_of(features, targets, weight, bias))
    covariance = target_covariance(targets)
    measures |= fit_measures(targets.mean(0), covariance, residuals.mean(0), _covariance(residuals), size)
    measures |= head_measures(weight, covariance, gamma)
    measures |= variance_measures(spectrum.variances, targets.shape[1], features.shape[1])
    unit, exponent = scaled(features)
    root = features.new_tensor(math.sqrt(unit.square().sum().item() / len(features)))
    measures["feature_norm_rms"] = unscaled(root, exponent).item()
    measures["zero_features"] = float((features.abs().amax(1) == 0).sum())
    warn_undefined(measures)
    return {key: measures[key] for key in measure_keys(targets.shape[1], features.shape[1])}


def measure_keys(n: int, dim: int) -> tuple[str, ...]:
    """The keys of `regression_collapse` for n targets and features of length `dim`, in order.

    >>> measure_keys(1, 8)
    ('nrc1', 'nrc1_centred', 'nrc2', 'evr', 'evr_1', 'evr_2', 'mse', 'mse_0', 'r2', 'r2_0', 'residual_variance',
     'feature_norm_rms', 'weight_norm_frobenius', 'zero_features')
    """
    several = n > 1
    return (
        *("nrc1", "nrc1_centred", "nrc2"),
        *(("nrc3", "nrc3_gamma") if several else ()),
        *("evr", *(f"evr_{k}" for k in range(1, min(n + 1, dim) + 1))),
        *("mse", *(f"mse_{j}" for j in range(n)), "r2", *(f"r2_{j}" for j in range(n))),
        *("residual_variance", *(("residual_anisotropy",) if several else ())),
        *("feature_norm_rms", "weight_norm_frobenius", "zero_features"),
    )


def nrc1(features: Array, components: int, *, centred: bool = False) -> float:
    """NRC1: the part of the feature directions outside the leading principal components.

    NRC1 = (1/M) sum_i |htilde_i - P htilde_i|^2 with htilde = h/|h| and P the projector onto the top `components`
    (the paper's n, the number of targets) principal components of H. In [0, 1], 0 at collapse.

    The paper does not say whether H is centred before its components are taken; the released code does it. With
    `centred` they are those of H - 1 hbar', otherwise those of H as it is; htilde is h/|h| in both. Components along
    which H has no variation (to rounding) are not used: their direction would be arbitrary. Rows h = 0 are left out;
    nan if all are. components >= d gives 0 unless H is rank-deficient and `centred`.

    Args:
        features: (M, d).
        components: how many components, at least 1.
        centred: see above.

    Raises:
        ValueError: wrong type or shape, numbers that are not finite, components < 1.
    """
    features = _matrix(features, "features")
    components = as_integer("components", components, 1)
    directions = _Spectrum(features).directions(min(components, features.shape[1]), centred=centred)
    return _outside(features, directions)


def nrc2(features: Array, weight: Array) -> float:
    """NRC2: the part of the feature directions outside the row space of the head.

    NRC2 = (1/M) sum_i |htilde_i - P htilde_i|^2 with htilde = h/|h| and P the projector onto the row space of W (its
    numerical rank decides, so W = 0 gives 1). In [0, 1], 0 at collapse. Rows h = 0 are left out; nan if all are.

    Args:
        features: (M, d).
        weight: (n, d).

    Raises:
        ValueError: wrong types or shapes, numbers that are not finite.
    """
    features, weight = _matrix(features, "features"), _matrix(weight, "weight")
    if features.shape[1] != weight.shape[1]:
        raise ValueError(f"weight: expected {features.shape[1]} columns as the features, got {weight.shape[1]}")
    return _outside(features, row_space(weight))


def nrc3(weight: Array, covariance: Array, gamma: float) -> float:
    """NRC3: how far the head's Gram matrix is from the shape that the targets' covariance predicts.

    NRC3 = | nrm(W W') - nrm([Sigma^{1/2} - gamma^{1/2} I]_+) |_F^2 with nrm(A) = A/|A|_F. In [0, 2], 0 at collapse.
    The paper has gamma in (0, lambda_min(Sigma)), where the positive part [.]_+ changes nothing. Taking it is *ours*:
    it is what the unconstrained feature model predicts beyond that range, and it makes a singular Sigma (one-hot
    targets) measurable. For one-hot targets of balanced classes the measure is (nc2_classifier)^2.

    nan for W = 0.

    Args:
        weight: (n, d), n >= 2. For n = 1 both normalised matrices are the number 1: NRC3 is not defined.
        covariance: (n, n) covariance Sigma of the targets, not zero; see `target_covariance`.
        gamma: in [0, lambda_max(Sigma)), in squared target units; see `fit_gamma`. In UFM runs
            gamma = lambda_w lambda_h_mean.

    Raises:
        ValueError: wrong types or shapes, numbers that are not finite, n = 1, a covariance that is zero, asymmetric or
            not positive semi-definite, gamma out of range.
    """
    weight, values, vectors = _check_nrc3(weight, covariance)
    most = values[-1].item()
    expected = f"0 <= gamma < {most:g}, the largest eigenvalue of the targets' covariance"
    if not 0 <= as_number("gamma", gamma, expected, lambda _: True) < most:
        raise ValueError(f"gamma: expected {expected}, got {gamma:g}")
    gram = _normalised_gram(vectors.T @ weight)
    return _squared_distance(gram, values.sqrt(), math.sqrt(gamma))


def fit_gamma(weight: Array, covariance: Array) -> float:
    """Find the gamma in (0, lambda_min(Sigma)) at which `nrc3` is smallest.

    The paper does this once, on the final weights, and then uses the gamma for every epoch. With t = sqrt(gamma) the
    measure is 2 - 2 cos(angle between W W' and Sigma^{1/2} - t I). As t grows that matrix turns one way within the
    plane of Sigma^{1/2} and I, so there is one minimum, at which a bounded scalar search (scipy) arrives; it can sit
    at an end of the interval. lambda_min is the smallest **non-zero** eigenvalue (*ours*, see `nrc3`); where all
    non-zero eigenvalues are equal, every gamma gives the same measure and the one returned means nothing.

    Args:
        weight: (n, d), n >= 2, not zero: the final weights.
        covariance: (n, n), the targets' covariance Sigma, not zero.

    Returns:
        gamma, in squared target units.

    Raises:
        ValueError: as `nrc3`, and for weights that are all zero.
    """
    weight, values, vectors = _check_nrc3(weight, covariance)
    if not weight.any():
        raise ValueError("weight: expected a non-zero entry, without which no gamma can be found, got all zeros")
    gram, roots = _normalised_gram(vectors.T @ weight), values.sqrt()
    smallest = roots[roots > 0].min().item()
    found = minimize_scalar(
        lambda share: _squared_distance(gram, roots, share * smallest),
        bounds=(0.0, 1.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return (float(found.x) * smallest) ** 2


def target_covariance(targets: Array) -> Tensor:
    """Sigma = (1/M) sum_i (y_i - ybar)(y_i - ybar)', the (n, n) covariance of targets (M, n), in float64.

    Raises:
        ValueError: wrong type or shape, numbers that are not finite, or whose squares float64 does not hold.
    """
    rows = _matrix(targets, "targets")
    check_squares("targets", rows)
    return _covariance(rows)


def explained_variance_ratio(features: Array, components: int) -> list[float]:
    """Share of the variance of features (M, d) on each of the leading principal components, largest first.

    s_k^2 / sum_j s_j^2 with s the singular values of the centred features. In [0, 1], falling; 0 past the rank; nan
    where all samples are equal. The list has min(components, d) entries.

    Raises:
        ValueError: wrong type or shape, numbers that are not finite, components < 1.
    """
    features = _matrix(features, "features")
    components = as_integer("components", components, 1)
    return _shares(_Spectrum(features).variances, min(components, features.shape[1]))


def residual_deviation(covariance: Array, c: float) -> float:
    """|C - c I|_F / |c I|_F: how far a residual covariance C (n, n) is from the c I that the model predicts. *Ours.*

    From the measures of `regression_collapse`, with q = residual_variance/c, it is
    sqrt((q residual_anisotropy)^2 + (q - 1)^2).

    Raises:
        ValueError: C not a square matrix of finite numbers, c not positive.
    """
    covariance = _matrix(covariance, "covariance")
    n = len(covariance)
    if covariance.shape != (n, n):
        raise ValueError(f"covariance: expected a square matrix, got shape {tuple(covariance.shape)}")
    as_number("c", c, "a finite number > 0", lambda value: 0 < value < math.inf)
    identity = torch.eye(n, dtype=torch.float64, device=covariance.device)
    difference, exponent = scaled(covariance - c * identity)
    return unscaled(torch.linalg.matrix_norm(difference) / (c * math.sqrt(n)), exponent).item()


# Parts that the streaming metric shares.


def check_batch(
    features: Array, targets: Array, weight: Array, bias: Array | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four in float64, detached, or raise a ValueError that names the one that does not fit."""
    features, targets = _matrix(features, "features"), _matrix(targets, "targets")
    weight = _matrix(weight, "weight")
    (samples, dim), n = features.shape, targets.shape[1]
    bias = weight.new_zeros(n) if bias is None else _numbers(bias, "bias")
    for name, tensor, shape, meaning in (
        ("targets", targets, (samples, n), "(M, n)"),
        ("weight", weight, (n, dim), "(n, d)"),
        ("bias", bias, (n,), "(n,)"),
    ):
        if tensor.shape != shape:
            raise ValueError(
                f"{name}: expected shape {meaning} = {shape} for features (M, d) = {(samples, dim)} and n = {n} "
                f"targets, got {tuple(tensor.shape)}"
            )
        if tensor.device != features.device:
            raise ValueError(f"{name}: expected on {features.device} as the features, got {tensor.device}")
    check_squares("targets", targets)
    return features, targets, weight, bias


def residuals_of(features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return Y - H W' - 1 b' (M, n), or raise a ValueError where that exceeds float64."""
    residuals = targets - (features @ weight.T + bias)
    if not bool(residuals.isfinite().all()):
        raise ValueError("features: expected predictions H W' + b that float64 holds, got some beyond 1.8e308")
    return residuals


def row_space(matrix: Tensor) -> Tensor:
    """Orthonormal rows (r, d) that span the row space of a float64 matrix of numerical rank r."""
    _, values, rows = torch.linalg.svd(matrix, full_matrices=False)
    return rows[values > max(matrix.shape) * _EPS * values[0]]


def head_measures(weight: Tensor, covariance: Tensor, gamma: float | None) -> dict[str, float]:
    """Keys of `regression_collapse` that need the head and the targets' covariance only."""
    unit, exponent = scaled(weight)
    measures = {"weight_norm_frobenius": unscaled(torch.linalg.matrix_norm(unit), exponent).item()}
    if len(weight) == 1:
        if gamma is not None:
            raise ValueError(f"gamma: expected None for n = 1 target, where NRC3 is not defined, got {gamma:g}")
        return measures
    if gamma is None:
        gamma = fit_gamma(weight, covariance) if weight.any() else math.nan
    measures["nrc3"] = nrc3(weight, covariance, gamma) if weight.any() else math.nan
    measures["nrc3_gamma"] = gamma
    return measures


def variance_measures(variances: Tensor, n: int, dim: int) -> dict[str, float]:
    """Keys of `regression_collapse` about explained variance; `variances` per component, falling."""
    shares = _shares(variances, min(n + 1, dim))
    measures = {"evr": min(sum(shares[:n]), 1.0) if variances.any() else math.nan}
    return measures | {f"evr_{k}": share for k, share in enumerate(shares, start=1)}


def fit_measures(
    target_mean: Tensor, covariance: Tensor, residual_mean: Tensor, residual_covariance: Tensor, size: int = 0
) -> dict[str, float]:
    """Keys of `regression_collapse` about the residuals, from means (n,) and covariances (n, n).

    The last two are of residuals divided by 2^size.
    """
    n = len(target_mean)
    variances = covariance.diagonal()
    # Rounding of the mean leaves a constant column a variance of this order.
    constant = (variances <= (64 * _EPS * target_mean.abs()).square()).nonzero().flatten().tolist()
    if constant:
        raise ValueError(
            "targets: expected columns that vary over the samples (R2 is not defined otherwise), got constant ones: "
            f"{', '.join(map(str, constant))}"
        )
    errors = residual_covariance.diagonal() + residual_mean.square()
    errors = unscaled(unscaled(errors, size), size)
    scores = 1 - errors / variances
    variance = residual_covariance.trace().item() / n
    measures = {"mse": errors.sum().item(), "r2": scores.mean().item()}
    measures["residual_variance"] = unscaled(unscaled(errors.new_tensor(variance), size), size).item()
    if n > 1:
        measures["residual_anisotropy"] = residual_deviation(residual_covariance, variance) if variance else math.nan
    measures |= {f"mse_{j}": error for j, error in enumerate(errors.tolist())}
    return measures | {f"r2_{j}": score for j, score in enumerate(scores.tolist())}


def warn_undefined(measures: dict[str, float]) -> None:
    """Name the measures that are nan in one RuntimeWarning."""
    undefined = [key for key, value in measures.items() if math.isnan(value)]
    if undefined:
        warnings.warn(
            f"not defined for these inputs (a division by zero), nan: {', '.join(undefined)}",
            RuntimeWarning,
            stacklevel=3,
        )


class _Spectrum:
    """Principal directions and variances of features (M, d), as they are and centred, from one thin QR.

    In [1 H] = Q T the first column of Q is constant, so T's other rows times T's other columns are the centred H up to
    a rotation of the samples, and all rows of those columns are H itself. Neither forms H'H, whose condition number
    is the square.
    """

    def __init__(self, features: Tensor) -> None:
        features, _ = scaled(features)  # only directions and ratios of variances are taken from here
        triangle = features.new_empty(0, features.shape[1] + 1)
        for rows in features.split(_CHUNK_ROWS):
            rows = torch.cat([rows.new_ones(len(rows), 1), rows], dim=1)
            triangle = torch.linalg.qr(torch.cat([triangle, rows]), mode="r").R
        self._raw = torch.linalg.svd(triangle[:, 1:], full_matrices=False)
        self._centred = torch.linalg.svd(triangle[1:, 1:], full_matrices=False)
        # Relative to the uncentred scale: centring equal rows leaves rounding of that order.
        self._tolerance = max(features.shape) * _EPS * self._raw[1].amax()
        self._samples = len(features)

    @property
    def variances(self) -> Tensor:
        """Variance on each principal component of the centred features, falling, rounding set to zero."""
        values = self._centred[1]
        return torch.where(values > self._tolerance, values, 0.0).square() / self._samples

    def directions(self, components: int, *, centred: bool) -> Tensor:
        """Orthonormal rows: the leading components along which the features vary at all."""
        _, values, rows = self._centred if centred else self._raw
        return rows[:components][values[:components] > self._tolerance]


def _outside(features: Tensor, directions: Tensor) -> float:
    """Mean squared length of h/|h| outside the span of orthonormal rows, over the rows h != 0."""
    total, count = 0.0, 0
    for unit in unit_rows(features):
        outside = unit - (unit @ directions.T) @ directions
        total, count = total + outside.square().sum().item(), count + len(unit)
    return total / count if count else math.nan


def unit_rows(features: Tensor) -> Iterator[Tensor]:
    """The non-zero rows at length 1, a chunk at a time."""
    for rows in features.split(_CHUNK_ROWS):
        largest = rows.abs().amax(1, keepdim=True)
        keep = largest.squeeze(1) > 0
        rows = rows[keep] / largest[keep]  # so that squares of tiny entries do not vanish
        yield rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)


def _shares(variances: Tensor, components: int) -> list[float]:
    shares = (variances / variances.sum()).tolist()[:components]
    return shares + [0.0 if variances.any() else math.nan] * (components - len(shares))


def _normalised_gram(weight: Tensor) -> Tensor:
    largest = weight.abs().amax()
    gram = (weight / largest) @ (weight / largest).T  # scaled first, so that tiny weights do not underflow
    return gram / torch.linalg.matrix_norm(gram)


def _squared_distance(gram: Tensor, roots: Tensor, threshold: float) -> float:
    """NRC3 in the eigenbasis of Sigma, for sqrt(eigenvalues) `roots` and sqrt(gamma) `threshold`."""
    shape = (roots - threshold).clamp(min=0)
    return (gram - torch.diag(shape / torch.linalg.vector_norm(shape))).square().sum().item()


def _check_nrc3(weight: Array, covariance: Array) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight, and the eigenvalues (rising, rounding set to zero) and eigenvectors of the covariance."""
    weight, covariance = _matrix(weight, "weight"), _matrix(covariance, "covariance")
    n = len(weight)
    if n == 1:
        raise ValueError("weight: expected n >= 2 rows, as NRC3 is not defined for one target, got 1")
    if covariance.shape != (n, n):
        raise ValueError(f"covariance: expected shape {(n, n)} as weight has {n} rows, got {tuple(covariance.shape)}")
    covariance = covariance.to(weight.device)
    scale = covariance.abs().amax()
    if (covariance - covariance.T).abs().amax() > 1e-8 * scale:
        raise ValueError("covariance: expected a symmetric matrix, got one that is not")
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    if values[0] < -1e-8 * scale:
        raise ValueError(f"covariance: expected no negative eigenvalue, got {values[0].item():g}")
    if values[-1] <= 0:
        raise ValueError("covariance: expected targets that vary, got zero")
    values = torch.where(values > 8 * n * _EPS * values[-1], values, 0.0)
    return weight, values, vectors


def _matrix(values: Array, name: str) -> Tensor:
    numbers = _numbers(values, name)
    if numbers.ndim != 2 or 0 in numbers.shape:
        raise ValueError(
            f"{name}: expected a matrix with a row and a column at least, got shape {tuple(numbers.shape)}"
        )
    return numbers


def _numbers(values: Array, name: str) -> Tensor:
    numbers = as_tensor(name, values)
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"{name}: expected a tensor of real numbers, got {numbers.dtype}")
    numbers = numbers.detach().to(torch.float64)
    if not numbers.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got nan or inf")
    return numbers
