"""From a user's arrays to what is stored: uint8 images, float32 rows and int64 labels, and no value lost in silence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

#: Axes of images: samples, channels, height and width.
Layout = Literal["NCHW", "NHWC"]

#: Rounding to float32 may move a value by this share of its column's range.
TOLERANCE = 2.0**-16

#: Half a column's range, over its largest value, up to which its values differ by the rounding of float64: 8 eps.
NOISE = 2.0**-49

#: The largest whole number up to which float64 has every whole number.
WHOLE_FLOAT64 = 2**53


def refuse_unknown(found: Iterable[str], allowed: Sequence[str], what: str) -> None:
    """Raise a ValueError for names that are not allowed: what is not used is not ignored in silence."""
    unknown = [str(name) for name in found if name not in allowed]
    if unknown:
        raise ValueError(f"{what} also has {', '.join(unknown)}; allowed: {', '.join(allowed)}")


def from_array(values: Any) -> Tensor:
    """Return a tensor as it is, and arrays of any byte order and strides, and lists of numbers, as a tensor.

    By way of NumPy, which keeps the numbers of a list in float64.
    """
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    return torch.from_numpy(np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C"))


def stored_inputs(given: Mapping[str, Tensor], layout: Layout | None) -> tuple[list[Tensor], dict[str, Any]]:
    """Return inputs as they are stored, and the manifest's entries about them.

    uint8 images (N, H, W) get a channel, images of layout NHWC become NCHW, and rows (N, F) of any real type become
    float32. A column that float32 would round by more than `TOLERANCE` of its range has its mean over the first part
    subtracted in float64 first; the manifest's `input_offset` has that mean for each column, 0 for the others.

    Args:
        given: the training and the test inputs, or all inputs, by their names in error messages.
        layout: of images with four axes; None is NCHW, and refuses images that look like NHWC.

    Raises:
        ValueError: types or shapes do not fit, the layout is ambiguous, or a column has values beyond float32's range.
    """
    images = [values.dtype == torch.uint8 and values.ndim in (3, 4) for values in given.values()]
    if all(images):
        return [_images(values, what, layout) for what, values in given.items()], {}
    for is_images, (what, values) in zip(images, given.items(), strict=True):
        if not is_images and (values.ndim != 2 or values.is_complex()):
            raise ValueError(
                f"{what} must be uint8 images (N, C, H, W) or (N, H, W), or rows (N, F), not {values.dtype} of shape "
                f"{tuple(values.shape)}"
            )
        if any(images) or layout is not None:
            key = "" if layout is None else f" with layout = {layout}"
            raise ValueError(f"inputs{key} must be uint8 images in both splits; {what} {_described(values)}")
    return float32_rows({what: real_numbers(values, what) for what, values in given.items()})


def _images(values: Tensor, what: str, layout: Layout | None) -> Tensor:
    """Return images with channels, (N, C, H, W)."""
    if values.ndim == 3:
        if layout is not None:
            raise ValueError(f"layout = {layout}: is for uint8 images of four axes; {what} {_described(values)}")
        return values[:, None]
    height, width, channels = values.shape[1:]
    if layout is None and channels in (1, 3, 4) and min(height, width) > channels:
        raise ValueError(
            f"{what} {_described(values)}: images are (N, C, H, W), these look like (N, H, W, C). Set `layout: NHWC` "
            "or `layout: NCHW` in the data set's entry"
        )
    return values.permute(0, 3, 1, 2).contiguous() if layout == "NHWC" else values


def _described(values: Tensor) -> str:
    return f"is {values.dtype} of shape {tuple(values.shape)}"


def real_numbers(values: Tensor, what: str) -> Tensor:
    """Return numbers (N, F) or (N,) as float64 (N, F).

    Raises:
        ValueError: they are no real numbers, have other axes, are none, or are whole numbers beyond 2^53.
    """
    if values.ndim not in (1, 2) or values.is_complex() or not values.numel():
        raise ValueError(f"{what} must be numbers (N, F) or (N,), not {values.dtype} of shape {tuple(values.shape)}")
    if not values.is_floating_point():
        low, high = _limits(values)
        if max(-low, high) > WHOLE_FLOAT64:
            raise ValueError(
                f"{what} has whole numbers from {low} to {high}; float64 has all of them to 2^53 = {WHOLE_FLOAT64} "
                "only: subtract an offset first"
            )
    return values.double().reshape(len(values), -1)


def float32_rows(given: Mapping[str, Tensor]) -> tuple[list[Tensor], dict[str, Any]]:
    """Return float64 rows (N, F) in float32, and the manifest's `input_offset`, as `stored_inputs` says.

    Raises:
        ValueError: a column has values that float32 cannot hold.
    """
    parts = list(given.values())
    if len({part.shape[1] for part in parts}) > 1:
        shapes = ", ".join(f"{what}: {tuple(part.shape)}" for what, part in given.items())
        raise ValueError(f"inputs must have the same number of columns, not {shapes}")
    lossy = torch.stack([rounds(part) for part in parts]).any(0)
    if not bool(lossy.any()):
        return [part.float() for part in parts], {}
    # Divided first: a sum of large values may overflow.
    mean = (parts[0] / len(parts[0])).sum(0)
    offset = torch.where(lossy, mean, torch.zeros_like(mean))
    centred = [part - offset for part in parts]
    if bool((lost := torch.stack([rounds(centred[0]), *map(overflows, centred)]).any(0)).any()):
        column = int(lost.nonzero()[0])
        values = torch.cat([part[:, column] for part in parts])
        raise ValueError(
            f"column {column} of {' and '.join(given)} has values from {values.min():g} to {values.max():g}, which "
            "float32 cannot hold; rescale it"
        )
    return [part.float() for part in centred], {"input_offset": offset.tolist()}


def rounds(values: Tensor) -> Tensor:
    """Return for each column of float64 (N, F) whether float32 moves a value by more than `TOLERANCE` of its range.

    A constant column loses nothing, unless it is beyond float32's range. Constant is what varies by float64's own
    rounding alone, which normalisation would make as large as any other column.
    """
    error = (values - values.float().double()).abs().amax(0)
    # Halves, because the difference of two large numbers may overflow.
    half = values.amax(0) / 2 - values.amin(0) / 2
    varies = half > NOISE * values.abs().amax(0)
    return (error > 2 * TOLERANCE * half) & (varies | error.isinf())


def overflows(values: Tensor) -> Tensor:
    """Return for each column of float64 (N, F) whether it has a finite value that is infinite in float32."""
    return (values.isfinite() & values.float().isinf()).any(0)


def class_numbers(values: Tensor, what: str, classes: int | None = None) -> Tensor:
    """Return class labels of any integer type as int64 (N,).

    Args:
        values: the labels.
        what: their name in error messages.
        classes: the number of classes K, where some may have no sample.

    Raises:
        ValueError: they are no integers (N,), are none, are negative, or so large that there are fewer samples than
            classes, unless K is given.
    """
    if values.ndim != 1 or values.is_floating_point() or values.is_complex() or not len(values):
        raise ValueError(f"{what} must be integer class labels (N,), not {values.dtype} of shape {tuple(values.shape)}")
    low, high = _limits(values)
    if low < 0:
        raise ValueError(f"{what} must be class labels from 0; the smallest is {low}")
    if high >= max(len(values), classes or 0):
        raise ValueError(
            f"{what} must be class labels 0..K-1, each of at least one sample; the largest is {high}, with "
            f"{len(values)} samples"
        )
    return values.long()


def whole_numbers(values: Tensor, what: str) -> Tensor:
    """Return integers of any type as int64.

    Raises:
        ValueError: they are no integers, or beyond int64.
    """
    if values.is_floating_point() or values.is_complex():
        raise ValueError(f"{what} must be integers, not {values.dtype}")
    if values.numel() and (high := _limits(values)[1]) >= 2**63:
        raise ValueError(f"{what} has integers up to {high}; allowed are those of int64, below 2^63")
    return values.long()


def _limits(values: Tensor) -> tuple[int, int]:
    """Return the smallest and the largest of integers; PyTorch has neither for some unsigned types."""
    array = values.numpy()
    return int(array.min()), int(array.max())
