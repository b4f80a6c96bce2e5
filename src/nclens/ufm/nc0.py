r"""The law of NC0 under stochastic gradient descent, and the floor that NC0 sets under NC3.

NC0 is :math:`|u|^2 / K` of the sum :math:`u = W'1` of the rows of the classifier W (K, d). A loss that does not change
when a constant is added to all logits (cross entropy, label smoothing, MaxSup, focal loss, distillation, ...) has
gradients with respect to the logits that sum to zero over the classes; so the gradient of W, a sum of products of these
with the features, has rows that sum to zero. What moves u is then weight decay alone: NC0 along training follows from
learning rate, momentum, decay and schedule, whatever the data, the architecture and the batches.

Derived here; checked by training in tests/ufm/test_nc0.py. NC0 is that of arXiv 2602.16642.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nclens.ufm.checks import as_numbers, is_number

UNIT_ROUNDOFF = 2.0**-24
"""The largest relative error of a number that is rounded to float32."""
TOLERANCE = 0.01
"""Deviation from the law, over the law, up to which claim N1 takes NC0 as predicted; rounding is allowed beside it."""


def nc0_law(
    learning_rates: ArrayLike,
    *,
    momentum: ArrayLike = 0.0,
    weight_decay: ArrayLike = 0.0,
    decoupled_decay: ArrayLike = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> NDArray[np.float64]:
    r"""Return NC0 after each step of SGD, over NC0 before the first.

    With :math:`\lambda` the weight decay, :math:`\mu` the momentum, :math:`\tau` the dampening, :math:`\eta_t` the
    learning rate and :math:`\omega` the decoupled decay, step t takes :math:`v \leftarrow \mu v + (1 - \tau) \lambda u`
    (the first step :math:`v = \lambda u`) and then

    .. math:: u \leftarrow (1 - \eta_t \omega) u - \eta_t v , \qquad
              \text{with Nesterov's momentum}\quad u \leftarrow (1 - \eta_t\omega) u - \eta_t (\lambda u + \mu v) ,

    as `torch.optim.SGD`; NC0 is proportional to :math:`|u|^2`. Without momentum v is :math:`\lambda u`.

    It holds where the loss ignores a constant added to all logits, W itself is a parameter that SGD moves (it is
    neither frozen nor a function of other parameters, as under weight norm), and the momentum starts at zero. Clipping
    the gradient of the loss changes nothing, since what is clipped still sums to zero over the rows.

    It does not hold for squared error, nor for a penalty on logits. Nor does it for Adam and its relatives, whose steps
    scale each weight by itself.

    Args:
        learning_rates: (T,), that of each step, 0 or more.
        momentum: 0 or more, one number or (T,).
        weight_decay: coupled decay on W, which is added to the gradient, 0 or more, one number or (T,). A penalty
            lambda_W/2 |W|_F^2 in the objective is the same: add lambda_W.
        decoupled_decay: decay that multiplies W by 1 - learning rate times decay, as in SGDW and PyTorch's AdamW, 0 or
            more, one number or (T,).
        dampening: of the momentum.
        nesterov: whether the momentum is Nesterov's.

    Returns:
        (T + 1,), from 1.0 before the first step; without unit. NC0 after t steps is NC0 before the first times entry
        t, and NC0 at step s times entry t over entry s. Not finite where learning rate times decay is so large that it
        diverges beyond float64.

    Raises:
        ValueError: a value that is negative or not finite, a shape that is neither a number nor (T,), or Nesterov's
            momentum with dampening or without momentum, which PyTorch refuses too.

    >>> nc0_law([0.5, 0.5], weight_decay=0.2).round(4).tolist()
    [1.0, 0.81, 0.6561]
    """
    rates = _of_steps("learning_rates", learning_rates, None)
    given = {"momentum": momentum, "weight_decay": weight_decay, "decoupled_decay": decoupled_decay}
    arrays = {name: _of_steps(name, value, len(rates)) for name, value in given.items()}
    if not (is_number(dampening) and 0 <= dampening < math.inf):
        raise ValueError(f"nc0_law: dampening must be a finite number >= 0, got {dampening!r}")
    if nesterov and (dampening != 0 or not arrays["momentum"].all()):
        raise ValueError("nc0_law: nesterov needs a momentum > 0 at every step and dampening 0")
    u, buffer, found = 1.0, None, [1.0]
    for rate, mu, decay, decoupled in zip(rates.tolist(), *(one.tolist() for one in arrays.values()), strict=True):
        step = gradient = decay * u
        if mu != 0:
            buffer = gradient if buffer is None else mu * buffer + (1 - dampening) * gradient
            step = gradient + mu * buffer if nesterov else buffer
        u = (1 - rate * decoupled) * u - rate * step
        found.append(u)
    with np.errstate(over="ignore"):
        return np.square(found)


def _of_steps(name: str, values: Any, steps: int | None) -> NDArray[np.float64]:
    """Return values of each step (T,), checked."""
    array = as_numbers("nc0_law", name, values)
    if array.ndim != 1 and (steps is None or array.ndim):
        raise ValueError(f"nc0_law: {name} must be {'' if steps is None else 'a number or '}an array (T,)")
    if steps is not None and array.shape not in ((), (steps,)):
        raise ValueError(f"nc0_law: {name} must be a number or have {steps} values, one a step, got {len(array)}")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"nc0_law: {name} must be finite and >= 0")
    return array if steps is None else np.broadcast_to(array, (steps,))


def nc0_rounding(nc0: float, squared_norm: float, steps: int, classes: int) -> float:
    r"""Return how far from the law rounding W to float32 at each step may take NC0.

    One rounding moves each entry of W by at most :math:`\epsilon |w_{kj}|`, :math:`\epsilon = 2^{-24}`, so u by about
    :math:`\epsilon |W|_F`; over T steps whose errors are independent by :math:`\epsilon |W|_F \sqrt T`. With
    :math:`r = T \epsilon^2 |W|_F^2 / K` this is

    .. math:: (\sqrt{\mathrm{NC0}} + \sqrt r)^2 - \mathrm{NC0} = r + 2 \sqrt{r\,\mathrm{NC0}} .

    Args:
        nc0: NC0 by the law, >= 0, in squared weight units.
        squared_norm: |W|_F^2, the largest so far.
        steps: T >= 0.
        classes: K, the rows of W.

    Returns:
        A value >= 0 in squared weight units; nan where an argument is.
    """
    r = steps * UNIT_ROUNDOFF**2 * squared_norm / classes
    return r + 2 * math.sqrt(r * nc0)


def nc3_floor(share: ArrayLike) -> NDArray[np.float64]:
    r"""Return the smallest nc3 that a classifier may have whose NC0 is this share of its squared norm.

    .. math:: \mathrm{nc3} = \left| \frac{W}{|W|_F} - \frac{M}{|M|_F} \right|_F \ge \sqrt{2 - 2 \sqrt{1 - f}} , \qquad
              f = \frac{\mathrm{NC0}}{|W|_F^2} .

    The rows of M sum to zero, so only the centred part of W, of squared norm :math:`(1 - f) |W|_F^2`, has an inner
    product with M. Equality holds where M is proportional to W minus the mean of its rows. The bound needs M centred
    by the mean of the class means, as in `nclens.neural_collapse`, and both matrices of all classes: centred by the
    mean of the samples under unequal counts, or with classes left out of nc3 but not of f, it does not hold.

    Args:
        share: f, in [0, 1], any shape; nan gives nan.

    Returns:
        The same shape, values in [0, sqrt 2].

    Raises:
        ValueError: a share outside [0, 1], or no number.

    >>> nc3_floor([0.0, 0.75, 1.0]).round(6).tolist()
    [0.0, 1.0, 1.414214]
    """
    f = as_numbers("nc3_floor", "share", share)
    outside = (f < 0) | (f > 1 + 1e-12)  # a share of 1 may be rounded up
    if outside.any():
        raise ValueError(f"nc3_floor: share must lie in [0, 1], got {float(f[outside][0])}")
    f = np.minimum(f, 1.0)
    return np.sqrt(2 * f / (1 + np.sqrt(1 - f)))  # no difference of numbers that are nearly equal
