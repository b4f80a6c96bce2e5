"""From a loss entry of the configuration to the function that is minimised."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from nclens import custom
from nclens.losses import LOSSES


def build_loss(entry: dict[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of an entry: logits (N, K), class numbers (N,) -> one value a sample (N,).

    An entry is `{name: <registered loss>, <its parameters>}` or `{function: module:name, parameters: {...}}`. The
    user's own function gets logits, class numbers and its parameters, and returns one value a sample or their mean.

    Raises:
        ValueError: the user's function fails, or returns something else than (N,) or one number.
    """
    parameters = {key: value for key, value in entry.items() if key not in ("entry", "name")}
    if "function" not in entry:
        return partial(LOSSES[entry["name"]], **parameters)
    name, keywords = f"{entry['function']} ({entry['file']})", entry["parameters"]
    function = custom.load_function(entry["file"], entry["function"])

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        try:
            values = function(logits, targets, **keywords)
        except Exception as error:
            raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error
        if not isinstance(values, Tensor) or values.shape not in (targets.shape, ()):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"{name} must return one value a sample, shape ({len(targets)},), or one number, not {found}"
            )
        return values

    return loss
