"""What is known of data entries before any file is read, and what is refused because of it."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from nclens.study.chosen_classes import ChosenClasses
from nclens.study.datasets import Files, Textures
from nclens.study.digits import Digits, FiveThousand
from nclens.study.segmentation_data import Scenes, SegmentationData
from nclens.study.sequence_data import SequenceData


def known_classes(entry: Any) -> int | None:
    """Return the number of classes K of a data entry, where it is known."""
    if isinstance(entry, ChosenClasses | SequenceData):
        return entry.kept_classes
    if isinstance(entry, SegmentationData):
        return None
    return 10 if isinstance(entry, Digits) else None


def known_shape(entry: Any) -> tuple[int, ...] | None:
    """Return the shape (C, H, W) of a data entry's images, where it is known."""
    if isinstance(entry, SegmentationData):
        return entry.shape
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


def unseen_digits(where: str, scenes: Any, own: str, entry: Any) -> None:
    """Refuse scenes whose test digits may be among those that an experiment's networks are trained on."""
    if not isinstance(scenes, Scenes) or not isinstance(entry, FiveThousand):
        return
    given, trained = scenes.split_seed, entry.split_seed
    if given != trained or scenes.train_per_class < entry.train_per_class:
        raise PydanticCustomError(
            "leak",
            "{where}: its test scenes may have digits that the networks are trained on; allowed: split_seed = {seed}, "
            "as {own} has it, and train_per_class of {least} or more",
            {"where": where, "seed": trained, "own": own, "least": entry.train_per_class},
        )


def same_shape(where: str, name: str, own: str, entries: Mapping[str, Any]) -> None:
    """Refuse a data entry whose inputs are known to have another shape than those of an experiment's own.

    Of one for segmentation the number of channels counts, not the size.
    """
    shape, expected = known_shape(entries[name]), known_shape(entries[own])
    if isinstance(entries[name], SegmentationData) and shape is not None:
        channels = getattr(entries[own], "image_channels", None)
        if channels not in (None, shape[0]):
            message = "{where} = {name}: its images have {given} channels, those of {own}, the networks' own, {has}"
            context = {"where": where, "name": name, "given": shape[0], "own": own, "has": channels}
            raise PydanticCustomError("shape", message, context)
        return
    if shape is not None and expected is not None and shape != expected:
        raise PydanticCustomError(
            "shape",
            "{where} = {name}: its images have shape {shape}, those of {own}, which the networks take, {expected}",
            {"where": where, "name": name, "shape": str(shape), "own": own, "expected": str(expected)},
        )
