"""A tracking server on this machine: PostgreSQL, and MLflow on it, which also keeps the artifacts. `make server`.

    python envs/server.py [FOLDER] [--port 5000] [--host 127.0.0.1] [--auth]
    python envs/server.py --ui [--port 5000]

Both run in the foreground until Ctrl-C, which stops both. All they keep is in FOLDER (docs/server.md). PostgreSQL
listens on a socket in FOLDER and on no network. It refuses root: started by root it runs as the user `postgres`.

With `--ui` only MLflow's UI is started, on the database that MLFLOW_TRACKING_URI names or on mlflow.db. `make ui`.
"""

import argparse
import contextlib
import ipaddress
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
START_SECONDS = 120  # that a server may take to answer; MLflow needs ten on an idle machine
#: What every server of ours is started with: it sends nothing to its makers, and no study starts jobs on it.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
# A password is checked again once a minute and worker: MLflow's check takes a quarter of a second of computing, and a
# run is recorded in 170 requests. So a changed password is known everywhere after a minute.
AUTH = """\
[mlflow]
default_permission = READ
database_uri = {database}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


class ServerError(Exception):
    """Why there is no server, in one message."""


def main() -> None:
    """Run both servers until one of them ends or this process is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("server"), help="where everything is kept")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--auth", action="store_true", help=f"ask for user and password; {PASSWORD} is the first one")
    parser.add_argument("--ui", action="store_true", help="start the UI of what is recorded here, and nothing else")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if asked.ui:
            show(asked.host, asked.port)
        with contextlib.suppress(KeyboardInterrupt):
            run(asked.folder.resolve(), asked.host, asked.port, asked.auth)
    except ServerError as error:
        sys.exit(f"make {'ui' if asked.ui else 'server'}: {error}")


def run(folder: Path, host: str, port: int, auth: bool) -> None:
    """Start PostgreSQL, then MLflow, and wait; stop them in the other order."""
    if not auth and not is_loopback(host):
        raise ServerError(f"--host {host}: others could write there; allowed without --auth: 127.0.0.1")
    if auth and not (folder / "auth.ini").exists() and len(os.environ.get(PASSWORD, "")) < 12:
        raise ServerError(f"--auth: set {PASSWORD} (12 characters or more) for the first start: that of the user admin")
    check_port(host, port)
    folder.mkdir(parents=True, exist_ok=True)
    with postgres(folder) as (database, uri), mlflow(folder, uri, host, port, auth) as server:
        print(f"The tracking server is at http://{host}:{port}; what it keeps is in {folder}; Ctrl-C stops it.")
        print(f"export MLFLOW_TRACKING_URI=http://{host}:{port}", flush=True)
        while server.poll() is None and database.poll() is None:
            time.sleep(0.5)
        ended = "mlflow" if server.poll() is not None else "postgres"
        raise ServerError(f"{ended} ended by itself: {last_words(folder / f'{ended}.log')}")


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run PostgreSQL on FOLDER/database; yield its process and the address of MLflow's database in it."""
    binaries, user, log = postgres_binaries(), postgres_user(), folder / "postgres.log"
    data, sockets = folder / "database", folder / "socket"
    for place in (data, sockets):
        place.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            shutil.chown(place, user)
    if len(f"{sockets}/.s.PGSQL.5432") > 107:
        raise ServerError(f"{folder}: too long a path for a socket, which may have 107 characters")
    as_user: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    if not (data / "PG_VERSION").exists():
        # Whoever can open the socket is trusted: its folder lets in its owner and root only.
        options = ["--username=mlflow", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--no-locale"]
        call([binaries / "initdb", f"--pgdata={data}", *options], log, cwd="/", **as_user)
    command = [binaries / "postgres", "-D", data, "-k", sockets, "-h", ""]
    with child(command, log, signal.SIGINT, cwd="/", **as_user) as process:
        call_until([binaries / "pg_isready", "--quiet", "-h", sockets], process, log)
        listed = call([binaries / "psql", "-h", sockets, "-U", "mlflow", "-lqtA", "postgres"], log)
        if not any(line.startswith("mlflow|") for line in listed.splitlines()):
            call([binaries / "createdb", "-h", sockets, "-U", "mlflow", "mlflow"], log)
        yield process, f"postgresql://mlflow@/mlflow?host={quote(str(sockets), safe='')}"


@contextlib.contextmanager
def mlflow(folder: Path, uri: str, host: str, port: int, auth: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on that database, with its artifacts in FOLDER/artifacts; yield its process."""
    log = folder / "mlflow.log"
    environment = {
        **{key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
        **QUIET,
    }
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host, "--port", port]
    command += ["--serve-artifacts", "--artifacts-destination", folder / "artifacts", "--workers", 2]
    if auth:
        command += ["--app-name", "basic-auth"]
        environment |= access_control(folder, uri)
    with child(command, log, signal.SIGTERM, env=environment, cwd=folder) as process:
        wait_for(f"http://{host}:{port}/health", process, log)
        yield process


def access_control(folder: Path, uri: str) -> dict[str, str]:
    """Write the configuration of MLflow's basic-auth app, without a password; return what to set for it."""
    configuration, secret = folder / "auth.ini", folder / "secret"
    configuration.write_text(AUTH.format(database=uri.replace("%", "%%")), encoding="utf-8")
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(32), encoding="utf-8")
    return {"MLFLOW_AUTH_CONFIG_PATH": str(configuration), "MLFLOW_FLASK_SERVER_SECRET_KEY": secret.read_text("utf-8")}


# --- the UI alone ----------------------------------------------------------------------------------------------------


def show(host: str, port: int) -> NoReturn:
    """Become MLflow's server, with one worker; a process beside it prints the studies' links once it answers, and ends.

    Where MLFLOW_TRACKING_URI is a server, its UI is there already: the links are printed and nothing is started.
    """
    command = [sys.executable, "-m", "nclens", "ui-links", "--port", str(port)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if found.returncode or uri.lower().startswith(("http://", "https://")):
        print(found.stdout, end="")
        sys.exit(found.returncode)
    check_port(host, port)
    announce(f"{found.stdout}Ctrl-C stops the UI.", f"http://{host}:{port}/health", os.getpid())
    # Its address may hold a password, so it is in the environment and in no command line.
    environment = {**os.environ, **QUIET, "MLFLOW_BACKEND_STORE_URI": uri, "PYTHONWARNINGS": "ignore"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    options = ["--host", host, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level error"]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "server", *options], environment)


def announce(text: str, address: str, server: int) -> None:
    """Print a text once a server answers, from a process that ends with it or with the server and is nobody's child."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with contextlib.suppress(ProcessLookupError):
            while not answers(address):
                os.kill(server, 0)
                time.sleep(0.2)
            print(text, flush=True)
    os._exit(0)


# --- processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def child(command: list[Any], log: Path, stop: signal.Signals, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server with its words in a log; stop it when the block ends. Ctrl-C in the terminal does not reach it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        # What it started and did not end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def call(command: list[Any], log: Path, **options: Any) -> str:
    """Run a command to its end and return what it prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    if done.returncode:
        with log.open("a") as file:
            file.write(done.stdout + done.stderr)
        raise ServerError(f"{Path(command[0]).name} failed: {last_words(log)}")
    return done.stdout


def call_until(command: list[Any], process: subprocess.Popen[bytes], log: Path) -> None:
    """Repeat a command until it succeeds, for as long as the server that it asks lives."""
    wait(lambda: subprocess.run(list(map(str, command)), check=False).returncode == 0, process, log)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something answers at an address, for as long as the server there lives."""
    wait(lambda: answers(address), process, log)


def answers(address: str) -> bool:
    """Return whether something answers at an address."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def wait(ready: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until a server is ready.

    Raises:
        ServerError: it ended, or takes too long; with the last line of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerError(f"{log.stem} did not start: {last_words(log)}")
        time.sleep(0.2)


def last_words(log: Path) -> str:
    """Return the last line of a log, and where the log is."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1] if lines else 'it said nothing'} ({log})"


# --- the machine -----------------------------------------------------------------------------------------------------


def postgres_binaries() -> Path:
    """Return the folder of PostgreSQL's programs: Debian keeps them outside PATH, one folder a version."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        raise ServerError("no PostgreSQL here: install Debian's package postgresql, or have `initdb` on the PATH")
    return max(versions, key=lambda path: float(path.parent.name))


def postgres_user() -> str | None:
    """Return the user that PostgreSQL has to run as, if not as this one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise ServerError("PostgreSQL refuses root, and there is no user `postgres`: start as another user") from None


def check_port(host: str, port: int) -> None:
    """Refuse an address that nobody can listen on, before anything is started."""
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        raise ServerError(f"cannot listen on {host}:{port}: {error}; choose others by --host and --port") from None


def is_loopback(host: str) -> bool:
    """Return whether nothing outside this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
