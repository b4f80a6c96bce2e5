"""The layers of a backbone: after which of its modules a network is measured, and what they are called."""

from collections.abc import Sequence
from typing import TypeVar

from torch import nn

Block = TypeVar("Block", bound=nn.Module)

#: What changes nothing in evaluation mode but the shape.
_IDLE = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def block(module: Block) -> Block:
    """Declare that a block of the backbone ends with this module, and return it."""
    module.ends_block = True  # type: ignore[assignment]
    return module


def layers_of(backbone: nn.Module, names: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Return the modules after which a backbone is measured, by name.

    Without `names` these are the modules that the backbone's builder declares by `block`. Where it declares none, they
    are the modules of the longest `ModuleList` or `Sequential`, the first of several, without those that do nothing in
    evaluation mode: identity, dropout, flattening.

    Args:
        backbone: x -> h.
        names: of modules of the backbone. The end of a name, from a dot on, is enough where no other module has it, so
            that a name in the user's own model fits behind `nclens.models.preprocessing` too.

    Raises:
        ValueError: the backbone has no module of a name, or several; or none is declared, and there is no list.
    """
    known = {name: module for name, module in backbone.named_modules() if name}
    if names is not None:
        return {name: known[name] for name in (_found(name, list(known)) for name in names)}
    if declared := {name: module for name, module in known.items() if getattr(module, "ends_block", False)}:
        return declared
    lists = [
        (name, container)
        for name, container in backbone.named_modules()
        if isinstance(container, nn.ModuleList | nn.Sequential) and len(container)
    ]
    if not lists:
        raise ValueError(
            f"{type(backbone).__name__} has no ModuleList or Sequential whose modules could be its layers; name them, "
            f"some of: {', '.join(known) or 'it has none'}"
        )
    name, longest = max(lists, key=lambda one: len(one[1]))
    prefix = f"{name}." if name else ""
    return {prefix + own: child for own, child in longest.named_children() if not isinstance(child, _IDLE)}


def _found(name: str, known: Sequence[str]) -> str:
    ending = [other for other in known if other == name or other.endswith(f".{name}")]
    if name in known or len(ending) == 1:
        return name if name in known else ending[0]
    why = f"has several layers {name}: {', '.join(ending)}" if ending else f"has no layer {name}"
    raise ValueError(f"the network {why}; it has: {', '.join(known)}")
