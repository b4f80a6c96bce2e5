"""Tensors of several epochs in one safetensors file: the snapshots of a run, or its features.

The tensor `weight` of epoch 10 is named `epoch10/weight`; the header holds a checksum of each epoch.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nclens.workflow.files import (
    FileError,
    as_bytes,
    atomic_write,
    damaged,
    detached,
    not_written,
    opened,
    tensors_digest,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Stands in the header for a checksum that is not known yet, in as many characters.
UNKNOWN = "0" * 64
#: Adds the tensors of an epoch to a file.
Put = Callable[[int, "Mapping[str, Tensor]"], None]


@contextmanager
def write_epochs(path: str | Path, epochs: Sequence[int]) -> Iterator[Put]:
    """Yield a function that writes the tensors of an epoch; call it once for each, in any order.

    One epoch at a time is in memory, where safetensors' own writer takes all tensors at once. The file is written whole
    or not at all. An error of the block itself passes through as it is.

    Raises:
        ValueError: an epoch's names, types or shapes are not those of the first one, an epoch is missing, is written
            twice, or is none of `epochs`.
        FileError: the file cannot be written.
    """
    try:
        with atomic_write(path) as temporary, temporary.open("r+b") as file:
            writer = _Writer(path, file, epochs)
            try:
                yield writer.put
            except FileError:
                raise
            except OSError as error:  # of the block: `atomic_write` would blame it on the file
                raise _OfTheBlock(error) from error
            writer.finish()
    except _OfTheBlock as passed:
        raise passed.error from passed.error.__cause__


class _OfTheBlock(Exception):
    """Carries an OSError out of `atomic_write`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class _Writer:
    def __init__(self, path: str | Path, file: BinaryIO, epochs: Sequence[int]) -> None:
        self._path, self._file = path, file
        self._digests = dict.fromkeys(epochs, UNKNOWN)
        self._forms: dict[str, tuple[torch.dtype, tuple[int, ...]]] | None = None
        self._places: dict[str, Any] = {}
        self._start = 0

    def put(self, epoch: int, tensors: "Mapping[str, Tensor]") -> None:
        if self._digests.get(epoch) != UNKNOWN:
            raise ValueError(f"epoch {epoch} is written already, or none of {list(self._digests)}")
        plain = detached(tensors)
        forms = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in plain.items()}
        if self._forms not in (None, forms):
            raise ValueError(f"epoch {epoch} has other tensors, types or shapes than the epochs before")
        self._digests[epoch] = tensors_digest(plain)
        try:
            if self._forms is None:
                self._begin(forms, {name: tensor.nbytes for name, tensor in plain.items()})
            for name, tensor in plain.items():
                self._file.seek(self._start + self._places[_key(epoch, name)]["data_offsets"][0])
                self._file.write(as_bytes(tensor))
        except OSError as error:
            raise not_written(self._path, error) from error

    def finish(self) -> None:
        if absent := [epoch for epoch, digest in self._digests.items() if digest == UNKNOWN]:
            raise ValueError(f"no tensors were written of the epochs {absent}")
        self._file.seek(0)
        self._file.write(self._header())

    def _begin(self, forms: "dict[str, tuple[torch.dtype, tuple[int, ...]]]", sizes: Mapping[str, int]) -> None:
        """Give every tensor its place: wide types first, so that each begins at a multiple of its width."""
        self._forms, end = forms, 0
        for name in sorted(forms, key=lambda name: (-forms[name][0].itemsize, name)):
            kind, shape = forms[name]
            for epoch in self._digests:
                place = {"dtype": _type_name(kind), "shape": shape, "data_offsets": (end, end + sizes[name])}
                self._places[_key(epoch, name)] = place
                end += sizes[name]
        self._start = len(self._header())
        self._file.truncate(self._start + end)

    def _header(self) -> bytes:
        digests = {f"epoch{epoch}.sha256": digest for epoch, digest in self._digests.items()}
        text = json.dumps({"__metadata__": digests, **self._places}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


def _key(epoch: int, name: str) -> str:
    return f"epoch{epoch}/{name}"


@cache
def _type_name(kind: "torch.dtype") -> str:
    """Return safetensors' own name of a type."""
    import torch
    from safetensors.torch import save

    header = save({"": torch.empty(0, dtype=kind)})[8:]
    return str(json.JSONDecoder().raw_decode(header.decode())[0][""]["dtype"])


def read_epoch(path: str | Path, epoch: int, made_by: str) -> "tuple[dict[str, Tensor], str]":
    """Read the tensors of an epoch and their checksum, by which they are checked.

    Raises:
        FileError: the file is missing, truncated or altered, or lacks the epoch; names it and the rule that makes it.
    """
    with opened(path, made_by) as file:
        digest = (file.metadata() or {}).get(f"epoch{epoch}.sha256")
        names = [key for key in file.keys() if key.startswith(_key(epoch, ""))]  # noqa: SIM118 (not a dict)
        tensors = {name.removeprefix(_key(epoch, "")): file.get_tensor(name) for name in names}
    if digest is None:
        raise damaged(path, made_by, f"it lacks epoch {epoch}")
    if tensors_digest(tensors) != digest:
        raise damaged(path, made_by, "its content does not match its checksum")
    return tensors, digest


def epochs_of(path: str | Path, made_by: str) -> list[int]:
    """Return the epochs that a file holds, ascending.

    Raises:
        FileError: the file is missing or truncated; names it and the rule that makes it.
    """
    with opened(path, made_by) as file:
        found = (re.fullmatch(r"epoch(\d+)\.sha256", key) for key in file.metadata() or {})
        return sorted(int(match[1]) for match in found if match)


def has_epoch(path: str | Path, epoch: int, made_by: str) -> bool:
    """Return whether a file holds an epoch.

    Raises:
        FileError: the file is missing or truncated; names it and the rule that makes it.
    """
    with opened(path, made_by) as file:
        return f"epoch{epoch}.sha256" in (file.metadata() or {})


def read_ahead(path: str | Path, epochs: Iterable[int], made_by: str) -> "Iterator[tuple[int, dict[str, Tensor], str]]":
    """Yield each epoch with its tensors and their checksum; the next epoch is read while one is in use."""
    chosen = list(epochs)
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(read_epoch, path, chosen[0], made_by) if chosen else None
        for epoch, following in zip_longest(chosen, chosen[1:]):
            assert coming is not None
            found = coming.result()
            coming = pool.submit(read_epoch, path, following, made_by) if following is not None else None
            yield epoch, *found


def read_weights(network: "nn.Module", snapshots: str | Path, epoch: int) -> str:
    """Give a network the weights of a snapshot; return their checksum.

    Raises:
        FileError: the snapshot is missing, damaged or another network's; names the file and the rule that makes it.
    """
    weights, digest = read_epoch(snapshots, epoch, "train")
    load_weights(network, weights, snapshots)
    return digest


def load_weights(network: "nn.Module", weights: "Mapping[str, Tensor]", snapshots: str | Path) -> None:
    """Give a network weights that were read from a file of snapshots.

    Raises:
        FileError: they are another network's; names the file.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise damaged(snapshots, "train", str(error).splitlines()[0]) from error
