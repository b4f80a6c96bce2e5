"""Record runs and the study in MLflow. Files are the truth; MLflow is a view that can be deleted and rebuilt."""

import datetime
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nclens.workflow import tracking  # first: it sets what MLflow reads when it is imported

# isort: split
import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from sqlalchemy.orm import configure_mappers

from nclens.training.history import HISTORY
from nclens.workflow import tables
from nclens.workflow.epochs import read_weights
from nclens.workflow.files import FileError, read_json, read_tensors, sha256_of, write_json
from nclens.workflow.paths import RunFolder, StudyFolder
from nclens.workflow.specs import Entry, TrackRun, TrackSetup, TrackStudy, flat, plain

BATCH = 1000  # the most metrics that one request may carry


def track_setup(spec: TrackSetup, root: Path) -> None:
    """Create the schema and the study's experiment, once, before parallel writers."""
    experiment = tracking.set_up(spec.study, root)
    write_json(StudyFolder(root).setup, {"uri": tracking.public_uri(), "experiment_id": experiment})


def track_run(spec: TrackRun, root: Path) -> None:
    """Record one run: parameters, curves, the data set, the trained network and every file."""
    run = StudyFolder(root).run(spec.run)
    files = _run_files(root, spec)
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise FileError(f"missing, so the run cannot be recorded: {', '.join(missing)}; run the workflow again")
    record = read_json(run.run, "train")
    digest = _digest(files, spec)

    def fill(client: mlflow.MlflowClient, run_id: str) -> None:
        size = {key: record[key] for key in ("parameters", "dim", "flops_per_sample") if key in record}
        parameters = _flat(record["spec"]) | size
        client.log_batch(run_id, params=[Param(_clean(key), str(value)[:6000]) for key, value in parameters.items()])
        _log_metrics(client, run_id, [*_curves(run, spec), *_scalars(record)])
        _log_dataset(client, run_id, root, spec.dataset)
        _log_files(client, run_id, root, files, tensors=spec.tensors)
        if record["spec"]["model"] is not None:  # features may have been recorded without a network
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
    tracking.record(spec.study, spec.run, digest, tags, fill, root, run.record)


def track_study(spec: TrackStudy, root: Path) -> None:
    """Record the study: claims, theory, figures, the one table and the page."""
    files = [root / name for name in spec.files]

    def fill(client: mlflow.MlflowClient, run_id: str) -> None:
        claims = tables.read(
            tables.CLAIMS, StudyFolder(root).claims, ("claim", "experiment", "loss", "level", "verdict")
        )
        claims = claims[claims["level"] == "claim"]
        counts = claims["verdict"].value_counts()
        values = [
            Metric(f"claims/{verdict}", float(counts.get(verdict, 0)), _now(), 0)
            for verdict in ("supported", "contradicted", "inconclusive")
        ]
        verdicts = {
            f"{row['claim']}/{row['experiment']}/{row['loss']}": row["verdict"] for row in claims.to_dict("records")
        }
        client.log_batch(
            run_id, metrics=values, params=[Param(_clean(key), verdict) for key, verdict in verdicts.items()]
        )
        _log_files(client, run_id, root, files, tensors=True)

    tags = {"mlflow.note.content": spec.title, "nclens.study": spec.study, "mlflow.runColor": "#4d4d4d"}
    tracking.record(spec.study, "study", _digest(files, spec), tags, fill, root, StudyFolder(root).record)


def _run_files(root: Path, spec: TrackRun) -> list[Path]:
    """Return every kept file of a run; features that the workflow deletes once measured are none of them."""
    folder = StudyFolder(root)
    run = folder.run(spec.run)
    logs = [folder.log(stage, spec.run) for stage in ("train", "ingest", "extract", "measure", "probe")]
    return [
        *(run.run, run.history, run.metrics, run.snapshots, run.features),
        *([run.probes] if spec.probed else []),
        *(path for path in logs if path.is_file()),
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
    """Return a name that MLflow takes for a parameter."""
    return re.sub(r"[^\w\-./ ]", "_", key)[:250]


def _now() -> int:
    return int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)


def _curves(run: RunFolder, spec: TrackRun) -> Iterator[Metric]:
    """Yield every measured point, `split/metric` at its epoch; MLflow has no place for what is not finite."""
    now = _now()
    metrics = [tables.read(tables.METRICS, run.metrics)]
    metrics += [tables.read(tables.PROBES, run.probes)] if spec.probed else []
    history = (
        tables.read(tables.HISTORY[spec.task], run.history)
        .rename(columns=HISTORY)
        .melt(["epoch", "split"], var_name="metric")
    )
    table = pd.concat([*metrics, history])
    table = table[np.isfinite(table["value"])]
    for split, metric, value, epoch in zip(*(table[key] for key in ("split", "metric", "value", "epoch")), strict=True):
        yield Metric(f"{split}/{metric}", float(value), now, int(epoch))


def _scalars(record: dict[str, Any]) -> Iterator[Metric]:
    for key in ("wall_time", "samples_per_second", "peak_memory_bytes"):
        if key in record:  # of networks that were trained elsewhere nothing is known
            yield Metric(f"run/{key}", float(record[key]), _now(), 0)


def _log_metrics(client: mlflow.MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def _log_dataset(client: mlflow.MlflowClient, run_id: str, root: Path, name: str) -> None:
    manifest = read_json(StudyFolder(root).manifest(name), "prepare")
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
    return path.parent.name if path.parent.name in ("figures", "theory") else None


def _log_network(run_id: str, root: Path, spec: TrackRun, record: dict[str, Any]) -> None:
    """Record the trained network as an MLflow model, with two training samples as its input example."""
    # Imported here: only this needs PyTorch, and a study's own record does not.
    import torch

    from nclens.data.prepared import place_splits
    from nclens.data.tasks import OUTPUTS, output_count, task_of
    from nclens.workflow.build.models import build_network

    manifest = read_json(StudyFolder(root).manifest(spec.dataset), "prepare")
    data, _ = read_tensors(StudyFolder(root).data(spec.dataset), "prepare")
    names = OUTPUTS[task_of(manifest)]
    network = build_network(flat(Entry(**record["spec"]["model"])), manifest["shape"], output_count(manifest))
    read_weights(network, StudyFolder(root).run(spec.run).snapshots, spec.epoch)
    network.eval()
    split, _ = place_splits(data, manifest, torch.device("cpu"))
    example = split.normalise(split.inputs[:2]).contiguous().numpy()
    with mlflow.start_run(run_id=run_id):
        mlflow.pytorch.log_model(
            network,
            name="network",
            input_example=example,
            pip_requirements=["torch"],
            metadata={key: manifest[key] for key in ("mean", "std", names)},
            tags={"mlflow.note.content": _note(manifest, names)},
        )


def warm_up() -> None:
    """Save a network of one weight as an MLflow model, which imports and finds out what recording a run needs too."""
    import mlflow.store.tracking.sqlalchemy_store
    import torch

    import nclens.workflow.build.models  # noqa: F401

    configure_mappers()
    with TemporaryDirectory() as folder:
        example = np.zeros((2, 1), np.float32)
        given = {"input_example": example, "pip_requirements": ["torch"]}
        mlflow.pytorch.save_model(torch.nn.Linear(1, 1), Path(folder, "network"), **given)


def _note(manifest: dict[str, Any], names: str) -> str:
    """Return what a user of a recorded network must know: its inputs, its outputs and its mode."""
    shape = ", ".join(map(str, ("N", *manifest["shape"])))
    stored, each = ("pixels scaled to [0, 1]", "channel") if len(manifest["shape"]) == 3 else ("values", "column")
    scale = f"mean {manifest['mean']}, std {manifest['std']}" if len(manifest["mean"]) < 10 else "mean and std"
    outputs = "logits" if names == "classes" else "predictions"
    return (
        f"Input: float32 ({shape}), which the caller normalises: ({stored} - mean) / std of each {each}, with the "
        f"{scale} of the model's metadata. Output: {outputs} (N, {len(manifest[names])}), in the order of the "
        f"metadata's {names}. The network is an exported graph, always in evaluation mode: what "
        "mlflow.pytorch.load_model returns has no eval() and no train(). Loaded by "
        "nclens.workflow.tracking.load_network it has eval()."
    )
