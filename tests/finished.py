"""A finished study as another one reads it: its resolved configuration, its records, and files with little in them."""

import json
from pathlib import Path

import yaml

from nclens.study import load_study
from nclens.workflow import tables
from nclens.workflow.paths import StudyFolder, path_of

DATA = {"dataset": "mnist5k", "sha256": "ab" * 32, "train": 200, "test": 200, "classes": list("0123456789")}


def finish(raw, folder="results/smoke", data=DATA, folders=None):
    """Write the results of a study below the current folder, its networks and features aside; return their folder."""
    study, of = load_study(raw, folders), StudyFolder(Path(folder))
    of.root.mkdir(parents=True, exist_ok=True)
    of.resolved.write_text(yaml.safe_dump(study.resolved(), sort_keys=False))
    of.report.touch()
    for name in study.datasets:
        of.manifest(name).parent.mkdir(exist_ok=True)
        of.manifest(name).write_text(json.dumps(data | {"dataset": name}))
    for run in study.runs():
        made, entry = of.run(path_of(run)), study.experiments[run.experiment]
        made.folder.mkdir(parents=True)
        record = {"spec": {"snapshots": entry.snapshot_epochs}, "data_sha256": data["sha256"], "dim": 32}
        made.run.write_text(json.dumps(record))
        rows = "".join(f"{epoch},{run.seed}.5\n" for epoch in entry.snapshot_epochs)
        made.metrics.write_text("epoch,split,metric,value\n" + rows.replace(",", ",train,nc1,"))
        made.probes.write_text("epoch,split,metric,value\n")
        made.history.write_text(",".join(tables.HISTORY["classification"].columns) + "\n")
        made.film.touch()
        made.features.touch()
    return of
