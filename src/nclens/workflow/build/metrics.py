"""From the catalogue of metrics to numbers."""

import inspect
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from nclens.metrics.collapse import has_two_classes
from nclens.metrics.regressor import SPLITS
from nclens.workflow.build.functions import library_function
from nclens.workflow.build.own import own_measured
from nclens.workflow.specs import Call, OwnMetric, calls

#: What the names of sufficient statistics begin with in a file of features, after that of the split.
STATISTICS = "statistics."


def statistics_in(tensors: Mapping[str, Tensor], split: str) -> dict[str, Tensor]:
    """Return the sufficient statistics of a split by name, of the tensors of a snapshot; none where it has features."""
    prefix = f"{split}.{STATISTICS}"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def measured(called: Iterable[Call], given: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of one split, in the order of the calls.

    Args:
        called: the functions.
        given: their arguments by name (`nclens.metrics.catalogue`); a function that requires one which is not among
            them is left out.

    Raises:
        ValueError: shapes, types or values do not fit.
    """
    values: dict[str, float] = {}
    for one in called:
        function = library_function(one.function)
        parameters = inspect.signature(function).parameters
        if all(name in given or one.default is not one.empty for name, one in parameters.items()):
            if _lacks_samples(one, parameters, given):
                values |= _undefined(one, given)
                continue
            found = function(**{name: given[name] for name in parameters if name in given})
            found = found if isinstance(found, dict) else {function.__name__: found}
            # The number of classes measured is that of the first function, which has the fewest.
            values |= {name: value for name, value in found.items() if name not in values}
    return values


def _lacks_samples(call: Call, parameters: Container[str], given: Mapping[str, Any]) -> bool:
    """Return whether a split has too few samples for a function: of classes, or to hold some out."""
    if call.task == "regression":
        return False
    if call.task == "onehot":
        return "min_samples" in given
    if "held_out" in parameters and isinstance(given["held_out"], Tensor):
        return not bool(given["held_out"].any())
    few = "min_samples" in given and "min_samples" in parameters
    return few and not has_two_classes(given["labels"], len(given["weight"]), given["min_samples"])


def _undefined(call: Call, given: Mapping[str, Any]) -> dict[str, float]:
    """Return nan for the metrics of a function that a split has too few samples for, and what needs no class."""
    module, _, name = call.function.partition(":")
    if name == "neural_collapse" and "reference_means" in given:
        few = library_function(f"{module}:few_classes_collapse")
        found: dict[str, float] = few(**{key: given[key] for key in inspect.signature(few).parameters})
        return found
    # By name, so that a label of the catalogue is no part of what measuring depends on.
    names = library_function("nclens.metrics.catalogue:names_of")(call.function)
    return {name: math.nan for name in names if "{" not in name}


def measure_snapshot(
    called: Iterable[Call], tensors: Mapping[str, Tensor], given: Mapping[str, Any], own: Sequence[OwnMetric] = ()
) -> Iterator[tuple[str, str, float]]:
    """Yield (split, metric, value) of one snapshot, task by task.

    Args:
        called: the functions.
        tensors: `weight` and `bias`, and of each split `features`, `targets` and, of a classifier, `logits`, as
            `train.features`; or what `nclens.workflow.build.statistics` makes of a classifier.
        given: further arguments, the same for both splits; what is None is left out.
        own: metrics of the user's own, which get their arguments as float32 tensors, as they are stored.

    Raises:
        ValueError: as `measured`.
    """
    known = {name: value for name, value in given.items() if value is not None}
    known |= {"weight": tensors["weight"], "bias": tensors["bias"]}
    chosen = list(called)
    yielded: dict[str, set[str]] = {split: set() for split in SPLITS}
    for task in dict.fromkeys(one.task for one in chosen):
        targets = "targets" if task == "regression" else "labels"
        for split in SPLITS:
            keys = {"features": f"{split}.features", "logits": f"{split}.logits", targets: f"{split}.targets"}
            keys |= {} if task == "regression" else {"clean_labels": f"{split}.clean_targets"}
            here: dict[str, Any] = {name: tensors[key] for name, key in keys.items() if key in tensors}
            if statistics := statistics_in(tensors, split):
                del here["features"]  # of some samples
                here["statistics"] = statistics
            if task != "regression" and "min_samples" in tensors:
                here["min_samples"] = int(tensors["min_samples"])
            elif task != "regression" and here["labels"].bincount(minlength=len(tensors["weight"])).min() < 1:
                here["min_samples"] = 2
            of_split = [one for one in chosen if one.task == task and split in one.splits]
            built_in = measured(of_split, known | here)
            yielded[split] |= built_in.keys()
            yield from ((split, metric, value) for metric, value in built_in.items())
    for split in SPLITS:
        targets = "labels" if f"{split}.logits" in tensors else "targets"
        keys = {"features": f"{split}.features", "logits": f"{split}.logits", targets: f"{split}.targets"}
        shown = {name: tensors[key] for name, key in keys.items() if key in tensors}
        shown |= {"weight": tensors["weight"], "bias": tensors["bias"]}
        for entry in own:
            found = own_measured(entry, shown) if split in entry.splits else {}
            if twice := yielded[split] & found.keys():
                raise ValueError(
                    f"metrics.{entry.name} yields {', '.join(sorted(twice))}, as a built-in metric or another entry "
                    "does; allowed: another key, or another name"
                )
            yielded[split] |= found.keys()
            yield from ((split, metric, value) for metric, value in found.items())


def measure_arrays(arrays: Mapping[str, Tensor]) -> dict[str, float]:
    """Return collapse and calibration metrics of a classifier, or those of a regressor, from arrays made elsewhere.

    Metrics of one split alone, such as those of temperature scaling, are left out.

    Args:
        arrays: `features` (N, d), `labels` (N,) or `targets` (N, n), `weight`, and perhaps `bias`. The outputs are
            features W' + b.

    Raises:
        ValueError: shapes, types or values do not fit.
    """
    targets = "labels" if "labels" in arrays else "targets"
    given = {name: arrays.get(name) for name in ("features", targets, "weight", "bias")}
    if targets == "labels":
        given["logits"] = _logits(arrays["features"], arrays["weight"], given["bias"])
    called = calls("classification" if targets == "labels" else "regression")
    return measured((call for call in called if len(call.splits) == len(SPLITS)), given)


def _logits(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Features W' + b in float64."""
    if features.ndim != 2 or weight.shape != (len(weight), features.shape[1]):
        shapes = f"{tuple(features.shape)} and {tuple(weight.shape)}"
        raise ValueError(f"features and weight: expected shapes (N, d) and (K, d), got {shapes}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: expected shape ({len(weight)},), got {tuple(bias.shape)}")
    logits = features.double() @ weight.double().T
    return logits if bias is None else logits + bias.double()
