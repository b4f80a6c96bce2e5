"""Find the head of any network, its last linear layer, by a forward pass, and verify that it is z = W h + b."""

import contextlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nclens.models.memory import is_out_of_memory
from nclens.models.network import Network, UnfitError, try_out

WHAT_TO_WRITE = (
    "end in a plain nn.Linear: scale or normalise the features before it, and normalise or tie its weight with "
    "torch.nn.utils.parametrize; for a cosine head, end in nclens.models.CosineHead"
)

#: What PyTorch may round the factors of float32 products to -> eps, the distance of 1 to the next number.
FACTORS = {"tf32": 2**-10, "bf16": 2**-7}


def split_at_head(module: nn.Module, shape: Sequence[int], outputs: int, name: str) -> Network:
    """Return the network whose backbone is `module` without its last linear layer, and whose head is that layer.

    The last linear layer is the one that runs last, whatever its position and names in the module. The weights are
    unchanged. Forward passes of two samples, in evaluation and in training mode, verify that the module returns this
    layer's output itself and runs it once. The layer is verified to be z = W h + b at random features and weights, so
    that a factor that is 1 at first is found. Last, backbone and head together must return the module's logits.

    Raises:
        ValueError: there is no linear layer, the last one does not have `outputs` rows, is not z = W h + b or not of
            float32, the module does not accept inputs of `shape`, does not return logits (N, K), runs its last linear
            layer more than once, or does anything after it.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"the model {name} must be a torch.nn.Module, not {type(module).__name__}")
    if isinstance(module, nn.DataParallel):
        module = module.module  # a wrapper for several devices, with no weights
    # A separate generator: the trial must not affect the random numbers drawn for the run.
    example = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    training = module.training
    with uncompiled():
        # Directly, not by `try_out`: a lazy layer draws its weights in its first pass.
        head, expected = _find_head(module, lambda inputs: module.eval()(inputs), example, outputs, name, "evaluation")
        path = _names(module, head)[0]
        _check_layer(head, path, outputs, name)
        if expected.shape != (len(example), outputs):
            given = f"a tensor of shape {tuple(expected.shape)} for {len(example)} samples"
            raise ValueError(f"the model {name} must return logits (N, {outputs}), not {given}")
        run = partial(try_out, module, training=True)
        trained, made = _find_head(module, run, example, outputs, name, "training")
        if trained is not head or made.shape != expected.shape:
            raise ValueError(f"the model {name} ends in another layer or shape in training than in evaluation")
        network = _split(module, head, path)
        _check_parts(network, example, expected, name)
    return network.train(training)


def find_head(module: nn.Module, run: Callable[[], object]) -> tuple[str, nn.Linear]:
    """Return the name and the layer of a model's head: the last linear layer that returns the model's output itself.

    The output is that of the model's last call in `run()`; of a table or tuple, such as those of Hugging Face's models,
    one of its tensors is enough. The model is used as it is, in its mode.

    Raises:
        ValueError: `run` does not call the model, or something comes after the last linear layer.
    """
    name = type(module).__name__
    outputs: list[Any] = []
    hook = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        calls, _ = _noted(module, run, name)
    finally:
        hook.remove()
    if not outputs:
        raise ValueError(f"the model {name} is not called itself, so its head cannot be found: name the head")
    made = outputs[-1]
    parts = made.values() if isinstance(made, Mapping) else made if isinstance(made, tuple | list) else (made,)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    found = [call.layer for call in calls if any(_is_unchanged(call, tensor) for tensor in tensors)]
    if not found:
        raise ValueError(
            f"no linear layer of the model {name} returns the model's output itself, so its head cannot be found: name "
            "the head, the layer that returns the logits W h + b"
        )
    return _names(module, found[-1])[0], found[-1]


def check_affine(head: nn.Linear, features: Tensor, logits: Tensor, path: str) -> None:
    """Refuse a head whose logits (N, K) are not h W' + b of the features (N, d) and of its weight and bias.

    Entry by entry, |z - (h W' + b)| <= 8 sqrt(d) eps (|h| |W'| + |b|), computed in float64, where eps is that of the
    least precise of the types of features, weight and logits, or of TensorFloat-32 or bfloat16 where PyTorch may round
    the factors of float32 products to these. What underflow can lose is added. Where |h| |W'| + |b| is not finite or
    overflows the type, nothing is checked.

    Call it directly after the forward pass: hooks such as `torch.nn.utils.weight_norm` set `head.weight` in it.

    Args:
        head: the layer.
        features: (N, d), what the layer was given.
        logits: (N, K), what it returned.
        path: the layer's name in the model, for the message.

    Raises:
        ValueError: the bound is exceeded; has the layer's name and the largest difference.
    """
    weight, bias = head.weight.detach(), head.bias
    types = [torch.finfo(tensor.dtype) for tensor in (features, weight, logits)]
    inputs, matrix = features.detach().double(), weight.double()
    offset = torch.zeros((), dtype=torch.float64, device=matrix.device) if bias is None else bias.detach().double()
    affine = inputs @ matrix.T + offset
    size = inputs.abs() @ matrix.abs().T + offset.abs()
    dim = matrix.shape[1]
    # Products below the smallest normal number become zero; half precision accumulates in float32, then rounds.
    underflow = dim * torch.finfo(torch.float32).tiny + max(info.tiny * info.eps for info in types)
    eps = max(FACTORS.get(_matmul(features).fp32_precision, 0.0), *(info.eps for info in types))
    rounding = 8 * math.sqrt(dim) * eps * size + underflow
    difference = (logits.detach().double() - affine).abs()
    excess = torch.where(size < min(info.max for info in types), difference - rounding, -math.inf)
    if not bool((excess <= 0).all()):  # true of a logit that is not a number, too
        worst = excess.argmax()
        raise ValueError(
            f"the {_called(path, 'head')} ({type(head).__name__}) is not z = W h + b: a logit differs from it by "
            f"{difference.flatten()[worst]:.3g}, and rounding explains {rounding.flatten()[worst]:.1g}; {WHAT_TO_WRITE}"
        )


def _matmul(features: Tensor) -> Any:
    """Return PyTorch's settings for products of float32 matrices on the features' device."""
    return (torch.backends.cuda if features.is_cuda else torch.backends.mkldnn).matmul


@dataclass
class _Call:
    """One call of a linear layer, and the version of its output, which an operation in place increases."""

    layer: nn.Linear
    output: Any
    version: int


def _find_head(
    module: nn.Module, run: Callable[[Tensor], Any], example: Tensor, outputs: int, name: str, mode: str
) -> tuple[nn.Linear, Tensor]:
    """Return the linear layer that runs last in `run(example)`, and the module's output, which must be the layer's."""
    calls, made = _calls_of_linear_layers(module, run, example, name)
    last = calls[-1]
    if not isinstance(made, Tensor):
        kind, wanted = type(made).__name__, f"logits (N, {outputs})"
        if mode == "training":
            message = f"returns {kind} in training where {wanted} are needed; switch off its auxiliary outputs"
            raise ValueError(f"the model {name} {message}")
        raise ValueError(f"the model {name} must return {wanted}, not {kind}")
    called = _called(_names(module, last.layer)[0])
    if not _is_unchanged(last, made):
        raise ValueError(
            f"the model {name} must end in its last {called} and return its output itself; something comes after it in "
            f"{mode}: scale or normalise the features before the layer, and put a softmax into the loss"
        )
    times = sum(call.layer is last.layer for call in calls)
    if times > 1:
        raise ValueError(
            f"the model {name} runs its last {called} {times} times in one pass; the head must run once: use another "
            "layer at the other places"
        )
    return last.layer, made


def _calls_of_linear_layers(
    module: nn.Module, run: Callable[[Tensor], Any], example: Tensor, name: str
) -> tuple[list[_Call], Any]:
    """Return the calls of linear layers in `run(example)`, in their order and at least one, and what it returns."""
    calls, made = _noted(module, lambda: _run(run, example, name), name)
    if not calls:
        raise ValueError(f"the model {name} runs none of its linear layers, so none could be its head")
    return calls, made


def _noted(module: nn.Module, run: Callable[[], Any], name: str) -> tuple[list[_Call], Any]:
    """Return the calls of linear layers in `run()`, in their order, and what it returns."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ValueError(f"the model {name} has no linear layer that could be its head")
    calls: list[_Call] = []

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        assert isinstance(layer, nn.Linear)
        calls.append(_Call(layer, output, output._version if isinstance(output, Tensor) else 0))

    # First, so that a hook of the user's that changes the output counts as something that comes after the layer.
    hooks = [layer.register_forward_hook(note, prepend=True) for layer in layers]
    try:
        return calls, run()
    finally:
        for hook in hooks:
            hook.remove()


def _is_unchanged(call: _Call, made: Tensor) -> bool:
    """Return whether a module's output is a layer's output: the same memory, shape and layout, not written to since."""
    output = call.output
    return (
        isinstance(output, Tensor)
        and (
            made is output
            or (made.data_ptr(), made.shape, made.stride(), made.dtype)
            == (output.data_ptr(), output.shape, output.stride(), output.dtype)
        )
        and made._version == call.version
    )


def _check_layer(head: nn.Linear, path: str, outputs: int, name: str) -> None:
    """Refuse a head of the wrong size or type, or one that is not z = W h + b at random features and weights."""
    weight = head.weight
    if len(weight) != outputs:
        raise UnfitError(f"the model {name} ends in a {_called(path)} with {len(weight)} rows; the data need {outputs}")
    if weight.dtype != torch.float32:
        raise ValueError(
            f"the model {name} ends in a {_called(path)} of {weight.dtype}; the head is trained and measured in "
            "float32: build it so, and give it float32 features (`precision: bf16` runs the backbone in bfloat16)"
        )
    random = torch.Generator().manual_seed(0)
    features = torch.randn(8, weight.shape[1], generator=random)
    state = {key: value + 0.1 * torch.randn(value.shape, generator=random) for key, value in head.named_parameters()}
    state |= {key: buffer.clone() for key, buffer in head.named_buffers()}

    def check(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        # In a hook: the weights of a layer with hooks or parametrisations are those of this pass.
        if inputs[0] is not features or features._version != version:
            raise ValueError(f"a hook changes the input of the {_called(path, 'head')}; change the features before it")
        check_affine(head, features, output, path)

    version = features._version
    hook = head.register_forward_hook(check)
    try:
        with torch.no_grad():
            functional_call(head, state, (features,))
    except ValueError as error:
        raise ValueError(f"the model {name}: {error}") from None
    finally:
        hook.remove()


def _split(module: nn.Module, head: nn.Linear, path: str) -> Network:
    """Return the network with the head, and the module with an identity wherever the head was registered."""
    head.out_features, head.in_features = head.weight.shape
    network = Network(nn.Identity(), head.in_features, head.out_features)
    network.head, network.head_path = head, path
    if path:
        for place in _names(module, head):
            parent, _, attribute = place.rpartition(".")
            setattr(module.get_submodule(parent), attribute, nn.Identity())
        network.backbone = module
    return network


def _check_parts(network: Network, example: Tensor, expected: Tensor, name: str) -> None:
    """Refuse a split whose parts do not return the features (N, d) and the module's logits, in evaluation mode."""
    wanted = (len(example), network.head.in_features)
    try:
        with torch.no_grad():
            features = network.eval().backbone(example)
            same = features.shape == wanted and torch.equal(network.head(features), expected)
        why = "together they give other logits"
    except Exception as error:
        if is_out_of_memory(error):
            raise
        same, why = False, f"{type(error).__name__}: {error}"
    if not same:
        raise ValueError(
            f"the model {name} cannot be split into features (N, {wanted[1]}) and its last "
            f"{_called(network.head_path)}: {why}. Call the layer last, on features (N, d), by a registered "
            "name; read its attributes nowhere else, and use nothing random in evaluation"
        )


def _names(module: nn.Module, head: nn.Linear) -> list[str]:
    """Return every name under which a layer is registered; the wrapper of `torch.compile` belongs to the layer."""
    names = [path for path, layer in module.named_modules(remove_duplicate=False) if layer is head]
    return [path.removesuffix("_orig_mod").removesuffix(".") for path in names]


def _called(path: str, kind: str = "linear layer") -> str:
    return f"{kind} `{path}`" if path else kind


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Run what `torch.compile` wraps as it was written: compiled code may skip hooks and return other memory."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes a second
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


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
