r"""Closed-form global minimisers of the unconstrained feature model (UFM) under cross entropy and label smoothing.

The model treats the features themselves as free parameters. With :math:`N = nK` samples, features :math:`h_i` in
:math:`R^d`, head :math:`W` (K, d), bias :math:`b` (K,) and smoothed targets
:math:`y = (1 - \delta)\,\mathrm{onehot} + \delta/K`, it minimises

.. math:: \mathcal L = \frac1N \sum_i CE_\delta(W h_i + b, y_i) + \frac{\lambda_W}{2}|W|_F^2
          + \frac{\lambda_H}{2}|H|_F^2 + \frac{\lambda_b}{2}|b|^2 .

:math:`|H|_F^2` is a sum over all N samples while the cross entropy is a mean: the penalty is therefore called
``lambda_h_sum``. Derivations are in docs/theory.md. Needs numpy only.

Source: Guo et al., "Cross Entropy versus Label Smoothing: A Neural Collapse Perspective", arXiv 2402.03979, claim C5.
"""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from nclens.ufm.checks import check_integer, check_positive

Array = NDArray[np.float64]


WHERE = "unconstrained feature model"


def simplex_frame(classes: int, dim: int) -> Array:
    """Return a simplex equiangular tight frame: rows of M (K, dim) with ``M M' = I - 11'/K``, zero from column K on.

    The basis is Helmert's, so the same arguments give the same bits.

    Raises:
        ValueError: ``classes < 2`` or ``dim < classes - 1``.
    """
    check_integer(WHERE, "classes", classes, 2)
    check_integer(WHERE, "dim", dim, 0)
    if dim < classes - 1:
        raise ValueError(f"simplex frame: {classes} classes need dim >= {classes - 1}, got {dim}")
    frame = np.zeros((classes, dim))
    for column in range(1, classes):
        frame[:column, column - 1] = 1.0
        frame[column, column - 1] = -column
        frame[:, column - 1] /= math.sqrt(column * (column + 1))
    return frame


@dataclass(frozen=True)
class UnconstrainedFeatureModel:
    r"""A UFM problem and its global minimisers in closed form.

    Args:
        classes: K >= 2.
        per_class: n >= 1, samples of each class (the classes are balanced).
        dim: d >= 1, length of a feature.
        lambda_w: weight of |W|_F^2 / 2, > 0.
        lambda_h_sum: weight of |H|_F^2 / 2 where the norm is summed over all N samples, > 0.
        lambda_b: weight of |b|^2 / 2, > 0. The minimiser has b = 0 whatever its value.
        smoothing: delta in [0, 1); 0 is cross entropy.

    Raises:
        ValueError: an argument outside its range, or access to a property that is not known for ``dim < K - 1``.

    With :math:`s = K\sqrt{n\lambda_W\lambda_H}` there are two regimes. For :math:`s + \delta < 1` (``"simplex"``) the
    minimisers are simplex frames with logit gap :math:`a = \log(K/(s+\delta) - K + 1)`. For
    :math:`s + \delta \ge 1` (``"zero"``) the only minimiser is W = H = b = 0. Minimisers form an orbit under the
    orthogonal group: (W R', R H) has the same value for every orthogonal R; one representative is returned.

    For ``dim < K - 1`` the frame, which spans K - 1 dimensions, does not fit. Then only the regime, the zero minimiser
    of the ``"zero"`` regime and ``objective_lower_bound`` are known; the bound is not attained in the ``"simplex"``
    regime. Every other property raises.

    Source: Guo et al., claim C5 (closed form; derivation in docs/theory.md).

    >>> ce = UnconstrainedFeatureModel(10, 5000, 512, lambda_w=1e-3, lambda_h_sum=1e-6, lambda_b=1e-2)
    >>> round(ce.weight_norm, 4), round(ce.feature_norm, 4)
    (3.4987, 1.5647)
    """

    classes: int
    per_class: int
    dim: int
    lambda_w: float
    lambda_h_sum: float
    lambda_b: float
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_integer(WHERE, "classes", self.classes, 2)
        check_integer(WHERE, "per_class", self.per_class, 1)
        check_integer(WHERE, "dim", self.dim, 1)
        check_positive(WHERE, "lambda_w", self.lambda_w)
        check_positive(WHERE, "lambda_h_sum", self.lambda_h_sum)
        check_positive(WHERE, "lambda_b", self.lambda_b)
        if not (isinstance(self.smoothing, Real) and 0 <= self.smoothing < 1):
            raise ValueError(f"unconstrained feature model: smoothing must lie in [0, 1), got {self.smoothing!r}")

    @classmethod
    def from_total(
        cls,
        classes: int,
        per_class: int,
        dim: int,
        *,
        lambda_w: float,
        lambda_h_total: float,
        lambda_b: float,
        smoothing: float = 0.0,
    ) -> Self:
        r"""Return the problem with N lambda_H = ``lambda_h_total``, > 0.

        For given K the minimiser depends on :math:`N\lambda_H`, not on :math:`\lambda_H` alone, since
        :math:`s = K\sqrt{n\lambda_W\lambda_H}`: a penalty published for one size of the training set transfers to
        another if the product is held fixed. Raises ValueError as the class does.
        """
        check_integer(WHERE, "classes", classes, 2)
        check_integer(WHERE, "per_class", per_class, 1)
        check_positive(WHERE, "lambda_h_total", lambda_h_total)
        return cls(classes, per_class, dim, lambda_w, lambda_h_total / (classes * per_class), lambda_b, smoothing)

    def with_per_class(self, per_class: int) -> Self:
        """Return the problem with ``per_class`` samples of each class and the same N lambda_H (see `from_total`)."""
        check_integer(WHERE, "per_class", per_class, 1)
        return replace(self, per_class=per_class, lambda_h_sum=self.lambda_h_sum * (self.per_class / per_class))

    @property
    def samples(self) -> int:
        """N = nK."""
        return self.per_class * self.classes

    @property
    def lambda_h_total(self) -> float:
        """N lambda_H, the argument of `from_total`."""
        return self.lambda_h_sum * self.samples

    @property
    def s(self) -> float:
        r"""Strength of the regularisation, :math:`s = K\sqrt{n\lambda_W\lambda_H} > 0` (inf where it overflows)."""
        # Roots first: the product of two lambdas of 1e-300 would underflow to 0.
        root = math.sqrt(self.lambda_w) * math.sqrt(self.lambda_h_sum)
        return self.classes * math.sqrt(self.per_class) * root

    @property
    def regime(self) -> Literal["simplex", "zero"]:
        """``"simplex"`` where s + delta < 1 (neural collapse), else ``"zero"`` (W = H = 0)."""
        return "simplex" if self.s + self.smoothing < 1 else "zero"

    @property
    def p_other(self) -> float:
        r"""Softmax probability of each wrong class, :math:`(s+\delta)/K`; 1/K in the zero regime."""
        self._require_known("p_other")
        return min(self.s + self.smoothing, 1.0) / self.classes

    @property
    def p_true(self) -> float:
        """Softmax probability of the true class, 1 - (K - 1) p_other."""
        return 1.0 - (self.classes - 1) * self.p_other if self.regime == "simplex" else self.p_other

    @property
    def logit_gap(self) -> float:
        r"""True minus wrong logit, :math:`a = \log(K/(s+\delta) - K + 1)`; 0 in the zero regime. Units: nats."""
        self._require_known("logit_gap")
        return self._gap

    @property
    def weight_norm(self) -> float:
        r""":math:`|w_k| = \sqrt{(K-1)a/K}\,(n\lambda_H/\lambda_W)^{1/4}`, the same for every row of W."""
        return self._row_norm(self.logit_gap) * self._balance

    @property
    def feature_norm(self) -> float:
        r""":math:`|h_k| = \sqrt{(K-1)a/K}\,(\lambda_W/(n\lambda_H))^{1/4}`, the same for every sample."""
        return self._row_norm(self.logit_gap) / self._balance

    @property
    def nuclear_norm(self) -> float:
        r""":math:`|WH|_* = \sqrt n (K-1) a`, of the (K, N) logits without bias."""
        return math.sqrt(self.per_class) * (self.classes - 1) * self.logit_gap

    @property
    def objective(self) -> float:
        r"""Value at the minimiser.

        :math:`\mathcal L^* = \log(1 + (K-1)e^{-a}) + \delta\frac{K-1}{K}a + \sqrt{n\lambda_W\lambda_H}(K-1)a`.
        """
        self._require_known("objective")
        return self.objective_lower_bound

    @property
    def objective_lower_bound(self) -> float:
        """The value of ``objective`` for d >= K - 1, which is a lower bound of the minimum for every d >= 1."""
        others, gap = self.classes - 1, self._gap
        penalty = 0.0 if gap == 0 else (self.smoothing + self.s) * others / self.classes * gap
        return math.log1p(others * math.exp(-gap)) + penalty

    def weight(self) -> Array:
        """Head W (K, d) of one minimiser: a multiple of ``simplex_frame``."""
        return self._frame(self.weight_norm)

    def class_features(self) -> Array:
        """Features h_k (K, d), one row per class, of the same minimiser as ``weight``."""
        return self._frame(self.feature_norm)

    def features(self) -> Array:
        """Features of all samples (N, d), sorted by class."""
        return np.repeat(self.class_features(), self.per_class, axis=0)

    def bias(self) -> Array:
        """Bias b (K,): zero."""
        self._require_known("bias")
        return np.zeros(self.classes)

    def logits(self) -> Array:
        """Logits (K, K), a (I - 11'/K); row k holds for the samples of class k."""
        return self.logit_gap * (np.eye(self.classes) - 1 / self.classes)

    @property
    def _gap(self) -> float:
        total, classes = self.s + self.smoothing, self.classes
        if total >= 1:
            return 0.0
        if total >= 0.5:  # log1p is accurate for small gaps
            return math.log1p(classes * (1 - total) / total)
        return math.log1p(-(classes - 1) * total / classes) - math.log(total) + math.log(classes)

    @property
    def _balance(self) -> float:
        # (n lambda_H / lambda_W)^(1/4); separate roots, so that neither quotient nor product overflows.
        return self.per_class**0.25 * self.lambda_h_sum**0.25 / self.lambda_w**0.25

    def _row_norm(self, gap: float) -> float:
        return math.sqrt((self.classes - 1) / self.classes * gap)

    def _frame(self, norm: float) -> Array:
        if norm == 0:
            return np.zeros((self.classes, self.dim))
        unit = math.sqrt(self.classes / (self.classes - 1))
        return norm * unit * simplex_frame(self.classes, self.dim)

    def _require_known(self, what: str) -> None:
        if self.dim < self.classes - 1 and self.regime == "simplex":
            raise ValueError(
                f"unconstrained feature model: {what} has no known closed form for dim {self.dim} < classes - 1 = "
                f"{self.classes - 1} unless s + smoothing >= 1 (here {self.s + self.smoothing:.3g}); "
                "objective_lower_bound still holds"
            )
