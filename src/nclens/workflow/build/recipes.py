"""From the options of a run's training to what the training loop takes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from nclens.workflow.build.functions import library_function
from nclens.workflow.specs import AVERAGING, MIXING, Recipe

#: Maps inputs (N, ...) to a trained network's logits (N, K).
Teacher = Callable[[Tensor], Tensor]


def build_recipe(recipe: Recipe | None) -> dict[str, Any]:
    """Return the options of a training as fields of `nclens.training.loop.Settings`; none where none is set.

    What they need is found by name, so that its code counts for such runs alone.
    """
    if recipe is None:
        return {}
    found: dict[str, Any] = {"accumulate": recipe.accumulate or 1}
    if recipe.mixes:
        make = library_function(f"{MIXING}:Mixing")
        found["mixing"] = make(recipe.mixup, recipe.cutmix, recipe.switch_probability)
    if recipe.ema is not None:
        found["averaging"] = partial(library_function(f"{AVERAGING}:Average"), decay=recipe.ema)
    return found


def taught_by(recipe: Recipe | None, teacher: Teacher) -> Teacher:
    """Return a student's teacher as its training takes it: once a batch, also where two losses of it are mixed."""
    if recipe is None or not recipe.mixes:
        return teacher
    once: Teacher = library_function(f"{MIXING}:once")(teacher)
    return once
