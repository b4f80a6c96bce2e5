"""From a user's labels, texts or whole numbers, to classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nclens.data.numbers import class_numbers

#: Classes that a message lists.
LISTED = 20


def as_texts(values: Any) -> NDArray[np.str_] | None:
    """Return labels that are texts, (N,), as an array of texts without blanks around them; None for other types.

    Texts are those of NumPy (`U`, and `S` in UTF-8), and objects and lists of `str`.

    >>> as_texts(["cat", "dog"]).tolist(), as_texts([0, 1])
    (['cat', 'dog'], None)
    """
    if isinstance(values, Tensor):
        return None
    array = np.asarray(values)
    if array.ndim != 1 or not len(array):
        return None
    if array.dtype.kind == "S":
        return np.char.strip(np.char.decode(array, "utf-8"))
    if array.dtype.kind == "U":
        # A list of numbers and texts becomes one of texts.
        plain = isinstance(values, np.ndarray) or all(isinstance(one, str) for one in values)
        return np.char.strip(array) if plain else None
    kinds = {type(one) for one in array.tolist()} if array.dtype.kind in "OT" else set()
    return np.char.strip(array.astype(str)) if kinds and all(issubclass(kind, str) for kind in kinds) else None


def listed(names: Sequence[str]) -> str:
    """Return the names of classes for a message: the first `LISTED`, and how many more."""
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def number_classes(
    labels: Mapping[str, NDArray[Any]], classes: Sequence[str] | None = None
) -> tuple[list[str], list[Tensor]]:
    """Return the names of the classes, and each split's labels as int64 class numbers (N,).

    The classes are the labels of the first split, in ascending order: numbers by value, texts by Unicode code point, so
    that capitals come before small letters.

    Args:
        labels: texts, or whole numbers, (N,), by their names in error messages; the training split's first.
        classes: the texts of the classes in the order of their numbers; None takes those of the first split.

    Raises:
        ValueError: a label is none of the classes, or empty; names it and its row, counted from 1.

    >>> names, (train, test) = number_classes({"train": np.array(["owl", "cat"]), "test": np.array(["owl"])})
    >>> names, train.tolist(), test.tolist()
    (['cat', 'owl'], [1, 0], [1])
    """
    first = next(iter(labels.values()))
    known = np.unique(first) if classes is None else np.asarray(list(classes))
    order = np.argsort(known)
    found = []
    for what, values in labels.items():
        if values.dtype.kind == "U" and len(empty := np.flatnonzero(values == "")):
            raise ValueError(f"{what}, row {empty[0] + 1}: the label is empty")
        places = np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)
        numbers = order[places]
        if len(wrong := np.flatnonzero(known[numbers] != values)):
            raise ValueError(
                f"{what}, row {wrong[0] + 1}: {str(values[wrong[0]])!r} is none of the classes, which are "
                f"{listed([str(name) for name in known.tolist()])}"
            )
        found.append(torch.from_numpy(numbers.astype(np.int64)))
    return [str(name) for name in known.tolist()], found


def class_labels(given: Mapping[str, Any], classes: Sequence[str] | None) -> tuple[list[str], list[Tensor]]:
    """Return the names of the classes, and each split's labels as int64 class numbers (N,).

    Texts become classes by `number_classes`. Integers are class numbers already, 0 to K - 1, and `classes` names them;
    without names they are numbered.

    Args:
        given: labels by their names in error messages, tensors of integers or arrays of texts; the training split's
            first. The others may lack classes.
        classes: names of the K classes; None where there are none.

    Raises:
        ValueError: texts in one split and numbers in another, or as `number_classes` and
            `nclens.data.numbers.class_numbers`.
    """
    texts = {what: isinstance(values, np.ndarray) for what, values in given.items()}
    if any(texts.values()):
        if not all(texts.values()):
            listed = ", ".join(f"{what}: {'texts' if found else 'numbers'}" for what, found in texts.items())
            raise ValueError(f"labels must be texts in every split, or numbers in every split, not {listed}")
        return number_classes(given, classes)
    (what, first), *others = given.items()
    train = class_numbers(first, what)
    named = [str(name) for name in classes or range(int(train.max()) + 1)]
    return named, [train, *(class_numbers(values, key, len(named)) for key, values in others)]
