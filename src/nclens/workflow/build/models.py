"""From a model entry to a network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nclens.data.tasks import output_count
from nclens.models import MODELS, Network, split_at_head
from nclens.workflow.build.functions import call, library_function
from nclens.workflow.specs import Entry, flat

if TYPE_CHECKING:
    from nclens.models import Vocabulary


def network_of(entry: Entry | dict[str, Any], manifest: Mapping[str, Any]) -> Network:
    """Return the network of a model entry for a prepared data set; arguments and errors as `build_network`."""
    entry = flat(entry) if isinstance(entry, Entry) else entry
    shape = manifest["shape"]
    if "vocabulary" in manifest:
        # By name, so that its code counts for networks of sequences alone.
        shape = library_function("nclens.models:Vocabulary")(**manifest["vocabulary"])
    return build_network(entry, shape, output_count(manifest))


def build_network(entry: dict[str, Any], shape: "Sequence[int] | Vocabulary", outputs: int) -> Network:
    """Return the network of a model entry for inputs of `shape` (C, H, W) or (F,), or sequences, and K = `outputs`.

    The user's own function gets `shape` and `outputs` and its parameters, and returns a module that ends in a linear
    layer of `outputs` rows, the head. An entry `{name: preprocessed, network: ENTRY, ...}` is another entry's network
    behind `nclens.models.preprocessing`. An entry with `head: cosine` and `scale` ends in a cosine head.

    Raises:
        ValueError: the model does not fit the inputs or K, or has no linear head.
    """
    entry = {key: value for key, value in entry.items() if key != "entry"}
    given: Any = tuple(shape) if isinstance(shape, Sequence) else shape
    if "function" in entry:
        module = call(entry["file"], entry["function"], given, outputs, **entry["parameters"])
        return split_at_head(_returning_logits(module), given, outputs, entry["function"])
    name = entry.pop("name")
    if name == "preprocessed":
        # By name, so that its code counts for such networks alone.
        taken = library_function("nclens.models.preprocessing:shape_taken")
        network = build_network(entry.pop("network"), taken(given, entry["resize"], entry["crop"]), outputs)
        return library_function("nclens.models.preprocessing:preprocessed")(network, given, **entry)
    if entry.pop("head", "linear") == "cosine":
        # By name, as above.
        cosine, scale = library_function("nclens.models.cosine:with_cosine_head"), entry.pop("scale")
        return cosine(MODELS[name](given, outputs, **entry), scale)
    return MODELS[name](given, outputs, **entry)


class Logits(nn.Module):
    """A model of Hugging Face's transformers that returns its logits instead of a mapping with them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K)."""
        return self.model(inputs).logits


def _returning_logits(module: Any) -> Any:
    is_transformer = any(base.__module__ == "transformers.modeling_utils" for base in type(module).__mro__)
    return Logits(module) if is_transformer else module
