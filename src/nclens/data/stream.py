"""Images that stay in their files: worker processes read, decode and transform them while the network computes.

torch's DataLoader starts the workers and hands over their batches. What a worker does depends on the sample alone: its
draws are seeded by (seed of the run, epoch, index), see `nclens.data.stream_transforms.sample_seed`, so that the bits
are the same for any number of workers, and the order of an epoch is the training loop's. So training goes on inside an
epoch from the number of the step, and nothing of the workers is in a checkpoint.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nclens.data.stream_files import Files, StreamError, from_text
from nclens.data.stream_transforms import Transform, augmentation, decoded, drawn, evaluation, sample_seed
from nclens.data.tensors import Split, of_each_value

#: Name of the tensor with the settings of a stream in a prepared data set: JSON, as bytes.
SETTINGS = "stream"
#: Files of a batch that `scan` hands to a worker.
SCANNED = 32
#: What is said beside a file that cannot be read as an image.
SKIPPING = "`skip_damaged: true` leaves out such files"


class _Wanted(NamedTuple):
    """A batch for a worker: its rows in the table of files, and the seed of each draw, None for evaluation."""

    rows: list[int]
    seeds: list[int] | None


class _Queue(Sampler[Any]):
    """What the workers of a loader do next; assigned before each pass."""

    def __init__(self) -> None:
        self.batches: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


@dataclass(frozen=True)
class _Decoder(Dataset[Any]):
    """Reads, decodes and transforms the images of a batch: uint8 (B, H, W, C), or the error that says what is wrong."""

    files: Files
    root: Path
    settings: Mapping[str, Any]

    @cached_property
    def train(self) -> Transform:
        """The transform of training."""
        return augmentation(self.settings)

    @cached_property
    def test(self) -> Transform:
        """The transform of evaluation."""
        return evaluation(self.settings)

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is no fork makes its own transforms: pickled ones would import torchvision unrepaired.
        return {key: value for key, value in vars(self).items() if key not in ("train", "test")}

    def image(self, row: int, content: bytes | None = None, seed: int | None = None) -> Tensor:
        """Return an image as a network takes it, uint8 (C, H, W)."""
        settings = self.settings
        content = self.files.content(self.root, row) if content is None else content
        name = f"{self.root}/{self.files.name(row)}"
        picture = decoded(content, name, settings["channels"], settings["plain"])
        return drawn(self.test if seed is None else self.train, picture, seed)

    def __getitem__(self, wanted: _Wanted) -> Tensor | str:
        size, channels = self.settings["image_size"], self.settings["channels"]
        images = torch.empty(len(wanted.rows), size, size, channels, dtype=torch.uint8)
        try:
            for place, row in enumerate(wanted.rows):
                seed = None if wanted.seeds is None else wanted.seeds[place]
                images[place] = self.image(row, seed=seed).permute(1, 2, 0)
        # As values: what a worker raises, the loader wraps in the worker's traceback.
        except OSError as error:
            return str(error)
        except ValueError as error:
            return f"{error}; {SKIPPING}"
        return images


class Scanned(NamedTuple):
    """What reading some files (B,) finds.

    Attributes:
        rows: the files, by their rows in the table.
        changed: what is said of files that are missing or have changed.
        damaged: what is said of files that cannot be read as images, by row.
        sums: int64 (B, 2, C), of the others the sums of values and of squares of each channel.
        digests: uint8 (B, 32), the SHA-256 of each.
    """

    rows: list[int]
    changed: list[str]
    damaged: dict[int, str]
    sums: Tensor
    digests: Tensor


@dataclass(frozen=True)
class _Scanner(Dataset[Any]):
    decoder: _Decoder
    digest: bool

    def __getitem__(self, rows: list[int]) -> Scanned:
        sums = torch.zeros(len(rows), 2, self.decoder.settings["channels"], dtype=torch.int64)
        found = Scanned(rows, [], {}, sums, torch.zeros(len(rows), 32, dtype=torch.uint8))
        for place, row in enumerate(rows):
            try:
                content = self.decoder.files.content(self.decoder.root, row)
                if self.digest:
                    digest = bytearray(hashlib.sha256(content).digest())
                    found.digests[place] = torch.frombuffer(digest, dtype=torch.uint8)
                values = self.decoder.image(row, content).flatten(1).long()
                found.sums[place] = torch.stack([values.sum(1), values.square().sum(1)])
            except OSError as error:
                found.changed.append(str(error))
            except ValueError as error:
                found.damaged[row] = str(error)
        return found


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin_worker(number: int) -> None:
    # Ctrl-C and a queue's warning reach the whole group, and are for the process that trains: it writes its checkpoint,
    # and ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """End this process when its parent says so; a SIGTERM of anyone else's is passed over."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _loader(dataset: Dataset[Any], queue: _Queue, workers: int, pinned: bool, stay: bool) -> "DataLoader[Any]":
    with _many_workers():
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=queue,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pinned,
            worker_init_fn=_begin_worker,
            # A fork begins in milliseconds, and uses no GPU; elsewhere it is not safe.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            persistent_workers=stay and workers > 0,
            # Its own: the loader would draw a number from the global one, which layers such as dropout draw from.
            generator=torch.Generator(),
        )


def _pass(loader: "DataLoader[Any]") -> Iterator[Any]:
    with _many_workers():
        batches = iter(loader)
    try:
        yield from batches
    except (OSError, EOFError) as error:  # of the pipe of a worker that was killed: its own are values
        raise RuntimeError(f"DataLoader worker is gone: {error!r}") from error


@contextlib.contextmanager
def _many_workers() -> Iterator[None]:
    """Let whoever asks for more workers than cores have them, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        yield


def scan(
    files: Files,
    root: Path,
    rows: Sequence[int],
    settings: Mapping[str, Any],
    workers: int,
    *,
    digest: bool = False,
) -> Iterator[Scanned]:
    """Read and decode files once, in order, by worker processes, and yield what is found, some files at a time.

    Args:
        files: the table of files.
        root: the folder that they are below.
        rows: those to read.
        settings: of the stream.
        workers: processes; 0 reads in this one.
        digest: compute the SHA-256 of each.
    """
    queue = _Queue()
    queue.batches = [list(rows[start : start + SCANNED]) for start in range(0, len(rows), SCANNED)]
    decoder = _Decoder(files, root, settings)
    yield from _pass(_loader(_Scanner(decoder, digest), queue, workers, pinned=False, stay=False))


class StreamedImages:
    """Images of files, decoded when they are indexed: a stand-in for a uint8 tensor (N, C, H, W) of a split.

    Indexing by a slice or by indices (B,) gives the images with the transform of evaluation, on the device, in
    channels-last layout.

    Attributes:
        shape: (N, C, H, W).
        dtype, ndim: of the tensor that it stands for.
        device: where images are put.
    """

    dtype, ndim = torch.uint8, 4

    def __init__(
        self,
        files: Files,
        rows: Tensor,
        root: Path,
        settings: Mapping[str, Any],
        workers: int,
        device: torch.device | str,
    ) -> None:
        self.device = torch.device(device)
        size = settings["image_size"]
        self.shape = torch.Size((len(rows), settings["channels"], size, size))
        self._rows, self._workers = rows, workers
        self._decoder = _Decoder(files, root, settings)
        # The workers of training stay from epoch to epoch.
        self._training: tuple[_Queue, DataLoader[Any]] | None = None

    def __len__(self) -> int:
        """Return the number of images N."""
        return len(self._rows)

    def __getitem__(self, key: slice | Tensor) -> Tensor:
        """Return images (B, C, H, W), decoded in this process."""
        chosen = key.cpu() if isinstance(key, Tensor) else key
        return self._received(self._decoder[self._wanted(chosen)])

    def subset(self, index: Tensor) -> "StreamedImages":
        """Return the images at `index` alone."""
        made = StreamedImages.__new__(StreamedImages)
        vars(made).update(vars(self) | {"_rows": self._rows[index.cpu()], "_training": None})
        made.shape = torch.Size((len(made._rows), *self.shape[1:]))
        return made

    def in_order(self, size: int) -> Iterator[Tensor]:
        """Yield the images, `size` at a time, with the transform of evaluation, decoded ahead by the workers."""
        queue = _Queue()
        queue.batches = (self._wanted(slice(start, start + size)) for start in range(0, len(self), size))
        workers = min(self._workers, -(-len(self) // size))
        yield from map(self._received, _pass(_loader(self._decoder, queue, workers, self._pinned, stay=False)))

    def augmented(self, batches: Tensor, seed: int) -> Iterator[Tensor]:
        """Yield the images of batches of indices (S, B) with the transform of training, each drawn by (seed, index)."""
        if self._training is None:
            queue = _Queue()
            self._training = queue, _loader(self._decoder, queue, self._workers, self._pinned, stay=True)
        queue, loader = self._training
        queue.batches = (self._wanted(batch.cpu(), seed) for batch in batches)
        yield from map(self._received, _pass(loader))

    @property
    def _pinned(self) -> bool:
        return self.device.type == "cuda"

    def _wanted(self, chosen: slice | Tensor, seed: int | None = None) -> _Wanted:
        rows = self._rows[chosen].tolist()
        if seed is None or not isinstance(chosen, Tensor):
            return _Wanted(rows, None)
        return _Wanted(rows, [sample_seed(seed, index) for index in chosen.tolist()])

    def _received(self, made: Tensor | str) -> Tensor:
        """Return a worker's images on the device.

        Raises:
            StreamError: a file is missing, has changed or cannot be read; names it.
        """
        if isinstance(made, str):
            raise StreamError(made)
        return made.permute(0, 3, 1, 2).to(self.device, non_blocking=True)


@dataclass(frozen=True)
class StreamSplit(Split):
    """A split whose images stay in their files; its targets are in memory."""

    inputs: StreamedImages  # type: ignore[assignment]

    def subset(self, index: Tensor) -> "StreamSplit":
        """Return the split of the inputs at `index` alone."""
        return replace(self, inputs=self.inputs.subset(index), targets=self.targets[index])

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `index` (B,) with the transform of evaluation, and their targets."""
        return self.inputs[index], self.targets[index]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the normalised images of `size` samples at a time, in order, with their targets."""
        for images, targets in zip(self.inputs.in_order(size), self.targets.split(size), strict=True):
            yield self.normalise(images), targets

    def arriving(self, batches: Tensor, seed: int) -> Iterator[Tensor] | None:
        """Return the images of batches of indices (S, B), augmented by `seed`, that of the epoch."""
        return self.inputs.augmented(batches, seed)


def place(tensors: dict[str, Tensor], manifest: Mapping[str, Any], device: torch.device, name: str) -> StreamSplit:
    """Return a split of a prepared stream; its `tensors` are taken out, but for those of the files.

    `root` and `workers` of the manifest say where the files are and how many processes read them.

    Raises:
        StreamError: a file is missing, or has another size than when the data were prepared; names it.
    """
    settings = json.loads(from_text(tensors[SETTINGS]))
    files, root = Files.from_tensors(tensors), Path(manifest["root"])
    rows, targets = tensors.pop(f"{name}.inputs")[:, 0], tensors.pop(f"{name}.targets")
    files.check(root, rows)
    images = StreamedImages(files, rows, root, settings, manifest.get("workers", 0), device)
    mean, std = (of_each_value(manifest[key], images.shape[1:], 255.0, device) for key in ("mean", "std"))
    return StreamSplit(images, targets.to(device), mean, std)
