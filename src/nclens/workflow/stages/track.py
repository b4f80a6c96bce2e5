"""Record runs and the study in MLflow. Files are the truth; MLflow is a view that can be deleted and rebuilt."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from nclens.workflow import tracking  # first: it sets what MLflow reads when it is imported

# isort: split
import mlflow
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from sqlalchemy.orm import configure_mappers

from nclens.workflow import aggregates, recorded, saved_view, tables
from nclens.workflow.files import FileError, read_json, sha256_of, write_json
from nclens.workflow.paths import StudyFolder
from nclens.workflow.specs import TrackExperiment, TrackRun, TrackSetup, TrackStudy, plain

BATCH = 1000  # the most metrics that one request may carry
#: Counted up when the same files are recorded otherwise than before: older records are then replaced.
VERSION = 2


def track_setup(spec: TrackSetup, root: Path) -> None:
    """Create the schema and the study's experiment with its saved view, once, before parallel writers."""
    experiment = tracking.set_up(spec.study, root, {saved_view.TAG: saved_view.tag(spec.tasks, spec.by)})
    write_json(StudyFolder(root).setup, {"uri": tracking.public_uri(), "experiment_id": experiment})


def track_run(spec: TrackRun, root: Path) -> None:
    """Record one run: parameters, curves, the data set, the trained network and every file."""
    run = StudyFolder(root).run(spec.run)
    files = _run_files(root, spec)
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise FileError(f"missing, so the run cannot be recorded: {', '.join(missing)}; run the workflow again")
    from nclens.workflow import logged_model  # imported here: it needs PyTorch, and a study's own record does not

    record = read_json(run.run, "train")
    digest = _digest(files, spec)

    def fill(client: mlflow.MlflowClient, run_id: str) -> None:
        given = recorded.parameters(record).items()
        client.log_batch(run_id, params=[Param(key, value) for key, value in given])
        dataset = _log_dataset(client, run_id, root, spec.dataset)
        metrics = [Metric(*point) for point in recorded.points(run, spec, record)]
        if record["spec"]["model"] is not None:  # features may have been recorded without a network
            model_id = logged_model.log(run_id, root, spec, record)
            metrics = [*logged_model.linked(metrics, model_id, dataset, spec.epoch)]
        _log_metrics(client, run_id, metrics)
        _log_files(client, run_id, root, files, tensors=spec.tensors)

    times = recorded.times(record)
    tracking.record(spec.study, spec.run, digest, _run_tags(spec, record), fill, root, run.record, times)


def _run_tags(spec: TrackRun, record: dict[str, Any]) -> dict[str, str]:
    return {
        tracking.KIND: "run",
        "mlflow.runColor": spec.colour,
        "mlflow.note.content": f"{spec.label} on {spec.dataset} with {spec.model}, seed {spec.seed}",
        "mlflow.user": recorded.user(),
        "mlflow.source.name": "nclens train",
        "mlflow.source.git.commit": record["git_revision"] or "",
        **{
            f"nclens.{key}": str(getattr(spec, key))
            for key in ("study", "experiment", "dataset", "model", "loss", "seed")
        },
    }


def track_study(spec: TrackStudy, root: Path) -> None:
    """Record the study: claims, theory, figures, the one table and the page; describe it with its verdicts."""
    _record_aggregates(spec, root)
    files, folder = [root / name for name in spec.files], StudyFolder(root)

    def fill(client: mlflow.MlflowClient, run_id: str) -> None:
        _log_files(client, run_id, root, files, tensors=True)

    tags = {
        tracking.KIND: "study",
        "mlflow.note.content": spec.title,
        "mlflow.user": recorded.user(),
        "mlflow.source.name": "nclens",
        "mlflow.runColor": "#4d4d4d",
        "nclens.study": spec.study,
    }
    tracking.record(spec.study, "study", _digest(files, spec), tags, fill, root, folder.record)
    made = read_json(folder.record, "track")
    page = folder.claims_page.read_text(encoding="utf-8")
    text = recorded.description(
        spec.title, page, tables.read(tables.CLAIMS, folder.claims, ("paper",)), made["experiment_id"], made["run_id"]
    )
    note = {"mlflow.note.content": text}
    tracking.describe(
        made["experiment_id"], made["run_id"], {saved_view.TAG: saved_view.tag(spec.tasks, spec.by)}, note
    )


def _record_aggregates(spec: TrackStudy, root: Path) -> None:
    """Record mean and interval over the seeds of each loss, and delete the aggregates that the study has no more."""
    kept = []
    if spec.experiments:
        groups = tables.read(tables.COLLECTED, StudyFolder(root).metrics).groupby(["experiment", "loss"], observed=True)
        found = {(str(experiment), str(loss)): rows for (experiment, loss), rows in groups}
    for of in spec.experiments:
        for loss in of.labels:
            rows = found.get((of.experiment, loss))
            if rows is not None and rows["seed"].nunique() >= aggregates.LEAST:
                kept.append(_record_aggregate(spec.study, of, loss, rows, root))
    tracking.keep_only(spec.study, "aggregate", kept, root)


def _record_aggregate(study: str, of: TrackExperiment, loss: str, rows: pd.DataFrame, root: Path) -> str:
    """Record mean and interval over the seeds of a loss; return the record's key."""
    table = aggregates.over_seeds(rows[recorded.shown(rows)])
    points = [*aggregates.curves(table)]
    seeds = ", ".join(map(str, sorted(rows["seed"].unique())))
    model = of.models.get(loss, of.model)
    key = f"{of.dataset}/{model}/{loss}/mean"
    tags = {
        "mlflow.runColor": of.colours[loss],
        "mlflow.note.content": f"{of.labels[loss]} on {of.dataset} with {model}: mean over the seeds {seeds}. "
        "`train_low/nc1` and `train_high/nc1` are the ends of its 95% t interval; aggregate.csv has those of all "
        "metrics. A point is left out where a seed has no finite value.",
        tracking.KIND: "aggregate",
        "nclens.study": study,
        "nclens.experiment": of.experiment,
        "nclens.dataset": of.dataset,
        "nclens.model": model,
        "nclens.loss": loss,
        "nclens.seeds": seeds,
    }

    def fill(client: mlflow.MlflowClient, run_id: str) -> None:
        now = int(time.time() * 1000)
        _log_metrics(client, run_id, [Metric(name, value, now, epoch) for name, epoch, value in points])
        client.log_text(run_id, table.to_csv(index=False), "aggregate.csv")

    digest = hashlib.sha256(json.dumps([VERSION, tags, points], sort_keys=True).encode()).hexdigest()
    tracking.record(study, key, digest, tags, fill, root, None)
    return key


def _run_files(root: Path, spec: TrackRun) -> list[Path]:
    """Return every kept file of a run; features that the workflow deletes once measured are none of them."""
    folder = StudyFolder(root)
    run = folder.run(spec.run)
    logs = [folder.log(stage, spec.run) for stage in ("train", "ingest", "extract", "measure", "probe")]
    return [
        *(run.run, run.history, run.metrics, run.film, run.snapshots, run.features),
        *([run.probes] if spec.probed else []),
        *(path for path in (run.hypotheses, *logs) if path.is_file()),
    ]


def _digest(files: list[Path], spec: TrackRun | TrackStudy) -> str:
    """Return the digest of what is recorded. Logs tell of one execution, not of the result, and do not count."""
    content = {str(path): sha256_of(path) for path in files if path.suffix != ".log"}
    return hashlib.sha256(json.dumps([VERSION, content, plain(spec)], sort_keys=True).encode()).hexdigest()[:16]


def _log_metrics(client: mlflow.MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def _log_dataset(client: mlflow.MlflowClient, run_id: str, root: Path, name: str) -> Dataset:
    """Record the data set of a run; return it as MLflow knows it."""
    manifest = read_json(StudyFolder(root).manifest(name), "prepare")
    source = json.dumps({key: manifest[key] for key in ("source", "licence")})
    profile = json.dumps({key: manifest[key] for key in ("train", "test", "val", "shape") if key in manifest})
    dataset = Dataset(name, manifest["sha256"][:8], "local", source, profile=profile)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    return dataset


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
    return path.parent.name if path.parent.name in ("figures", "theory") else None


def warm_up() -> None:
    """Save a network of one weight as an MLflow model, which imports and finds out what recording a run needs too."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    from nclens.workflow import logged_model

    configure_mappers()
    logged_model.save_one()
