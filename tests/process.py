"""Run `nclens`, Snakemake or a piece of Python in a process, without the seconds that importing PyTorch takes.

Each process is a fork of a server that has imported other people's packages once (multiprocessing's forkserver). The
server has not imported nclens: a process reads the package that comes first on its own path. A Snakemake of a test
starts its jobs so too, where `quick_jobs` comes first on its PATH.
"""

import atexit
import contextlib
import importlib
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The module that a command runs.
MODULES = {"nclens": "nclens", "snakemake": "snakemake"}


@cache
def _context():
    """Return the context of this process's server, which ends when this process does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    with contextlib.chdir(ROOT):  # where the server finds tests.preload
        forkserver.ensure_running()
    return context


def _start(command, folder, environment, files):
    """Be the command, which prints to files; never return."""
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    _become(command, folder, environment)


def _become(command, folder, environment):
    """Be the command; never return."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[:0] = filter(None, [*environment.get("PYTHONPATH", "").split(os.pathsep), str(ROOT / "src")])
    sys.argv = list(map(str, command))
    # The workflow has its jobs call the `nclens` beside its Python.
    jobs = Path(environment.get("PATH", "").split(os.pathsep)[0])
    if (jobs / "socket").exists():
        sys.executable = str(jobs / "python")
    assert "nclens" not in sys.modules
    code = 1
    try:
        if command[0] == "-c":
            code_text = compile(sys.argv.pop(1), "<string>", "exec")
            exec(code_text, {"__name__": "__main__"})
        else:
            runpy.run_module(MODULES[Path(command[0]).name], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Process:
    """A command in a folder, as `subprocess.Popen` starts it; what it prints goes to files.

    Args:
        command: `nclens` or `snakemake` with arguments, or `-c` with Python code.
        cwd: Folder in which it runs; this process's by default.
        env: Its environment; this process's by default.
    """

    def __init__(self, command, cwd=None, env=None):
        self.args = command
        self._said = tempfile.TemporaryDirectory()
        self._files = [Path(self._said.name, name) for name in ("stdout", "stderr")]
        arguments = (command, cwd or os.getcwd(), dict(env or os.environ), list(map(str, self._files)))
        self._process = _context().Process(target=_start, args=arguments)
        self._process.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def wait(self, timeout=None):
        """Return the exit code, negative for a signal."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """Wait, and return what it printed: standard output and standard error."""
        self.wait(timeout)
        return tuple(file.read_text(encoding="utf-8") if file.exists() else "" for file in self._files)


def run(command, cwd=None, env=None, check=False):
    """Run a command to its end, as `subprocess.run` does with `capture_output` and `text`."""
    process = Process(command, cwd, env)
    stdout, stderr = process.communicate()
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    if check:
        assert done.returncode == 0, stdout + stderr
    return done


def nclens(*arguments, cwd=None, env=None, check=True):
    """Run the command line."""
    return run(["nclens", *map(str, arguments)], cwd, env, check)


def python(code, *arguments, cwd=None, check=True):
    """Run Python code with arguments."""
    return run(["-c", code, *map(str, arguments)], cwd, check=check)


def wait_for(file, process, seconds=60):
    """Wait until a running process has written a file."""
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)


#: `nclens` on the PATH of a Snakemake: asks the server for a fork that has its output, and ends as that one does. The
#: fork has imported PyTorch and MLflow: the workflow's own servers would do so again for each Snakemake.
CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
os.environ.pop("NCLENS_FORKSERVER", None)
text = json.dumps([["nclens", *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
server.sendall(text)
sys.exit(int(server.recv(16) or b"1"))
"""


def _serve(address):
    """Start a job for each client, and tell it how the job ended; a client that dies takes its job with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)  # a client waits from here on
        importlib.import_module("tests.preload_jobs")
        while True:
            client, _ = listener.accept()
            if not os.fork():
                listener.close()
                _attend(client)
            client.close()


def _attend(client):
    """Run a client's job; never return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += client.recv(1 << 20)
    job = os.fork()
    if not job:
        client.close()
        multiprocessing.current_process().daemon = False  # a job may start processes
        for stream, descriptor in enumerate(streams):
            os.dup2(descriptor, stream)
        _become(*json.loads(text))
    for descriptor in streams:
        os.close(descriptor)
    while (ended := os.waitpid(job, os.WNOHANG))[0] == 0:
        if select.select([client], [], [], 0.02)[0]:  # the client has gone: it sends nothing more
            os.kill(job, signal.SIGTERM)
            os.waitpid(job, 0)
            os._exit(1)
    client.sendall(str(os.waitstatus_to_exitcode(ended[1]) % 256).encode())
    os._exit(0)


@cache
def quick_jobs():
    """Return a folder whose `nclens` is a fork of this process's server."""
    folder = Path(tempfile.mkdtemp(prefix="nclens-"))  # a socket's path is short
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address = str(folder / "socket")
    _context().Process(target=_serve, args=(address,), daemon=True).start()
    client = folder / "nclens"
    client.write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    for program in (client, python):
        program.chmod(0o755)
    return folder
