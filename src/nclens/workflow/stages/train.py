"""Train one network: one data set, model, loss and seed. Interrupted, it goes on where it stopped, with the same bits.

Until a run is complete, all that it writes stays in `RUN/.work`, outside the declared outputs: Snakemake deletes the
outputs of a job that failed, and a resumed run still needs them.
"""

import contextlib
import datetime
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from nclens.data.prepared import place_splits
from nclens.models import Network, count_flops, place_network
from nclens.training.history import PROGRESS
from nclens.training.loop import Penalties, Settings, Trainer, as_teacher, derived_seed
from nclens.training.recipe import Parallel
from nclens.training.runtime import configure
from nclens.training.writer import Background
from nclens.workflow import tables
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.lr_schedules import build_lr_schedule
from nclens.workflow.build.models import network_of
from nclens.workflow.build.optimizers import build_optimizer
from nclens.workflow.build.recipes import build_recipe, taught_by
from nclens.workflow.devices import device_slot
from nclens.workflow.epochs import read_epoch, read_weights, write_epochs
from nclens.workflow.failures import explained, remembered
from nclens.workflow.files import FileError, damaged, read_json, read_tensors, write_json, write_tensors
from nclens.workflow.paths import CHECKPOINT_MINUTES, TASKS, RunFolder
from nclens.workflow.progress import Progress
from nclens.workflow.provenance import git_revision, versions
from nclens.workflow.specs import Entry, Teacher, Train, plain
from nclens.workflow.streams import read_manifest

#: Seconds between two lines of progress.
REPORT_EVERY = 10.0


class Interrupted(SystemExit):
    """A signal stopped the run; a checkpoint is on disk."""


def train(spec: Train, code: str, data: Path, manifest: Path, run: Path, threads: int, waited: bool) -> None:
    """Train a run and write its snapshots, history.csv and run.json.

    Args:
        spec: the run in full.
        code: digest of the code, recorded in run.json; a checkpoint of other code is not taken up.
        data: the prepared data set.
        manifest: its manifest.
        run: folder of the run.
        threads: CPU threads; another number gives other bits.
        waited: another process held the run before, and may have completed it.

    Raises:
        SystemExit: SIGTERM (143) or SIGINT (130) arrived; a checkpoint is written first.
        ValueError, FloatingPointError: it failed, or failed so before and nothing that it depends on has changed.
        OSError: a file is missing, damaged or cannot be written, or the machine lacks something.
    """
    if (spec.training.devices or 1) > 1 or TASKS in os.environ:
        # By name: how processes are started changes no result.
        importlib.import_module("nclens.workflow.launch").train(spec, code, data, manifest, run, threads, waited)
        return
    with device_slot(spec.training.device, RunFolder(run).name) as device:
        train_on(device, None, spec, code, data, manifest, run, threads, waited)


def train_on(
    device: torch.device,
    parallel: Parallel | None,
    spec: Train,
    code: str,
    data: Path,
    manifest: Path,
    run: Path,
    threads: int,
    waited: bool,
) -> None:
    """Train a run on a device, alone or as one of several processes, of which the first one writes; else as `train`."""
    described, writes = read_manifest(manifest), parallel is None or parallel.rank == 0
    pauses = _Pauses(parallel)
    where = {"torch": torch.__version__, "device": device.type, "threads": threads}
    taught = {}
    if spec.teacher is not None:
        taught["teacher_sha256"] = read_epoch(_snapshots(spec.teacher, run), spec.teacher.epoch, "train")[1]
    # The file of images does not hold what they are normalised by.
    prepared = [described["sha256"], *(described.get(key) for key in ("mean", "std"))]
    # Any number of devices goes on with a checkpoint.
    one_device = replace(spec, training=replace(spec.training, devices=None))
    own, _, of_parallel = code.partition("+")
    identity = _digest({"spec": plain(one_device), "code": own, "data": prepared, **where, **taught})
    if pauses.agreed(waited) and _is_complete(RunFolder(run), spec, identity):
        if writes:
            _say(run, "already complete: the other process ended it")
        return
    chosen = spec.training
    configure(threads, precision=chosen.precision, deterministic=chosen.deterministic, autotune=True)
    work = RunFolder(run).work
    with remembered(run, identity) if writes else contextlib.nullcontext(), explained():
        trainer = _build(spec, data, described, run, device, parallel)
        if writes and trainer.direct is not None and chosen.cuda_graph == "auto":
            why = "the model or the loss is a function of yours" if _is_own(spec) else trainer.direct
            _say(run, f"trains without a CUDA graph: {why}")
        record = {"code": code, "identity": identity, "threads": threads, **taught}
        record["flops_per_sample"] = count_flops(trainer.network, described["shape"])
        past = _Past(identity, of_parallel)
        _resume(trainer, work, spec.snapshots, past, run, parallel)
        _train_to_the_end(trainer, spec, work, past, pauses, run)
    memory = _peak_memory(device, parallel)
    if writes:
        _publish(trainer, spec, work, RunFolder(run), past, record | {"peak_memory_bytes": memory}, described)
        _discard(work)


@dataclass
class _Past:
    """What a checkpoint says of the training up to it, beside the trainer's state.

    Attributes:
        identity: digest of all that the run depends on but the number of devices.
        code: digest of the code of training on several devices; empty for one.
        seconds: spent so far.
        devices: of each stretch on as many devices, the number of the step that it begins with and theirs.
    """

    identity: str
    code: str
    seconds: float = 0.0
    devices: list[tuple[int, int]] = field(default_factory=list)

    def on(self, devices: int, step: int) -> None:
        """Note how many devices go on from a step."""
        if not self.devices or self.devices[-1][1] != devices:
            self.devices.append((step, devices))

    @property
    def metadata(self) -> dict[str, str]:
        """What a checkpoint holds of it; of runs on one device alone, what it held before there could be several."""
        found = {"identity": self.identity, "seconds": repr(self.seconds)}
        if self.on_several:
            found |= {"code": self.code, "devices": json.dumps(self.devices)}
        return found

    @property
    def on_several(self) -> bool:
        """Whether a part was trained on several devices."""
        return any(devices > 1 for _, devices in self.devices)

    def takes(self, metadata: Mapping[str, str]) -> bool:
        """Take up what a checkpoint holds; return False where it is of another run or other code."""
        theirs = metadata.get("code", "")
        if metadata["identity"] != self.identity or (theirs and self.code and theirs != self.code):
            return False
        self.code = self.code or theirs
        self.seconds = float(metadata["seconds"])
        self.devices = [(step, devices) for step, devices in json.loads(metadata.get("devices", "[]"))]
        return True


def _snapshots(teacher: Teacher, run: Path) -> Path:
    """Return the snapshots of a run's teacher, in the run's own study."""
    return Path(os.path.relpath(RunFolder(run).study.run(teacher.run).snapshots))


def _build(
    spec: Train,
    data: Path,
    manifest: dict[str, Any],
    run: Path,
    device: torch.device,
    parallel: Parallel | None = None,
) -> Trainer:
    tensors, metadata = read_tensors(data, "prepare")
    if metadata["sha256"] != manifest["sha256"]:
        raise damaged(data, "prepare", "it is not the file that its manifest describes")
    teacher = None
    if spec.teacher is not None:
        network = _network(spec.teacher.model, manifest, device)
        read_weights(network, _snapshots(spec.teacher, run), spec.teacher.epoch)
        teacher = taught_by(spec.training.recipe, as_teacher(network, spec.training.precision))
    # Behind the teacher, so that a student begins as the same network does alone.
    torch.manual_seed(derived_seed(spec.seed, "weights"))
    network = _network(spec.model, manifest, device)
    if spec.training.sync_batchnorm:
        network = importlib.import_module("nclens.training.parallel").synchronised(network)
    train_split, test_split = place_splits(tensors, manifest, device)
    chosen = {key: value for key, value in vars(spec.training).items() if key in Settings.__dataclass_fields__}
    if spec.training.cuda_graph == "auto" and _is_own(spec):
        # What such a function does in Python would happen in the recorded step alone.
        chosen["cuda_graph"] = "never"
    chosen["optimizer"] = build_optimizer(spec.training.optimizer)
    chosen |= build_recipe(spec.training.recipe)
    chosen["lr_schedule"] = build_lr_schedule(spec.training.lr_schedule)
    penalties = Penalties(**vars(spec.penalties)) if spec.penalties else None
    loss = build_loss(spec.loss, spec.training.epochs, teacher, manifest.get("train_counts"))
    settings = Settings(**chosen, penalties=penalties)
    return Trainer(network, loss, train_split, test_split, settings, spec.seed, parallel=parallel)


def _is_own(spec: Train) -> bool:
    """Return whether a function of the user takes part in a training step."""
    models = [spec.model, *([spec.teacher.model] if spec.teacher else [])]
    return spec.loss.function is not None or any(model.function is not None for model in models)


def _network(entry: Entry, manifest: dict[str, Any], device: torch.device) -> Network:
    network = network_of(entry, manifest)
    return place_network(network, manifest["shape"], device)


def _discard(work: RunFolder) -> None:
    """Delete the working files, the checkpoint first: a checkpoint without its snapshots would be of no use."""
    work.checkpoint.unlink(missing_ok=True)
    shutil.rmtree(work.folder)


def _resume(
    trainer: Trainer,
    work: RunFolder,
    snapshots: Sequence[int],
    past: _Past,
    run: Path,
    parallel: Parallel | None = None,
) -> None:
    """Take up the checkpoint of this very run if there is one; of several processes, the first one decides."""
    devices = 1 if parallel is None else parallel.count
    found = None if parallel is not None and parallel.rank else _checkpoint(work, snapshots, past, run)
    if parallel is not None and parallel.largest(found is not None)[0]:
        if parallel.rank:
            found = read_tensors(work.checkpoint, "train")
            past.takes(found[1])
        parallel.largest(0)  # the first one does not write the next before all have read this one
    if found is not None:
        trainer.resume(found[0], json.loads(found[1]["values"]))
        if parallel is None or not parallel.rank:
            before = past.devices[-1][1] if past.devices else 1
            text = "" if before == devices else f", on {devices} device{'s' * (devices > 1)}, not {before}"
            _say(run, f"goes on after epoch {trainer.epoch}, step {trainer.step}{text}")
    elif devices > 1 and parallel is not None and not parallel.rank:
        _say(run, f"trains on {devices} devices, each with {trainer.settings.batch_size // devices} samples a step")
    past.on(devices, trainer.epoch * trainer.steps_per_epoch + trainer.step)


def _checkpoint(
    work: RunFolder, snapshots: Sequence[int], past: _Past, run: Path
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Return the checkpoint of this very run, whose snapshots are there; None where there is none."""
    if not work.checkpoint.is_file():
        return None
    try:
        tensors, metadata = read_tensors(work.checkpoint, "train")
    except FileError as error:
        _say(run, f"starts again: {error}")
        return None
    if not past.takes(metadata):
        # Left by an earlier specification, code or data set; its snapshots are not ours either.
        _discard(work)
        return None
    try:
        # The finished run publishes these: one that is lost or damaged cannot be made without its epoch.
        for epoch in (epoch for epoch in snapshots if epoch <= json.loads(metadata["values"])["epoch"]):
            read_tensors(work.snapshot(epoch), "train")
    except FileError as error:
        past.seconds, past.devices = 0.0, []
        _say(run, f"starts again: {error}")
        return None
    return tensors, metadata


def _train_to_the_end(
    trainer: Trainer, spec: Train, work: RunFolder, past: _Past, pauses: "_Pauses", run: Path
) -> None:
    """Train what is left, snapshots and checkpoints written beside it by the first process."""
    epochs, snapshots = trainer.settings.epochs, set(spec.snapshots)
    writes = trainer.parallel is None or trainer.parallel.rank == 0
    begun = reported = time.monotonic()
    before = past.seconds
    if writes and trainer.epoch == 0 and trainer.step == 0 and 0 in snapshots:
        _write_snapshot(trainer, work, write_tensors)
    epoch_begun, first = time.monotonic(), trainer.epoch
    progress = Progress(trainer, work) if writes else None

    def is_due() -> bool:
        if progress is not None:
            progress.note()
        return pauses.is_due()

    with Background(write_tensors) as writer:
        while trainer.epoch < epochs:
            finished = trainer.advance(is_due)
            now = time.monotonic()
            past.seconds = before + now - begun
            if finished:
                if progress is not None:
                    progress.note()
                for row in trainer.history[-2:] if trainer.settings.records(trainer.epoch) else ():
                    row["seconds"] = now - epoch_begun
                epoch_begun = now
                if writes and trainer.epoch in snapshots:
                    _write_snapshot(trainer, work, writer.put)
                if writes and (now - reported > REPORT_EVERY or trainer.epoch in (first + 1, epochs)):
                    reported = now
                    left = (epochs - trainer.epoch) * (now - begun) / (trainer.epoch - first)
                    _say(run, _progress(trainer, left))
            # Read once: a signal that arrives below waits for the next step.
            stopped, due = pauses.agreed(pauses.signal or 0), pauses.agreed(pauses.is_due())
            if stopped or due or trainer.epoch == epochs:
                # After the snapshots in the queue: a checkpoint on disk has all the snapshots before it.
                tensors, values = trainer.state()
                if writes:
                    metadata = past.metadata | {"values": json.dumps(values)}
                    writer.put(work.checkpoint, _copied(tensors), metadata)
                pauses.taken()
            if stopped:
                writer.finish()
                if writes:
                    _say(run, f"stopped by {signal.Signals(stopped).name}; the same command goes on from here")
                raise Interrupted(128 + stopped)


def _write_snapshot(trainer: Trainer, work: RunFolder, write: Callable[..., object]) -> None:
    write(work.snapshot(trainer.epoch), _copied(trainer.measured.state_dict()))


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in the CPU's memory, which stay as they are while training goes on."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _progress(trainer: Trainer, left: float) -> str:
    train_row, test_row = trainer.history[-2:]
    name, form = PROGRESS[trainer.train_split.task]
    minutes, seconds = divmod(round(left), 60)
    return (
        f"epoch {trainer.epoch}/{trainer.settings.epochs}  loss {train_row['loss']:.4f}  "
        f"{name} {train_row[name]:{form}} train, {test_row[name]:{form}} test  {minutes}:{seconds:02d} left"
    )


def _publish(
    trainer: Trainer,
    spec: Train,
    work: RunFolder,
    run: RunFolder,
    past: _Past,
    record: dict[str, Any],
    manifest: dict[str, Any],
) -> None:
    """Put the finished run's files in their places; `RUN/.work` stays until all are there."""
    with write_epochs(run.snapshots, spec.snapshots) as put:
        for epoch in spec.snapshots:
            put(epoch, read_tensors(work.snapshot(epoch), "train")[0])
    tables.write_rows(tables.HISTORY[trainer.train_split.task], run.history, trainer.history)
    device = trainer.device
    cuda = device.type == "cuda"
    steps = trainer.settings.epochs * trainer.steps_per_epoch
    write_json(
        run.run,
        {
            "spec": plain(spec),
            "seed": spec.seed,
            "versions": versions(),
            "git_revision": git_revision(),
            "device": torch.cuda.get_device_name(device) if cuda else "cpu",
            "data_sha256": manifest["sha256"],
            "parameters": sum(value.numel() for value in trainer.parameters if value.requires_grad),
            "dim": trainer.network.head.in_features,
            **_not_its_own(trainer.network, averaged=trainer.average is not None),
            "steps": steps,
            "wall_time": past.seconds,
            # Of training steps alone; evaluation and writing are in the wall time.
            "training_seconds": trainer.seconds,
            "samples_per_second": steps * trainer.settings.batch_size / trainer.seconds,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            **({"devices": past.devices} if past.on_several else {}),
            **record,
        },
    )


def _peak_memory(device: torch.device, parallel: Parallel | None) -> int:
    """Return the most memory in bytes: of the GPU, of several the fullest one's; on a CPU of all processes."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        return peak if parallel is None else parallel.largest(peak)[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak if parallel is None else int(parallel.all_of(torch.tensor(peak)).sum())


def _not_its_own(network: Network, averaged: bool = False) -> dict[str, str]:
    """Return why steps do not move the classifier's weight by its own gradient, as `classifier`; nothing if they do.

    It is outside the premise of the law of NC0 then (`nclens.ufm.nc0`).
    """
    if averaged:
        return {"classifier": "its weight is an average over the steps"}
    weight = network.head._parameters.get("weight")
    uses = [name for name, one in network.named_parameters(remove_duplicate=False) if one is weight]
    if weight is None:
        return {"classifier": "its weight is a function of other parameters"}
    if not weight.requires_grad:
        return {"classifier": "its weight is frozen"}
    if len(uses) > 1:
        return {"classifier": "another layer has the same weight"}
    if weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None):
        return {"classifier": "a hook sees the gradient of its weight and may change it"}
    return {}


def _is_complete(run: RunFolder, spec: Train, identity: str) -> bool:
    """Return whether another process has completed this very run meanwhile."""
    outputs = [run.snapshots, run.history, run.run]
    if not all(path.is_file() for path in outputs):
        return False
    return read_json(run.run, "train")["identity"] == identity


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _say(run: Path, text: str) -> None:
    print(f"{RunFolder(run).name}: {text}", file=sys.stderr, flush=True)


class _Pauses:
    """When the loop writes a checkpoint: every few minutes, and when SIGTERM or SIGINT arrived.

    Attributes:
        signal: the signal that stops the run, if one arrived.
    """

    def __init__(self, parallel: Parallel | None = None) -> None:
        self._parallel = parallel
        # From the environment: how often a run is saved is no part of what it is.
        minutes = os.environ.get(CHECKPOINT_MINUTES, "5")
        try:
            self._every = 60.0 * float(minutes)
        except ValueError:
            raise ValueError(f"{CHECKPOINT_MINUTES} = {minutes!r}: must be a number of minutes") from None
        self.taken()
        self.signal: signal.Signals | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def is_due(self) -> bool:
        """Return whether a checkpoint is due."""
        return self.signal is not None or time.monotonic() > self._due

    def agreed(self, value: int) -> int:
        """Return a value, of several processes the largest."""
        return int(value) if self._parallel is None else self._parallel.largest(value)[0]

    def taken(self) -> None:
        """Begin the next stretch: a checkpoint is taken."""
        self._due = time.monotonic() + self._every

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
