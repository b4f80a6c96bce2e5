r"""The penalties of the unconstrained feature model (UFM) that describe a network trained with plain weight decay.

Such a network has no penalty on its features: weight decay on the layers below limits their size. If its penultimate
features and its head agree with the UFM's minimiser for some penalties, these *effective* penalties follow from two
numbers for each smoothing delta, the logit gap and the ratio of the norms:

.. math:: a_\delta = \log\left(\frac{K}{s+\delta} - K + 1\right), \qquad
          \frac{|h_k|}{|w_k|} = \sqrt r, \qquad s = K\sqrt{n\lambda_W\lambda_H}, \qquad
          r = \frac{\lambda_W}{n\lambda_H} .

That the same pair (s, r) holds for every smoothing is an assumption, which the residuals test.

Identifiable are s and r, hence :math:`\lambda_W = \sqrt r\,s/K` and :math:`n\lambda_H = s/(K\sqrt r)`. Not identifiable
are n and :math:`\lambda_H` separately (n is known from the data), and :math:`\lambda_b`, since b = 0 at the minimiser
whatever its value. For :math:`s \ll \delta` the gap depends on s only by a term of relative order s / delta, so gaps at
large smoothings alone hardly determine s, nor the gap at delta = 0: see ``log_s_standard_error``. The product of the
norms is not used in the fit; the gap predicts it, :math:`|w_k||h_k| = \frac{K-1}{K} a_\delta`.

Source: the closed form is claim C5 of Guo et al., arXiv 2402.03979; fitting it to trained networks is derived here.
Needs scipy (the ``metrics`` extra).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from nclens.ufm.checks import as_numbers, check_integer, is_number
from nclens.ufm.classification import Array

# The search is over u with s = (1 - largest smoothing) expit(u), first on a grid of u in this range.
LOGITS = (-40.0, 40.0)
GRID = 1601


@dataclass(frozen=True)
class EffectivePenalties:
    r"""Effective penalties of a network, and the quality of their fit.

    Attributes:
        classes: K >= 2.
        s: :math:`K\sqrt{n\lambda_W\lambda_H}`, in [0, 1); 0 if the gaps exceed those of every s > 0.
        lambda_w_over_n_lambda_h: r > 0.
        rms_relative_residual: root mean square over the points of (measured / fitted logit gap) - 1.
        ratio_rms_relative_residual: the same for the ratio of the norms.
        log_s_standard_error: standard error of log s, from the scatter of the log gaps about the fit and their slope in
            log s; nan for a single point, inf if no gap depends on s.
        points: number of smoothings in the fit.

    Raises:
        ValueError: classes, s or lambda_w_over_n_lambda_h outside their range.
    """

    classes: int
    s: float
    lambda_w_over_n_lambda_h: float
    rms_relative_residual: float
    ratio_rms_relative_residual: float
    log_s_standard_error: float
    points: int

    def __post_init__(self) -> None:
        check_integer("effective penalties", "classes", self.classes, 2)
        for name, value, fine, allowed in (
            ("s", self.s, lambda s: 0 <= s < 1, "in [0, 1)"),
            ("lambda_w_over_n_lambda_h", self.lambda_w_over_n_lambda_h, lambda ratio: 0 < ratio < math.inf, "> 0"),
        ):
            if not (is_number(value) and fine(value)):
                raise ValueError(f"effective penalties: {name} must be a finite number {allowed}, got {value!r}")

    @property
    def lambda_w(self) -> float:
        r"""Effective :math:`\lambda_W = \sqrt r\,s/K`."""
        return math.sqrt(self.lambda_w_over_n_lambda_h) * self.s / self.classes

    @property
    def n_lambda_h(self) -> float:
        r"""Effective :math:`n\lambda_H = s/(K\sqrt r)`, of :math:`|H|_F^2/2` summed over all samples, times n."""
        return self.s / (self.classes * math.sqrt(self.lambda_w_over_n_lambda_h))

    def predict(self, smoothing: float) -> dict[str, float]:
        r"""Return the predictions of the UFM with these penalties at a smoothing in [0, 1).

        Returns:
            ``logit_gap`` a (nats), ``weight_norm`` :math:`\sqrt{(K-1)a/K}\,r^{-1/4}`, ``feature_norm``
            :math:`\sqrt{(K-1)a/K}\,r^{1/4}` and ``p_true`` :math:`1-(K-1)(s+\delta)/K`. For s + delta >= 1 gap and
            norms are 0 and p_true is 1/K; for s + delta = 0 gap and norms are inf.

        Raises:
            ValueError: a smoothing outside [0, 1).
        """
        gap = float(logit_gaps(self.classes, self.s, [smoothing])[0])
        norm = math.sqrt((self.classes - 1) / self.classes * gap)
        tilt = self.lambda_w_over_n_lambda_h**0.25
        others = (self.classes - 1) / self.classes * min(self.s + smoothing, 1.0)
        return {"logit_gap": gap, "weight_norm": norm / tilt, "feature_norm": norm * tilt, "p_true": 1 - others}


def logit_gaps(classes: int, s: float, smoothings: Sequence[float]) -> Array:
    r"""Return the logit gaps (D,) of the UFM at D smoothings: ``UnconstrainedFeatureModel.logit_gap``, also for s = 0.

    :math:`a_\delta = \log(K/(s+\delta)-K+1)`; 0 for s + delta >= 1, inf for s + delta = 0.

    Raises:
        ValueError: K < 2, s negative or not finite, a smoothing outside [0, 1).
    """
    deltas = as_numbers("effective penalties", "smoothings", smoothings)
    check_integer("effective penalties", "classes", classes, 2)
    if not (is_number(s) and 0 <= s < math.inf):
        raise ValueError(f"effective penalties: s must be a finite number >= 0, got {s!r}")
    if not ((deltas >= 0) & (deltas < 1)).all():
        raise ValueError(f"effective penalties: smoothings must lie in [0, 1), got {deltas.tolist()}")
    return _gaps(classes, s + deltas)


def fit_effective_penalties(
    classes: int,
    smoothings: Sequence[float],
    gaps: Sequence[float],
    weight_norms: Sequence[float],
    feature_norms: Sequence[float],
) -> EffectivePenalties:
    r"""Fit effective penalties to networks that differ only in their smoothing.

    s minimises the sum of squares of log measured gap minus log :math:`a_\delta`, over 0 < s < 1 - (largest delta),
    since the UFM has positive gaps only in its simplex regime. The sum may have several minima: a grid search is
    followed by a bounded search about its best point. r = exp(2 mean log(|h|/|w|)), over the points. A single point
    determines both exactly (up to s = 0).

    Args:
        classes: K >= 2.
        smoothings: delta of each point, in [0, 1); at least one.
        gaps: measured logit gaps, mean of z_y - mean over j != y of z_j; > 0 and finite.
        weight_norms: measured mean |w_k|, > 0 and finite.
        feature_norms: measured mean |h_k|, features centred by their global mean, > 0 and finite.

    Raises:
        ValueError: an argument outside its range, no points, or sequences of different lengths. A gap <= 0 has no
            logarithm and is an error: the caller decides whether to omit the point.
    """
    points = len(smoothings)
    if points == 0 or not points == len(gaps) == len(weight_norms) == len(feature_norms):
        raise ValueError(
            "effective penalties: smoothings, gaps and norms must have the same length, at least 1; got "
            f"{points}, {len(gaps)}, {len(weight_norms)} and {len(feature_norms)}"
        )
    logit_gaps(classes, 0.0, smoothings)  # checks classes and smoothings
    measured = _positive("logit gaps", gaps)
    with np.errstate(over="ignore", under="ignore"):
        ratios = _positive("feature norms", feature_norms) / _positive("weight norms", weight_norms)
    # The square, the effective lambda_W / (n lambda_H), must be finite too.
    if not ((ratios > 1e-150) & (ratios < 1e150)).all():
        raise ValueError(f"effective penalties: norms too far apart for float64, feature over weight {ratios.tolist()}")
    s = _fit_s(classes, smoothings, measured)
    residuals = measured / logit_gaps(classes, s, smoothings) - 1
    log_ratio = float(np.mean(np.log(ratios)))
    return EffectivePenalties(
        classes=classes,
        s=s,
        lambda_w_over_n_lambda_h=math.exp(2 * log_ratio),
        rms_relative_residual=_rms(residuals),
        ratio_rms_relative_residual=_rms(ratios / math.exp(log_ratio) - 1),
        log_s_standard_error=_log_s_standard_error(classes, s, smoothings, np.log1p(residuals)),
        points=points,
    )


def _gaps(classes: int, total: Array) -> Array:
    """Return the gap at each s + delta, any shape."""
    with np.errstate(divide="ignore"):
        return np.log1p(classes * np.maximum(1 - total, 0) / total)


def _fit_s(classes: int, smoothings: Sequence[float], measured: Array) -> float:
    # In the logit of s / (largest s) the log gap is smooth, and linear or constant towards both ends.
    deltas, room = np.asarray(smoothings, dtype=np.float64), 1 - max(smoothings)

    def misfit(s: Array) -> Array:
        with np.errstate(divide="ignore"):
            errors = np.log(measured) - np.log(_gaps(classes, s[..., None] + deltas))
        return np.sum(errors**2, axis=-1)

    places = np.linspace(*LOGITS, GRID)
    best = int(np.argmin(misfit(room * expit(places))))
    bounds = (places[max(best - 1, 0)], places[min(best + 1, GRID - 1)])
    found = minimize_scalar(
        lambda place: float(misfit(room * expit(np.asarray(place)))),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-10},
    )
    # Gaps larger than those of every s > 0 fit best in the limit s = 0.
    return 0.0 if float(misfit(np.zeros(()))) <= found.fun else room * float(expit(found.x))


def _log_s_standard_error(classes: int, s: float, smoothings: Sequence[float], errors: Array) -> float:
    """Return the Gauss-Newton estimate: sqrt(sum of squares / (points - 1)) / norm of the slopes d log a / d log s."""
    if len(smoothings) < 2:
        return math.nan
    if s == 0:
        return math.inf
    total = s + np.asarray(smoothings)
    slopes = s * classes / (total * (classes - (classes - 1) * total) * logit_gaps(classes, s, smoothings))
    return math.sqrt(float(np.sum(errors**2)) / (len(smoothings) - 1)) / float(np.linalg.norm(slopes))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _positive(name: str, values: Sequence[float]) -> Array:
    found = as_numbers("effective penalties", name, values)
    if not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(f"effective penalties: {name} must be finite numbers > 0, got {found.tolist()}")
    return found
