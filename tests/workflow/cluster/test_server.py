"""The shared tracking server, PostgreSQL and MLflow as `make server` starts them: stopped, started, with passwords."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg2
import pytest
import requests
import yaml

from tests.process import Process, nclens
from tests.project import ROOT, Place, shortened

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(900)]

PASSWORD, WRONG, OTHERS = "horse-battery-72", "staple-battery-72", "second-battery-72"
RUNS = {f"mnist5k/resnet8/{loss}/seed0" for loss in ("ce", "ls")}


class Server:
    """`make server` in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.words = ""

    def run(self, *options, **environment):
        command = [sys.executable, str(ROOT / "envs" / "server.py"), str(self.folder), "--port", str(self.port)]
        return subprocess.Popen(
            [*command, *options],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell without job control has its background jobs ignore Ctrl-C, and they hand that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def start(self, *options, **environment):
        """Start and wait until it says where it is; skip the tests where the machine has no PostgreSQL for it."""
        self.process = self.run(*options, **environment)
        for line in self.process.stdout:
            self.words += line
            if line.startswith("export"):
                assert line.strip() == f"export MLFLOW_TRACKING_URI={self.address}"
                return
        error = self.process.communicate()[1]
        if "PostgreSQL" in error:
            pytest.skip(error)
        raise AssertionError(error)

    def stop(self, how=signal.SIGINT):
        """Stop it as Ctrl-C does; return its exit code."""
        self.process.send_signal(how)
        self.words += "".join(self.process.communicate(timeout=60))
        return self.process.returncode

    def living(self):
        """Processes that have the folder in their command."""
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        return [command for command in commands if any(str(self.folder) in part for part in command)]

    def ask(self, path, user=None, **content):
        answer = requests.post(f"{self.address}/api/2.0/mlflow/{path}", json=content, auth=user, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def runs(self, user=None):
        ids = [item["experiment_id"] for item in self.ask("experiments/search", user, max_results=9)["experiments"]]
        return self.ask("runs/search", user, experiment_ids=ids).get("runs", [])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The smoke study with one seed, a shorter training and one figure, not run yet."""
    place = Place.copy_to(tmp_path_factory.mktemp("server") / "nclens")
    study = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    smoke = study["experiments"]["smoke"] | {"seeds": [0], "snapshots": [2]}
    study["experiments"] = {"smoke": smoke | {"training": {"epochs": 2, "batch_size": 40}}}
    place.configure(shortened(study, "norms"))
    place.quick_jobs = True
    return place


@pytest.fixture(scope="module")
def server():
    """A server, started once; PostgreSQL's own user must be able to reach its folder."""
    folder = Path(tempfile.mkdtemp(prefix="nclens-server-"))
    folder.chmod(0o755)
    server = Server(folder)
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop(signal.SIGTERM)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def interrupted(place, server):
    """The study run while the server is stopped, as soon as its first run is there; what Snakemake said."""
    server.start()
    environment = place.environment(MLFLOW_TRACKING_URI=server.address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    process = Process(place.command("--cores", "2"), place.folder, environment)
    try:
        while not server.runs():  # mostly still under way; on a busy machine it may have ended between two looks
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        code = server.stop()
        process.wait(600)
    finally:
        process.kill()
    assert code == 0
    assert server.living() == []
    return process.returncode, "".join(process.communicate())


@pytest.fixture(scope="module")
def completed(place, server, interrupted):
    """The study recorded to its end by a second run, on the same server with passwords; what it said."""
    place.planned_then = place.planned()
    server.start("--auth", MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD)
    done = place.snakemake(
        "--cores",
        "2",
        MLFLOW_TRACKING_URI=server.address,
        MLFLOW_TRACKING_USERNAME="admin",
        MLFLOW_TRACKING_PASSWORD=PASSWORD,
    )
    return done.stdout + done.stderr


def record(place, what, spec, **environment):
    """Run one `nclens track`."""
    arguments = ["track", what, "--spec", json.dumps(spec), "--root", "results/smoke"]
    return nclens(*arguments, cwd=place.folder, env=place.environment(**environment), check=False)


def test_a_server_that_stops_fails_track_jobs_only(place, interrupted, completed):
    code, output = interrupted
    assert code != 0
    assert "nobody answers there" in output
    assert "finished work is kept" in output
    assert "Traceback" not in output
    assert place.path("results/smoke/report.html").is_file()
    failed = set(re.findall(r"Error in rule (\w+)", output))
    assert failed <= {"track", "track_study"}
    assert {job.split("_")[0] for job in place.planned_then} == {"track"}


def test_a_rerun_completes_the_record_and_nothing_is_there_twice(place, server, completed):
    admin = ("admin", PASSWORD)
    runs = server.runs(admin)
    assert sorted(run["info"]["run_name"] for run in runs) == sorted([*RUNS, "study"])
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    experiment = runs[0]["info"]["experiment_id"]
    models = server.ask("logged-models/search", admin, experiment_ids=[experiment])["models"]
    sources = [model["info"]["source_run_id"] for model in models]
    assert sorted(sources) == sorted(run["info"]["run_id"] for run in runs if run["info"]["run_name"] != "study")
    # Artifacts went through the server into its folder.
    (run,) = (run for run in runs if run["info"]["run_name"] == min(RUNS))
    assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
    kept = server.folder / "artifacts" / experiment / run["info"]["run_id"] / "artifacts" / "metrics.csv"
    assert kept.read_bytes() == place.path("results/smoke", min(RUNS), "metrics.csv").read_bytes()
    assert "Nothing to be done" in place.snakemake("--dry-run").stdout


def test_a_record_deleted_on_the_server_is_made_again_with_a_password_in_the_address(place, server, completed):
    admin = ("admin", PASSWORD)
    (run,) = (run["info"] for run in server.runs(admin) if run["info"]["run_name"] == min(RUNS))
    server.ask("runs/delete", admin, run_id=run["run_id"])
    target = f"results/smoke/{min(RUNS)}/mlflow.json"
    place.path(target).unlink()
    address = server.address.replace("//", f"//admin:{PASSWORD}@")
    done = place.snakemake("--cores", "1", target, MLFLOW_TRACKING_URI=address)
    assert sorted(run["info"]["run_name"] for run in server.runs(admin)) == sorted([*RUNS, "study"])
    assert PASSWORD not in done.stdout + done.stderr
    assert json.loads(place.path(target).read_text())["uri"] == server.address


@pytest.mark.parametrize(
    ("address", "variables", "words"),
    [
        ("{http}", {}, "user and password are missing or wrong: set MLFLOW_TRACKING_USERNAME"),
        ("{http}", {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": WRONG}, "missing or wrong"),
        ("{wrong}", {}, "missing or wrong"),
        ("http://no-such-host.invalid:5000", {}, "there is no such host"),
        ("postgresql://mlflow:{password}@127.0.0.1:9/mlflow", {}, "Connection refused"),
        ("postgresql://mlflow:{password}@/nowhere?host={socket}", {}, 'database "nowhere" does not exist'),
        ("postgresql://mlflow:{password}@/template1?host={socket}", {}, "it is not MLflow's, but holds people"),
    ],
    ids=[
        "no user",
        "password",
        "password in the address",
        "host",
        "database's host",
        "no database",
        "other's database",
    ],
)
def test_a_wrong_address_is_one_message(place, server, completed, address, variables, words):
    if "template1" in address:
        with psycopg2.connect(host=str(server.folder / "socket"), user="mlflow", dbname="template1") as database:
            database.cursor().execute("create table people (id int)")
    wrong = server.address.replace("//", f"//admin:{WRONG}@")
    uri = address.format(http=server.address, wrong=wrong, password=PASSWORD, socket=server.folder / "socket")
    start = time.monotonic()
    done = record(place, "setup", {"study": "smoke"}, MLFLOW_TRACKING_URI=uri, **variables)
    assert time.monotonic() - start < 50  # as promised for a server, and what a busy machine needs to start Python
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.startswith("nclens track: the tracking server ")
    assert done.stderr.count("\n") == 1
    assert PASSWORD not in done.stderr
    assert WRONG not in done.stderr


def test_a_user_who_may_not_write_is_told_so(place, server, completed):
    server.ask("users/create", ("admin", PASSWORD), username="guest", password=OTHERS)
    spec = {"study": "smoke", "title": "", "files": ["study.yaml"]}
    variables = {"MLFLOW_TRACKING_USERNAME": "guest", "MLFLOW_TRACKING_PASSWORD": OTHERS}
    done = record(place, "study", spec, MLFLOW_TRACKING_URI=server.address, **variables)
    assert done.returncode == 1
    assert "this user may not write there" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_password_is_anywhere(place, server, interrupted, completed):
    """The last test of the server: it is stopped, and everything that anybody wrote is searched."""
    assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert server.living() == []
    files = [path for folder in (place.folder, server.folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 200
    said = [("output", text.encode()) for text in (*interrupted, completed, server.words) if isinstance(text, str)]
    for name, content in [*said, *((path, path.read_bytes()) for path in files)]:
        assert not any(secret.encode() in content for secret in (PASSWORD, WRONG, OTHERS)), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: others could write there; allowed without --auth: 127.0.0.1"),
        (["--port", "70000"], "cannot listen on 127.0.0.1:70000"),
        (["--auth"], "set MLFLOW_AUTH_ADMIN_PASSWORD (12 characters or more)"),
    ],
)
def test_a_server_that_cannot_start_says_why(tmp_path, options, words):
    server = Server(tmp_path / "server")
    process = server.run(*options)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    if "PostgreSQL" in error:
        pytest.skip(error)
    assert error.startswith("make server: ")
    assert words in error
    assert error.count("\n") == 1
    assert server.living() == []
