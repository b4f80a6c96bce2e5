"""Files that stay where they are: their names and sizes, and what is read of them."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

#: Prefix of the tensors of a table of files in a prepared data set.
PREFIX = "files."


class StreamError(OSError):
    """A file of a stream is missing, has changed or cannot be read; the message names it."""


@dataclass(frozen=True)
class Files:
    """A table of M files, or of members of tar shards, below a folder.

    Names are one tensor of bytes, so that processes that read them share its memory.

    Attributes:
        names: uint8, the names below the folder in UTF-8, each with a line feed behind it; of members, in their shard.
        ends: int64 (M,), where each name ends in `names`.
        sizes: int64 (M,), in bytes.
        digests: uint8 (M, 32), SHA-256 of each content; None where it was not computed.
        shards: names and sizes of the shards; none for files of their own.
        places: int64 (M, 2), the shard of each member and where it begins there; None for files of their own.
    """

    names: Tensor
    ends: Tensor
    sizes: Tensor
    digests: Tensor | None = None
    shards: tuple[tuple[str, int], ...] = ()
    places: Tensor | None = None

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        sizes: Sequence[int],
        shards: Sequence[tuple[str, int]] = (),
        places: Sequence[tuple[int, int]] | None = None,
    ) -> Self:
        """Return the table of files by their names and sizes, perhaps within shards.

        Raises:
            ValueError: a name has a line feed.
        """
        if wrong := next((name for name in names if "\n" in name), None):
            raise ValueError(f"{wrong!r} has a line feed in its name; allowed: names of one line")
        encoded = [os.fsencode(name) for name in names]
        blob = bytearray(b"".join(name + b"\n" for name in encoded))
        lengths = torch.tensor([len(name) + 1 for name in encoded], dtype=torch.int64)
        return cls(
            names=torch.frombuffer(blob, dtype=torch.uint8) if blob else torch.empty(0, dtype=torch.uint8),
            ends=lengths.cumsum(0) - 1,
            sizes=torch.tensor(sizes, dtype=torch.int64),
            shards=tuple(shards),
            places=None if places is None else torch.tensor(places, dtype=torch.int64).reshape(-1, 2),
        )

    def __len__(self) -> int:
        """Return the number of files M."""
        return len(self.sizes)

    def name(self, row: int) -> str:
        """Return the name of a file below the folder; of a member `SHARD/NAME`."""
        own = self._own_name(row)
        return own if self.places is None else f"{self.shards[int(self.places[row, 0])][0]}/{own}"

    def _own_name(self, row: int) -> str:
        begin = 0 if row == 0 else int(self.ends[row - 1]) + 1
        return os.fsdecode(self.names[begin : int(self.ends[row])].numpy().tobytes())

    def subset(self, rows: Tensor) -> "Files":
        """Return the table of some rows (M',), in their order."""
        if torch.equal(rows, torch.arange(len(self))):
            return self
        chosen = Files.of([self._own_name(row) for row in rows.tolist()], self.sizes[rows].tolist())
        digests = None if self.digests is None else self.digests[rows]
        places = None if self.places is None else self.places[rows]
        return replace(chosen, digests=digests, shards=self.shards, places=places)

    def content(self, root: Path, row: int) -> bytes:
        """Return the bytes of a file, of the size and, where it is known, the SHA-256 that it had.

        Raises:
            StreamError: it is missing, has changed or cannot be read.
        """
        size, name = int(self.sizes[row]), self.name(row)
        path, begin = root / name, 0
        if self.places is not None:
            path, begin = root / self.shards[int(self.places[row, 0])][0], int(self.places[row, 1])
        try:
            with open(path, "rb") as file:
                file.seek(begin)
                content = file.read() if self.places is None else file.read(size)
        except OSError as error:
            raise unread(root, name, error) from None
        if len(content) != size:
            raise changed(root, name, f"{len(content):,} bytes, {size:,} then")
        if self.digests is not None and hashlib.sha256(content).digest() != self.digests[row].numpy().tobytes():
            raise changed(root, name, "another content, by its SHA-256")
        return content

    def check(self, root: Path, rows: Tensor) -> None:
        """Compare the sizes of the files of some rows, or of all shards, with those of the table.

        Raises:
            StreamError: a file is missing, has another size or cannot be read; names the first.
        """
        if self.shards:
            known: Any = self.shards
        else:
            # Not held as texts: of a million names take a hundred megabytes.
            known = ((self._own_name(row), int(self.sizes[row])) for row in rows.tolist())
        for name, size in known:
            try:
                found = os.stat(f"{root}/{name}").st_size
            except OSError as error:
                raise unread(root, name, error) from None
            if found != size:
                raise changed(root, name, f"{found:,} bytes, {size:,} then")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The table as tensors by their names in the prepared file."""
        found = {"names": self.names, "sizes": self.sizes, "digests": self.digests, "places": self.places}
        found["shards"] = as_text(json.dumps(self.shards)) if self.shards else None
        return {f"{PREFIX}{key}": values for key, values in found.items() if values is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the table that `tensors` holds."""
        names = tensors[f"{PREFIX}names"]
        shards = tensors.get(f"{PREFIX}shards")
        return cls(
            names=names,
            ends=(names == ord("\n")).nonzero()[:, 0],
            sizes=tensors[f"{PREFIX}sizes"],
            digests=tensors.get(f"{PREFIX}digests"),
            shards=() if shards is None else tuple((name, size) for name, size in json.loads(from_text(shards))),
            places=tensors.get(f"{PREFIX}places"),
        )


def changed(root: Path, name: str, how: str) -> StreamError:
    """Return the error that names a file that is not as it was when the data set was prepared."""
    return StreamError(
        f"{root}/{name} has changed since the data set was prepared ({how}): put it back, or run the same command "
        "again, which prepares the data as they are now"
    )


def unread(root: Path, name: str, error: OSError) -> StreamError:
    """Return the error that names a file that is missing, or that the system does not let this process read."""
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return changed(root, name, reason)
    return StreamError(f"{root}/{name} cannot be read: {reason}")


def as_text(text: str) -> Tensor:
    """Return a text as a tensor of its bytes."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def from_text(values: Tensor) -> str:
    """Return the text that `as_text` made a tensor of."""
    return values.numpy().tobytes().decode()
