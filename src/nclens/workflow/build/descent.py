"""From the settings of a run's training to the law of NC0, and to what fails of its premise."""

import math

import numpy as np

from nclens.training.learning_rate import learning_rates
from nclens.ufm.nc0 import nc0_law
from nclens.workflow.build.lr_schedules import build_lr_schedule
from nclens.workflow.specs import Descent, Loss

GRADIENT_DESCENT = ("sgd", "sgdw")
"""Optimisers whose steps are sums of gradients, for which the law holds."""
DECOUPLED = ("sgdw", "adamw", "muon")
"""Optimisers whose decay multiplies the weights and takes no part in the gradient."""
SHIFTED = "the gradients of the loss with respect to the logits do not sum to zero over the classes"
"""What fails of the premise under a loss that depends on a constant added to all logits."""


OF_PARTS = "the loss is of more than the logits: {parts}"
"""What fails of the premise under a loss of features or weights."""
COSINE_HEAD = "the classifier is normalised: its rows s w/|w| are no weights that the steps move"
"""What fails of the premise under a cosine head."""
ROUNDED = "the factors of the head's gradient are rounded to TensorFloat-32, so that it does not sum to zero"
"""What fails of the premise in lower precision."""
PENALTIES_CLIPPED = "clipping scales the gradients of the penalties, which decay the classifier"
"""What fails of the premise where the clipped gradient has the penalties' part."""


def law_of(descent: Descent, epochs: int, steps: int) -> np.ndarray:
    """Return NC0 after each step of a training over NC0 before the first, (epochs x steps + 1,).

    Of another optimiser than SGD it is the law of SGD with the same learning rates and decay and without momentum,
    which says how far such an optimiser is from it.

    Args:
        descent: how the classifier is trained.
        epochs: of the training.
        steps: in an epoch.
    """
    chosen = descent.optimizer
    rates = learning_rates(chosen.learning_rate, build_lr_schedule(descent.lr_schedule), epochs, steps)
    decoupled = chosen.weight_decay if chosen.name in DECOUPLED else 0.0
    momentum = chosen.arguments["momentum"] if chosen.name in GRADIENT_DESCENT else 0.0
    return nc0_law(
        rates,
        momentum=momentum,
        weight_decay=chosen.weight_decay - decoupled + descent.lambda_w,
        decoupled_decay=decoupled,
        nesterov=bool(momentum and chosen.arguments["nesterov"]),
    )


def broken_premise(descent: Descent, classes: int) -> str:
    """Return what fails of the law's premise; empty where it holds."""
    if descent.optimizer.name not in GRADIENT_DESCENT:
        called = descent.optimizer.name or descent.optimizer.function
        return f"the steps of {called} are no sums of gradients: it scales each weight by itself, or may do so"
    if descent.precision == "tf32":
        return ROUNDED
    if descent.cosine_head:
        return COSINE_HEAD
    if descent.clip_gradient_norm is not None and descent.lambda_w:
        return PENALTIES_CLIPPED
    if descent.tested is not None:
        return _broken_by(descent.tested, classes)
    return "" if descent.ignores_shift else SHIFTED


def _broken_by(loss: Loss, classes: int) -> str:
    """Return what fails under the user's own loss, by its gradients at random logits."""
    # The one case that needs PyTorch, which takes seconds to import.
    from nclens.training.shift import TOLERANCES, shift_gradient
    from nclens.workflow.build.losses import build_loss

    if needs := build_loss(loss).needs:
        return OF_PARTS.format(parts=", ".join(needs))
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
