"""From gradients to a step: SGD by one fused call, every other optimiser by `torch.optim`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from nclens.models import Network

#: What makes an optimiser of parameters and a learning rate, such as the classes of `torch.optim`.
Maker = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]

#: Optimisers of PyTorch by name: the class in `torch.optim`, and whether its step can be one fused call.
OPTIMIZERS = {
    "adam": ("Adam", True),
    "adamw": ("AdamW", True),
    "nadam": ("NAdam", False),
    "radam": ("RAdam", False),
    "adamax": ("Adamax", False),
    "adagrad": ("Adagrad", False),
    "adadelta": ("Adadelta", False),
    "rmsprop": ("RMSprop", False),
    "rprop": ("Rprop", False),
}


@dataclass(frozen=True)
class Optimizer:
    """An optimiser and its hyperparameters.

    Attributes:
        name: `sgd`, `sgdw`, `muon` or one of `OPTIMIZERS`; anything for a `function`.
        learning_rate: the step size, which the schedule multiplies.
        weight_decay: coefficient wd on all parameters. Coupled (`sgd`, `adam`, ...), wd w is added to the gradient;
            decoupled (`sgdw`, `adamw`, `muon`), the weights are multiplied by 1 - lr wd in each step.
        arguments: further keyword arguments of the class in `torch.optim`; of `sgd` and `sgdw`: `momentum` and
            `nesterov`; of `muon`: `momentum` and `betas`.
        function: makes an optimiser of its own, in place of `name`, `weight_decay` and `arguments`.
    """

    name: str = "sgd"
    learning_rate: float = 0.05
    weight_decay: float = 0.0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    function: Maker | None = None

    @property
    def is_sgd(self) -> bool:
        """Whether it is SGD, with coupled or decoupled decay, whose steps can be replays of a CUDA graph."""
        return self.function is None and self.name in ("sgd", "sgdw")


class Descent(Protocol):
    """Takes the steps of one training."""

    @property
    def changing(self) -> Sequence[Tensor]:
        """What a step changes beside the weights, at fixed addresses; only of SGD."""

    def step(self, factor: float) -> None:
        """Change the weights by their gradients; `factor` is what the schedule multiplies the learning rate by."""

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return what later steps depend on: tensors by name, and plain values as JSON has them."""

    def load(self, tensors: Mapping[str, Tensor], values: Any) -> None:
        """Restore what `state` returned."""


def descent(optimizer: Optimizer, network: Network) -> Descent:
    """Return what takes the steps of a network's training.

    Raises:
        ValueError: a function that returns no optimiser, or an installed PyTorch without the one that is named.
    """
    parameters = list(network.parameters())
    if optimizer.is_sgd:
        return FusedSGD(parameters, optimizer)
    if optimizer.function is not None:
        made = optimizer.function(parameters, optimizer.learning_rate)
        if not isinstance(made, torch.optim.Optimizer):
            raise ValueError(
                f"the function of optimizer must return a torch.optim.Optimizer, not {type(made).__name__}"
            )
        return ByPyTorch([made])
    if optimizer.name == "muon":
        return _muon(optimizer, network)
    name, fused = OPTIMIZERS[optimizer.name]
    return ByPyTorch([_named(name, parameters, optimizer, **({"fused": True} if fused else {}))])


def _named(name: str, parameters: list[nn.Parameter], optimizer: Optimizer, **others: Any) -> torch.optim.Optimizer:
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in optimizer.arguments.items()}
    if name != "Rprop":  # has no weight decay
        given["weight_decay"] = optimizer.weight_decay
    return getattr(torch.optim, name)(parameters, lr=optimizer.learning_rate, **given, **others)


class FusedSGD:
    """SGD by the function behind torch.optim.SGD, whose `step` has the overhead of a small layer."""

    def __init__(self, parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        self._parameters = parameters
        self._rate, self._decay = optimizer.learning_rate, optimizer.weight_decay
        self._is_decoupled = optimizer.name == "sgdw"
        self._momentum = optimizer.arguments.get("momentum", 0.0)
        self._nesterov = optimizer.arguments.get("nesterov", False)
        # Buffers of zeros give the same first step as torch.optim.SGD, which starts without them.
        self._buffers = [torch.zeros_like(weight) if self._momentum else None for weight in parameters]
        self.changing = [kept for kept in self._buffers if kept is not None]

    def step(self, factor: float) -> None:
        """Change the weights by their gradients."""
        rate = self._rate * factor
        learned = [place for place, parameter in enumerate(self._parameters) if parameter.grad is not None]
        weights: list[Tensor] = [self._parameters[place] for place in learned]
        if self._is_decoupled:
            torch._foreach_mul_(weights, 1 - rate * self._decay)
        sgd(
            weights,
            [cast(Tensor, self._parameters[place].grad) for place in learned],
            [self._buffers[place] for place in learned],
            fused=True,
            lr=rate,
            momentum=self._momentum,
            weight_decay=0.0 if self._is_decoupled else self._decay,
            dampening=0.0,
            nesterov=self._nesterov,
            maximize=False,
        )

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return the momentum by the place of its parameter."""
        return {f"momentum.{place}": kept for place, kept in enumerate(self._buffers) if kept is not None}, None

    def load(self, tensors: Mapping[str, Tensor], values: Any) -> None:
        """Restore the momentum in place: the fused step needs buffers with the memory layout of their parameters."""
        for place, kept in enumerate(self._buffers):
            if kept is not None:
                kept.copy_(tensors[f"momentum.{place}"])


class ByPyTorch:
    """Steps of one or more optimisers of `torch.optim`, each with a part of the parameters."""

    changing: Sequence[Tensor] = ()

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], views: "Sequence[_Matrix]" = ()) -> None:
        self._optimizers, self._views = optimizers, views
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._rates = [group["lr"] for group in self._groups]

    def step(self, factor: float) -> None:
        """Change the weights by their gradients."""
        for group, rate in zip(self._groups, self._rates, strict=True):
            group["lr"] = rate * factor
        for view in self._views:
            view.take_gradient()
        for optimizer in self._optimizers:
            optimizer.step()

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return the state of every parameter and the options of every group, which some optimisers change.

        Raises:
            ValueError: a part of the state is neither a tensor nor plain data.
        """
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {"state": {}, "groups": []}
        for place, (optimizer, parameter) in enumerate(self._parameters()):
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{place}.{key}"] = value
                    values["state"].setdefault(str(place), {})[key] = {"device": value.device.type}
                else:
                    values["state"].setdefault(str(place), {})[key] = {"value": _plain(key, value)}
        for group in self._groups:
            options = {key: value for key, value in group.items() if key not in ("params", "param_names", "lr")}
            values["groups"].append({key: _plain(key, value) for key, value in options.items()})
        return tensors, values

    def load(self, tensors: Mapping[str, Tensor], values: Any) -> None:
        """Restore what `state` returned, tensors in the memory layout of their parameters."""
        for place, (optimizer, parameter) in enumerate(self._parameters()):
            for key, kept in values["state"].get(str(place), {}).items():
                if "value" in kept:
                    optimizer.state[parameter][key] = kept["value"]
                    continue
                saved = tensors[f"{place}.{key}"]
                device = "cpu" if kept["device"] == "cpu" else parameter.device
                like = torch.empty_like(parameter, dtype=saved.dtype) if saved.shape == parameter.shape else None
                # Never the saved tensor itself, which the steps would change.
                found = saved.to(device, copy=True) if like is None else like.to(device).copy_(saved)
                optimizer.state[parameter][key] = found.detach()
        for group, options in zip(self._groups, values["groups"], strict=True):
            for key, value in options.items():
                group[key] = tuple(value) if isinstance(group.get(key), tuple) else value

    def _parameters(self) -> list[tuple[torch.optim.Optimizer, nn.Parameter]]:
        """Every parameter with its optimiser, in a fixed order."""
        return [
            (optimizer, parameter)
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]


def _plain(key: str, value: Any) -> Any:
    """Return a value that JSON holds as it is.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError(
            f"the optimiser's state `{key}` is of type {type(value).__name__}, which no checkpoint holds; allowed: a "
            "tensor for each parameter, and numbers, texts and lists of them"
        )
    return value


class _Matrix:
    """A weight as a matrix that shares its memory: the first dimension against all others."""

    def __init__(self, weight: nn.Parameter) -> None:
        self._weight = weight
        # In the order of the strides it is one block, also where it is channels-last.
        inner = sorted(range(1, weight.ndim), key=lambda axis: weight.stride(axis), reverse=True)
        self._order = (0, *inner)
        self.matrix = nn.Parameter(weight.detach().permute(self._order).view(len(weight), -1))

    def take_gradient(self) -> None:
        """Give the matrix the gradient of its weight."""
        gradient = self._weight.grad
        self.matrix.grad = None if gradient is None else gradient.permute(self._order).reshape(len(gradient), -1)


def _muon(optimizer: Optimizer, network: Network) -> ByPyTorch:
    """Return Muon on the hidden weights and AdamW on all other parameters.

    Hidden weights are the backbone's matrices and kernels but for the first and embeddings, which take the inputs.
    Muon's step is scaled to the size of AdamW's, so that both have one learning rate and one decay.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer muon needs PyTorch 2.9 or later; installed: {torch.__version__}")
    arguments = dict(optimizer.arguments)
    betas = tuple(arguments.pop("betas", (0.9, 0.999)))
    head = {id(parameter) for parameter in network.head.parameters()}
    head |= {id(one.weight) for one in network.modules() if isinstance(one, nn.Embedding)}
    weights = [one for one in network.parameters() if one.ndim > 1 and id(one) not in head]
    hidden = {id(weight) for weight in weights[1:]}
    views = [_Matrix(weight) for weight in weights[1:]]
    rest = [parameter for parameter in network.parameters() if id(parameter) not in hidden]
    common: dict[str, Any] = {"lr": optimizer.learning_rate, "weight_decay": optimizer.weight_decay}
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, **common, betas=betas, fused=True)]
    if views:
        matrices = [view.matrix for view in views]
        made.append(torch.optim.Muon(matrices, **common, **arguments, adjust_lr_fn="match_rms_adamw"))
    return ByPyTorch(made, views)
