"""Jobs as forks of a process that has imported their packages, which alone takes seconds of processor time a job.

The workflow starts two servers. `nclens` hands its arguments, environment, folder and standard streams to one of them,
which forks a process for them; signals are passed on, and the exit code comes back. A job for which there is no server
runs in its own process: on a cluster's nodes, in another software environment, and where the system is not Linux, since
other systems' libraries may not survive a fork.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from nclens.workflow.streams import THREADS

#: Names the folder of the servers' sockets.
VARIABLE = "NCLENS_FORKSERVER"
#: Servers, and the stages whose jobs they start. Training is long, and Snakemake measures its process.
SERVERS = {
    "compute": (
        "prepare",
        "ingest",
        "extract",
        "measure",
        "probe",
        "theory",
        "reuse",
        "collect",
        "predict",
        "judge",
        "draw",
        "report",
    ),
    "record": ("track",),
}
#: The module of a stage, which a server imports when the stage's first job arrives.
MODULE = "nclens.workflow.stages.{stage}"
#: A function of that module, called then: it imports what the stage imports while it runs.
WARM_UP = "warm_up"
#: The environment of a job of one thread.
ONE_THREAD = dict.fromkeys(THREADS, "1")
REFUSED = "refused"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: PR_SET_PDEATHSIG of <linux/prctl.h>.
END_WITH_PARENT = 1
#: Seconds that a client may take to send its request.
PATIENCE = 10


def _installation() -> list[str]:
    """Return what the client and the server must share: the Python environment, under any name, and the package."""
    return [os.path.realpath(sys.prefix), str(Path(__file__).parents[1])]


# --- the workflow ----------------------------------------------------------------------------------------------------


def start(here: bool) -> None:
    """Start the servers of a workflow, which import nothing until a job arrives; they end with this process.

    A job on a cluster is a workflow too, which takes no part: its job stays within what the cluster gave it.
    """
    os.environ.pop(VARIABLE, None)
    if not here or sys.platform != "linux":
        return
    folder = Path(tempfile.mkdtemp(prefix="nclens-"))
    servers = []
    with contextlib.suppress(OSError):  # a path too long for a socket: jobs then start as usual
        for name in SERVERS:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(folder / name))
                listening.listen(1000)
                # -P: no file of the current folder takes the place of a package.
                command = [sys.executable, "-P", "-m", "nclens", "forkserver", str(listening.fileno())]
                # In a session to itself: a Ctrl-C reaches the jobs once, through their clients.
                servers.append(
                    subprocess.Popen(
                        command,
                        env=os.environ | ONE_THREAD,
                        stdin=subprocess.PIPE,
                        pass_fds=[listening.fileno()],
                        start_new_session=True,
                    )
                )
        os.environ[VARIABLE] = str(folder)
    atexit.register(_stop, servers, folder)


def _stop(servers: "list[subprocess.Popen[bytes]]", folder: Path) -> None:
    for server in servers:
        assert server.stdin is not None
        server.stdin.close()
    for server in servers:
        with contextlib.suppress(subprocess.TimeoutExpired):  # a job of a killed workflow may go on
            server.wait(timeout=5)
    shutil.rmtree(folder, ignore_errors=True)


# --- the client ------------------------------------------------------------------------------------------------------


def hand_over(arguments: list[str]) -> int | None:
    """Run a command as a fork of its server; return its exit code, or None where no server takes it."""
    if os.environ.get("OMP_NUM_THREADS") == "0":  # of a job that takes no core, a number that libraries refuse
        os.environ.update(ONE_THREAD)
    name = next((name for name, stages in SERVERS.items() if arguments and arguments[0] in stages), None)
    folder = os.environ.get(VARIABLE)
    if name is None or not folder or not os.environ.items() >= ONE_THREAD.items():
        return None
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(f"{folder}/{name}")
        except OSError:
            return None

        umask = os.umask(0)
        os.umask(umask)
        request = {
            "arguments": arguments,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "umask": umask,
            "installation": _installation(),
        }
        answer = _ask(server, json.dumps(request).encode())
    if answer == REFUSED:
        return None
    if not answer:
        print(f"nclens {arguments[0]}: the process that started this job was killed", file=sys.stderr)
        return 1
    if int(answer) < 0:  # as its parent would see it
        os.kill(os.getpid(), -int(answer))
    return int(answer)


def _ask(server: socket.socket, request: bytes) -> str:
    """Send a request with the standard streams, then signals; return the answer, empty where the server was killed."""

    def forward(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            server.sendall(bytes([number]))

    try:
        socket.send_fds(server, [len(request).to_bytes(8, "little")], [0, 1, 2])
        server.sendall(request)
        for number in FORWARDED:
            signal.signal(number, forward)
        return server.recv(100).decode()
    except OSError:
        return ""
    finally:
        for number in FORWARDED:
            signal.signal(number, signal.SIG_DFL)


# --- the server ------------------------------------------------------------------------------------------------------


@dataclass
class _Request:
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    umask: int
    installation: list[str]
    streams: list[int] = field(default_factory=list)


def serve(descriptor: int) -> list[str] | None:
    """Serve until the workflow has ended and all jobs with it; return None then, and in each fork its arguments."""
    request = _Server(socket.socket(fileno=descriptor)).run()
    if request is None:
        return None
    os.chdir(request.folder)
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(request.environment)
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    random.seed()
    return request.arguments


class _Server:
    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._jobs: dict[int, socket.socket] = {}
        self._imported: set[str] = set()

    def run(self) -> _Request | None:
        """Return None at the end, and in each fork its request."""
        woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._selector.register(0, selectors.EVENT_READ, self._end)  # closed when the workflow ends, however it does
        self._selector.register(woken, selectors.EVENT_READ, lambda: os.read(woken, 1000) and None)
        while self._listening.fileno() >= 0 or self._jobs:
            for key, _ in self._selector.select():
                request = key.data()
                if request is not None:
                    signal.set_wakeup_fd(-1)
                    os.close(woken)
                    os.close(waking)
                    return request
            self._reap()
        return None

    def _end(self) -> None:
        """Take no more jobs, and remove the socket, and the folder behind the last one: a killed workflow cannot."""
        self._selector.unregister(0)
        self._selector.unregister(self._listening)
        path = Path(self._listening.getsockname())
        self._listening.close()
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()

    def _accept(self) -> _Request | None:
        client, _ = self._listening.accept()
        request = _receive(client)
        if request is None or not self._takes(request):
            with contextlib.suppress(OSError):
                client.sendall(REFUSED.encode())
            client.close()
            for stream in request.streams if request else ():
                os.close(stream)
            return None
        child = os.fork()
        if child == 0:
            self._forget(client)
            return request
        for stream in request.streams:
            os.close(stream)
        self._jobs[child] = client
        self._selector.register(client, selectors.EVENT_READ, lambda: self._pass_on(child))
        return None

    def _takes(self, request: _Request) -> bool:
        """Return whether the client is of this installation; import what its job needs."""
        if request.installation != _installation():
            return False
        stage = request.arguments[0]
        if stage not in self._imported:
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking CUDA itself would keep the forks from using it
            try:
                importlib.import_module("nclens.cli")
                getattr(importlib.import_module(MODULE.format(stage=stage)), WARM_UP, bool)()
            except Exception:
                return False  # in its own process the job says what is wrong
            gc.collect()
            gc.freeze()
            self._imported.add(stage)
        return True

    def _forget(self, client: socket.socket) -> None:
        """Close in a fork what is the server's."""
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)  # a job without its server reports to nobody
        self._selector.close()
        for other in (self._listening, client, *self._jobs.values()):
            other.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _pass_on(self, child: int) -> None:
        """Pass a client's signals on to its job, and its end."""
        client = self._jobs[child]
        try:
            received = client.recv(100)
        except OSError:
            received = b""
        for number in received or [signal.SIGKILL]:
            os.kill(child, number)
        if not received:
            self._selector.unregister(client)

    def _reap(self) -> None:
        for child, client in list(self._jobs.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with contextlib.suppress(OSError):
                    client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                with contextlib.suppress(KeyError):
                    self._selector.unregister(client)
                client.close()
                del self._jobs[child]


def _receive(client: socket.socket) -> _Request | None:
    """Return what a client requests; None where it was killed meanwhile."""
    client.settimeout(PATIENCE)
    streams: list[int] = []
    try:
        length, streams, _, _ = socket.recv_fds(client, 8, 3)
        wanted, text = int.from_bytes(length, "little"), b""
        while len(text) < wanted and (more := client.recv(wanted - len(text))):
            text += more
        content: dict[str, Any] = json.loads(text)
        client.settimeout(None)
        return _Request(**content, streams=streams)
    except (OSError, ValueError, TypeError):
        for stream in streams:
            os.close(stream)
        return None
