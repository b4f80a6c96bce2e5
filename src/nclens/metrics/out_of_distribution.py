"""Out-of-distribution detection by scores of a trained network's features and logits.

A score is a number a sample, higher for samples like those of the training distribution. In distribution is the
positive class of every measure. Beware of other conventions: `pytorch-ood` gives outlier scores, with the other sign,
and its FPR95 has outsiders as the positive class.

All functions take tensors or NumPy arrays and compute in float64. Sources: MSP, arXiv 1610.02136; maximum logit, arXiv
1911.11132; energy, arXiv 2010.03759; Mahalanobis, arXiv 1807.03888; NECO, arXiv 2310.06823, and NCI, arXiv 2311.01479,
as in their released code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from nclens._inputs import Array, as_integer, as_number, as_tensor, check_labels, describe
from nclens.metrics.calibration import check_logits
from nclens.metrics.collapse import class_means
from nclens.metrics.selective import log_odds

SCORES = ("msp", "max_logit", "energy", "mahalanobis", "neco", "neco_maxlogit", "nci")
"""The scores of :meth:`Detector.scores`, in order."""
ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1)
"""The values of alpha that :meth:`Detector.fit_alpha` chooses from."""
CUTOFF = 1e-6
"""Eigenvalues of the within-class covariance below this part of the largest are taken for 0: a thousandth of the
largest standard deviation. Of collapsed features, stored in float32, smaller ones are rounding."""
TPR = 0.95


def auroc(inside: Array, outside: Array) -> float:
    """Return the area under the ROC curve: how often a sample inside scores above one outside, ties half; in [0, 1].

    Args:
        inside: (n,) scores of samples in distribution, higher for these; inf is allowed.
        outside: (m,) scores of samples out of distribution.

    Raises:
        ValueError: wrong types or shapes, no sample, or a score that is nan.

    >>> auroc(torch.tensor([3.0, 2.0]), torch.tensor([2.0, 1.0]))
    0.875
    """
    own, other = _checked_scores("inside", inside), _checked_scores("outside", outside)
    ordered = other.sort().values
    below = torch.searchsorted(ordered, own, right=False).double()
    upto = torch.searchsorted(ordered, own, right=True).double()
    return float((below + upto).sum() / 2 / (len(own) * len(other)))


def false_positive_rate(inside: Array, outside: Array, tpr: float = TPR) -> float:
    """Return the share of outsiders that pass the threshold which a share `tpr` of the samples inside pass, in [0, 1].

    The threshold t is the ceil(tpr n)-th largest score inside; outsiders with a score >= t pass. At 0.95 it is FPR95.

    Args:
        inside, outside: as for :func:`auroc`.
        tpr: in (0, 1].

    Raises:
        ValueError: as :func:`auroc`, or for `tpr` outside (0, 1].

    >>> false_positive_rate(torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([3.5, 2.0, 0.0]), tpr=0.75)
    0.6666666666666666
    """
    as_number("tpr", tpr, "a number in (0, 1]", lambda value: 0 < value <= 1)
    own, other = _checked_scores("inside", inside), _checked_scores("outside", outside)
    # Of the number as it is written: in float64 .95 of 20 samples may be a little more than 19.
    place = math.ceil(Fraction(repr(float(tpr))) * len(own))
    threshold = own.sort(descending=True).values[place - 1]
    return float((other >= threshold).double().mean())


def nc5(reference_means: Array, features: Array) -> float:
    """Return ``mean_k |cos(m_k, m_o)|``, m_k the class means and m_o the mean of the outsiders' features, in [0, 1].

    Nothing is centred. 0 where outsiders are orthogonal to every class, as with NC5 of arXiv 2310.06823; nan where a
    mean is zero.

    Args:
        reference_means: (K, d) class means of the training features.
        features: (m, d) features of outsiders.

    Raises:
        ValueError: wrong types or shapes, or values that are not finite.
    """
    means, outside = _checked_rows("reference_means", reference_means), _checked_rows("features", features)
    if means.shape[1] != outside.shape[1]:
        raise ValueError(f"features: expected {means.shape[1]} columns as reference_means has, got {outside.shape[1]}")
    mean = outside.mean(dim=0)
    return float((means @ mean / (means.norm(dim=1) * mean.norm())).abs().mean())


@dataclass(frozen=True)
class Detector:
    """What the scores need of a training set and of the linear head: see :meth:`fit`.

    Attributes:
        weight: (K, d) of the head.
        means: (K, d) class means of the training features.
        mean: (d,) of all training samples.
        whitening: (d, r) with ``whitening whitening' = pinv(S_W)``, S_W the within-class covariance.
        scale: (d,) standard deviations of the training features; 1 of a constant feature.
        directions: (d, q) the top principal directions of the standardised training features.
    """

    weight: Tensor
    means: Tensor
    mean: Tensor
    whitening: Tensor
    scale: Tensor
    directions: Tensor

    @classmethod
    def fit(
        cls,
        features: Array,
        labels: Array,
        weight: Array,
        *,
        cutoff: float = CUTOFF,
        directions: int | None = None,
    ) -> Detector:
        """Return the detector of a training set.

        Args:
            features: (N, d) training features, finite.
            labels: (N,) integers in [0, K), every class at least once.
            weight: (K, d) of the linear head.
            cutoff: eigenvalues of S_W at or below this part of the largest count as 0 in the pseudo-inverse, in (0, 1).
            directions: q of NECO, 1 to d; None for K - 1, the dimension of a simplex of K class means, or d if smaller.

        Raises:
            ValueError: wrong types, shapes or values.
        """
        h, w = _checked_rows("features", features), _checked_rows("weight", weight)
        if h.shape[1] != w.shape[1]:
            raise ValueError(f"weight: expected {h.shape[1]} columns as features has, got {w.shape[1]}")
        as_number("cutoff", cutoff, "a number in (0, 1)", lambda value: 0 < value < 1)
        dim = h.shape[1]
        kept = min(len(w) - 1, dim) if directions is None else as_integer("directions", directions, 1)
        if kept > dim:
            raise ValueError(f"directions: expected at most the {dim} dimensions of the features, got {kept}")
        y = check_labels(labels, len(w), len(h), h)
        means = class_means(h, y, len(w))
        residuals = h - means[y]
        values, vectors = torch.linalg.eigh(residuals.T @ residuals / len(h))
        large = values > cutoff * values[-1].clamp_min(0)
        mean = h.mean(dim=0)
        constant = (h == h[0]).all(dim=0)
        scale = torch.where(constant, torch.ones_like(mean), h.std(dim=0, correction=0))
        standard = torch.where(constant, torch.zeros_like(h), (h - mean) / scale)
        principal = torch.linalg.eigh(standard.T @ standard).eigenvectors.flip(1)
        whitening = vectors[:, large] / values[large].sqrt()
        return cls(w, means, mean, whitening, scale, principal[:, :kept])

    @property
    def rank(self) -> int:
        """The eigenvalues of the within-class covariance that the pseudo-inverse keeps."""
        return self.whitening.shape[1]

    def mahalanobis(self, features: Array) -> Tensor:
        """Return ``-min_k (h - m_k)' pinv(S_W) (h - m_k)`` (N,)."""
        return (
            -torch.cdist(
                self._rows(features) @ self.whitening,
                self.means @ self.whitening,
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            .amin(dim=1)
            .square()
        )

    def neco(self, features: Array) -> Tensor:
        """Return ``|P h~| / |h~|`` (N,), 0 for h~ = 0; h~ is standardised by the training features, P projects."""
        standard = (self._rows(features) - self.mean) / self.scale
        length = standard.norm(dim=1)
        return (standard @ self.directions).norm(dim=1) / torch.where(length > 0, length, torch.ones_like(length))

    def nci(self, features: Array, logits: Array, alpha: float) -> Tensor:
        """Return ``w_c . (h - m) / |h - m| + alpha |h|_1`` (N,), c the predicted class, m the mean of all samples."""
        as_number("alpha", alpha, "a finite number", math.isfinite)
        h = self._rows(features)
        centred = h - self.mean
        length = centred.norm(dim=1, keepdim=True)
        predicted = self.weight[self._logits(logits, len(h)).argmax(dim=1)]
        aligned = (predicted * centred / torch.where(length > 0, length, torch.ones_like(length))).sum(dim=1)
        return aligned + alpha * h.abs().sum(dim=1)

    def fit_alpha(
        self,
        inside: tuple[Array, Array],
        outside: tuple[Array, Array],
        alphas: Sequence[float] = ALPHAS,
    ) -> float:
        """Return the alpha of :meth:`nci` with the highest AUROC on held-out samples; of equally good ones the first.

        Args:
            inside: features (n, d) and logits (n, K) of held-out samples in distribution.
            outside: those of outsiders, of none of the data sets that the scores are evaluated on.
            alphas: to choose from.
        """
        if not len(alphas):
            raise ValueError("alphas: expected at least one, got none")
        return max(alphas, key=lambda alpha: auroc(self.nci(*inside, alpha), self.nci(*outside, alpha)))

    def scores(self, features: Array, logits: Array, alpha: float) -> dict[str, Tensor]:
        """Return every score (N,) by name, see `SCORES`.

        ``msp`` is the largest softmax probability p by its log odds ln p / (1 - p), which order samples as p does;
        ``max_logit`` is max z, ``energy`` logsumexp z, and ``neco_maxlogit`` the product of NECO and the largest logit.
        """
        z = self._logits(logits, len(as_tensor("features", features)))
        neco, top = self.neco(features), z.amax(dim=1)
        return {
            "msp": log_odds(z),
            "max_logit": top,
            "energy": z.logsumexp(dim=1),
            "mahalanobis": self.mahalanobis(features),
            "neco": neco,
            "neco_maxlogit": neco * top,
            "nci": self.nci(features, z, alpha),
        }

    def _rows(self, features: Array) -> Tensor:
        rows = _checked_rows("features", features)
        if rows.shape[1] != len(self.mean):
            raise ValueError(f"features: expected {len(self.mean)} columns as in training, got {rows.shape[1]}")
        return rows

    def _logits(self, logits: Array, rows: int) -> Tensor:
        found = as_tensor("logits", logits)
        if found.shape != (rows, len(self.weight)):
            raise ValueError(f"logits: expected shape ({rows}, {len(self.weight)}), got {describe(found)}")
        labels = torch.zeros(rows, dtype=torch.int64, device=found.device)
        return check_logits(found, labels)[0].double()


def _checked_rows(name: str, values: Array) -> Tensor:
    rows = as_tensor(name, values)
    if rows.ndim != 2 or 0 in rows.shape or not rows.is_floating_point():
        raise ValueError(f"{name}: expected floats (N, d) with N and d >= 1, got {describe(rows)}")
    if not bool(rows.isfinite().all()):
        raise ValueError(
            f"{name} must be finite, got nan or inf in row {int((~rows.isfinite()).any(dim=1).nonzero()[0])}"
        )
    return rows.double()


def _checked_scores(name: str, values: Array) -> Tensor:
    scores = as_tensor(name, values)
    if scores.ndim != 1 or not len(scores) or not scores.is_floating_point():
        raise ValueError(f"{name}: expected floats (N,) with N >= 1, got {describe(scores)}")
    if bool(scores.isnan().any()):
        raise ValueError(f"{name} must not be nan, got nan at index {int(scores.isnan().nonzero()[0])}")
    return scores.double()
