"""Start the processes of a training on several devices by torchrun, and end them together, with one message.

A job of a cluster may have several tasks, a node each: Snakemake's resources `mpi`, `tasks` and `nodes` start them by
Slurm's `srun`, and each starts the processes of its devices.
"""

import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from nclens.workflow.devices import device_slots
from nclens.workflow.paths import TASKS, RunFolder
from nclens.workflow.specs import Train, plain

#: Seconds that processes have to write a checkpoint when the job is stopped; Slurm's warning comes 180 before the end.
PATIENCE = 60
#: Where the tasks of a job meet: a port of the first one's machine, by the number of the job.
FIRST_PORT, PORTS = 20_000, 20_000
#: Errors of a user's or of the machine, whose message says all.
SAID = {"ValueError": ValueError, "OSError": OSError, "FloatingPointError": FloatingPointError}


class _Tasks(NamedTuple):
    """The tasks of a job, the number of this one, and the address and the port of the first one's machine."""

    total: int = 1
    rank: int = 0
    address: str = "localhost"
    port: int = 0


def train(spec: Train, code: str, data: Path, manifest: Path, run_folder: Path, threads: int, waited: bool) -> None:
    """Train a run on several devices; arguments as of `nclens.workflow.stages.train.train`.

    Raises:
        SystemExit: a signal arrived; a checkpoint is written first.
        ValueError, FloatingPointError, OSError: as a process said, or a process was killed.
    """
    devices, tasks = spec.training.devices or 1, _tasks()
    if devices % tasks.total:
        raise ValueError(f"training.devices = {devices}: the job has {tasks.total} tasks, which must divide it")
    own = devices // tasks.total
    threads = max(1, threads // devices)
    what = RunFolder(run_folder).name
    with device_slots(spec.training.device, own, what) as names, tempfile.TemporaryDirectory() as folder:
        request = {
            **{"spec": plain(spec), "code": code, "data": str(data), "manifest": str(manifest)},
            **{"run": str(run_folder), "threads": threads, "waited": waited, "devices": names, "errors": folder},
        }
        _prepare_environment(threads, tasks)
        arguments = [*_options(own, tasks, folder), "--module", "nclens", "worker", json.dumps(request)]
        try:
            run(parse_args(arguments))
        except SignalException as stopped:
            raise SystemExit(128 + stopped.sigval) from None
        except ChildFailedError as failed:
            codes = {rank: int(failure.exitcode) for rank, failure in failed.failures.items()}
            _end(codes, Path(folder), devices)


def _tasks() -> _Tasks:
    """Return the tasks of this job, as the rule and Slurm say."""
    if TASKS not in os.environ:
        return _Tasks()
    try:
        rank, job = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_JOB_ID"])
        address = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
        return _Tasks(int(os.environ[TASKS]), rank, address, FIRST_PORT + job % PORTS)
    except (KeyError, ValueError) as error:
        raise ValueError(f"a job of several tasks needs Slurm: start them by `mpi: srun` ({error})") from None


def _options(processes: int, tasks: _Tasks, folder: str) -> list[str]:
    """Return the options of torchrun."""
    own = [f"--nproc-per-node={processes}", f"--log-dir={folder}"]
    if tasks.total == 1:
        return ["--standalone", "--local-addr=localhost", *own]
    meeting = [f"--node-rank={tasks.rank}", f"--master-addr={tasks.address}", f"--master-port={tasks.port}"]
    return [f"--nnodes={tasks.total}", *meeting, *own]


def _prepare_environment(threads: int, tasks: _Tasks) -> None:
    """Set what the processes find in their environment."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["PYTHONSAFEPATH"] = "1"  # no file of the current folder takes the place of a package
    if tasks.total == 1 and sys.platform == "linux":
        # Processes of one machine need none of its networks.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(PATIENCE))
    # That a network uses all its parameters is no fault.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # torchrun's messages repeat ours, in many lines.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _end(codes: dict[int, int], folder: Path, devices: int) -> NoReturn:
    """Say why processes ended, by their exit codes by rank: the first cause, not what followed from it."""
    stopped = {128 + number: number for number in (signal.SIGTERM, signal.SIGINT)}
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    errors = {int(path.stem): json.loads(path.read_text()) for path in folder.glob("[0-9]*.json")}
    for rank, number in sorted(killed.items()):
        raise OSError(
            f"the process of device {rank} of {devices} was killed by {signal.Signals(number).name}, and the others "
            "were ended; the same command goes on from the last checkpoint"
        )
    for _, error in sorted(errors.items()):
        if error["kind"] in SAID:
            raise SAID[error["kind"]](error["message"])
    if any(code in stopped for code in codes.values()):
        raise SystemExit(next(code for code in codes.values() if code in stopped))
    for rank, error in sorted(errors.items()):
        print(error["trace"], file=sys.stderr)
        raise OSError(f"the process of device {rank} of {devices} ended with {error['kind']}: {error['message']}")
    rank, code = min(codes.items())
    raise OSError(f"the process of device {rank} of {devices} ended with exit code {code}")


def record(error: BaseException, trace: str, folder: Path, rank: int) -> None:
    """Write what ended a process, for `train`."""
    kind = next((name for name, known in SAID.items() if isinstance(error, known)), type(error).__name__)
    content: dict[str, Any] = {"kind": kind, "message": str(error), "trace": trace}
    (folder / f"{rank}.json").write_text(json.dumps(content), encoding="utf-8")
