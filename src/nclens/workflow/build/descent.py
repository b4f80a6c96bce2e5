"""From the settings of a run's training to the law of NC0, and to what fails of its premise."""

import math

import numpy as np

from nclens.ufm.nc0 import nc0_law
from nclens.workflow.specs import Descent, Loss

SHIFTED = "the gradients of the loss with respect to the logits do not sum to zero over the classes"
"""What fails of the premise under a loss that depends on a constant added to all logits."""


def law_of(descent: Descent, epochs: int, steps: int) -> np.ndarray:
    """Return NC0 after each step of a training over NC0 before the first, (epochs x steps + 1,).

    Args:
        descent: how the classifier is trained.
        epochs: of the training.
        steps: in an epoch.
    """
    passed = np.repeat(np.arange(epochs), steps)
    rates = descent.learning_rate * descent.decay ** np.searchsorted(descent.milestones, passed, side="right")
    return nc0_law(rates, momentum=descent.momentum, weight_decay=descent.weight_decay + descent.lambda_w)


def broken_premise(descent: Descent, classes: int) -> str:
    """Return what fails of the law's premise; empty where it holds."""
    if descent.tested is not None:
        return _broken_by(descent.tested, classes)
    return "" if descent.ignores_shift else SHIFTED


def _broken_by(loss: Loss, classes: int) -> str:
    """Return what fails under the user's own loss, by its gradients at random logits."""
    # The one case that needs PyTorch, which takes seconds to import.
    from nclens.training.shift import TOLERANCES, shift_gradient
    from nclens.workflow.build.losses import build_loss

    fault = ""
    for dtype, tolerance in TOLERANCES.items():  # a function may take float32 alone, as it gets in training
        try:
            found = shift_gradient(build_loss(loss), classes, dtype)
        except (ValueError, RuntimeError) as error:
            fault = f"the gradients of the loss cannot be tested at random logits: {error}"
            continue
        if math.isnan(found):
            return "the gradients of the loss at random logits are not finite, so that they cannot be tested"
        return "" if found <= tolerance else SHIFTED
    return fault
