"""Helpers of the rules: the checked study, paths, and what each step depends on. No rule stands here."""

import json
import os
import shutil
import sys
from itertools import islice
from pathlib import Path

from snakemake.exceptions import WorkflowError

from nclens.study import ConfigError, load_study, read_study
from nclens.workflow import specs
from nclens.workflow.needs import (
    has_gpu,
    measuring_needs,
    probing_needs,
    training_needs,
)
from nclens.workflow.provenance import code_digest


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
    # Snakemake's reading is taken, with what its command line changes; ours refuses what it passes over.
    for file in CONFIGFILES:
        read_study(file)
    STUDY = load_study(config, [file.parent for file in CONFIGFILES])
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# No parameters of a rule: how often a run is saved changes nothing of it, nor does it where raw data lie.
os.environ |= {
    "NCLENS_CHECKPOINT_MINUTES": str(STUDY.checkpoint_minutes),
    "NCLENS_DATA_DIR": STUDY.data_dir,
}
# As many slots of the GPUs as the profile lets jobs have at a time.
if (slots := workflow.global_resources.get("gpu").value) and workflow.local_exec:
    os.environ |= {"NCLENS_GPU_SLOTS": str(slots)}

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


spec = specs.encode


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


def probed_snapshots(name):
    """Return the paths of the snapshots that an experiment's probes read, wildcards left in."""
    return [
        f"{RUN}/snapshots/epoch{epoch}.safetensors"
        for epoch in STUDY.probed_epochs(name)
    ]


def teachers_snapshot(name):
    """Return a function to the snapshot that a run's teacher ends with; nothing for an experiment without students."""

    def of_run(wildcards):
        teacher = STUDY.teacher(run_of(wildcards))
        if teacher is None:
            return []
        last = STUDY.experiments[teacher.experiment].training.epochs
        return f"{R}/{teacher.path}/snapshots/epoch{last}.safetensors"

    return of_run if STUDY.has_students(name) else []


def transfer_data(name):
    """Return the data sets, with their manifests, that an experiment's networks are asked to transfer to."""
    return [
        path.format(dataset=dataset)
        for dataset in STUDY.transfer_datasets(name)
        for path in (DATA, MANIFEST)
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


def probes_of_all_runs():
    """Return the probes.csv of every run whose experiment lists probes."""
    return [
        f"{R}/{path}/probes.csv"
        for path, run in RUNS.items()
        if STUDY.experiments[run.experiment].probes
    ]


def manifests():
    """Return the manifests of the data sets that the study trains on."""
    return [
        MANIFEST.format(dataset=name)
        for name in {run.dataset: None for run in RUNS.values()}
    ]


def theory_tables():
    """Return the tables of the theory."""
    return [
        f"{R}/theory/{name}.csv"
        for name in ("ufm", "dynamics", "regression", "predictions", "effective")
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
        *(path for name in STUDY.experiments for path in transfer_data(name)),
        *kept,
        *(
            path
            for name in ("history.csv", "run.json", "metrics.csv", "mlflow.json")
            for path in of_all_runs(name)
        ),
        *probes_of_all_runs(),
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


def modules(called):
    """Return the modules of the functions that a stage calls by name."""
    return {entry.function.partition(":")[0] for entry in called}


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
    if teacher := STUDY.teacher(run_of(wildcards)):
        parts.append((STUDY.models[teacher.model], "nclens.models"))
    return code_digest("train", **registered(*parts))


def measure_code(wildcards):
    """Return the digest of the code that a run's measurement depends on: its functions and the loss are a part of it."""
    run = run_of(wildcards)
    return code_digest(
        "measure",
        modules=modules(specs.measure(STUDY, run).measurements),
        **registered((STUDY.losses[run.loss], "nclens.losses")),
    )


def network_code(stage):
    """Return a function to the digest of the code of a stage that runs trained networks; their loss is no part of it."""

    def of_run(wildcards):
        run = run_of(wildcards)
        called = specs.probe(STUDY, run).probes if stage == "probe" else ()
        return code_digest(
            stage,
            modules=modules(called),
            **registered((STUDY.models[run.model], "nclens.models")),
        )

    return of_run


def training_job(wildcards):
    """Return what a training job needs, by the experiment's ended runs or by estimate."""
    run = run_of(wildcards)
    # A few will do: a study may have thousands.
    like = islice(STUDY.runs(run.experiment), 8)
    records = (Path(R, other.path, "run.json") for other in like)
    manifest = Path(MANIFEST.format(dataset=run.dataset))
    return training_needs(specs.train(STUDY, run), manifest, records)


def measuring_job(wildcards):
    """Return what extracting or measuring a run needs."""
    run = run_of(wildcards)
    dim = STUDY.models[run.model].dim
    manifest = Path(MANIFEST.format(dataset=run.dataset))
    return measuring_needs(specs.extract(STUDY, run), manifest, dim)


def probing_job(wildcards):
    """Return what the probes of a run need."""
    run = run_of(wildcards)
    names = [run.dataset, *STUDY.transfer_datasets(run.experiment)]
    files = {name: Path(MANIFEST.format(dataset=name)) for name in names}
    return probing_needs(specs.probe(STUDY, run), files, STUDY.models[run.model].dim)


def minutes(job):
    """Return the rule's `runtime`: a retry asks for more."""
    return lambda wildcards, attempt: attempt * job(wildcards).minutes


def megabytes(job):
    """Return the rule's `mem_mb`: a retry asks for more."""
    return lambda wildcards, attempt: attempt * job(wildcards).memory_mb


# Slurm's warning before the end, early enough to write a checkpoint; jobs elsewhere do not see it.
WARNING = "--signal=TERM@180"


def check_executor():
    """Refuse to begin where the profile's executor has nothing to submit to."""
    if workflow.executor_plugin.name == "slurm" and shutil.which("sbatch") is None:
        raise WorkflowError(
            "This profile submits to Slurm, but there is no `sbatch` here: start on a machine of the cluster that "
            "has Slurm's commands, or leave --workflow-profile out to run on this one."
        )


def stop_polling():
    """Let Snakemake look for jobs to start when one has finished, and not by the clock as well.

    For its limit of submissions Snakemake 9 looks at all ready jobs once a second, and once more a second for every job
    that has finished: after a hundred of them that takes half a core (docs/scale.md). The default limit, 100 jobs a
    second, is never reached here; another one, of a profile or the command line, stays.
    """
    scheduler = workflow.scheduler
    limiter = getattr(scheduler, "job_rate_limiter", None)
    if limiter is not None and (limiter.max_jobs, limiter.timespan) == (100, 1):
        scheduler.job_rate_limiter = None


def gpu_slots(experiment):
    """Return how many slots of a GPU a job takes: none where it will compute on the CPU."""
    device = experiment.training.device
    if device == "auto" and workflow.local_exec and not has_gpu():
        return 0
    return int(device != "cpu")


def features_mb(wildcards):
    """Return the disk that the features of a run's snapshots take, in MB; 0 before its data set is prepared."""
    run = run_of(wildcards)
    manifest = Path(MANIFEST.format(dataset=run.dataset))
    if not manifest.is_file():
        return 0
    return STUDY.features_mb(run, json.loads(manifest.read_text(encoding="utf-8")))


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
