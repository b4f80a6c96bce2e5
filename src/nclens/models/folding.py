"""Fold batch normalisation into the layer before it, in networks in evaluation mode."""

import copy
from collections import Counter
from itertools import chain
from typing import Any

from torch import fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from nclens.models.memory import is_out_of_memory

#: A batch normalisation -> the layers whose output channels it normalises.
FOLDED_INTO: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.BatchNorm1d: (nn.Conv1d, nn.Linear),
    nn.BatchNorm2d: (nn.Conv2d,),
    nn.BatchNorm3d: (nn.Conv3d,),
}
#: The attributes of a module that hold the functions which PyTorch calls around its forward and backward passes.
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def foldable(module: nn.Module) -> list[tuple[str, str]]:
    """Return the names (layer, batch normalisation) of a module in evaluation mode that one layer can replace.

    A trace by `torch.fx` finds them: the normalisation, with running statistics, is the one user of the layer's output,
    and each is of PyTorch's own class, has one name and is called once. There are none in a module that has hooks or
    parametrisations anywhere, or that cannot be traced, such as one with a branch that depends on its inputs.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    if any(parametrize.is_parametrized(part) or any(map(part.__dict__.get, HOOKS)) for part in modules.values()):
        return []
    tracer = fx.Tracer()
    tracer.proxy_buffer_attributes = True
    try:
        # Of a copy: a trace leaves its marks in what a forward pass sets.
        nodes = list(tracer.trace(copy.deepcopy(module)).nodes)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return []
    called = Counter(str(node.target) for node in nodes if node.op == "call_module")
    names = Counter(map(id, modules.values()))
    read = {str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr"}

    def single(name: str) -> bool:
        return called[name] == 1 and names[id(modules[name])] == 1 and name not in read

    return [
        (str(node.args[0].target), str(node.target))
        for node in nodes
        if node.op == "call_module"
        and len(node.all_input_nodes) == len(node.args) == 1
        and isinstance(node.args[0], fx.Node)
        and node.args[0].op == "call_module"
        and len(node.args[0].users) == 1
        and single(str(node.args[0].target))
        and single(str(node.target))
        and _fits(modules[str(node.args[0].target)], modules[str(node.target)])
    ]


def _fits(layer: Any, norm: Any) -> bool:
    """Return whether a normalisation acts on a layer's output channels, with the same statistics in every pass."""
    if type(layer) not in FOLDED_INTO.get(type(norm), ()) or norm.training or norm.running_var is None:
        return False
    if isinstance(layer, nn.Linear):  # PyTorch folds into a linear layer only what has a weight
        return bool(layer.out_features == norm.num_features and norm.affine)
    return bool(layer.out_channels == norm.num_features)


def fold(module: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    """Return a module in which the layer of each pair computes its batch normalisation too.

    With scale s = gamma / sqrt(var + eps) per channel, the layer's weight becomes s W and its bias s (b - mean) + beta.
    All other parameters and buffers are those of `module` itself, not copies.

    Args:
        module: in evaluation mode.
        pairs: what `foldable` returned for it.
    """
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    folded = copy.deepcopy(module, shared)
    for name, following in pairs:
        layer: Any = folded.get_submodule(name)
        norm: Any = folded.get_submodule(following)
        fuse: Any = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        folded.set_submodule(name, fuse(layer, norm))
        folded.set_submodule(following, nn.Identity())
    return folded
