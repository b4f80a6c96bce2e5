"""Helpers of the rules: the checked study, paths, and what each step depends on. No rule stands here."""

import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from nclens.config import ConfigError, load_study
from nclens.provenance import code_digest


# Jobs call `nclens` by name: the one beside the Python that runs this workflow.
envvars:
    "PATH",


os.environ["PATH"] = os.pathsep.join(
    [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
)

CONFIGFILES = [Path(file) for file in workflow.overwrite_configfiles] or [
    Path(workflow.basedir) / "workflow_config.yaml"
]

try:
    STUDY = load_study(config, [file.parent for file in CONFIGFILES])
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# No parameters of a rule: how often a run is saved changes nothing of it, nor does it where raw data lie.
os.environ |= {
    "NCLENS_CHECKPOINT_MINUTES": str(STUDY.checkpoint_minutes),
    "NCLENS_DATA_DIR": STUDY.data_dir,
}

R = STUDY.root
RUN = f"{R}/{{dataset}}/{{model}}/{{loss}}/seed{{seed}}"
DATA = f"{R}/data/{{dataset}}.safetensors"
MANIFEST = f"{R}/data/{{dataset}}.json"
ENVIRONMENT = "../envs/environment.yaml"
RUNS = {run.path: run for run in STUDY.runs()}


def either(names):
    """Return a wildcard constraint that matches these names and no other."""
    return "|".join(re.escape(name) for name in names)


def run_of(wildcards):
    """Return the run that a job's wildcards name."""
    return RUNS[
        f"{wildcards.dataset}/{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}"
    ]


def spec(content, in_order=False):
    """Return a specification as the JSON text that a stage takes; `in_order` where the order of tables is shown."""
    return json.dumps(content, sort_keys=not in_order)


def snapshots(experiment):
    """Return the paths of a run's snapshots, wildcards left in."""
    return [
        f"{RUN}/snapshots/epoch{epoch}.safetensors"
        for epoch in experiment.snapshot_epochs
    ]


def features(experiment):
    """Return the paths of a run's features, wildcards left in."""
    return [
        f"{RUN}/features/epoch{epoch}.safetensors"
        for epoch in experiment.snapshot_epochs
    ]


def kept_features(experiment):
    """Return the paths of the features that stay once they are measured."""
    return (
        features(experiment)[-1:]
        if experiment.keep_features == "last"
        else features(experiment)
    )


def last_features(wildcards=None):
    """Return the features of every run's last snapshot."""
    return [
        f"{R}/{run.path}/features/epoch{STUDY.experiments[run.experiment].training.epochs}.safetensors"
        for run in RUNS.values()
    ]


def of_all_runs(name):
    """Return a file of every run."""
    return [f"{R}/{path}/{name}" for path in RUNS]


def manifests():
    """Return the manifests of the data sets that the study uses."""
    return [
        MANIFEST.format(dataset=name)
        for name in {run.dataset: None for run in RUNS.values()}
    ]


def theory_tables():
    """Return the tables of the theory."""
    return [
        f"{R}/theory/{name}.csv"
        for name in ("ufm", "dynamics", "predictions", "effective")
    ]


def figures(ending):
    """Return the figures of every experiment."""
    return [
        f"{R}/figures/{name}_{figure}.{ending}"
        for name in STUDY.experiments
        for figure in STUDY.figures(name)
    ]


def promised():
    """Return every file that the study promises: a missing one is made again."""
    kept = []
    for run in RUNS.values():
        experiment = STUDY.experiments[run.experiment]
        keys = {
            "dataset": run.dataset,
            "model": run.model,
            "loss": run.loss,
            "seed": run.seed,
        }
        paths = [*snapshots(experiment), *kept_features(experiment)]
        kept += [path.format(**keys) for path in paths]
    used = {run.dataset for run in RUNS.values()}
    return [
        f"{R}/study.yaml",
        *(
            path.format(dataset=name)
            for name in STUDY.datasets
            if name in used
            for path in (DATA, MANIFEST)
        ),
        *kept,
        *(
            path
            for name in ("history.csv", "run.json", "metrics.csv", "mlflow.json")
            for path in of_all_runs(name)
        ),
        *theory_tables(),
        f"{R}/metrics.parquet",
        f"{R}/claims.csv",
        f"{R}/claims.md",
        *(path for ending in ("png", "pdf", "csv") for path in figures(ending)),
        f"{R}/report.html",
        f"{R}/tables/losses.csv",
        f"{R}/mlflow.json",
    ]


def registered(*parts):
    """Return the registered functions and the user's own that entries, each with its registry, are computed by."""
    return {
        "functions": [
            f"{module}:{part.name}" for part, module in parts if hasattr(part, "name")
        ],
        "own": [
            (part.file, part.function) for part, _ in parts if hasattr(part, "file")
        ],
    }


def data_code(wildcards):
    """Return the digest of the code that prepares a data set."""
    entry = STUDY.datasets[wildcards.dataset]
    if hasattr(entry, "file"):
        return code_digest("prepare", own=[(entry.file, entry.function)])
    return code_digest("prepare", modules=[f"nclens.data.{entry.source}"])


def train_code(wildcards):
    """Return the digest of the code that a run's training depends on."""
    model, loss = STUDY.models[wildcards.model], STUDY.losses[wildcards.loss]
    parts = [(model, "nclens.models"), (loss, "nclens.losses")]
    return code_digest("train", **registered(*parts))


def measure_code(wildcards):
    """Return the digest of the code that a run's measurement depends on: the loss is a part of it."""
    loss = STUDY.losses[wildcards.loss]
    return code_digest("measure", **registered((loss, "nclens.losses")))


def extract_code(wildcards):
    """Return the digest of the code that a run's extraction depends on; the loss is no part of it."""
    model = STUDY.models[wildcards.model]
    return code_digest("extract", **registered((model, "nclens.models")))


def is_finished():
    """Return whether the verdicts are of the measurements that lie there."""
    table, page = Path(R, "metrics.parquet"), Path(R, "report.html")
    return (
        table.is_file()
        and page.is_file()
        and page.stat().st_mtime >= table.stat().st_mtime
    )


def command():
    """Return the command that reproduces this study."""
    asked = [os.path.relpath(file) for file in workflow.overwrite_configfiles]
    files = " ".join(file for file in asked if file != "workflow_config.yaml")
    return (
        f"snakemake --configfile {files} --cores all"
        if files
        else "snakemake --cores all"
    )
