r"""Closed-form global minimisers of the unconstrained feature model under the squared error.

.. math:: \mathcal L = \frac1{2N}|W H + b 1' - Y_\delta|_F^2 + \frac{\lambda_W}2|W|^2 + \frac{\lambda_H}2|H|^2
          + \frac{\lambda_b}2|b|^2 ,

summed over classes and averaged over samples, for the same problem as ``nclens.ufm.classification``. Not in the paper:
derived in docs/theory.md by the same nuclear-norm argument, and verified by ``numeric.minimise`` with
``fit=half_squared_error``. Needs numpy only.
"""

import math
from dataclasses import dataclass

import numpy as np

from nclens.ufm.classification import Array, UnconstrainedFeatureModel, simplex_frame


@dataclass(frozen=True)
class SquaredErrorMinimiser:
    r"""Global minimisers of a problem under the squared error (half, summed over classes, averaged over samples).

    With the problem's s, the logits without bias are :math:`Z = (a (I - 11'/K) + c\,11'/K) \otimes 1_n'`, where
    :math:`a = \max(0, 1 - \delta - s)` and :math:`c = \max(0, 1 - s - s/\lambda_b)`, and the bias is
    :math:`\beta 1` with :math:`\beta = (1 - c) / (K (1 + \lambda_b))`. Where :math:`\lambda_b` is small, c = 0 and W, H
    are simplex frames; for large :math:`\lambda_b` (no bias) c = 1 - s, at delta = 0 an orthogonal frame.

    Properties raise ValueError if ``dim`` is less than the rank of the logits, K - 1 (if a > 0) plus 1 (if c > 0).
    """

    problem: UnconstrainedFeatureModel

    @property
    def simplex_scale(self) -> float:
        """Singular value a of the class logits on the complement of 1; also the logit gap. In [0, 1)."""
        return max(0.0, 1 - self.problem.smoothing - self.problem.s)

    @property
    def common_scale(self) -> float:
        """Singular value c of the class logits along 1, in [0, 1)."""
        # s / lambda_b may overflow.
        return max(0.0, 1 - self.problem.s * (1 + 1 / self.problem.lambda_b)) if self.problem.s < 1 else 0.0

    @property
    def bias_value(self) -> float:
        """The common entry beta of b."""
        return (1 - self.common_scale) / (self.problem.classes * (1 + self.problem.lambda_b))

    @property
    def weight_norm(self) -> float:
        """|w_k|, equal for all rows."""
        return self._row_norm * self._balance

    @property
    def feature_norm(self) -> float:
        """|h_k|, equal for all samples."""
        return self._row_norm / self._balance

    @property
    def logit_gap(self) -> float:
        """True minus wrong logit: a."""
        self._require_room()
        return self.simplex_scale

    @property
    def objective(self) -> float:
        """Value at the minimiser."""
        self._require_room()
        problem, a, c, beta = self.problem, self.simplex_scale, self.common_scale, self.bias_value
        k = problem.classes
        residual = (k - 1) * (a - 1 + problem.smoothing) ** 2 + (c + k * beta - 1) ** 2
        penalty = problem.s / k * ((k - 1) * a + c) if a + c > 0 else 0.0
        return residual / (2 * k) + penalty + problem.lambda_b * k * beta**2 / 2

    def weight(self) -> Array:
        """Head W (K, d) of one minimiser."""
        return self._balance * self._frame()

    def class_features(self) -> Array:
        """Features h_k (K, d), one row per class, of the same minimiser."""
        return self._frame() / self._balance

    def bias(self) -> Array:
        """Bias b (K,)."""
        self._require_room()
        return np.full(self.problem.classes, self.bias_value)

    def logits(self) -> Array:
        """Logits (K, K) including the bias; row k holds for the samples of class k."""
        self._require_room()
        k = self.problem.classes
        return self.simplex_scale * (np.eye(k) - 1 / k) + self.common_scale / k + self.bias_value

    @property
    def _balance(self) -> float:
        problem = self.problem
        return problem.per_class**0.25 * problem.lambda_h_sum**0.25 / problem.lambda_w**0.25

    @property
    def _row_norm(self) -> float:
        self._require_room()
        k = self.problem.classes
        return math.sqrt(((k - 1) * self.simplex_scale + self.common_scale) / k)

    def _frame(self) -> Array:
        self._require_room()
        k, dim = self.problem.classes, self.problem.dim
        frame = np.zeros((k, dim))
        if self.simplex_scale > 0:
            frame += math.sqrt(self.simplex_scale) * simplex_frame(k, dim)
        if self.common_scale > 0:
            # The simplex frame has zeros from column K - 1 on.
            frame[:, k - 1 if self.simplex_scale > 0 else 0] = math.sqrt(self.common_scale / k)
        return frame

    def _require_room(self) -> None:
        rank = (self.problem.classes - 1) * (self.simplex_scale > 0) + (self.common_scale > 0)
        if self.problem.dim < rank:
            raise ValueError(
                f"squared-error feature model: no known closed form for dim {self.problem.dim} < {rank}, the rank of "
                "the optimal logits"
            )
