"""The MLflow client: a connection whose faults are one plain message, and records that are made once and replaced."""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

# Set before MLflow is imported: an unreachable server fails a job within half a minute, and nothing phones home.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _initialize_tables
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from nclens.workflow import saved_view
from nclens.workflow.address import UNREADABLE, Address, hide, parse
from nclens.workflow.files import exclusive, write_json
from nclens.workflow.paths import StudyFolder

if TYPE_CHECKING:
    from torch import nn

DEFAULT_URI = "sqlite:///mlflow.db"
#: Tags: what a run is (`run`: a trained network; `aggregate`: a loss; `study`: the study), of what, and of which files.
KIND, KEY, DIGEST = "nclens.kind", "nclens.key", "nclens.digest"
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
#: Variables whose values are shown nowhere.
SECRET = (PASSWORD, "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN", "PGPASSWORD")
# What goes wrong with a server, by what MLflow says of it.
PLAIN_WORDS = {
    "error code 401": f"user and password are missing or wrong: set {USER} and {PASSWORD}",
    "error code 403": "this user may not write there: ask whoever runs the server, or give the study another name",
    "Failed to resolve": "there is no such host: MLFLOW_TRACKING_URI = http://HOST:PORT names it",
    "Max retries exceeded": "nobody answers there: start the server, or set MLFLOW_TRACKING_URI to where it is",
    "<!DOCTYPE|<html|<HTML": "what answers there is no MLflow server: set MLFLOW_TRACKING_URI to where it is",
}
ESCAPE = (
    f"MLFLOW_TRACKING_URI is {UNREADABLE}, not shown because it may hold a password; allowed are http://HOST:PORT, "
    "https://, the address of a database, databricks, file:/// and paths; in user and password escape all but letters, "
    f"digits and -._~ (/ is %2F, @ is %40), or set {USER} and {PASSWORD} instead; finished work is kept"
)
#: Writes all that a run of MLflow is to hold.
Fill = Callable[[mlflow.MlflowClient, str], None]


def tracking_uri() -> str:
    """Return the tracking server's address: MLFLOW_TRACKING_URI, or a database in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def public_uri() -> str:
    """Return of the tracking server's address what may be shown: no user, no password, no query."""
    return _address().public


def _address() -> Address:
    return parse(tracking_uri())


def set_up(study: str, root: Path, tags: Mapping[str, str]) -> str:
    """Create the schema and a study's experiment with its tags, before parallel writers; return the experiment's id."""
    with connected() as client:
        database = _sqlite_file()
        if database:
            # Write-ahead logging lets readers (the UI) and several writers work side by side.
            with sqlite3.connect(database) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        experiment = experiment_of(client, study, root)
        for key, value in tags.items():
            client.set_experiment_tag(experiment, key, value)
        return experiment


def describe(experiment: str, run_id: str, tags: Mapping[str, str], both: Mapping[str, str]) -> None:
    """Set tags of an experiment, and some of the study's own run too."""
    with connected() as client:
        for key, value in {**tags, **both}.items():
            client.set_experiment_tag(experiment, key, value)
        for key, value in both.items():
            client.set_tag(run_id, key, value)


def record(
    study: str,
    key: str,
    digest: str,
    tags: dict[str, str],
    fill: Fill,
    root: Path,
    output: Path | None,
    times: tuple[int, int] | tuple[None, None] = (None, None),
) -> None:
    """Make the one active run of `key` hold these files: keep it if it does, else make a new one, then drop the old.

    Old ones are found by their tag, so a deleted or copied file never leaves a run behind. `output`, if any, is the
    file that says which run it is. `times` are the run's start and end, in milliseconds since 1970, by default those of
    its recording.
    """
    with connected() as client:
        experiment = experiment_of(client, study, root)
        old = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1000)
        same = [run for run in old if _holds(run, digest)]
        if same:
            run_id = same[0].info.run_id
        else:
            start, end = times
            run = client.create_run(experiment, run_name=key, tags={**tags, KEY: key}, start_time=start)
            run_id = run.info.run_id
            try:
                fill(client, run_id)
            except BaseException:
                client.set_terminated(run_id, "FAILED")
                raise
            # Set last: a run without its digest was never completed.
            client.set_tag(run_id, DIGEST, digest)
            client.set_terminated(run_id, end_time=end)
        for run in old:
            if run.info.run_id != run_id:
                _delete(client, run)
    if output is not None:
        write_json(output, {"run_id": run_id, "experiment_id": experiment, "digest": digest, "uri": public_uri()})


def keep_only(study: str, kind: str, keys: Collection[str], root: Path) -> None:
    """Delete the active runs of a kind that are recorded under other keys."""
    with connected() as client:
        experiment = experiment_of(client, study, root)
        for run in client.search_runs([experiment], f"tags.`{KIND}` = '{kind}'", max_results=50_000):
            if run.data.tags.get(KEY) not in keys:
                _delete(client, run)


def _holds(run: mlflow.entities.Run, digest: str) -> bool:
    """Return whether a run is complete, of these files, and its artifacts are where it says."""
    if run.data.tags.get(DIGEST) != digest or run.info.status != "FINISHED":
        return False
    uri = run.info.artifact_uri or ""
    return urlparse(uri).scheme not in ("", "file") or Path(urlparse(uri).path).is_dir()


def _delete(client: mlflow.MlflowClient, run: mlflow.entities.Run) -> None:
    """Delete a run and, before it, the network recorded with it, which MLflow keeps as a separate item."""
    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        client.delete_logged_model(model.model_id)
    client.delete_run(run.info.run_id)


@contextmanager
def connected() -> Iterator[mlflow.MlflowClient]:
    """Yield a client; whatever fails in the block is reported with the server's address, without its password."""
    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if not _address().is_readable:
        # MLflow would print it.
        raise OSError(ESCAPE)
    database = _sqlite_file()
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(_address_for_mlflow())
    # MLflow writes that address into the environment, where it would pass for the user's choice.
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if chosen is not None:
        os.environ["MLFLOW_TRACKING_URI"] = chosen
    try:
        # The first client of a fresh database makes its tables: one process at a time.
        with exclusive(f"{database}.lock", database) if database else nullcontext():
            if database and "?" not in database:  # else SQLAlchemy has to take it apart
                _make_database(Path(database))
            _check_database()
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
        yield client
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        raise _cannot_be_used(_plainly(str(error))) from None
    except Exception as error:
        # Not a fault of the server's: a user's name is no secret here, and may be part of a path.
        hidden = partial(_hide, user=False)
        if any(hidden(text) != text for text in _messages(error)):
            raise OSError(hidden(f"{type(error).__name__}: {error}")) from None
        raise


def _address_for_mlflow() -> str:
    """Return the address that MLflow is given.

    Absolute for SQLite, because MLflow keeps one connection an address, whatever folder the process goes to. Without
    user and password for a server, because MLflow prints it: they move to the variables that MLflow reads.
    """
    database, address = _sqlite_file(), _address()
    if database:
        return f"sqlite:///{Path(database).resolve()}"
    if not _is_web():
        return tracking_uri()
    if address.user is not None:
        os.environ.setdefault(USER, address.user)
        os.environ.setdefault(PASSWORD, address.password or "")
    return address.public


def _is_web() -> bool:
    return tracking_uri().lower().startswith(("http://", "https://"))


def _check_database() -> None:
    """Refuse a database that cannot be opened, which MLflow tries for minutes, or that is another program's.

    MLflow would add its own tables to the other program's.
    """
    uri = tracking_uri()
    if not re.match(r"(sqlite|postgresql|mysql|mssql)\b", uri):
        return
    try:
        waits = re.match(r"postgresql|mysql", uri) is not None
        engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": 8} if waits else {})
    except ModuleNotFoundError as error:
        raise _cannot_be_used(
            f"no {error.name} here: pip install 'nclens[server]' brings PostgreSQL's driver"
        ) from None
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if tables and not {"experiments", "alembic_version"} <= tables:
        few = ", ".join(sorted(tables)[:3])
        raise _cannot_be_used(f"it is not MLflow's, but holds {few}: name an empty database, or one that MLflow made")


def _make_database(path: Path) -> None:
    """Make a database with MLflow's tables where there is none, whole or not at all.

    MLflow cannot complete one that a kill left half made.
    """
    if path.exists() and path.stat().st_size:
        return
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{unfinished.resolve()}")
    # On disk once, at the end: each of MLflow's hundred statements would wait for the disk.
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    for ending in ("-wal", "-shm"):
        # Of a database that was deleted alone: SQLite would take them for this one's.
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
    unfinished.rename(path)


def _cannot_be_used(why: str) -> OSError:
    return OSError(f"the tracking server {public_uri()} cannot be used: {why}; finished work is kept")


def _plainly(text: str) -> str:
    """Return in one line what a failure means, without any password."""
    for pattern, words in PLAIN_WORDS.items():
        if re.search(pattern, text):
            return words
    return (_hide(text).strip() or "no reason was given").splitlines()[0]


def _hide(text: str, user: bool = True) -> str:
    """Return a text without the secrets of the address and of the environment, and without the address's user."""
    address = _address() if user else replace(_address(), user=None)
    return hide(text, address, *(os.environ.get(name, "") for name in SECRET))


def _messages(error: BaseException | None) -> Iterator[str]:
    """Yield the texts of an error and of what caused it."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def load_network(uri: str) -> "nn.Module":
    """Return a recorded network in evaluation mode, from its address in MLflow, such as `models:/ID`.

    It takes what the prepared data set holds, uint8 images (N, C, H, W) or float32 rows (N, F), and normalises them as
    the model's description says. The network is an exported graph, which computes in evaluation mode whatever is
    called, and PyTorch refuses `eval()` and `train()` on it. Here `eval()` returns the network, and `train()` raises a
    ValueError. To train it further, build the model and load a snapshot.

    Raises:
        OSError: there is no such model, or the tracking server cannot be used.
    """
    with connected():
        network = mlflow.pytorch.load_model(uri)
    for layer in network.modules():
        layer.training = False

    def train(mode: bool = True) -> "nn.Module":
        if mode:
            raise ValueError(
                f"the network {uri} is an exported graph in evaluation mode and cannot train; build the model and load "
                "a snapshot of the run"
            )
        return network

    network.train, network.eval = train, partial(train, False)
    return network


def experiment_of(client: mlflow.MlflowClient, study: str, root: Path) -> str:
    """Return the id of the study's experiment; create or restore it, or replace one whose folder was moved away."""
    database = _sqlite_file()
    location = Path("mlartifacts", study).resolve() if database else None
    with exclusive(StudyFolder(root).lock("experiment"), f"the experiment {study}"):
        found = client.get_experiment_by_name(study)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found is not None and location is not None and Path(found.artifact_location) != location:
            # MLflow stores artifact locations as absolute paths and cannot change them.
            client.rename_experiment(found.experiment_id, f"{study} (moved, {found.experiment_id})")
            client.delete_experiment(found.experiment_id)
            found = None
        if found is not None:
            return found.experiment_id
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(study, None if location is None else str(location), tags)


def _sqlite_file() -> str | None:
    uri = tracking_uri()
    return uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None


def addresses(port: int) -> dict[str, dict[str, str]]:
    """Return, for every recorded study, the addresses of its curves and of its runs in a UI here."""
    found = {}
    base = f"{public_uri().rstrip('/')}/#" if _is_web() else f"http://127.0.0.1:{port}/#"
    with connected() as client:
        for experiment in client.search_experiments(order_by=["name ASC"]):
            if client.search_runs([experiment.experiment_id], f"tags.`{KIND}` = 'run'", max_results=1):
                saved = saved_view.TAG in experiment.tags
                found[experiment.name] = saved_view.links(base, experiment.experiment_id, saved)
    if not found:
        raise ValueError(f"nothing is recorded at {public_uri()}: run a study first (nclens run STUDY.yaml)")
    return found
