"""The losses a network can be trained with, and the schedule of their strength.

Every loss is a function of logits (N, K) and class indices (N,), or, for regression, of outputs (N, n) and targets
(N, n), that returns one value per sample, shape (N,); training averages over samples. A distilled loss also takes the
teacher's logits (N, K), as `teacher_logits`. The decorator :func:`register` enters a loss in ``LOSSES``; its name and
its keyword-only parameters are those of its entry in a study. One of them may be the loss's *strength*, which a
:class:`Schedule` varies over the epochs; the entry's model (`nclens.study.losses`) says which. At strength 0 every such
loss is plain cross entropy.

In the formulas z are the logits, p = softmax(z), y the label's index and its one-hot vector, K the number of classes,
``mean z`` the mean of the K logits. Logits should be float32 or float64: under autocast, convert them first.

Labels are integers of any type in [0, K); no label is ignored, not even -100. A logit of -inf masks a class: loss and
gradient are then those of the sample without that class, K counting the others, and the gradient on the masked logit is
0. Where the label's own class is masked the loss is inf, except for distillation at ``weight=1``, which uses no label.
Each call checks this: a ValueError names a label out of range, and a logit that is nan or +inf. A check of values makes
a GPU wait, so a training loop checks its labels once and calls its loss within ``with nclens.losses.unchecked():``.
There, and in compiled code and under `torch.vmap`, where no value can be seen, a label out of range is an error of
PyTorch's own, and a logit that is nan or +inf makes a loss that is not finite.

Sources are named with each loss. "Standard" means a definition in general use, whose paper was not consulted.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from nclens._inputs import (
    Array,
    as_number,
    as_tensor,
    check_device,
    check_label_type,
    check_masked,
    check_range,
    describe,
    sees_values,
)
from nclens._inputs import unchecked as unchecked

LOSSES: dict[str, Callable[..., Any]] = {}
"""Every registered loss by its name: a function, or a class whose instances are :class:`StatefulLoss`."""

L = TypeVar("L", bound=Callable[..., Any])


def register(loss: L) -> L:
    """Enter a loss in ``LOSSES`` under its own name.

    Raises:
        ValueError: the name is taken.
    """
    if loss.__name__ in LOSSES:
        raise ValueError(f"a loss named {loss.__name__} is already registered")
    LOSSES[loss.__name__] = loss
    return loss


def is_taught(loss: Callable[..., Any]) -> bool:
    """Return whether a loss takes the logits of a teacher beside those of the network in training."""
    return "teacher_logits" in inspect.signature(loss).parameters


@runtime_checkable
class StatefulLoss(Protocol):
    """A loss that gathers statistics during an epoch and uses them in the next.

    It is registered as a class and instantiated once per run, without arguments. ``end_epoch`` is called after the last
    batch of each training epoch; a checkpoint must hold the state beside the weights, or a resumed training differs.
    """

    def __call__(self, logits: Tensor, targets: Tensor, **parameters: float) -> Tensor:
        """One value per sample, shape (N,)."""

    def end_epoch(self) -> None:
        """Turn the statistics of this epoch into those that the next one uses."""

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the state: named tensors."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave."""


@dataclass(frozen=True)
class Schedule:
    """The strength of a loss over the epochs of a training; the same mechanism for every loss.

    Epochs count from 0, so that in epoch t of T the strength depends on t = 0..T-1, the epochs already behind. From
    the loss's own value v:

    * ``constant``: v.
    * ``linear``: v + (end - v) t/s until epoch s, ``end`` from then on; without ``epoch``, s = T. MaxSup's
      ``0.1 + 0.1 t/T`` (arXiv 2502.15798) is v = 0.1, end = 0.2. A decay has end = 0, a warm-up v = 0.
    * ``drop``: v in the epochs before s = ``epoch``, 0 from epoch s on: s = 0 never uses the loss, s = T always. This
      is the two-stage smoothing of Xu et al., arXiv 2006.11653 (TSLA), with hyper-parameters of ours.

    Raises:
        ValueError: on an unknown kind, a parameter that the kind lacks or needs, or an impossible epoch.
    """

    kind: str = "constant"
    end: float | None = None
    epoch: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("constant", "linear", "drop"):
            raise ValueError(f"schedule kind must be constant, linear or drop, got {self.kind!r}")
        if (self.end is not None) != (self.kind == "linear"):
            raise ValueError(f"schedule {self.kind} with end {self.end}: linear needs an end, the others have none")
        if self.kind == "constant" and self.epoch is not None:
            raise ValueError(f"schedule constant has no epoch, got {self.epoch}")
        if self.kind == "drop" and self.epoch is None:
            raise ValueError("schedule drop needs an epoch")
        first = 1 if self.kind == "linear" else 0
        if self.epoch is not None and (type(self.epoch) is not int or self.epoch < first):
            raise ValueError(f"schedule {self.kind} needs a whole epoch of at least {first}, got {self.epoch!r}")
        if self.end is not None:
            as_number("schedule end", self.end, "a finite number", math.isfinite)

    def at(self, value: float, epoch: int, epochs: int) -> float:
        """Strength in epoch ``epoch`` of 0..epochs-1, for a loss whose own strength is ``value``.

        Raises:
            ValueError: if ``epoch`` is not one of the epochs or the schedule goes on after the last.
        """
        if not 0 <= epoch < epochs:
            raise ValueError(f"epoch must lie in [0, {epochs}), got {epoch}")
        if self.epoch is not None and self.epoch > epochs:
            raise ValueError(f"schedule {self.kind} has epoch {self.epoch}, but training has {epochs} epochs")
        if self.kind == "linear" and self.end is not None:
            part = min(1.0, epoch / (epochs if self.epoch is None else self.epoch))
            return (1 - part) * value + part * self.end
        if self.kind == "drop" and self.epoch is not None:
            return value if epoch < self.epoch else 0.0
        return value


# A label that nothing ignores: PyTorch's own default is -100, whose samples it would count with a loss of 0.
_NO_LABEL = torch.iinfo(torch.int64).min


def _check(logits: Array, targets: Array) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) and int64 labels (N,), or raise a ValueError."""
    logits = as_tensor("logits", logits)
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(f"logits must have shape (N, K) with K >= 2 and be floats, got {describe(logits)}")
    given = check_label_type(targets, len(logits), "targets")
    check_device("targets", given, logits)
    labels = given.long()
    if sees_values(logits):
        check_masked(logits)
        check_range(labels, logits.shape[1], "targets", given)
    return logits, labels


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none", ignore_index=_NO_LABEL)


def _masked(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return which logits (N, K) are -inf, and K over the number (N,) of the others.

    That ratio is 1 where nothing is masked: a mean over K times it is the mean over the others, with the same bits.
    """
    absent = logits == -math.inf
    classes = logits.shape[1]
    return absent, classes / (classes - absent.sum(dim=1)).to(logits.dtype)


def _check_strength(name: str, value: float, below: float = math.inf) -> None:
    as_number(name, value, f"a number in [0, {below:g})", lambda number: 0 <= number < below)


@register
def ce(logits: Array, targets: Array) -> Tensor:
    """Cross entropy ``-log p_y``.

    Gradient on z: p - y. Its entries sum to 0, and only p_y = 1, never reached, makes it vanish. Standard.
    """
    return _cross_entropy(*_check(logits, targets))


@register
def ls(logits: Array, targets: Array, *, smoothing: float) -> Tensor:
    """Label smoothing: cross entropy with the target ``q = (1 - smoothing) y + smoothing / K``.

    Equal to ``ce + smoothing (z_y - mean z)`` without any constant (arXiv 2502.15798). Gradient on z: p - q, which
    for smoothing > 0 vanishes at finite logits, where p = q. A masked class has no mass in q, with which the loss would
    be inf. Strength: ``smoothing``, in [0, 1). Source: arXiv 2402.03979, setup.
    """
    logits, labels = _check(logits, targets)
    _check_strength("smoothing", smoothing, below=1.0)
    if smoothing == 0:
        return _cross_entropy(logits, labels)
    absent, share = _masked(logits)
    log_p = F.log_softmax(logits, dim=1)
    uniform = -log_p.masked_fill(absent, 0).sum(dim=1) * (smoothing / logits.shape[1])
    # The two terms of PyTorch's cross entropy with label smoothing, which has the same bits where nothing is masked.
    return (1 - smoothing) * F.nll_loss(log_p, labels, reduction="none", ignore_index=_NO_LABEL) + uniform * share


@register
def maxsup(logits: Array, targets: Array, *, alpha: float) -> Tensor:
    """Max suppression: ``ce + alpha (max_k z_k - mean z)``.

    On correct predictions it is ``ls`` with smoothing alpha. Gradient on z: p - y, plus alpha (1 - 1/K) on the largest
    logit and -alpha/K on each other one, whether the prediction is right or wrong: unlike ``ls`` it never rewards a
    wrong one. The maximum is not detached; if m logits are the largest, each gets alpha (1/m - 1/K). Strength:
    ``alpha`` >= 0. Source: MaxSup, arXiv 2502.15798.
    """
    logits, labels = _check(logits, targets)
    _check_strength("alpha", alpha)
    absent, share = _masked(logits)
    cross_entropy = _cross_entropy(logits, labels)  # first: the order of the terms is that of the gradient's sum
    return cross_entropy + alpha * (logits.amax(dim=1) - logits.masked_fill(absent, 0).mean(dim=1) * share)


@register
def logit_penalty(logits: Array, targets: Array, *, beta: float) -> Tensor:
    """Cross entropy with a penalty on the logits' size: ``ce + (beta / 2) sum_k z_k^2``.

    Gradient on z: p - y + beta z; unlike every other loss with a softmax it also sees a shift of all logits. Strength:
    ``beta`` >= 0. Source: ablation of arXiv 2502.15798, whose code has beta = 2e-3.
    """
    logits, labels = _check(logits, targets)
    _check_strength("beta", beta)
    present = logits.masked_fill(logits == -math.inf, 0)
    return _cross_entropy(logits, labels) + beta / 2 * present.square().sum(dim=1)


def _leads(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return z_y - z_k (N, K), 0 where either is masked, and the ratio of `_masked`."""
    absent, share = _masked(logits)
    own = logits.gather(1, labels[:, None])
    return (own - logits).masked_fill(absent | (own == -math.inf), 0), share


@register
def ls_regularisation(logits: Array, targets: Array, *, smoothing: float) -> Tensor:
    """Cross entropy and the regularising part of label smoothing: ``ce + (delta/K) sum_{z_m < z_y} (z_y - z_m)``.

    Delta is ``smoothing`` >= 0, the strength. Gradient on z: p - y, plus delta/K on z_y for each logit below it, and
    -delta/K on each of those; nothing on the logits above z_y. The penalty is >= 0. Source: ablation of arXiv
    2502.15798.
    """
    logits, labels = _check(logits, targets)
    _check_strength("smoothing", smoothing)
    cross_entropy = _cross_entropy(logits, labels)
    lead, share = _leads(logits, labels)
    return cross_entropy + smoothing * F.relu(lead).mean(dim=1) * share


@register
def ls_error_amplification(logits: Array, targets: Array, *, smoothing: float) -> Tensor:
    """Cross entropy and the error-amplifying part of label smoothing: ``ce + (delta/K) sum_{z_n > z_y} (z_y - z_n)``.

    Delta is ``smoothing`` >= 0, the strength. Gradient on z: p - y, plus delta/K on z_y for each logit above it, and
    -delta/K on each of those: a wrong top-1 logit is pushed up. The second term is <= 0, and 0 on correct predictions.
    Source: ablation of arXiv 2502.15798.
    """
    logits, labels = _check(logits, targets)
    _check_strength("smoothing", smoothing)
    cross_entropy = _cross_entropy(logits, labels)
    lead, share = _leads(logits, labels)
    return cross_entropy - smoothing * F.relu(-lead).mean(dim=1) * share


@register
def confidence_penalty(logits: Array, targets: Array, *, beta: float) -> Tensor:
    """Cross entropy with a reward for entropy: ``ce - beta H(p)``, ``H(p) = -sum_k p_k log p_k`` (nats).

    Gradient on z: p - y + beta p_k (log p_k + H(p)). Strength: ``beta`` >= 0. Standard (Pereyra et al., arXiv
    1701.06548).
    """
    logits, labels = _check(logits, targets)
    _check_strength("beta", beta)
    log_p = F.log_softmax(logits, dim=1)
    negative_entropy = (log_p.exp() * log_p.masked_fill(log_p == -math.inf, 0)).sum(dim=1)  # 0 log 0 = 0
    return _cross_entropy(logits, labels) + beta * negative_entropy


@register
def focal(logits: Array, targets: Array, *, gamma: float) -> Tensor:
    """Focal loss ``-(1 - p_y)^gamma log p_y``: samples that are fitted well count less.

    Gradient on z: (p - y) times ``(1 - p_y)^gamma - gamma p_y (1 - p_y)^(gamma - 1) log p_y``. Strength: ``gamma``
    >= 0. Standard (Lin et al., arXiv 1708.02002).
    """
    logits, labels = _check(logits, targets)
    _check_strength("gamma", gamma)
    # log(1 - p_y) from the other logits alone: exact, and its gradient finite, also where p_y rounds to 1.
    others = logits.scatter(1, labels[:, None], -math.inf)
    # Where all others are masked p_y is 1 and the loss 0, whatever stands for log 0 here.
    others = others.masked_fill((others == -math.inf).all(dim=1, keepdim=True), torch.finfo(logits.dtype).min / 4)
    log_rest = others.logsumexp(dim=1) - logits.logsumexp(dim=1)
    return (gamma * log_rest).exp() * _cross_entropy(logits, labels)


@register
def mse(logits: Array, targets: Array) -> Tensor:
    """Squared error ``(1/2) sum_k (z_k - y_k)^2`` of the logits themselves, without softmax: regression on y.

    Gradient on z: z - y. It has no strength. For classification this formula, that of `squared_error`, is our choice.
    """
    logits, labels = _check(logits, targets)
    onehot = torch.zeros_like(logits).scatter(1, labels[:, None], 1.0)
    absent = (logits == -math.inf) & (onehot == 0)
    return 0.5 * (logits - onehot).masked_fill(absent, 0).square().sum(dim=1)


@register
def distillation(
    logits: Array,
    targets: Array,
    teacher_logits: Array,
    *,
    temperature: float = 1.0,
    weight: float = 1.0,
    t_squared: bool = False,
) -> Tensor:
    """Distillation ``(1 - weight) ce + weight (-sum_k q_k(T) log p_k(T))``, a teacher's probabilities as targets.

    ``p(T) = softmax(z / T)``, and ``q(T)`` the same of the teacher's logits (N, K), through which no gradient goes; T
    is ``temperature`` > 0, ``weight`` lies in [0, 1]. Gradient on z: (1 - weight) (p - y) + (weight / T)
    (p(T) - q(T)). The first term is at temperature 1 always; at weight 0 the loss is ``ce``. The smallest value of the
    second term is the entropy of q(T), not 0. It has no strength. Source: Mueller et al., arXiv 1906.02629, whose
    students have weight 1.

    At a large T the second term's gradient shrinks as 1/T^2, and against it weight decay grows. ``t_squared``
    multiplies the term by T^2, which undoes that; it is not in the source, and general practice (Hinton et al., arXiv
    1503.02531).

    A class that the student masks is masked for the teacher too: q(T) is over the others.

    Raises:
        ValueError: shapes do not go together, temperature or weight is outside its range, or a teacher masks every
            class that its student has.
    """
    logits, labels = _check(logits, targets)
    teacher_logits = as_tensor("teacher_logits", teacher_logits)
    if teacher_logits.shape != logits.shape:
        raise ValueError(
            f"the teacher's logits must have the shape of the student's, {tuple(logits.shape)}, got "
            f"{tuple(teacher_logits.shape)}: both must have the same classes"
        )
    as_number("temperature", temperature, "a finite number > 0", lambda number: 0 < number < math.inf)
    as_number("weight", weight, "a number in [0, 1]", lambda number: 0 <= number <= 1)
    absent = logits == -math.inf
    taught = teacher_logits.detach().masked_fill(absent, -math.inf)
    if sees_values(logits):
        check_masked(taught, "teacher_logits, of the classes that the student has,")
    q = F.softmax(taught / temperature, dim=1)
    log_p = F.log_softmax(logits / temperature, dim=1)
    soft = -(log_p.masked_fill(q == 0, 0) * q).sum(dim=1)  # 0 log 0 = 0, at masked classes among others
    soft = temperature**2 * soft if t_squared else soft
    if weight == 1:  # no label counts, not even one whose class is masked
        return soft
    return (1 - weight) * _cross_entropy(logits, labels) + weight * soft


@register
def squared_error(outputs: Array, targets: Array) -> Tensor:
    """Squared error of a regression, ``(1/2) sum_j (z_j - y_j)^2`` over the n targets.

    The sum, not the mean, over the targets, and the factor 1/2: averaged over samples this is the first term of the
    objective in section "UFM" of arXiv 2409.04180; with a mean over the targets the same penalties act n times as
    strongly. Outputs z and targets y are floats (N, n). Gradient on z: z - y. It has no strength.
    """
    outputs, targets = as_tensor("outputs", outputs), as_tensor("targets", targets)
    if outputs.ndim != 2 or targets.shape != outputs.shape or not targets.is_floating_point():
        raise ValueError(
            f"outputs and targets must both be floats of shape (N, n), got {tuple(outputs.shape)} and "
            f"{targets.dtype} {tuple(targets.shape)}"
        )
    if sees_values(outputs):
        for name, values in (("outputs", outputs), ("targets", targets)):
            if not bool(values.isfinite().all()):
                row = int((~values.isfinite().all(dim=1)).nonzero()[0])
                raise ValueError(f"{name} must be finite, got nan or inf in row {row}")
    return 0.5 * F.mse_loss(outputs, targets, reduction="none").sum(dim=1)


@register
class online_label_smoothing:
    """Online label smoothing: ``(1 - soft_weight) ce + soft_weight (-sum_k S_yk log p_k)``.

    Row y of S (K, K) is the mean of p over the samples of class y that were predicted correctly in the previous epoch,
    each p taken when the sample was trained on. A row is uniform (1/K) in the first epoch and after an epoch without a
    correct prediction of its class. Gradient on z: p - q with q = (1 - soft_weight) y + soft_weight S_y; S is
    constant. Strength: ``soft_weight``, in [0, 1).

    Statistics are gathered by every call whose logits require a gradient while gradients are enabled, that is in
    training; a call under ``torch.no_grad`` only evaluates. Tied largest logits count as a correct prediction only if
    the first of them is the label. The statistics are float64.

    Source: Zhang et al., arXiv 2011.12562. Of the paper only the abstract was read; update rule, uniform rows and the
    half-and-half weighting (0.5) are from the authors' released code, where the CIFAR script starts from S = 0 and the
    fine-grained script, as here, from uniform rows.
    """

    def __init__(self) -> None:
        self._state: dict[str, Tensor] = {}

    def __call__(self, logits: Array, targets: Array, *, soft_weight: float) -> Tensor:
        """Loss of each sample, shape (N,); in training it also gathers the statistics."""
        logits, targets = _check(logits, targets)
        _check_strength("soft_weight", soft_weight, below=1.0)
        hard = _cross_entropy(logits, targets)
        log_p = F.log_softmax(logits, dim=1)
        state = self._ready(logits)
        if torch.is_grad_enabled() and logits.requires_grad:
            with torch.no_grad():
                correct = logits.argmax(dim=1) == targets
                # A product with the one-hot matrix, for it adds in a fixed order on every device.
                hits = (F.one_hot(targets, logits.shape[1]) * correct[:, None]).double()
                state["probability_sum"] += hits.T @ log_p.double().exp()
                state["correct_count"] += hits.sum(dim=0)
                state["batches"] += 1
        absent = (logits == -math.inf).scatter(1, targets[:, None], False)
        q = state["soft_labels"][targets]
        lost = (q * absent).sum(dim=1)  # the mass on masked classes goes to the others in proportion
        soft = -(q.to(log_p.dtype) * log_p.masked_fill(absent, 0)).sum(dim=1)
        return (1 - soft_weight) * hard + soft_weight * (soft / (1 - lost).to(log_p.dtype))

    def _ready(self, logits: Tensor) -> dict[str, Tensor]:
        """The state for this number of classes, on this device."""
        classes = logits.shape[1]
        if not self._state:
            self._state = {
                "soft_labels": torch.full((classes, classes), 1 / classes, dtype=torch.float64),
                "probability_sum": torch.zeros((classes, classes), dtype=torch.float64),
                "correct_count": torch.zeros(classes, dtype=torch.float64),
                "batches": torch.zeros((), dtype=torch.int64),
            }
        if len(self._state["soft_labels"]) != classes:
            raise ValueError(f"this loss has gathered {len(self._state['soft_labels'])} classes, logits have {classes}")
        self._state = {name: tensor.to(logits.device) for name, tensor in self._state.items()}
        return self._state

    def end_epoch(self) -> None:
        """Make this epoch's mean probabilities the soft labels of the next.

        Raises:
            RuntimeError: if there was no training call in this epoch.
        """
        if not self._state or not self._state["batches"]:
            raise RuntimeError("online_label_smoothing: end_epoch without a training batch in this epoch")
        count = self._state["correct_count"][:, None]
        mean = self._state["probability_sum"] / count
        self._state["soft_labels"] = torch.where(count > 0, mean, 1 / len(mean))
        for name in ("probability_sum", "correct_count", "batches"):
            self._state[name] = torch.zeros_like(self._state[name])

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of soft labels and running statistics; empty before the first call."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: if names or shapes are not those of a state.
        """
        shapes = {name: tuple(getattr(tensor, "shape", ("no tensor",))) for name, tensor in state.items()}
        classes = (*shapes.get("soft_labels", ()), 0)[0]
        square = (classes, classes)
        expected = {"soft_labels": square, "probability_sum": square, "correct_count": (classes,), "batches": ()}
        if shapes and shapes != expected:
            raise ValueError(f"not a state of online_label_smoothing: got {shapes}")
        self._state = {name: tensor.clone() for name, tensor in state.items()}
