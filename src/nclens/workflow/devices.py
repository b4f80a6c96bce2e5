"""Which device a job computes on, where several jobs share one or several GPUs.

Every GPU has slots, one lock file each, below the machine's folder for temporary files: whoever holds the operating
system's lock on the file has the slot. The system gives it back when the process ends, however that ends. The workflow
starts no more such jobs at a time than its profile allows (`resources: gpu`), and there are that many slots, so a job
finds a free one at once; only a job that another workflow or person started has to wait, asleep in the kernel.
"""

import contextlib
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from nclens.training.runtime import choose_device
from nclens.workflow.files import FileError


@contextlib.contextmanager
def device_slot(wanted: str, what: str) -> Iterator[torch.device]:
    """Yield the device of `cpu`, `cuda` or `auto`, its slot held while the block runs; the CPU has no slots.

    The devices are those of the variable NCLENS_DEVICES (`cuda:0,cuda:2`), else all that PyTorch sees. There are
    NCLENS_GPU_SLOTS slots, dealt out to the devices in turn, else one a device.

    Args:
        wanted: `cpu`, `cuda`, or `auto` for the first kind of device that is there.
        what: whose job it is, for the messages.

    Raises:
        ValueError: CUDA is asked for and not there, or a variable has no sense.
        FileError: the folder of the locks cannot be written.
    """
    devices = _devices(wanted)
    if not devices:
        yield choose_device("cpu" if wanted == "auto" else wanted)
        return
    slots = _slots(len(devices))
    names = [_name(device) for device in devices]
    paths = [_folder() / f"{names[slot % len(devices)]}.{slot // len(devices)}" for slot in range(slots)]
    with _one_of(paths, what) as slot:
        device = torch.device(devices[slot % len(devices)])
        print(f"{what}: on {devices[slot % len(devices)]} (slot {slot + 1} of {slots})", file=sys.stderr, flush=True)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # The CPU under another number stands for a GPU in tests.
        yield torch.device("cpu") if device.type == "cpu" else device


def _devices(wanted: str) -> list[str]:
    if wanted == "cpu":
        return []
    listed = os.environ.get("NCLENS_DEVICES", "")
    names = [name.strip() for name in listed.split(",") if name.strip()]
    try:
        kinds = [torch.device(name).type for name in names]
    except RuntimeError:
        raise ValueError(f"NCLENS_DEVICES = {listed!r}: must be a list of devices such as cuda:0,cuda:1") from None
    if not listed:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    allowed = [name for name, kind in zip(names, kinds, strict=True) if wanted in ("auto", kind)]
    if not allowed:
        raise ValueError(f"NCLENS_DEVICES = {listed!r}: has no {wanted} device, which training.device asks for")
    return allowed


def _slots(devices: int) -> int:
    text = os.environ.get("NCLENS_GPU_SLOTS", str(devices))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"NCLENS_GPU_SLOTS = {text!r}: must be a whole number of 1 or more")
    return int(text)


def _name(device: str) -> str:
    """Return a name that means the same GPU in every process of the machine; `cuda:0` may be another in each."""
    place = torch.device(device)
    if place.type != "cuda":
        return device
    try:
        return str(torch.cuda.get_device_properties(place).uuid)
    except (AssertionError, RuntimeError):
        raise ValueError(f"{device} is not there: PyTorch finds {torch.cuda.device_count()} CUDA devices") from None


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"nclens-{os.getuid()}" / "devices"


@contextlib.contextmanager
def _one_of(paths: list[Path], what: str) -> Iterator[int]:
    """Hold the first of the lock files that is free, and yield its position; wait for one if none is."""
    with contextlib.ExitStack() as stack:
        try:
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            files = [stack.enter_context(path.open("a")) for path in paths]
        except OSError as error:
            raise FileError(f"cannot write {paths[0].parent}: {error.strerror or error}") from error
        position = next((number for number, file in enumerate(files) if _locked_at_once(file)), None)
        if position is None:
            # The kernel wakes one waiter at a time; different processes queue at different slots.
            position = os.getpid() % len(files)
            print(f"{what}: all {len(files)} slots of the devices are taken; waiting", file=sys.stderr, flush=True)
            fcntl.flock(files[position], fcntl.LOCK_EX)
        yield position


def _locked_at_once(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
