"""What is known of data entries before any file is read, and what is refused because of it."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from nclens.study.chosen_classes import ChosenClasses
from nclens.study.datasets import Files, Textures
from nclens.study.digits import Digits
from nclens.study.sequence_data import SequenceData


def known_classes(entry: Any) -> int | None:
    """Return the number of classes K of a data entry, where it is known."""
    if isinstance(entry, ChosenClasses | SequenceData):
        return entry.kept_classes
    return 10 if isinstance(entry, Digits) else None


def known_shape(entry: Any) -> tuple[int, ...] | None:
    """Return the shape (C, H, W) of a data entry's images, where it is known."""
    if isinstance(entry, Digits):
        return (1, 28, 28)
    if isinstance(entry, Textures):
        return (entry.channels, entry.image_size, entry.image_size)
    if not isinstance(entry, Files) or entry.image_channels is None:
        return None
    size = getattr(entry, "image_size", None)
    if size is not None:
        return (entry.image_channels, size, size)
    return entry.known.shape if entry.known else None


def classes_exist(where: str, classes: tuple[int, ...], name: str, entry: Any) -> None:
    """Refuse a class number that a data entry is known not to have."""
    known = known_classes(entry)
    if known is not None and max(classes) >= known:
        raise PydanticCustomError(
            "classes",
            "{where} = {value}: {name} has {known} classes, numbered from 0 to {last}",
            {"where": where, "value": str(list(classes)), "name": name, "known": known, "last": known - 1},
        )


def same_shape(where: str, name: str, own: str, entries: Mapping[str, Any]) -> None:
    """Refuse a data entry whose inputs are known to have another shape than those of an experiment's own."""
    shape, expected = known_shape(entries[name]), known_shape(entries[own])
    if shape is not None and expected is not None and shape != expected:
        raise PydanticCustomError(
            "shape",
            "{where} = {name}: its images have shape {shape}, those of {own}, which the networks take, {expected}",
            {"where": where, "name": name, "shape": str(shape), "own": own, "expected": str(expected)},
        )
