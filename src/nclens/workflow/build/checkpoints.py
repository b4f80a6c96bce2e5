"""From the files of networks trained elsewhere, or of recorded features, to tensors."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nclens.data.arrays import read_arrays
from nclens.data.numbers import class_numbers, refuse_unknown
from nclens.models import Network
from nclens.models.preprocessing import Preprocessed
from nclens.workflow.build.models import Logits
from nclens.workflow.files import FileError
from nclens.workflow.user_files import weight_files

#: What the reader of Hugging Face's models says of names.
LOADING = ("missing", "unexpected", "mismatched")
#: Names that a message lists.
MOST_NAMES = 5
#: What a file of recorded features holds, beside `bias`, which may be absent.
RECORDED = ("train_features", "train_labels", "test_features", "test_labels", "weight")
#: What such a file may hold too: a validation split, and the head's bias.
OPTIONAL = ("val_features", "val_labels", "bias")


def read_weights(checkpoint: Path, key: str | None = None, prefix: str | None = None) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by name.

    A file that `torch.save` wrote is read with `weights_only`; one of Lightning has its weights under `state_dict`. A
    file that ends in `.safetensors` is read as such. A folder is one of Hugging Face.

    Args:
        checkpoint: the file or folder.
        key: what the weights are under; keys within keys are joined by a dot. None: the file is weights alone, or has
            the key `state_dict`.
        prefix: what the names begin with: it is taken off, and weights whose names do not begin so are left out.

    Raises:
        FileError: the file cannot be read, is no checkpoint, or lacks the key or the prefix; says what it has.
    """
    try:
        files = weight_files(checkpoint)
    except ValueError as error:
        raise FileError(str(error)) from None
    weights: dict[str, Any] = {}
    for file in files:
        weights |= _weights_under(_loaded(file), key, file)
    if prefix is None:
        return weights
    found = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if not found:
        raise FileError(f"{checkpoint} has no weight whose name begins with prefix = {prefix}; it has: {_few(weights)}")
    return found


def _loaded(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")
        refused = next((line.strip() for line in reason if "GLOBAL" in line or "Unsupported" in line), reason[0])
        raise FileError(
            f"{file} cannot be read with weights_only, which runs no code of a file ({refused[:300]}): save the "
            "weights alone, torch.save(network.state_dict(), FILE), or as safetensors"
        ) from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileError(
            f"{file} is no checkpoint ({said[:300]}); allowed: a state_dict that torch.save wrote, a .ckpt of "
            "Lightning, safetensors, or a folder of Hugging Face"
        ) from None


def _weights_under(content: Any, key: str | None, file: Path) -> dict[str, Tensor]:
    """Return the weights in what a file holds, at a key."""
    found = content
    parts = [] if key is None else [key] if isinstance(content, Mapping) and key in content else key.split(".")
    if key is None and isinstance(content, Mapping) and not _is_weights(content):
        parts = ["state_dict"]
    for part in parts:
        found = found.get(part) if isinstance(found, Mapping) else None
    if _is_weights(found):
        return dict(found)
    if isinstance(content, torch.nn.Module) or not isinstance(content, Mapping):
        raise FileError(f"{file} holds {type(content).__name__}; allowed: a mapping of names to tensors")
    holding = [name for name, value in content.items() if _is_weights(value)]
    where = f"under key = {key}" if key else "at its top or under `state_dict`"
    allowed = f"; `key` may be: {', '.join(map(str, holding))}" if holding else ""
    raise FileError(f"{file} has no weights {where}; it has: {_few(map(str, content))}{allowed}")


def _is_weights(content: Any) -> bool:
    return (
        isinstance(content, Mapping) and bool(content) and all(isinstance(value, Tensor) for value in content.values())
    )


def give_weights(network: Network, weights: Mapping[str, Tensor], checkpoint: Path, model: str) -> None:
    """Give a network the weights of a checkpoint, which has the names of the module that the network was made of.

    Names may also be those of the network, `backbone....` and `head....`. Counts of batches, which only training
    uses, may be missing.

    Args:
        network: as `nclens.workflow.build.models.build_network` returns it.
        weights: by name.
        checkpoint: where they are from, and `model`, what the network is called, for the message.

    Raises:
        FileError: names or shapes are not those of the model; has the first of each.
    """
    names = module_names(network)
    if all(name.startswith(("backbone.", "head.")) for name in weights) and not weights.keys() & names.keys():
        names = {own.replace(_inner(network), "backbone.", 1): own for own in names.values()}
    state = network.state_dict()
    missing = [name for name in names if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in names]
    shapes = {name: tuple(state[own].shape) for name, own in names.items()}
    other = [
        f"{name} {tuple(weights[name].shape)}, in the model {shape}"
        for name, shape in shapes.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    _refuse(missing, unexpected, other, f"{checkpoint} is not of the model {model}", _prefix(names, weights))
    network.load_state_dict(state | {own: weights[name] for name, own in names.items() if name in weights})


def _refuse(missing: list[str], unexpected: list[str], other: list[str], what: str, prefix: str | None = None) -> None:
    """Refuse weights that are not a model's: the first names that it lacks or has besides, and other shapes."""
    listed = {"missing": missing, "not in the model": unexpected, "of another shape": other}
    if faults := "; ".join(f"{fault}: {_few(names)}" for fault, names in listed.items() if names):
        raise FileError(f"{what}: {faults}{f'; with prefix: {prefix} it is' if prefix else ''}")


def is_of_transformers(network: Network, checkpoint: Path) -> bool:
    """Return whether a checkpoint is a folder of Hugging Face, and the network a model of its library."""
    return checkpoint.is_dir() and isinstance(_unwrapped(network), Logits)


def read_by_transformers(network: Network, folder: Path, model: str) -> dict[str, Tensor]:
    """Return the weights of a folder by the model's own reader, for names in files are not always those of a model.

    Raises:
        FileError: the folder cannot be read, or lacks weights of the model, which would be random, or has others.
    """
    inner = _unwrapped(network).model
    try:
        found, info = type(inner).from_pretrained(
            folder, config=inner.config, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        said = " ".join(str(error).split())[:300]
        raise FileError(f"{folder} cannot be read as the model {model}: {said}") from None
    missing, unexpected, other = (sorted(map(str, info[f"{kind}_keys"])) for kind in LOADING)
    _refuse(missing, unexpected, other, f"{folder} is not of the model {model}")
    weights: dict[str, Tensor] = found.state_dict()
    return weights


def module_names(network: Network) -> dict[str, str]:
    """Return the names of a network's weights in the module that it was made of, each with its name in the network.

    A network's own preprocessing has none.
    """
    inner, wrapped = _inner(network), "model." if isinstance(_unwrapped(network), Logits) else ""
    path = f"{network.head_path}." if network.head_path else ""
    found = {}
    for own in network.state_dict():
        if own.startswith("head."):
            found[(path + own.removeprefix("head.")).removeprefix(wrapped)] = own
        elif own.startswith(inner):
            found[own.removeprefix(inner).removeprefix(wrapped)] = own
    return found


def _unwrapped(network: Network) -> Any:
    backbone: Any = network.backbone
    return backbone.network if _is_preprocessed(network) else backbone


def _inner(network: Network) -> str:
    return "backbone.network." if _is_preprocessed(network) else "backbone."


def _is_preprocessed(network: Network) -> bool:
    return isinstance(network.backbone, Preprocessed)


def _prefix(names: Iterable[str], weights: Iterable[str]) -> str | None:
    """Return the prefix with which the names of a checkpoint are those of the model, if there is one."""
    wanted, given = {name for name in names if not name.endswith("num_batches_tracked")}, set(weights)
    first = next(iter(wanted))
    prefixes = {name.removesuffix(first) for name in given if name.endswith(first) and name != first}
    return next((prefix for prefix in sorted(prefixes) if all(prefix + name in given for name in wanted)), None)


def read_recorded(file: Path) -> dict[str, Tensor]:
    """Return recorded features: of each split features and targets; weight, and bias, 0 where there is none.

    The splits are `train`, `test` and, where the file has it, `val`.

    Raises:
        ValueError: the file cannot be read, lacks an array or has others, or shapes or types do not fit.
    """
    arrays = read_arrays(file)
    refuse_unknown(arrays, (*RECORDED, *OPTIONAL), str(file))
    validation = set(OPTIONAL[:2]) if set(OPTIONAL[:2]) & set(arrays) else set()
    if missing := [name for name in (*RECORDED, *sorted(validation)) if name not in arrays]:
        raise ValueError(
            f"{file} lacks {', '.join(missing)}; it must hold {', '.join(RECORDED)}, and may hold bias, and "
            "val_features with val_labels"
        )
    weight = arrays["weight"].float()
    bias = arrays["bias"].float() if "bias" in arrays else torch.zeros(len(weight))
    made = {"weight": weight, "bias": bias}
    for split in ("train", "test", *(["val"] if validation else [])):
        features = arrays[f"{split}_features"].float()
        labels = class_numbers(arrays[f"{split}_labels"], f"{split}_labels of {file}")
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or features.shape != (len(labels), weight.shape[1]):
            raise ValueError(
                f"{file}: expected {split}_features (N, d), {split}_labels (N,), weight (K, d) and bias (K,), got "
                f"{tuple(features.shape)}, {tuple(labels.shape)}, {tuple(weight.shape)} and {tuple(bias.shape)}"
            )
        made |= {f"{split}.features": features, f"{split}.targets": labels}
    return made


def with_logits(recorded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return recorded features as `extract` writes them, with the logits h W' + b of each split."""
    weight, bias = (recorded[name].double() for name in ("weight", "bias"))
    logits = {
        f"{split}.logits": recorded[f"{split}.features"].double() @ weight.T + bias
        for split in ("train", "test", "val")
        if f"{split}.features" in recorded
    }
    return {**recorded, **{name: values.float() for name, values in logits.items()}}


def _few(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    return ", ".join(known[:MOST_NAMES]) + more
