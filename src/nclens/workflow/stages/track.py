"""Record runs and the study in MLflow. Files are the truth; MLflow is a view that can be deleted and rebuilt."""

import datetime
import hashlib
import json
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

# Set before MLflow is imported: an unreachable server fails a job within half a minute, and nothing phones home.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy as np
import pandas as pd
import sqlalchemy
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from nclens.training.history import HISTORY
from nclens.workflow.files import FileError, exclusive, read_json, read_tensors, sha256_of, write_json
from nclens.workflow.specs import Entry, TrackRun, TrackSetup, TrackStudy, flat, plain

DEFAULT_URI = "sqlite:///mlflow.db"
BATCH = 1000  # the most metrics that one request may carry
MOST_COMPARED = 20  # runs in the address of a comparison, so that a browser takes it
KEY, DIGEST = "nclens.key", "nclens.digest"
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
# What goes wrong with a server, by what MLflow says of it.
PLAIN_WORDS = {
    "error code 401": f"user and password are missing or wrong: set {USER} and {PASSWORD}",
    "error code 403": "this user may not write there: ask whoever runs the server, or give the study another name",
    "Failed to resolve": "there is no such host: MLFLOW_TRACKING_URI = http://HOST:PORT names it",
    "Max retries exceeded": "nobody answers there: start the server, or set MLFLOW_TRACKING_URI to where it is",
    "<!DOCTYPE|<html|<HTML": "what answers there is no MLflow server: set MLFLOW_TRACKING_URI to where it is",
}


def tracking_uri() -> str:
    """Return the tracking server's address: MLFLOW_TRACKING_URI, or a database in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def public_uri() -> str:
    """Return the tracking server's address without user and password."""
    return _without_password(tracking_uri())


def track_setup(spec: TrackSetup, root: Path) -> None:
    """Create the schema and the study's experiment, once, before parallel writers."""
    with _client() as client:
        database = _sqlite_file()
        if database:
            # Write-ahead logging lets readers (the UI) and several writers work side by side.
            with sqlite3.connect(database) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        experiment = _experiment(client, spec.study, root)
        write_json(root / "logs" / "track_setup.json", {"uri": public_uri(), "experiment_id": experiment})


def track_run(spec: TrackRun, root: Path) -> None:
    """Record one run: parameters, curves, the data set, the trained network and every file."""
    run = root / spec.run
    files = _run_files(root, spec)
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise FileError(f"missing, so the run cannot be recorded: {', '.join(missing)}; run the workflow again")
    record = read_json(run / "run.json", "train")
    digest = _digest(files, spec)

    def fill(client: mlflow.MlflowClient, run_id: str) -> None:
        size = {key: record[key] for key in ("parameters", "dim", "flops_per_sample")}
        parameters = _flat(record["spec"]) | size
        client.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in parameters.items()])
        _log_metrics(client, run_id, [*_curves(run, files), *_scalars(record)])
        _log_dataset(client, run_id, root, spec.dataset)
        _log_files(client, run_id, root, files, tensors=spec.tensors)
        _log_network(run_id, root, spec, record)

    tags = {
        "mlflow.runColor": spec.colour,
        "mlflow.note.content": f"{spec.label} on {spec.dataset} with {spec.model}, seed {spec.seed}",
        "mlflow.source.name": "nclens train",
        "mlflow.source.git.commit": record["git_revision"] or "",
        **{
            f"nclens.{key}": str(getattr(spec, key))
            for key in ("study", "experiment", "dataset", "model", "loss", "seed")
        },
    }
    _record(spec.study, spec.run, digest, tags, fill, root, run / "mlflow.json")


def track_study(spec: TrackStudy, root: Path) -> None:
    """Record the study: claims, theory, figures, the one table and the page."""
    files = [root / name for name in spec.files]

    def fill(client: mlflow.MlflowClient, run_id: str) -> None:
        claims = pd.read_csv(root / "claims.csv")
        claims = claims[claims["level"] == "claim"]
        counts = claims["verdict"].value_counts()
        values = [
            Metric(f"claims/{verdict}", float(counts.get(verdict, 0)), _now(), 0)
            for verdict in ("supported", "contradicted", "inconclusive")
        ]
        verdicts = {
            f"{row['claim']}/{row['experiment']}/{row['loss']}": row["verdict"]
            for row in claims.fillna("").to_dict("records")
        }
        client.log_batch(
            run_id, metrics=values, params=[Param(_clean(key), verdict) for key, verdict in verdicts.items()]
        )
        _log_files(client, run_id, root, files, tensors=True)

    tags = {"mlflow.note.content": spec.title, "nclens.study": spec.study, "mlflow.runColor": "#4d4d4d"}
    _record(spec.study, "study", _digest(files, spec), tags, fill, root, root / "mlflow.json")


def addresses(port: int) -> dict[str, dict[str, str]]:
    """Return, for every recorded study, the addresses of its runs, their curves and their table in a UI here."""
    found = {}
    local = f"http://127.0.0.1:{port}/#"
    with _client() as client:
        for experiment in client.search_experiments(order_by=["name ASC"]):
            runs = client.search_runs([experiment.experiment_id], "tags.`nclens.loss` LIKE '%'", order_by=["run_name"])
            if runs:
                base = public_uri().rstrip("/") + "/#" if tracking_uri().startswith("http") else local
                chosen = quote(json.dumps([run.info.run_id for run in runs[:MOST_COMPARED]]))
                found[experiment.name] = {
                    "runs": f"{base}/experiments/{experiment.experiment_id}/runs",
                    "curves": f"{base}/experiments/{experiment.experiment_id}/runs?compareRunsMode=CHART",
                    "comparison": f"{base}/compare-runs?runs={chosen}"
                    f"&experiments={quote(json.dumps([experiment.experiment_id]))}",
                }
    if not found:
        raise ValueError(f"nothing is recorded at {public_uri()}: run a study first (make reproduce)")
    return found


# --- one record ------------------------------------------------------------------------------------------------------


def _record(study: str, key: str, digest: str, tags: dict[str, str], fill: Any, root: Path, output: Path) -> None:
    """Make the one active run of `key` hold these files: keep it if it does, else make a new one, then drop the old.

    Old ones are found by their tag, so a deleted or copied file never leaves a run behind.
    """
    with _client() as client:
        experiment = _experiment(client, study, root)
        old = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1000)
        same = [run for run in old if _holds(run, digest)]
        if same:
            run_id = same[0].info.run_id
        else:
            run = client.create_run(experiment, run_name=key, tags={**tags, KEY: key})
            run_id = run.info.run_id
            try:
                fill(client, run_id)
            except BaseException:
                client.set_terminated(run_id, "FAILED")
                raise
            # Set last: a run without its digest was never completed.
            client.set_tag(run_id, DIGEST, digest)
            client.set_terminated(run_id)
        for run in old:
            if run.info.run_id != run_id:
                _delete(client, run)
    write_json(output, {"run_id": run_id, "experiment_id": experiment, "digest": digest, "uri": public_uri()})


def _holds(run: mlflow.entities.Run, digest: str) -> bool:
    """Return whether a run is complete, of these files, and its artifacts are where it says."""
    if run.data.tags.get(DIGEST) != digest or run.info.status != "FINISHED":
        return False
    uri = run.info.artifact_uri or ""
    return urlparse(uri).scheme not in ("", "file") or Path(urlparse(uri).path).is_dir()


def _delete(client: mlflow.MlflowClient, run: mlflow.entities.Run) -> None:
    """Delete a run and, before it, the network recorded with it, which MLflow keeps as an item of its own."""
    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        client.delete_logged_model(model.model_id)
    client.delete_run(run.info.run_id)


@contextmanager
def _client() -> Iterator[mlflow.MlflowClient]:
    """Yield a client; whatever fails in the block is told with the server's address, without its password."""
    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    database = _sqlite_file()
    asked = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(_address_for_mlflow())
    # MLflow writes that address into the environment, where it would pass for the user's choice.
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if asked is not None:
        os.environ["MLFLOW_TRACKING_URI"] = asked
    try:
        # The first client of a fresh database makes its tables: one process at a time.
        with exclusive(f"{database}.lock", database) if database else nullcontext():
            _check_database()
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
        yield client
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        raise _cannot_be_used(_plainly(str(error))) from None


def _address_for_mlflow() -> str:
    """Return the address that MLflow is given.

    Absolute for SQLite, because MLflow keeps one connection an address, whatever folder the process goes to. Without
    user and password for a server, because MLflow prints it: they move to the variables that MLflow reads.
    """
    database, uri = _sqlite_file(), tracking_uri()
    if database:
        return f"sqlite:///{Path(database).resolve()}"
    parts = urlparse(uri)
    if not uri.startswith("http") or parts.username is None:
        return uri
    os.environ.setdefault(USER, unquote(parts.username))
    os.environ.setdefault(PASSWORD, unquote(parts.password or ""))
    return public_uri()


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


def _cannot_be_used(why: str) -> OSError:
    return OSError(f"the tracking server {public_uri()} cannot be used: {why}; finished work is kept")


def _plainly(text: str) -> str:
    """Return in one line what a failure means, without any password."""
    for pattern, words in PLAIN_WORDS.items():
        if re.search(pattern, text):
            return words
    line = _without_password(text).strip().splitlines()[0]
    return line.replace(os.environ.get(PASSWORD) or "\n", "***")


def _without_password(text: str) -> str:
    """Return a text without the users and passwords of the addresses in it."""
    return re.sub(r"password=[^&\s]*", "password=***", re.sub(r"//[^/\s]*@", "//", text))


def _experiment(client: mlflow.MlflowClient, study: str, root: Path) -> str:
    """Return the id of the study's experiment; create or restore it, or replace one whose folder was moved away."""
    database = _sqlite_file()
    location = Path("mlartifacts", study).resolve() if database else None
    with exclusive(root / ".locks" / "experiment", f"the experiment {study}"):
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
        tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens on training runs
        return client.create_experiment(study, None if location is None else str(location), tags)


def _sqlite_file() -> str | None:
    uri = tracking_uri()
    return uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None


# --- what is recorded ------------------------------------------------------------------------------------------------


def _run_files(root: Path, spec: TrackRun) -> list[Path]:
    """Return every kept file of a run; features that the workflow deletes once measured are none of them."""
    run = root / spec.run
    epochs = spec.snapshots
    kept = epochs if spec.keep_features == "all" else epochs[-1:]
    logs = [root / "logs" / stage / f"{spec.run}.log" for stage in ("train", "extract", "measure", "probe")]
    probes = ["probes.csv"] if spec.probed else []
    return [
        *(run / name for name in ("run.json", "history.csv", "metrics.csv", *probes)),
        *(path for path in logs if path.is_file()),
        *(run / "snapshots" / f"epoch{epoch}.safetensors" for epoch in epochs),
        *(run / "features" / f"epoch{epoch}.safetensors" for epoch in kept),
    ]


def _digest(files: list[Path], spec: TrackRun | TrackStudy) -> str:
    """Return the digest of what is recorded. Logs tell of one execution, not of the result, and do not count."""
    content = {str(path): sha256_of(path) for path in files if path.suffix != ".log"}
    return hashlib.sha256(json.dumps([content, plain(spec)], sort_keys=True).encode()).hexdigest()


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            # An argument of a loss or model is named without the word: loss.smoothing.
            found |= _flat(value, prefix if key == "arguments" else f"{prefix}{key}.")
        elif value is not None:
            found[prefix + key] = value
    return found


def _clean(key: str) -> str:
    return re.sub(r"[^\w\-./ ]", "_", key)


def _now() -> int:
    return int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)


def _curves(run: Path, files: list[Path]) -> Iterator[Metric]:
    """Yield every measured point, `split/metric` at its epoch; MLflow has no place for what is not finite."""
    now = _now()
    metrics = [pd.read_csv(path) for path in (run / "metrics.csv", run / "probes.csv") if path in files]
    history = pd.read_csv(run / "history.csv").rename(columns=HISTORY).melt(["epoch", "split"], var_name="metric")
    table = pd.concat([*metrics, history])
    table = table[np.isfinite(table["value"])]
    for split, metric, value, epoch in zip(*(table[key] for key in ("split", "metric", "value", "epoch")), strict=True):
        yield Metric(f"{split}/{metric}", float(value), now, int(epoch))


def _scalars(record: dict[str, Any]) -> Iterator[Metric]:
    for key in ("wall_time", "samples_per_second", "peak_memory_bytes"):
        yield Metric(f"run/{key}", float(record[key]), _now(), 0)


def _log_metrics(client: mlflow.MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def _log_dataset(client: mlflow.MlflowClient, run_id: str, root: Path, name: str) -> None:
    manifest = read_json(root / "data" / f"{name}.json", "prepare")
    source = json.dumps({key: manifest[key] for key in ("source", "licence")})
    profile = json.dumps({key: manifest[key] for key in ("train", "test", "shape")})
    dataset = Dataset(name, manifest["sha256"][:36], "local", source, profile=profile)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def _log_files(client: mlflow.MlflowClient, run_id: str, root: Path, files: list[Path], tensors: bool) -> None:
    """Upload files, by folder; tensors only where the study says so, else they are listed in files.json."""
    listed = []
    for path in files:
        if path.suffix == ".safetensors" and not tensors:
            size = path.stat().st_size
            listed.append({"path": str(path.relative_to(root)), "bytes": size, "sha256": sha256_of(path)})
            continue
        client.log_artifact(run_id, str(path), _artifact_folder(path, root))
    if listed:
        client.log_dict(run_id, {"files": listed}, "files.json")


def _artifact_folder(path: Path, root: Path) -> str | None:
    relative = path.relative_to(root)
    if path.suffix == ".log":
        return "logs/" + relative.parts[1]
    return path.parent.name if path.parent.name in ("snapshots", "features", "figures", "theory") else None


def _log_network(run_id: str, root: Path, spec: TrackRun, record: dict[str, Any]) -> None:
    """Record the trained network as an MLflow model, with one training image as its input example."""
    # Imported here: only this needs PyTorch, and a study's own record does not.
    import torch

    from nclens.data.prepared import place_splits
    from nclens.data.tasks import output_count
    from nclens.workflow.build.models import build_network

    manifest = read_json(root / "data" / f"{spec.dataset}.json", "prepare")
    data, _ = read_tensors(root / "data" / f"{spec.dataset}.safetensors", "prepare")
    network = build_network(flat(Entry(**record["spec"]["model"])), manifest["shape"], output_count(manifest))
    snapshot = root / spec.run / "snapshots" / f"epoch{spec.snapshots[-1]}.safetensors"
    network.load_state_dict(read_tensors(snapshot, "train")[0])
    network.eval()
    split, _ = place_splits(data, manifest, torch.device("cpu"))
    example = split.normalise(split.inputs[:2]).contiguous().numpy()
    with mlflow.start_run(run_id=run_id):
        mlflow.pytorch.log_model(network, name="network", input_example=example, pip_requirements=["torch", "nclens"])
