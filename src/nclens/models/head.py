"""Find the head of any network, its last linear layer, by a forward pass."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nclens.models.memory import is_out_of_memory
from nclens.models.network import Network, UnfitError, try_out


def split_at_head(module: nn.Module, shape: Sequence[int], outputs: int, name: str) -> Network:
    """Return the network whose backbone is `module` without its last linear layer, and whose head is that layer.

    The last linear layer is the one that runs last, whatever its position and name in the module. The weights are
    unchanged. A forward pass of two samples verifies that backbone and head together return the module's logits.

    Raises:
        ValueError: there is no linear layer, the last one does not have `outputs` rows, the module does not accept
            inputs of `shape`, does not return logits (N, K), or does anything after its last linear layer.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"the model {name} must be a torch.nn.Module, not {type(module).__name__}")
    # A separate generator: the trial must not affect the random numbers drawn for the run.
    example = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    training = module.training
    path, expected = _run_to_last_linear(module.eval(), example, name)
    head = module.get_submodule(path)
    assert isinstance(head, nn.Linear)
    called = f"linear layer `{path}`" if path else "linear layer"
    if head.out_features != outputs:
        raise UnfitError(f"the model {name} ends in a {called} with {head.out_features} rows; the data need {outputs}")
    if not isinstance(expected, Tensor):
        raise ValueError(f"the model {name} must return logits (N, {outputs}), not {type(expected).__name__}")
    network = Network(nn.Identity(), head.in_features, outputs)
    network.head = head
    if path:
        parent, _, attribute = path.rpartition(".")
        setattr(module.get_submodule(parent), attribute, nn.Identity())
        network.backbone = module
    try:
        with torch.no_grad():
            same = torch.equal(network.eval()(example), expected)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        same = False
    if not same or expected.shape != (2, outputs):
        raise ValueError(f"the model {name} must end in its last {called}; something comes after it")
    _check_training(network, example, name)
    return network.train(training)


def _run_to_last_linear(module: nn.Module, example: Tensor, name: str) -> tuple[str, Any]:
    """Return the path of the linear layer that runs last, and the module's output for the example."""
    ran: list[str] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output, path=path: ran.append(path))
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    if not hooks:
        raise ValueError(f"the model {name} has no linear layer that could be its head")
    try:
        made = _run(module, example, name)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise ValueError(f"the model {name} runs none of its linear layers, so none could be its head")
    return ran[-1], made


def _check_training(network: Network, example: Tensor, name: str) -> None:
    """Refuse a backbone that returns something else in training mode, such as auxiliary outputs."""
    made = _run(partial(try_out, network.backbone, training=True), example, name)
    wanted = (2, network.head.in_features)
    if not isinstance(made, Tensor) or made.shape != wanted:
        raise ValueError(
            f"the model {name} returns {type(made).__name__} in training where features (N, {wanted[1]}) are needed; "
            "switch off its auxiliary outputs"
        )


def _run(module: Callable[[Tensor], Any], example: Tensor, name: str) -> Any:
    try:
        with torch.no_grad():
            return module(example)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        shape = tuple(example.shape[1:])
        message = f"the model {name} does not accept inputs of shape {shape}: {type(error).__name__}: {error}"
        raise ValueError(message) from error
