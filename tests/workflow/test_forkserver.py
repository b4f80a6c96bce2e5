"""The fork server: a job runs in it as it would alone, and ends as it would alone."""

import os
import pkgutil
import signal
import stat
import sys
import time

import pytest

from nclens.workflow import forkserver
from nclens.workflow import stages as package

pytestmark = [
    pytest.mark.lengthy,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere jobs run in their own processes"),
]

#: A job of the tests: its import is counted, its first argument says what it does.
JOB = """
import os, pathlib, signal, sys, time
with open({count!r}, "a") as file:
    file.write("imported\\n")

def work(arguments):
    what, *rest = arguments
    if what == "tell":
        print(os.getcwd(), os.environ["TOLD"], sys.stdin.read(), *rest)
        print("a warning", file=sys.stderr)
        pathlib.Path("made").touch()
        return 3
    pathlib.Path(rest[0]).write_text(str(os.getpid()))
    if what == "handle":
        def handler(number, frame):
            print("received", number)
            sys.stdout.flush()
            os._exit(128 + number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, handler)
        pathlib.Path(rest[0] + ".ready").touch()
    time.sleep(float(rest[1]))
    return 0
"""


def streams():
    """Return the standard streams, of which pytest has made others."""
    return [open(number, mode, closefd=False, errors="surrogateescape") for number, mode in enumerate("rww")]


class Server:
    """A server in a fork of this process, whose jobs are those of the module above."""

    def __init__(self, folder, monkeypatch, module="own_{stage}"):
        self.folder, self.count = folder, folder / "count"
        (folder / "own_job.py").write_text(JOB.format(count=str(self.count)), encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(forkserver, "SERVERS", {"compute": ("job",)})
        monkeypatch.setattr(forkserver, "MODULE", module)
        monkeypatch.setenv(forkserver.VARIABLE, str(folder))
        for name, value in forkserver.ONE_THREAD.items():
            monkeypatch.setenv(name, value)
        listening = forkserver.socket.socket(forkserver.socket.AF_UNIX)
        listening.bind(str(folder / "compute"))
        listening.listen(10)
        reading, self._workflow = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._workflow)
            os.dup2(reading, 0)
            self._serve(listening.detach())
        os.close(reading)
        listening.close()

    def _serve(self, descriptor):
        code = 1
        try:
            _, sys.stdout, sys.stderr = streams()
            arguments = forkserver.serve(descriptor)
            sys.stdin = streams()[0]
            code = 0 if arguments is None else sys.modules["own_job"].work(arguments[1:])
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def end(self):
        """Let the workflow end; return the server's exit code."""
        if self._workflow is not None:
            os.close(self._workflow)
            self._workflow = None
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_every_stage_but_the_light_and_the_long_one_is_started_by_a_server():
    stages = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert {stage for served in forkserver.SERVERS.values() for stage in served} == stages - {"resolve", "train"}
    assert package.__name__ == forkserver.MODULE.removesuffix(".{stage}")


class Client:
    """A process that hands a job over; 99 stands for `None`, what no server takes."""

    def __init__(self, folder, *arguments, cwd=None, text=b""):
        self.said = folder / f"said{time.monotonic_ns()}"
        source, sink = os.pipe()
        os.write(sink, text)
        os.close(sink)
        self.pid = os.fork()
        if self.pid == 0:
            output = os.open(self.said, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(source, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            _, sys.stdout, sys.stderr = streams()
            os.chdir(cwd or folder)
            code = forkserver.hand_over(["job", *map(str, arguments)])
            sys.stderr.flush()
            os._exit(99 if code is None else code)
        os.close(source)

    def wait(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def appeared(file, seconds=20):
    deadline = time.monotonic() + seconds
    while not file.exists() or not (file.stat().st_size or file.suffix == ".ready"):
        assert time.monotonic() < deadline, f"no {file.name}"
        time.sleep(0.01)
    return file


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def environment(pid, seconds=20):
    """Return the process's variables; they read as none at the very moment at which it becomes its program."""
    deadline = time.monotonic() + seconds
    while not (content := forkserver.Path(f"/proc/{pid}/environ").read_bytes()):
        assert time.monotonic() < deadline, "no variables"
        time.sleep(0.01)
    return {*content.split(b"\0")}


def ended(pid, seconds=20):
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = Server(tmp_path, monkeypatch)
    yield server
    server.end()


def test_a_job_has_its_folder_environment_streams_and_umask(tmp_path, monkeypatch, server):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("TOLD", "\udc80 ä")
    mask = os.umask(0o027)
    try:
        client = Client(tmp_path, "tell", "an argument", cwd=tmp_path / "elsewhere", text=b"read")
    finally:
        os.umask(mask)
    assert client.wait() == 3
    said = client.said.read_bytes()
    assert said.startswith(b"%s \x80 \xc3\xa4 read an argument\n" % os.fsencode(tmp_path / "elsewhere"))
    assert b"a warning" in said
    assert stat.S_IMODE((tmp_path / "elsewhere" / "made").stat().st_mode) == 0o640


def test_jobs_run_side_by_side_and_packages_are_imported_once(tmp_path, server):
    clients = [Client(tmp_path, "sleep", tmp_path / f"job{n}", 1) for n in range(3)]
    pids = [int(appeared(tmp_path / f"job{n}").read_text()) for n in range(3)]
    assert all(map(alive, pids))
    assert len({*pids}) == 3
    assert [client.wait() for client in clients] == [0, 0, 0]
    assert server.count.read_text() == "imported\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_job(tmp_path, server, number):
    client = Client(tmp_path, "handle", tmp_path / "job", 20)
    appeared(tmp_path / "job.ready")
    os.kill(client.pid, number)
    assert client.wait() == 128 + number
    assert client.said.read_text() == f"received {number:d}\n"


def test_a_killed_job_kills_its_client_by_the_same_signal(tmp_path, server):
    client = Client(tmp_path, "sleep", tmp_path / "job", 20)
    os.kill(int(appeared(tmp_path / "job").read_text()), signal.SIGKILL)
    assert client.wait() == -signal.SIGKILL


def test_a_killed_client_takes_its_job_with_it(tmp_path, server):
    client = Client(tmp_path, "sleep", tmp_path / "job", 20)
    job = int(appeared(tmp_path / "job").read_text())
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    assert ended(job)
    assert Client(tmp_path, "sleep", tmp_path / "next", 0).wait() == 0


def test_a_killed_server_takes_its_jobs_with_it_and_later_ones_run_alone(tmp_path, server):
    client = Client(tmp_path, "sleep", tmp_path / "job", 20)
    job = int(appeared(tmp_path / "job").read_text())
    os.kill(server.pid, signal.SIGKILL)
    assert client.wait() == 1
    assert "nclens job: the process that started this job was killed" in client.said.read_text()
    assert ended(job)
    assert Client(tmp_path, "sleep", tmp_path / "next", 0).wait() == 99


def test_jobs_outlive_the_workflow_and_the_server_ends_after_them(tmp_path, server):
    client = Client(tmp_path, "sleep", tmp_path / "job", 0.5)
    appeared(tmp_path / "job")
    assert server.end() == 0
    assert client.wait() == 0
    server.end = lambda: None


def test_another_installation_runs_its_jobs_alone(tmp_path, monkeypatch, server):
    monkeypatch.setattr(forkserver, "_installation", lambda: ["/another"])
    assert Client(tmp_path, "sleep", tmp_path / "job", 0).wait() == 99
    assert not server.count.exists()


def test_a_link_to_the_environment_is_the_same_installation(tmp_path, monkeypatch):
    known = forkserver._installation()
    (tmp_path / "linked").symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "linked"))
    assert forkserver._installation() == known


def test_a_job_of_several_threads_runs_alone_and_one_that_takes_no_core_has_one(tmp_path, monkeypatch, server):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert Client(tmp_path, "sleep", tmp_path / "job", 0).wait() == 99
    for name in forkserver.ONE_THREAD:
        monkeypatch.setenv(name, "0")
    assert Client(tmp_path, "sleep", tmp_path / "job", 0).wait() == 0
    assert forkserver.hand_over([]) is None
    assert os.environ["OMP_NUM_THREADS"] == "1"  # for a job that runs alone too


def test_what_cannot_be_imported_is_said_by_the_job_itself(tmp_path, monkeypatch):
    server = Server(tmp_path, monkeypatch, module="no_such_{stage}")
    assert Client(tmp_path, "sleep", tmp_path / "job", 0).wait() == 99
    server.end()


def test_without_a_server_and_for_other_commands_there_is_no_fork(tmp_path, monkeypatch):
    monkeypatch.delenv(forkserver.VARIABLE, raising=False)
    assert forkserver.hand_over(["extract"]) is None
    monkeypatch.setenv(forkserver.VARIABLE, str(tmp_path))  # no socket there
    assert forkserver.hand_over(["extract"]) is None
    assert forkserver.hand_over(["train"]) is None
    assert forkserver.hand_over([]) is None


def test_servers_start_light_are_private_and_end_with_the_workflow(monkeypatch):
    registered = []
    monkeypatch.setattr(forkserver.atexit, "register", lambda *call: registered.append(call))
    monkeypatch.setenv(forkserver.VARIABLE, "/of/another/workflow")
    forkserver.start(here=True)
    folder = forkserver.Path(os.environ[forkserver.VARIABLE])
    (stop, servers, stopped), *_ = registered
    assert stopped == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"compute", "record"}
    assert all(server.poll() is None for server in servers)
    for server in servers:
        variables = environment(server.pid)
        assert {b"%s=1" % name.encode() for name in forkserver.ONE_THREAD} <= variables
    stop(servers, folder)
    assert [server.returncode for server in servers] == [0, 0]
    assert not folder.exists()
    forkserver.start(here=False)  # a job on a cluster
    assert forkserver.VARIABLE not in os.environ


def test_servers_of_a_killed_workflow_end_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    workflow = os.fork()
    if workflow == 0:
        forkserver.start(here=True)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(workflow, 0)[1]) == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while any(tmp_path.iterdir()):
        assert time.monotonic() < deadline, [*tmp_path.rglob("*")]
        time.sleep(0.05)
