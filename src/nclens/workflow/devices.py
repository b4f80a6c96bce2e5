"""Which device a job computes on, where several jobs share one or several GPUs.

Every GPU has slots, one lock file each, below the machine's folder for temporary files: whoever holds the operating
system's lock on the file has the slot. The system gives it back when the process ends, however that ends. The workflow
starts no more such jobs at a time than its profile allows (`resources: gpu`), and there are that many slots, so a job
finds a free one at once; only a job that another workflow or person started has to wait, asleep in the kernel.

A job of several devices takes a slot of each or none: two jobs that held half each would wait for ever. One such job at
a time looks for its slots, holding none while it waits.
"""

import contextlib
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
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
        ValueError: CUDA is required and not there, or a variable has no sense.
        FileError: the folder of the locks cannot be written.
    """
    with device_slots(wanted, 1, what) as (name,):
        device = torch.device(name)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # The CPU under another number stands for a GPU in tests.
        yield torch.device("cpu") if device.type == "cpu" else device


@contextlib.contextmanager
def device_slots(wanted: str, count: int, what: str) -> Iterator[list[str]]:
    """Yield the names of as many devices, a slot of each held while the block runs; as `device_slot`.

    Raises:
        ValueError: as there, or there are not so many devices or slots; on a CPU, cores.
        FileError: as there.
    """
    devices = _devices(wanted)
    if not devices:
        device = choose_device("cpu" if wanted == "auto" else wanted)
        _enough(count, _cores(), "cores (on a CPU each device is a process with a core)")
        yield [device.type] * count
        return
    slots = _slots(len(devices))
    _enough(count, len(devices), f"{torch.device(devices[0]).type} devices")
    _enough(count, slots, "slots of devices: the profile's limit of `gpu`, or NCLENS_GPU_SLOTS")
    names = [_name(device) for device in devices]
    paths = [_folder() / f"{names[slot % len(devices)]}.{slot // len(devices)}" for slot in range(slots)]
    with _held(paths, count, len(devices), what) as held:
        for slot in held:
            place = f"(slot {slot + 1} of {slots})"
            print(f"{what}: on {devices[slot % len(devices)]} {place}", file=sys.stderr, flush=True)
        yield [devices[slot % len(devices)] for slot in held]


def _enough(count: int, there: int, kind: str) -> None:
    if count > 1 and count > there:
        raise ValueError(f"training.devices = {count}: this machine has {there} {kind}; allowed: at most that many")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        raise ValueError(f"NCLENS_DEVICES = {listed!r}: has no {wanted} device, which training.device requires")
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
def _held(paths: Sequence[Path], count: int, devices: int, what: str) -> Iterator[list[int]]:
    """Hold the first lock files that are free, each of another device, and yield their positions; wait where too few.

    Position p is of device p mod `devices`.
    """
    with contextlib.ExitStack() as stack:
        try:
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            files = [stack.enter_context(path.open("a")) for path in paths]
            turn = stack.enter_context((paths[0].parent / "several").open("a"))
        except OSError as error:
            raise FileError(f"cannot write {paths[0].parent}: {error.strerror or error}") from error
        if count == 1:
            position = next((number for number, file in enumerate(files) if _locked_at_once(file)), None)
            if position is None:
                # The kernel wakes one waiter at a time; different processes queue at different slots.
                position = os.getpid() % len(files)
                print(f"{what}: all {len(files)} slots of the devices are taken; waiting", file=sys.stderr, flush=True)
                fcntl.flock(files[position], fcntl.LOCK_EX)
            yield [position]
            return
        if not _locked_at_once(turn):
            print(f"{what}: another job of several devices waits for its slots; waiting", file=sys.stderr, flush=True)
            fcntl.flock(turn, fcntl.LOCK_EX)
        told, held = False, dict[int, int]()  # device -> position
        while True:
            taken = []
            for position, file in enumerate(files):
                if position % devices in held or len(held) == count:
                    continue
                if _locked_at_once(file):
                    held[position % devices] = position
                else:
                    taken.append(position)
            if len(held) == count:
                break
            for position in held.values():
                fcntl.flock(files[position], fcntl.LOCK_UN)
            if not told:
                print(f"{what}: {len(held)} of {count} devices have a free slot; waiting", file=sys.stderr, flush=True)
                told = True
            # Asleep until one more is free, and then a look at all again.
            awaited = next(position for position in taken if position % devices not in held)
            held.clear()
            fcntl.flock(files[awaited], fcntl.LOCK_EX)
            fcntl.flock(files[awaited], fcntl.LOCK_UN)
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield [position for _, position in sorted(held.items())]


def _locked_at_once(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
