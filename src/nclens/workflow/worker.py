"""One of the processes that train a run on several devices; `nclens.workflow.launch` has it started by torchrun."""

import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

#: PR_SET_PDEATHSIG of <linux/prctl.h>.
END_WITH_PARENT = 1


def work(text: str) -> None:
    """Train as a JSON text says, and end with 0; with 128 and the number of a signal that stopped it; or with 1.

    What was wrong is then recorded.
    """
    _end_with_parent()
    request = json.loads(text)
    # Until the training handles it in its own way, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    from nclens.workflow.launch import record  # with PyTorch, which takes seconds to load

    try:
        _train(request)
    except Exception as error:
        record(error, traceback.format_exc(), Path(request["errors"]), int(os.environ["RANK"]))
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(1)  # what is left of the connections may wait for others for ever


def _train(request: dict[str, Any]) -> None:
    import torch

    from nclens.training.parallel import Processes
    from nclens.workflow.failures import enough_memory, lost_readers
    from nclens.workflow.specs import Train
    from nclens.workflow.specs.text import decoded
    from nclens.workflow.stages.train import train_on

    device = torch.device(request["devices"][int(os.environ["LOCAL_RANK"])])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")  # under another number it stands for a GPU in tests
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # older ones have no other
    spec = decoded(Train, request["spec"])
    data, manifest, run = (Path(request[key]) for key in ("data", "manifest", "run"))
    code, threads, waited = request["code"], request["threads"], request["waited"]
    with enough_memory(spec), lost_readers():
        parallel = Processes(device)
        try:
            train_on(device, parallel, spec, code, data, manifest, run, threads, waited)
        except SystemExit:  # of all processes, after the same step
            parallel.close()
            raise
        parallel.close()


def _end_with_parent() -> None:
    """Let the system kill this process with its parent: a job without it holds neither its devices nor its run."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
