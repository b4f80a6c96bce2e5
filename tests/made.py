"""A finished study made by the stages in this process, but for the pages and the records in MLflow.

Its networks are untrained: their weights are drawn at random.
"""

import datetime

import torch

from nclens.data.tasks import output_count
from nclens.report.summary import side_by_side
from nclens.study import load_study
from nclens.training.history import STATISTICS
from nclens.workflow import specs, tables
from nclens.workflow.build.models import build_network
from nclens.workflow.epochs import write_epochs
from nclens.workflow.files import read_json, write_json
from nclens.workflow.paths import StudyFolder, path_of
from nclens.workflow.stages.collect import collect
from nclens.workflow.stages.extract import extract
from nclens.workflow.stages.ingest import ingest
from nclens.workflow.stages.judge import judge
from nclens.workflow.stages.measure import measure
from nclens.workflow.stages.predict import predict
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.stages.resolve import resolve
from nclens.workflow.stages.theory import theory


def make(raw, project):
    """Write the results of a study below `project`, without figures, and return their folder.

    Of the descents of the theory there are none.
    """
    study = load_study(raw, [project])
    of = StudyFolder(project / study.root)
    resolve(specs.resolve(study), of.resolved)
    for name, entry in study.datasets.items():
        prepare(specs.prepare(study, name), of.data(name), of.manifest(name), paths=specs.user_paths(entry))
    for run in study.runs():
        folder, data = of.run(path_of(run)), (of.data(run.dataset), of.manifest(run.dataset))
        if study.is_imported(run.experiment):
            files = study.imported(run.experiment).files(run.loss, run.seed)
            ingest(specs.ingest(study, run), "code", *data, folder.folder, files)
        else:
            _untrained(study, run, folder, read_json(data[1], "prepare"))
        extract(
            specs.extract(study, run),
            *data,
            folder.folder,
            1,
            study.experiments[run.experiment].keep_features == "last",
        )
        measure(specs.measure(study, run), folder.folder, 1)
        folder.earlier_features.unlink(missing_ok=True)
    _of_study(study, of)
    return of


def _untrained(study, run, folder, manifest):
    """Write what `train` writes, with other weights at each epoch."""
    spec, task = specs.train(study, run), study.task(run.experiment)
    with write_epochs(folder.snapshots, spec.snapshots) as put:
        for epoch in spec.snapshots:
            torch.manual_seed(100 * run.seed + epoch)
            network = build_network(specs.flat(spec.model), manifest["shape"], output_count(manifest))
            put(epoch, network.state_dict())
    names = ("loss", *STATISTICS[task], "learning_rate", "seconds")
    epochs = [(epoch, split) for epoch in range(1, spec.training.epochs + 1) for split in ("train", "test")]
    rows = [{"epoch": epoch, "split": split, **dict.fromkeys(names, 1 / epoch)} for epoch, split in epochs]
    tables.write_rows(tables.HISTORY[task], folder.history, rows)
    facts = {"parameters": 10, "dim": network.head.in_features, "flops_per_sample": 10, "wall_time": 2.5}
    facts |= {"samples_per_second": 100.0, "peak_memory_bytes": 1000, "device": "cpu", "versions": {}, "threads": 1}
    ended = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC).isoformat()
    keys = {"spec": specs.plain(spec), "seed": run.seed, "data_sha256": manifest["sha256"], "code": "code"}
    write_json(folder.run, {**keys, **facts, "git_revision": "", "finished": ended})


def _of_study(study, of):
    collect(specs.collect(study), of.root, of.metrics)
    found = {name: of.theory(name) for name in ("ufm", "dynamics", "regression", "predictions", "effective", "nc0")}
    theory(specs.theory(study), of.root, found["ufm"], None, found["regression"])
    tables.write_rows(tables.DYNAMICS, found["dynamics"], [])
    predicted = found["predictions"], found["effective"], found["nc0"]
    predict(specs.predict(study), of.metrics, of.root, *predicted)
    used = {name: found[name] for name in ("dynamics", "predictions", "nc0")}
    used |= {"specifications_csv": of.specifications}
    judge(specs.judge(study), of.metrics, found["ufm"], of.claims, of.claims_page, **used)
    experiments = [vars(entry) for entry in specs.report(study, "").experiments]
    tables.write(tables.LOSSES, of.losses, side_by_side(experiments, tables.read(tables.COLLECTED, of.metrics), []))
