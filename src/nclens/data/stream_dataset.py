"""A data set whose images stay in their files: which files are samples of which split, and what is known of them."""

import json
import os
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nclens.data.dataset import Dataset
from nclens.data.raw import RawData
from nclens.data.shares import Wanted, draw
from nclens.data.stream import SETTINGS, SKIPPING, StreamedImages, scan
from nclens.data.stream_files import Files, StreamError, as_text

#: Keys of a stream's entry that are no settings of its images.
BESIDE = ("skip_damaged", "checksum", "workers")
#: Seconds between two lines of progress, and files that the log names.
REPORT_EVERY, NAMED = 10.0, 20


@dataclass(frozen=True, kw_only=True)
class StreamDataset(Dataset):
    """A data set for classification whose inputs are rows (N, 1) of a table of files, int64.

    Attributes:
        files: the table of files, of all splits.
        root: the folder that they are below.
        settings: how images are read and transformed.
        workers: processes that read them.
        sums: of each file of the table the sums of values and of squares of each channel (M, 2, C), int64, with the
            transform of evaluation; None before they are needed.
    """

    files: Files
    root: Path
    settings: Mapping[str, Any]
    workers: int = 0
    sums: Tensor | None = None

    def _check_inputs(self, split: str, inputs: Tensor) -> None:
        """Raise a ValueError if the rows of a split are invalid."""
        if inputs.dtype != torch.int64 or inputs.shape[1:] != (1,):
            raise ValueError(
                f"{split} inputs of a stream must be rows of its files, int64 (N, 1), not {inputs.dtype} of shape "
                f"{tuple(inputs.shape)}"
            )

    @property
    def input_shape(self) -> list[int]:
        """Shape (C, H, W) of an image as the network takes it."""
        return [self.settings["channels"], self.settings["image_size"], self.settings["image_size"]]

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel of the training images, scaled to [0, 1], as evaluation sees them.

        All of them are read once where that has not been done. The sums are of integers, so that neither the order nor
        the number of workers matters.
        """
        rows, sums = self.train_inputs[:, 0], self.sums
        if sums is None:
            sums = read(self.files, self.root, rows.tolist(), self.settings, self.workers).sums
        first, second = sums[rows].sum(0).tolist()
        count = len(rows) * self.settings["image_size"] ** 2
        means = [Fraction(one, count) for one in first]
        variances = [Fraction(two, count) - mean**2 for two, mean in zip(second, means, strict=True)]
        stds = [float(variance) ** 0.5 / 255.0 for variance in variances]
        return [float(mean) / 255.0 for mean in means], [std or 1.0 for std in stds]

    def first_inputs(self, count: int) -> Tensor:
        """Return the first training images, uint8 (count, C, H, W), as evaluation sees them."""
        return StreamedImages(self.files, self.train_inputs[:, 0], self.root, self.settings, 0, "cpu")[:count]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The rows and targets of each split, the table of their files, and the settings."""
        found = super().tensors
        used = torch.cat([inputs for inputs, _ in self.parts.values()]).unique()
        places = torch.full((len(self.files),), -1)
        places[used] = torch.arange(len(used))
        found |= {f"{split}.inputs": places[inputs] for split, (inputs, _) in self.parts.items()}
        return found | self.files.subset(used).tensors | {SETTINGS: as_text(json.dumps(self.settings, sort_keys=True))}


class Found(NamedTuple):
    """What reading files found: what is said of damaged ones by row, sums (M, 2, C) and SHA-256 (M, 32) by row."""

    damaged: dict[int, str]
    sums: Tensor
    digests: Tensor


def read(
    files: Files,
    root: Path,
    rows: Sequence[int],
    settings: Mapping[str, Any],
    workers: int,
    *,
    digest: bool = False,
    skip: bool = False,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Read and decode files once, as `nclens.data.stream.scan`; `say` is called with lines of progress.

    Raises:
        StreamError: a file has changed, or cannot be read and `skip` is false; names the first.
    """
    sums = torch.zeros(len(files), 2, settings["channels"], dtype=torch.int64)
    found = Found({}, sums, torch.zeros(len(files), 32, dtype=torch.uint8))
    begun = reported = time.monotonic()
    done = 0
    for part in scan(files, root, rows, settings, workers, digest=digest):
        if part.changed:
            raise StreamError(part.changed[0])
        if part.damaged and not skip:
            raise StreamError(f"{next(iter(part.damaged.values()))}; {SKIPPING}")
        found.damaged.update(part.damaged)
        found.sums[part.rows], found.digests[part.rows] = part.sums, part.digests
        done += len(part.rows)
        if say is not None and (now := time.monotonic()) - reported > REPORT_EVERY:
            reported = now
            say(f"{done:,} of {len(rows):,} files are read, {done / (now - begun):,.0f} a second")
    return found


def stream_dataset(
    raw: RawData,
    root: Path,
    files: Files,
    pools: Mapping[str, Tensor],
    classes: Sequence[str],
    wanted: Wanted,
    stream: Mapping[str, Any],
    **fields: Any,
) -> StreamDataset:
    """Return the data set of files that stay where they are.

    Args:
        raw: the folder of raw data.
        root: the folder that the files are below.
        files: the table of all files, those of the splits one after the other.
        pools: class labels (N,) of the splits that the data have: `train`, perhaps `test` and `val`.
        classes: names of the K classes.
        wanted: shares and sizes, see `nclens.data.shares.draw`.
        stream: keys of the entry: the settings of the images, and `BESIDE`.
        fields: the other attributes of the data set: source, licence, citation, facts.

    Raises:
        ValueError: two classes have one name, classes have too few samples, or as `draw`.
        StreamError: a file cannot be read, and `skip_damaged` is false; names it.
    """
    refuse_alike(classes, str(root))
    workers = stream["workers"]
    settings = {key: value for key, value in stream.items() if key not in BESIDE}
    first, rows = 0, {}
    for split, labels in pools.items():
        rows[split] = torch.arange(first, first := first + len(labels))
    found: Found | None = None
    facts = dict(fields.pop("facts", {}))
    if stream["skip_damaged"]:
        everything = list(range(len(files)))
        found = read(files, root, everything, settings, workers, digest=stream["checksum"], skip=True, say=raw.say)
        pools, rows, facts["skipped"] = _without(pools, rows, found.damaged, raw)
    chosen = draw(pools, wanted, classes, str(root))
    inputs = {split: rows[of][index] for split, (of, index) in chosen.items()}
    if stream["checksum"] and found is None:
        used = torch.cat(list(inputs.values())).sort().values.tolist()
        found = read(files, root, used, settings, workers, digest=True, say=raw.say)
    digested = replace(files, digests=found.digests) if found is not None and stream["checksum"] else files
    total = int(files.sizes[torch.cat(list(inputs.values()))].sum())
    facts |= {"storage": "stream", "root": str(root), "stream": settings, "bytes": total, **wanted.facts}
    fields |= {f"{split}_inputs": part[:, None] for split, part in inputs.items()}
    fields |= {f"{split}_targets": pools[of][index] for split, (of, index) in chosen.items()}
    return StreamDataset(
        classes=list(classes),
        files=digested,
        root=root,
        settings=settings,
        workers=workers,
        sums=None if found is None else found.sums,
        facts=facts,
        **fields,
    )


def of_folder(
    raw: RawData,
    root: Path,
    names: Sequence[str],
    pools: Mapping[str, Tensor],
    classes: Sequence[str],
    wanted: Wanted,
    stream: Mapping[str, Any],
    **fields: Any,
) -> StreamDataset:
    """Return the data set of files of their own, by their names below a folder; arguments as `stream_dataset`."""
    files = Files.of(names, [os.stat(f"{root}/{name}").st_size for name in names])
    return stream_dataset(raw, root, files, pools, classes, wanted, stream, **fields)


def _without(
    pools: Mapping[str, Tensor], rows: Mapping[str, Tensor], damaged: Mapping[int, str], raw: RawData
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, int]]:
    """Return the labels and rows of each split without the files that cannot be read, and how many these are."""
    for text in list(damaged.values())[:NAMED]:
        raw.say(f"skipped: {text}")
    if len(damaged) > NAMED:
        raw.say(f"skipped: {len(damaged) - NAMED:,} more")
    wrong = torch.tensor(sorted(damaged), dtype=torch.int64)
    kept = {split: ~torch.isin(one, wrong) for split, one in rows.items()}
    counts = {split: int((~one).sum()) for split, one in kept.items()}
    raw.say(f"{len(damaged):,} files that cannot be read are skipped: {counts}")
    return (
        {split: labels[kept[split]] for split, labels in pools.items()},
        {split: one[kept[split]] for split, one in rows.items()},
        counts,
    )


def refuse_alike(classes: Sequence[str], what: str) -> None:
    """Raise a ValueError for two classes whose names a reader cannot tell apart.

    They are compared by their letters, however these are encoded (Unicode NFC), without capitals and outer blanks.

    >>> refuse_alike(["crane", "Crane "], "birds")
    Traceback (most recent call last):
    ValueError: birds: the classes 0 ('crane') and 1 ('Crane ') have one name; allowed: a name of its own for each
    """
    seen: dict[str, int] = {}
    for number, name in enumerate(classes):
        key = unicodedata.normalize("NFC", name).casefold().strip()
        if key in seen:
            raise ValueError(
                f"{what}: the classes {seen[key]} ({classes[seen[key]]!r}) and {number} ({name!r}) have one name; "
                "allowed: a name of its own for each"
            )
        seen[key] = number
